"""The command: what scripts get, and what people read."""

import itertools
import json
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest
from click.testing import CliRunner

from hyperline.cli.main import hyperline
from hyperline.conditions import read_conditions
from hyperline.power import Found, Sensor
from hyperline.runtime.bench import energy, json_schema, sweep
from hyperline.runtime.bench.runs import run_steps

SCHEMA = Path(__file__).resolve().parents[3] / "docs" / "bench.schema.json"
QUICK = ["--samples", "8", "--threads", "1", "--seconds", "0.05", "--warm-up", "0", "--rate", "400"]


@pytest.fixture(autouse=True)
def machine_without_sensors(monkeypatch):
    monkeypatch.setattr(energy, "find_sensors", lambda: Found((), ("a counter that root alone may read",)))


def invoke(*arguments):
    result = CliRunner().invoke(hyperline, ["bench", *map(str, arguments)])
    assert result.exception is None, result.output
    return result.stdout


def test_the_keys_that_scripts_rely_on_are_there(bundle):
    report = json.loads(invoke(bundle.path, *QUICK, "--json"))
    assert report["schema"] == "hyperline.bench/1"
    assert report["latency_ms"].keys() == {"p50", "p90", "p99", "p999", "max"}
    assert (report["samples"], report["bands"], report["block_lines"], report["threads"]) == (8, 5, 4, 1)
    assert (report["engine"], report["precision"], report["native_ops"]) == ("ort-cpu", "fp32", False)
    assert report["energy"] is None and report["floor_ratio"] is None and report["profile"] is None
    assert report["environment"]["cpu"]["usable"] >= 1 and len(report["runs"]) == 4


def test_what_is_printed_is_what_the_published_schema_says(bundle):
    schema = json.loads(SCHEMA.read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    for arguments in (["--profile"], ["--compare", "--seconds", "0.3"]):
        files = [bundle.path, bundle.path] if "--compare" in arguments else [bundle.path]
        printed = json.loads(invoke(*files, *QUICK, *arguments, "--json"))
        jsonschema.validate(printed, schema)
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({**printed, "schema": "another/9"}, schema)


def test_the_published_schema_is_the_one_of_this_version():
    assert json.loads(SCHEMA.read_text()) == json_schema(), "run: python tools/bench_schema.py"


def test_people_read_speed_latency_memory_and_that_there_is_no_power_sensor(bundle):
    said = invoke(bundle.path, *QUICK)
    assert "engine alone, flat out" in said and "source to maps, 400 lines/s" in said
    assert "no power sensor" in said and "root alone may read" in said
    assert "no arithmetic floor" in said and "MiB" in said
    assert " W" not in said and "mJ" not in said


def test_people_read_joules_what_they_are_of_and_the_power_at_rest(bundle, monkeypatch):
    class Bulb(Sensor):
        source, covers = "bulb", "a bulb"
        rails = total = ("whole",)
        on = False

        def read(self):
            return (10.0 if self.on else 3.0,)

    bulb = Bulb()

    def run(*arguments):
        bulb.on = True
        return run_steps(*arguments)

    monkeypatch.setattr(sweep, "run_steps", run)
    monkeypatch.setattr(energy, "find_sensors", lambda: Found((bulb,), ()))
    said = invoke(bundle.path, *QUICK, "--idle-seconds", "0.1", "--path", "step")
    assert "mJ/line" in said and "power of a bulb, by bulb: 3.00 W at rest, over 0.1 s" in said
    assert "no power sensor" not in said
    switched_off = invoke(bundle.path, *QUICK, "--path", "step", "--no-power")
    assert "no power sensor" not in switched_off and "mJ" not in switched_off


def test_people_are_warned_of_dropped_lines_and_of_a_machine_that_is_held_back(bundle, monkeypatch):
    events = itertools.count()

    def throttled(nvml=None):
        held = read_conditions()
        return replace(held, throttled=("gpu-throttle-alert 1",), throttle_events={"oc3": next(events)})

    monkeypatch.setattr(sweep, "read_conditions", throttled)
    said = invoke(bundle.path, *QUICK, "--path", "strip", "--pace", "sensor", "--rate", "1000000", "--seconds", "0.02")
    assert "lines dropped at 1e+06 lines/s: ort-cpu does not keep up" in said
    assert "held back in source to maps: gpu-throttle-alert 1, oc3: 1 times" in said


def test_a_sweep_shows_one_row_a_point_with_what_varies(bundle, tiny):
    said = invoke(bundle.path, tiny.bundle(8).path, *QUICK, "--samples", "8,19", "--path", "step", "--pace", "flat-out")
    rows = [line.split() for line in said.splitlines() if "engine alone" in line]
    assert [row[:2] for row in rows] == [["8", "4"], ["19", "4"], ["8", "8"], ["19", "8"]]


def test_a_comparison_says_the_ratio_and_its_interval(bundle):
    said = invoke(bundle.path, bundle.path, *QUICK, "--compare", "--seconds", "0.3")
    assert "times as fast as a (95 %:" in said and "pairs)" in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--compare"], "two variants"),
        (["--samples", "8,0"], "positive number"),
        (["--samples", "8,8"], "names one twice"),
        (["--engine", "abacus"], "no engine is called 'abacus'"),
        (["--precision", "int8"], "int8"),
    ],
)
def test_what_cannot_be_measured_is_refused_with_a_reason(bundle, arguments, message):
    result = CliRunner().invoke(hyperline, ["bench", str(bundle.path), *QUICK, *arguments])
    assert result.exception is not None
    assert message in result.output + str(result.exception)

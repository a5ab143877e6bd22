"""What a strip and an evaluation write is what the published schemas say (docs/reference/json.md)."""

import json
from pathlib import Path

import jsonschema
import pytest
from click.testing import CliRunner

from hyperline.bundle import Bundle
from hyperline.cli.main import hyperline
from hyperline.report.documents import Evaluation, Spectra, Summary

EVENT = json.loads((Path(__file__).resolve().parents[2] / "docs" / "reference" / "event.schema.json").read_text())


def invoke(*arguments: object) -> str:
    result = CliRunner().invoke(hyperline, [str(one) for one in arguments])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_summary_spectra_and_events_of_a_strip(bundle: Bundle, npz: Path, tmp_path: Path) -> None:
    out, events = tmp_path / "strip", tmp_path / "events.jsonl"
    rules = [option for number in range(1, 5) for option in ("--events", f"{number}:0:1")]
    command = ("run", bundle.path, "--source", npz, "--out", out, "--threads", 1, "--no-picture")
    invoke(*command, *rules, "--link", f"jsonl:{events}")
    summary = json.loads((out / "summary.json").read_text())
    schema = Summary.model_json_schema()
    jsonschema.validate(summary, schema)
    assert not summary.keys() - schema["properties"].keys(), "keys that no schema names"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**summary, "received": -1}, schema)
    jsonschema.validate(json.loads((out / "spectra.json").read_text()), Spectra.model_json_schema())
    jsonschema.Draft202012Validator.check_schema(EVENT)
    found = [json.loads(line) for line in events.read_text().splitlines()]
    assert found
    for event in found:
        jsonschema.validate(event, EVENT)
        assert event.keys() == EVENT["properties"].keys() == set(EVENT["required"])


def test_an_evaluation(bundle: Bundle, npz: Path) -> None:
    said = json.loads(invoke("evaluate", bundle.path, npz, "--json"))
    jsonschema.validate(said, Evaluation.model_json_schema())

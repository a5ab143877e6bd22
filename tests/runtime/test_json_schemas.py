"""What a strip and an evaluation write is what the published schemas say (docs/reference/json.md)."""

import json
from dataclasses import replace
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from click.testing import CliRunner

from hyperline.bundle import Bundle
from hyperline.cli.main import hyperline
from hyperline.report.documents import Evaluation, Spectra, Summary
from hyperline.scenes import Scene

EVENT = json.loads((Path(__file__).resolve().parents[2] / "docs" / "reference" / "event.schema.json").read_text())


def invoke(*arguments: object) -> str:
    result = CliRunner().invoke(hyperline, [str(one) for one in arguments])
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture
def source(tmp_path: Path, scene: Scene) -> Path:
    path = tmp_path / "field.npz"
    one = replace(scene, cube=np.abs(scene.cube))
    assert one.labels is not None and one.wavelengths_nm is not None
    np.savez(path, cube=one.cube, labels=one.labels, wavelengths_nm=one.wavelengths_nm)
    return path


def test_summary_spectra_and_events_of_a_strip(bundle: Bundle, source: Path, tmp_path: Path) -> None:
    out, events = tmp_path / "strip", tmp_path / "events.jsonl"
    rules = [option for number in range(1, 5) for option in ("--events", f"{number}:0:1")]
    command = ("run", bundle.path, "--source", source, "--out", out, "--threads", 1, "--no-picture")
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


def test_an_evaluation(bundle: Bundle, source: Path) -> None:
    said = json.loads(invoke("evaluate", bundle.path, source, "--json"))
    jsonschema.validate(said, Evaluation.model_json_schema())

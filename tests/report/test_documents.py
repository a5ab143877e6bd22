"""JSON files of a report: those of older releases are read, damaged ones refused in one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hyperline.errors import InputError
from hyperline.report.documents import Bench, Evaluation, Spectra, Summary, read_document


def write(path: Path, value: object) -> Path:
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


@pytest.mark.parametrize(
    ("change", "fragment"),
    [
        ({"received": -1}, "received"),
        ({"received": "many"}, "received"),
        ({"block_lines": 0}, "block_lines"),
        ({"latency_ms": {"p50": 1}}, "latency_ms.p99"),
        ({"seconds": float("nan")}, "seconds"),
        ({"latency_histogram": {"edges_ms": [1, 2], "lines": [3, 4]}}, "2 edges for 2 counts"),
        ({"latency_histogram": {"edges_ms": [2, 1], "lines": [3]}}, "must rise"),
        ({"oa": 1.5, "per_class": [1.0]}, "oa"),
    ],
)
def test_a_damaged_summary_is_refused_with_the_file_and_the_field(strips, tmp_path, change, fragment) -> None:
    path = write(tmp_path / "summary.json", strips.summary(8, 8, **change))
    with pytest.raises(InputError) as error:
        read_document(Summary, path, "the summary of a strip")
    assert str(path) in str(error.value) and fragment in str(error.value)
    assert str(error.value).isprintable()


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '"x"', "[" * 100_000, '{"a": 1e999}', "\x00\xff"])
def test_what_is_no_document_is_refused(tmp_path, text) -> None:
    with pytest.raises(InputError, match=r"x\.json"):
        read_document(Bench, write(tmp_path / "x.json", text), "a bench")


def test_a_missing_file_is_named(tmp_path) -> None:
    with pytest.raises(InputError, match=r"gone\.json"):
        read_document(Bench, tmp_path / "gone.json", "a bench")


def test_a_confusion_of_another_size_than_its_classes_is_refused(tmp_path, accuracy) -> None:
    accuracy["confusion"] = [[1, 2], [3, 4]]
    with pytest.raises(InputError, match="confusion is not 3 rows of 4"):
        read_document(Evaluation, write(tmp_path / "e.json", accuracy), "an evaluation")


def test_spectra_of_different_bands_are_refused(strips, tmp_path) -> None:
    held = strips.spectra()
    held["classes"][0]["mean"] = [1.0, 2.0]
    with pytest.raises(InputError, match="spectra of 2 and 5 bands"):
        read_document(Spectra, write(tmp_path / "spectra.json", held), "the spectra of a strip")


def test_documents_of_earlier_releases_are_read(strips, tmp_path, bench, accuracy) -> None:
    old = strips.summary(8, 8)
    del old["latency_histogram"], old["time_line"]
    held = read_document(Summary, write(tmp_path / "s.json", old), "the summary of a strip")
    assert held.latency_histogram is None and held.time_line == ()
    for name in ("schema", "environment", "runs"):
        del bench[name]
    del bench["latency_ms"]["p90"]
    assert read_document(Bench, write(tmp_path / "b.json", bench), "a bench").environment is None
    for name in ("class_names", "scene", "model"):
        del accuracy[name]
    assert read_document(Evaluation, write(tmp_path / "e.json", accuracy), "an evaluation").class_names is None

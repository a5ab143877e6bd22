"""An archive classified over workers is, to the byte, what each strip alone is."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

from hyperline.cli.main import hyperline
from hyperline.runtime.sources.files import SceneSource
from hyperline.runtime.strip import run_strip
from hyperline.scenes import read_scene

pytest.importorskip("distributed", reason="needs hyperline[cluster]")


@pytest.fixture
def archive(tiny, tmp_path):
    strips = []
    for number, lines in enumerate((9, 22, 16)):
        path = tmp_path / f"strip{number}.npz"
        np.savez(path, cube=np.abs(tiny.cube(lines, 13, number)), wavelengths_nm=tiny.card().wavelengths_nm)
        strips.append(path)
    return strips


def reprocess(bundle, strips, out, *more):
    arguments = ["reprocess", str(bundle.path), *map(str, strips), "--out", str(out), "--workers", "2", *more]
    return CliRunner().invoke(hyperline, arguments, catch_exceptions=False)


def maps(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.img"))}


def test_strips_come_out_as_on_one_machine(bundle, archive, tmp_path):
    assert reprocess(bundle, archive, tmp_path / "out").exit_code == 0
    for strip in archive:
        run_strip(bundle, SceneSource(read_scene(str(strip))), tmp_path / "alone" / strip.stem, threads=1)
        assert maps(tmp_path / "out" / strip.stem) == maps(tmp_path / "alone" / strip.stem)
    assert not [path for path in (tmp_path / "out").iterdir() if path.name.startswith(".strip")]


def test_a_strip_that_is_done_is_left_and_a_new_bundle_does_it_again(tiny, bundle, archive, tmp_path):
    reprocess(bundle, archive[:1], tmp_path / "out")
    summary = tmp_path / "out" / "strip0" / "summary.json"
    before = summary.stat().st_mtime_ns
    reprocess(bundle, archive[:2], tmp_path / "out")
    assert summary.stat().st_mtime_ns == before
    reprocess(tiny.bundle(8), archive[:2], tmp_path / "out")
    assert json.loads(summary.read_text())["block_lines"] == 8


def test_another_strip_of_the_same_name_is_not_taken_for_done(bundle, archive, tmp_path):
    reprocess(bundle, archive[:1], tmp_path / "out")
    (tmp_path / "other").mkdir()
    twin = tmp_path / "other" / archive[0].name
    twin.write_bytes(archive[1].read_bytes())
    reprocess(bundle, [twin], tmp_path / "out")
    assert json.loads((tmp_path / "out" / "strip0" / "summary.json").read_text())["classified"] == 22


def test_a_strip_that_does_not_fit_costs_no_other(bundle, archive, tmp_path):
    np.savez(tmp_path / "odd.npz", cube=np.ones((4, 5, 3)))
    with pytest.raises(Exception, match=r"1 of 2 pieces of work failed: odd-.*3 bands"):
        reprocess(bundle, [archive[0], tmp_path / "odd.npz"], tmp_path / "out")
    assert (tmp_path / "out" / "strip0" / "summary.json").exists()
    assert not (tmp_path / "out" / "odd").exists()


def test_two_strips_of_one_name_are_refused(bundle, archive, tmp_path):
    (tmp_path / "other").mkdir()
    twin = tmp_path / "other" / archive[0].name
    twin.write_bytes(archive[0].read_bytes())
    with pytest.raises(Exception, match="2 strips are called strip0"):
        reprocess(bundle, [archive[0], twin], tmp_path / "out")

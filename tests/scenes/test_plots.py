"""Collections of plots: read as they are, cut by site, with classes that count as one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hyperline.errors import InputError
from hyperline.scenes import merge_classes, read_plots


@pytest.fixture
def arrays() -> dict[str, Any]:
    generator = np.random.default_rng(0)
    return {
        "cube": generator.integers(0, 1000, (4, 5, 6, 7)).astype(np.int16),
        "labels": generator.integers(0, 4, (4, 5, 6)).astype(np.uint8),
        "plot_ids": np.array(["HILL_1", "HILL_2", "DALE_1", "DALE_12"]),
        "class_names": np.array(["unlabelled", "red oak", "white oak", "pine"]),
    }


def saved(folder: Path, arrays: dict[str, Any]) -> Path:
    np.savez(folder / "plots.npz", **arrays)
    return folder / "plots.npz"


def test_plots_are_read_and_found_by_their_site(tmp_path: Path, arrays: dict[str, Any]) -> None:
    plots = read_plots(saved(tmp_path, arrays))
    assert plots.class_names == ("red oak", "white oak", "pine")
    assert plots.at("DALE").tolist() == [False, False, True, True]
    scene = plots.scene(3)
    assert (scene.name, scene.labels) == ("DALE_12", None)
    assert np.array_equal(scene.cube, arrays["cube"][3])
    with pytest.raises(InputError, match="no plot at MOOR; its sites are DALE, HILL"):
        plots.at("MOOR")


def test_merged_classes_count_as_one_and_the_rest_is_unlabelled(tmp_path: Path, arrays: dict[str, Any]) -> None:
    plots = read_plots(saved(tmp_path, arrays))
    oaks = merge_classes(plots, {"oak": ["red oak", "white oak"]})
    assert oaks.class_names == ("oak",)
    assert np.array_equal(oaks.labels, np.isin(arrays["labels"], (1, 2)).astype(np.uint8))
    with pytest.raises(InputError, match="no class 'elm'; it has red oak, white oak, pine"):
        merge_classes(plots, {"elm": ["elm"]})
    with pytest.raises(InputError, match="'pine' is named twice"):
        merge_classes(plots, {"pine": ["pine"], "conifer": ["pine"]})


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            lambda held: held.pop("plot_ids"),
            "a collection of plots holds cube, labels, plot_ids, class_names; this holds",
        ),
        (lambda held: held.update(cube=held["cube"][0]), r"must be numbers, \(plot, line, sample, band\)"),
        (lambda held: held.update(labels=held["labels"][:, 1:]), r"and \(plot, line, sample\)"),
        (lambda held: held.update(labels=held["labels"] - 0.5), "is no whole number"),
        (lambda held: held.update(plot_ids=held["plot_ids"][1:]), "one a plot and one a class"),
        (lambda held: held.update(class_names=held["class_names"][:2]), "give a name for each class"),
    ],
)
def test_what_is_no_collection_is_refused_with_the_reason(
    tmp_path: Path, arrays: dict[str, Any], change: Callable[[dict[str, Any]], object], says: str
) -> None:
    change(arrays)
    with pytest.raises(InputError, match=says):
        read_plots(saved(tmp_path, arrays))


def test_a_file_that_is_missing_or_another_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        read_plots(tmp_path / "none.npz")
    np.save(tmp_path / "one.npy", np.zeros(3))
    with pytest.raises(InputError, match="this holds one array"):
        read_plots(tmp_path / "one.npy")


def test_the_neon_plots_are_read(shared_data: Callable[[str], Path]) -> None:
    plots = read_plots(shared_data("idtrees_neon/idtrees_train.npz"))
    assert plots.cube.shape == (85, 20, 20, 369)
    assert (int(plots.at("MLBS").sum()), int(plots.at("OSBS").sum())) == (46, 39)
    red_maple = plots.labels == plots.class_names.index("ACRU") + 1
    assert int(red_maple.sum()) == 2975  # SOURCE.txt

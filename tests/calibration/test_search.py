"""The search, on made-up layers whose losses are known, and what it remembers."""

import json

import numpy as np
import pytest

from hyperline.calibration.search import Budget, Loss, Mode, Trials, search

SAVED = {"quiet": 1.0, "loud": 1.0, "useless": 0.0, "outlier": 2.0}
POINTS = {"quiet": 0.01, "loud": 0.5, "useless": 0.2, "outlier": 0.4}


class Machine:
    """Layers whose losses add up; smoothing mends the outlier."""

    def __init__(self):
        self.asked = []

    def __call__(self, assignment):
        self.asked.append(dict(assignment))
        points = sum(
            POINTS[name] * (0.1 if mode is Mode.SMOOTHED else 1.0)
            for name, mode in assignment.items()
            if mode is not Mode.FLOAT
        )
        return Loss(points, 2 * points, -points, 1 - points / 100, points / 10)


def found(points, can_smooth=(), machine=None):
    trials = Trials(machine or Machine(), None)
    return search(SAVED, set(can_smooth), trials, Budget(points, 10.0, 0.5))


def modes(result):
    return {name: mode.value for name, mode in result.assignment.items()}


def test_a_wide_budget_puts_everything_into_int8():
    result = found(5.0)
    assert result.inside and set(modes(result).values()) == {"int8"}
    assert result.loss.points == pytest.approx(1.11)
    assert result.alone["loud"].points == 0.5


def test_what_buys_least_time_goes_first():
    assert modes(found(0.92)) == {"quiet": "int8", "loud": "int8", "useless": "float32", "outlier": "int8"}
    assert modes(found(0.45)) == {"quiet": "int8", "loud": "float32", "useless": "float32", "outlier": "int8"}


def test_smoothing_keeps_a_layer_that_would_have_gone():
    assert modes(found(0.1)) == {"quiet": "int8", "loud": "float32", "useless": "float32", "outlier": "float32"}
    result = found(0.1, can_smooth=["outlier"])
    assert modes(result)["outlier"] == "int8 smoothed" and modes(result)["quiet"] == "int8"
    assert result.smoothed["outlier"].points == pytest.approx(0.04)


def test_a_budget_of_nothing_leaves_float32_and_less_than_nothing_cannot_be_kept():
    nothing = found(0.0, can_smooth=["outlier"])
    assert nothing.inside and set(modes(nothing).values()) == {"float32"}
    assert not found(-0.1).inside


@pytest.mark.parametrize("limit", [Budget(9, 0.1, 0.5), Budget(9, 9, 0.9995)], ids=["class", "agreement"])
def test_each_limit_counts(limit):
    result = search(SAVED, set(), Trials(Machine(), None), limit)
    assert result.inside and limit.holds(result.loss)
    assert "float32" in modes(result).values() and modes(result)["quiet"] == "int8"


def test_an_interrupted_search_goes_on_where_it_was(tmp_path):
    class Interrupted(Machine):
        def __call__(self, assignment):
            if len(self.asked) == 3:
                raise KeyboardInterrupt
            return super().__call__(assignment)

    cache = tmp_path / "trials.json"
    with pytest.raises(KeyboardInterrupt):
        search(SAVED, set(), Trials(Interrupted(), cache), Budget(0.45, 10, 0.5))
    machine = Machine()
    trials = Trials(machine, cache)
    result = search(SAVED, set(), trials, Budget(0.45, 10, 0.5))
    whole = Machine()
    assert modes(result) == modes(found(0.45, machine=whole))
    assert trials.found >= 3 and len(machine.asked) == len({json.dumps(one) for one in whole.asked}) - 3


def test_a_disk_that_takes_nothing_is_said_and_done_without(tmp_path, caplog):
    (tmp_path / "file").touch()
    trials = Trials(Machine(), tmp_path / "file" / "trials.json")
    assert search(SAVED, set(), trials, Budget(5, 10, 0.5)).inside
    assert caplog.text.count("cannot be resumed") == 1


@pytest.mark.parametrize("content", ["", "[]", "{", '{"a": 1}', '{"a": {"points": 1}}'])
def test_a_damaged_memory_is_an_empty_one(tmp_path, content):
    cache = tmp_path / "trials.json"
    cache.write_text(content)
    assert search(SAVED, set(), Trials(Machine(), cache), Budget(5, 10, 0.5)).inside
    assert len(json.loads(cache.read_text())) == 5


def test_a_loss_counts_what_was_spoiled_not_what_was_mended():
    truth = np.array([[1, 1, 2, 2, 0, 2]], np.uint8)
    before, after = np.array([[1, 2, 2, 2, 1, 2]], np.uint8), np.array([[1, 1, 2, 1, 2, 2]], np.uint8)
    logits = np.zeros((1, 6, 2), np.float32)
    loss = Loss.between((before, logits), (after, logits + 0.5), truth, np.ones((1, 6), bool))
    assert loss.points == pytest.approx(100 / 5)
    assert loss.worst_class == pytest.approx(100 / 3)
    assert loss.accuracy == 0.0  # one mended, one spoiled
    assert loss.agreement == 0.5 and loss.logits == 0.5


def test_without_labels_every_changed_label_is_lost():
    nothing = np.zeros((1, 4), np.uint8)
    logits = np.zeros((1, 4, 2), np.float32)
    before, after = np.array([[1, 1, 2, 2]], np.uint8), np.array([[1, 1, 1, 2]], np.uint8)
    loss = Loss.between((before, logits), (after, logits), nothing, np.ones((1, 4), bool))
    assert (loss.points, loss.worst_class, loss.agreement) == (25.0, 50.0, 0.75)

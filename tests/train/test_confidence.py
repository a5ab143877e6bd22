"""A temperature is found where there is one, costs the network no label, and changes no label."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from hyperline.errors import InputError
from hyperline.scenes import Scene
from hyperline.splits import random_split
from hyperline.train.confidence import (
    answer_layer,
    divide_logits,
    energy,
    fit_temperature,
    held_out_temperature,
    hold_out,
    labels_and_confidence,
    unknown_scores,
)
from hyperline.train.models import NETWORKS, make_network, network_config
from hyperline.train.network import Prediction
from hyperline.train.run import load_run, train_run
from hyperline.train.trainer import TrainConfig, predict, predict_logits

from .conftest import small_network, striped_scene


def drawn(logits: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Labels as likely as the softmax says."""
    odds = np.exp(logits - logits.max(1, keepdims=True))
    chances = (odds / odds.sum(1, keepdims=True)).cumsum(1)
    return (rng.random(len(logits))[:, None] > chances).sum(1) + 1


@pytest.mark.parametrize("temperature", [0.4, 1.0, 3.0])
def test_a_known_scaling_of_the_logits_is_recovered(temperature: float) -> None:
    rng = np.random.default_rng(1)
    logits = 2 * rng.normal(size=(20_000, 5))
    labels = drawn(logits, rng)
    assert fit_temperature(temperature * logits, labels) == pytest.approx(temperature, rel=0.04)


def test_a_few_labels_that_are_all_right_do_not_ask_for_certainty() -> None:
    logits = np.eye(3)[[0, 1, 2, 0]] * 4.0
    labels = np.array([1, 2, 3, 1])
    few, many = fit_temperature(logits, labels), fit_temperature(np.tile(logits, (50, 1)), np.tile(labels, 50))
    assert 0.5 < many < few < 1
    with pytest.raises(InputError, match="no held-out label"):
        fit_temperature(np.zeros((0, 3)), np.zeros(0, int))


def test_a_fifth_of_a_class_is_held_out_and_classes_of_one_or_two_labels_stay_whole() -> None:
    train = np.zeros((10, 10), np.uint8)
    train.flat[:15], train.flat[20:23], train.flat[30:32], train.flat[40] = 1, 2, 3, 4
    seen, held = hold_out(train, 0)
    assert np.array_equal(np.maximum(seen, held), train)
    assert not (seen.astype(bool) & held.astype(bool)).any()
    assert np.bincount(held.ravel(), minlength=5)[1:].tolist() == [3, 1, 0, 0]
    assert np.array_equal(held, hold_out(train, 0)[1])
    folds = [hold_out(train, 0, fold)[1] == 1 for fold in range(5)]
    assert np.array_equal(np.sum(folds, axis=0), train == 1)  # each label once
    assert not np.array_equal(held, hold_out(train, 1)[1])


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_takes_a_temperature_and_gives_the_same_labels(name: str) -> None:
    torch.manual_seed(0)
    network = make_network(network_config(name, bands=24, classes=5)).eval()
    network.mnf_projection.copy_(torch.randn_like(network.mnf_projection))
    scene = striped_scene(24, 16, 24)
    before = [predict_logits(network, scene, lines) for lines in (0, 8)]
    labels = predict(network, scene, 8)
    divide_logits(network, 2.5)
    for lines, logits in zip((0, 8), before, strict=True):
        assert predict_logits(network, scene, lines) == pytest.approx(logits / 2.5, rel=1e-4, abs=1e-3)
    assert np.array_equal(predict(network, scene, 8), labels)


def test_a_network_without_a_linear_end_is_refused_by_name_and_left_as_it_is() -> None:
    class Squashed(type(small_network())):  # type: ignore[misc]
        def forward(self, *args, **kwargs):
            found = super().forward(*args, **kwargs)
            return Prediction((torch.tanh(found.logits[0]), *found.logits[1:]), found.state)

    network = small_network()
    network.__class__ = Squashed
    weights = {name: value.clone() for name, value in network.state_dict().items()}
    with pytest.raises(InputError, match="logits of Squashed are in proportion to no layer"):
        answer_layer(network)
    assert all(torch.equal(value, weights[name]) for name, value in network.state_dict().items())


def test_the_layer_found_is_that_of_the_finest_head() -> None:
    network = small_network()
    assert isinstance(answer_layer(network), nn.Linear)
    assert answer_layer(network) is network.heads[0][-1]


def test_pixels_without_a_measurement_have_neither_class_nor_confidence() -> None:
    logits = np.array([[0.0, np.log(3.0)], [np.nan, np.nan]], np.float32)
    labels, confidence = labels_and_confidence(logits)
    assert labels.tolist() == [2, 0]
    assert confidence.tolist() == pytest.approx([0.75, 0])


def test_the_table_of_the_unknown_holds_the_rate_on_the_pixels_that_it_is_of_and_on_others_like_them() -> None:
    rng = np.random.default_rng(0)
    logits, others = 3 * rng.normal(size=(2, 20_000, 4)).astype(np.float32)
    assert energy(logits[:3]) == pytest.approx([-np.log(np.exp(row).sum()) for row in logits[:3].astype(float)])
    table = unknown_scores(logits)
    assert table is not None
    assert table["pixels"] == 20_000
    for rate, score in zip(table["rates"], table["scores"], strict=True):
        assert rate - 1e-3 <= (energy(logits) > score).mean() <= rate
        assert (energy(others) > score).mean() == pytest.approx(rate, abs=0.01)
    assert table["rates"][0] == 0.001


def test_few_pixels_know_no_rare_rates_and_nine_none_at_all() -> None:
    table = unknown_scores(np.eye(4)[np.arange(60) % 4])
    assert table is not None
    assert table["rates"] == [0.02, 0.05, 0.1, 0.2]
    assert unknown_scores(np.zeros((9, 4))) is None


@pytest.fixture(scope="module")
def scene() -> Scene:
    return striped_scene()


def test_a_run_says_what_its_confidence_is_worth_and_the_network_is_that_of_all_labels(
    scene: Scene, tmp_path: Path
) -> None:
    assert scene.labels is not None
    split = random_split(scene.labels, 6, 0)
    model = small_network().config
    config = TrainConfig(epochs=4, shallow=0.0, threads=1)
    epochs: list[int] = []
    plain = train_run([(scene, split)], model, config, tmp_path / "plain")
    run = train_run(
        [(scene, split)],
        model,
        config,
        tmp_path / "run",
        temperature=True,
        on_epoch=lambda epoch, _: epochs.append(epoch),
    )
    confidence = json.loads((tmp_path / "run" / "run.json").read_text())["confidence"]
    assert epochs == [1, 2, 3, 4, 5, 6]  # two of the auxiliary training
    assert confidence["held_out_pixels"] == 3
    assert confidence["ece_before"] == pytest.approx(plain.record["streamed"]["ece"])
    assert confidence["ece_after"] == run.record["streamed"]["ece"]
    assert run.record["streamed"]["confusion"] == plain.record["streamed"]["confusion"]
    assert plain.record["confidence"]["temperature"] == 1.0
    loaded = load_run(tmp_path / "run").network
    expected = predict_logits(plain.network, scene, 8) / confidence["temperature"]
    assert predict_logits(loaded, scene, 8) == pytest.approx(expected, rel=1e-4, abs=1e-4)


def test_labels_are_held_out_over_all_strips_where_each_has_too_few() -> None:
    strips = []
    for place in range(5):
        scene = striped_scene(lines=16, samples=24, seed=place)
        labels = np.zeros_like(scene.labels)
        for one in range(1, 4):
            labels[tuple(np.argwhere(scene.labels == one)[place])] = one
        strips.append((scene, labels))
    config = TrainConfig(epochs=2, shallow=0.0, threads=1)
    model = replace(small_network().config, components=4)
    found = held_out_temperature(strips, model, config, 8, None)
    assert (found.pixels, found.epochs) == (3, 1)  # one of each class

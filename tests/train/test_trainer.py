"""Training repeats to the bit, resumes as if never stopped, works in tiles, and learns."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from hyperline.errors import HyperlineError, InputError
from hyperline.scenes import Scene, Strips
from hyperline.splits import Split, random_split
from hyperline.train.models.mambamoe import MambaMoE, MambaMoEConfig
from hyperline.train.trainer import TrainConfig, _tiles, load_checkpoint, predict, start, train

from .conftest import striped_scene

MODEL = MambaMoEConfig(
    6, 3, components=6, channels=16, experts=(4, 4, 4, 4), state=4, spectral_groups=4, spectral_inner=4
)
CONFIG = TrainConfig(epochs=6, shallow=0.0, threads=1)


@pytest.fixture(scope="module")
def scene() -> Scene:
    return striped_scene()


@pytest.fixture(scope="module")
def split(scene: Scene) -> Split:
    assert scene.labels is not None
    return random_split(scene.labels, 15, 0)


def weights(network: MambaMoE) -> torch.Tensor:
    return torch.cat([tensor.flatten() for tensor in network.state_dict().values()])


def trained(scene: Scene, split: Split, config: TrainConfig) -> MambaMoE:
    return train_strips([(scene, split.train)], config)


def train_strips(strips: Strips, config: TrainConfig) -> MambaMoE:
    return train(start(strips, MODEL, config), strips, config)


def test_one_seed_gives_the_same_weights_to_the_bit_and_another_does_not(scene: Scene, split: Split) -> None:
    first = weights(trained(scene, split, CONFIG))
    assert torch.equal(first, weights(trained(scene, split, CONFIG)))
    assert not torch.equal(first, weights(trained(scene, split, replace(CONFIG, seed=1))))


def test_a_resumed_run_equals_an_uninterrupted_one_to_the_bit(scene: Scene, split: Split, tmp_path: Path) -> None:
    class StopHereError(Exception):
        pass

    def stop_after_four(epoch: int, _curves: dict[str, float]) -> None:
        if epoch == 4:
            raise StopHereError

    strips, config = [(scene, split.train)], replace(CONFIG, shallow=0.5)
    checkpoint = tmp_path / "checkpoint.safetensors"
    with pytest.raises(StopHereError):
        train(start(strips, MODEL, config), strips, config, checkpoint, stop_after_four)
    state = load_checkpoint(checkpoint, MODEL, config)
    assert state.epoch == 4 and len(state.history["loss"]) == 4
    resumed = train(state, strips, config, checkpoint)
    assert torch.equal(weights(resumed), weights(trained(scene, split, config)))
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.safetensors"]


def test_a_damaged_or_foreign_checkpoint_is_refused(scene: Scene, split: Split, tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoint.safetensors"
    strips = [(scene, split.train)]
    train(start(strips, MODEL, CONFIG), strips, replace(CONFIG, epochs=1), checkpoint)
    with pytest.raises(InputError, match="not a checkpoint of this network"):
        load_checkpoint(checkpoint, replace(MODEL, channels=32), CONFIG)
    checkpoint.write_bytes(checkpoint.read_bytes()[:-100])
    with pytest.raises(InputError, match="not a checkpoint of this network"):
        load_checkpoint(checkpoint, MODEL, CONFIG)


@pytest.mark.parametrize("tile", [16, 24, 256])
def test_a_scene_is_learned_whole_or_in_tiles(scene: Scene, split: Split, tile: int) -> None:
    config = replace(CONFIG, epochs=40 if tile == 256 else 12, tile=tile)
    network = trained(scene, split, config)
    for block_lines in (0, 8):
        right = predict(network, scene, block_lines)[split.test > 0] == split.test[split.test > 0]
        assert right.mean() > 0.9


@pytest.mark.parametrize(
    "change", [{"ugcl": "published"}, {"ugcl": "off"}, {"block_lines": "full"}, {"block_lines": 16}]
)
def test_every_variant_trains(scene: Scene, split: Split, change: dict[str, object]) -> None:
    config = replace(CONFIG, **change)
    strips = [(scene, split.train)]
    state = start(strips, MODEL, config)
    train(state, strips, config)
    # the total grows as the consistency comes in; the supervised loss of the finest scale must fall
    assert state.history["scale 0"][-1] < state.history["scale 0"][0]


def test_test_pixels_do_not_enter_training(scene: Scene, split: Split) -> None:
    assert scene.labels is not None
    blind = replace(scene, labels=np.zeros_like(scene.labels))
    assert torch.equal(weights(trained(scene, split, CONFIG)), weights(trained(blind, split, CONFIG)))


def test_pixels_without_a_measurement_get_no_class_and_do_not_spoil_training(scene: Scene, split: Split) -> None:
    cube = scene.cube.copy()
    cube[5:8, 10:20] = np.nan
    cube[30] = -1.0
    holed = replace(scene, cube=cube, nodata=-1.0)
    network = trained(holed, split, CONFIG)
    assert torch.isfinite(weights(network)).all()
    class_map = predict(network, holed, 8)
    assert (class_map[5:8, 10:20] == 0).all() and (class_map[30] == 0).all()
    assert (class_map == 0).sum() == 30 + 30


def test_prediction_does_not_depend_on_how_the_strip_is_cut(scene: Scene, split: Split) -> None:
    network = trained(scene, split, CONFIG)
    for block_lines in (8, 16, 32):
        longer = replace(scene, cube=np.concatenate([scene.cube, scene.cube[:13]]))
        first = longer.lines // block_lines * block_lines
        shorter = replace(longer, cube=longer.cube[:first])
        assert np.array_equal(predict(network, longer, block_lines)[:first], predict(network, shorter, block_lines))


def test_another_band_count_is_refused_with_both_numbers(scene: Scene, split: Split) -> None:
    network = trained(scene, split, replace(CONFIG, epochs=1))
    with pytest.raises(InputError, match="5 bands, the network was trained on 6"):
        predict(network, replace(scene, cube=scene.cube[..., :5]))


def test_a_loss_that_is_not_finite_stops_training_with_a_reason(scene: Scene, split: Split) -> None:
    strips = [(scene, split.train)]
    state = start(strips, MODEL, CONFIG)
    with torch.no_grad():
        state.network.stem.weight.fill_(float("nan"))
    with pytest.raises(HyperlineError, match="loss is nan at epoch 1"):
        train(state, strips, CONFIG)


def test_each_window_of_a_single_strip_is_a_step_of_its_own(scene: Scene, split: Split) -> None:
    for side, most in ((16, 12), (24, 4), (256, 1)):
        tiles = _tiles([(scene, split.train)], side, np.random.default_rng(0))
        assert 1 <= len(tiles) <= 2 * most
        assert all(tile.ends_step and tile.share == 1.0 for tile in tiles)


def plots(count: int, labels_of: int) -> Strips:
    """Plots of 20 x 20 pixels, of which the first so many have labels."""
    whole = striped_scene(lines=20, samples=20 * count)
    assert whole.labels is not None
    cut = [slice(20 * place, 20 * place + 20) for place in range(count)]
    return [
        (replace(whole, cube=whole.cube[:, one]), whole.labels[:, one] * np.uint8(place < labels_of))
        for place, one in enumerate(cut)
    ]


def test_small_strips_are_gathered_until_a_step_holds_a_tile() -> None:
    strips = plots(10, labels_of=9)
    tiles = _tiles(strips, 40, np.random.default_rng(0))  # 1600 pixels hold four plots of 400
    ends = [place for place, tile in enumerate(tiles, 1) if tile.ends_step]
    assert ends == [4, 8, 9]
    assert sorted(tile.strip for tile in tiles) == list(range(9))  # a plot without labels has nothing to say
    for first, end in zip((0, *ends), ends, strict=False):
        step = tiles[first:end]
        assert sum(tile.share for tile in step) == pytest.approx(1)
        labelled = [int((strips[tile.strip][1] > 0).sum()) for tile in step]
        assert [tile.share * sum(labelled) for tile in step] == pytest.approx(labelled)


def test_the_gradients_of_a_step_are_summed_over_its_strips() -> None:
    strips = plots(3, labels_of=3)
    config = replace(CONFIG, epochs=1, augment=False, ugcl="off", consistency=0.0, balance=0.0, block_lines="full")
    model = replace(MODEL, dropout=0.0)
    state = start(strips, model, config)
    before = torch.cat([one.detach().flatten() for one in state.network.parameters()])
    alone = []
    for scene, labels in strips:
        one = start(strips, model, config)
        one.optimizer = torch.optim.SGD(one.network.parameters(), lr=1.0)
        train(one, [(scene, labels)], config)
        alone.append(torch.cat([p.detach().flatten() for p in one.network.parameters()]) - before)
    state.optimizer = torch.optim.SGD(state.network.parameters(), lr=1.0)
    train(state, strips, config)
    together = torch.cat([p.detach().flatten() for p in state.network.parameters()]) - before
    weight = torch.tensor([float((labels > 0).sum()) for _, labels in strips])
    expected = (torch.stack(alone) * (weight / weight.sum())[:, None]).sum(0)
    assert torch.allclose(together, expected, rtol=1e-3, atol=1e-6)


def test_a_class_is_found_in_strips_that_showed_none_of_it() -> None:
    strips = [
        (scene, np.where(labels != place % 3 + 1, labels, 0)) for place, (scene, labels) in enumerate(plots(6, 6))
    ]
    network = train_strips(strips, replace(CONFIG, epochs=14, tile=32))
    unseen = [
        predict(network, scene, 8)[truth == place % 3 + 1] == place % 3 + 1
        for place, (scene, truth) in enumerate(plots(6, labels_of=6))
    ]
    assert np.concatenate(unseen).mean() > 0.8


def test_strips_without_a_label_or_of_another_sensor_are_refused() -> None:
    strips = plots(2, labels_of=0)
    with pytest.raises(InputError, match="no training strip has a labelled pixel"):
        train_strips(strips, CONFIG)
    scene, labels = plots(1, labels_of=1)[0]
    with pytest.raises(InputError, match="5 bands, stripes has 6"):
        train_strips([(scene, labels), (replace(scene, cube=scene.cube[..., :5]), labels)], CONFIG)

"""Fine-tuned layers bear rounding better, and nothing else changes."""

from dataclasses import replace

import numpy as np
import onnx
import onnx.numpy_helper
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperline.calibration import finetune
from hyperline.calibration.finetune import Rounding, fine_tune, round_to_int8, round_weight
from hyperline.calibration.int8 import int8_model, quantize_weight, with_tensors
from hyperline.calibration.layers import find_layers
from hyperline.calibration.lines import Lines, read_lines
from hyperline.calibration.observers import Observer
from hyperline.calibration.stream import stream
from hyperline.errors import InputError
from hyperline.export.step import export_step, untrained_card
from hyperline.plugins import reference
from hyperline.scenes import Scene
from hyperline.train.first_layer import unlabelled
from hyperline.train.models import mambamoe
from hyperline.train.models.mambamoe import MambaMoE, MambaMoEConfig

NAMES = ("soil", "grass", "roof")
BANDS, K, SEEN = 24, 8, 64


@pytest.fixture(autouse=True)
def _threads_as_before():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Trained:
    """A small network, its graph and card, a strip, and ranges that cut off what should be told apart."""

    def __init__(self, network, scene):
        self.network = network
        self.model = export_step(network, K, NAMES)
        self.card = untrained_card(network, K, NAMES, composite_bands=(20, 12, 4))
        self.layers, _ = find_layers(self.model)
        self.lines = read_lines(scene, self.card)
        self.seen = rows(self.lines, slice(0, SEEN))
        observers = {layer.name: Observer() for layer in self.layers}

        def look(_, tensors):
            for layer in self.layers:
                observers[layer.name].see(tensors[layer.inputs[-1]])

        stream(self.model, self.card, self.seen, 1, [layer.inputs[-1] for layer in self.layers], look)
        self.ranges = {name: observer.range("mse") / 3 for name, observer in observers.items()}

    def tune(self, **changes):
        given = {"network": self.network, "model": self.model, "card": self.card, "layers": self.layers}
        given |= {"ranges": self.ranges, "lines": self.seen, "epochs": 4, "learning_rate": 1e-3}
        return fine_tune(**(given | changes))

    def error(self, model, where):
        """Mean square of the INT8 graph's error of the logits over some lines."""
        rounded = stream(int8_model(model, find_layers(model)[0], self.ranges), self.card, self.lines)
        exact = stream(self.model, self.card, self.lines)
        return np.square(rounded.logits - exact.logits)[where].mean()


def rows(lines: Lines, kept: slice) -> Lines:
    return replace(lines, values=lines.values[kept], valid=lines.valid[kept], truth=lines.truth[kept])


@pytest.fixture(scope="module")
def trained():
    """One scale in place of three: every kind of layer once, exported in a third of the time."""
    line, sample = np.mgrid[0:104, 0:92] / 7
    abundance = np.stack([np.sin(line + sample), np.cos(line - 2 * sample), np.sin(3 * sample)], axis=-1)
    generator = np.random.default_rng(1)
    cube = 2000 + abundance @ generator.uniform(100, 600, (3, BANDS)) + generator.normal(0, 10, (*line.shape, BANDS))
    scene = Scene("made-up", cube.astype(np.float32), class_names=NAMES)
    torch.manual_seed(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mambamoe, "SCALES", 1)
        network = MambaMoE(MambaMoEConfig(bands=BANDS, classes=3, components=8, channels=16))
        network.fit_first_layer(unlabelled(scene))
        with torch.no_grad():
            for parameter in network.parameters():  # an untrained network says nearly the same everywhere
                parameter.add_(torch.randn_like(parameter) * 0.05)
        return Trained(network.requires_grad_(False).eval(), scene)


@pytest.fixture(scope="module")
def tuned(trained):
    return trained.tune()


def test_the_int8_graph_comes_nearer_to_the_float32_graph_on_lines_never_seen(trained, tuned):
    unseen = slice(SEEN, None)
    before = trained.error(trained.model, unseen)
    after = trained.error(with_tensors(trained.model, tuned.tensors), unseen)
    assert after < 0.5 * before


def test_the_loss_is_the_error_of_the_int8_graph_in_onnxruntime(trained, tuned):
    held_back = slice(SEEN * 3 // 4, SEEN)
    assert tuned.losses[0] == pytest.approx(trained.error(trained.model, held_back), rel=1e-3)
    after = trained.error(with_tensors(trained.model, tuned.tensors), held_back)
    assert tuned.losses[tuned.epoch] == pytest.approx(after, rel=1e-3)
    assert tuned.losses[tuned.epoch] == min(tuned.losses)


def test_weights_and_biases_of_the_layers_change_and_nothing_else(trained):
    before = {name: tensor.clone() for name, tensor in trained.network.state_dict().items()}
    some = trained.layers[2:]
    tensors = trained.tune(layers=some, epochs=1).tensors
    for name, tensor in trained.network.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    values = values_of(trained.model)
    assert set(tensors) == {name for layer in some for name in (layer.weight_name, layer.bias)} & set(values)
    changed = values_of(with_tensors(trained.model, tensors))
    assert changed.keys() == values.keys()
    for name, value in values.items():
        assert changed[name].dtype == value.dtype and changed[name].shape == value.shape
        assert np.array_equal(changed[name], value) == (name not in tensors), name


def test_the_same_seed_gives_the_same_bits_and_another_seed_others(trained):
    first, again, other = (trained.tune(epochs=1, seed=seed).tensors for seed in (0, 0, 1))
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert any(not np.array_equal(first[name], other[name]) for name in first)


def test_epochs_that_make_it_worse_leave_the_weights_as_they_were(trained):
    tuned = trained.tune(epochs=2, learning_rate=1.0)
    assert tuned.epoch == 0 and min(tuned.losses[1:]) > tuned.losses[0]
    values = values_of(trained.model)
    for name, value in tuned.tensors.items():
        np.testing.assert_array_equal(value, values[name])


def test_an_epoch_that_breaks_the_weights_is_taken_back(trained, monkeypatch):
    teach = finetune._teach

    def break_once(steps, *others):
        teach(steps, *others)
        if not broken:
            broken.append(True)
            steps[1].network.heads[0][1].weight.detach().fill_(torch.nan)

    broken = []
    monkeypatch.setattr(finetune, "_teach", break_once)
    tuned = trained.tune(epochs=3)
    assert np.isnan(tuned.losses[1]) and tuned.epoch > 1
    assert all(np.isfinite(tensor).all() for tensor in tuned.tensors.values())


def test_labels_teach_nothing(trained):
    other = replace(trained.seen, truth=np.ones_like(trained.seen.truth))
    first, second = (trained.tune(epochs=1, lines=lines).tensors for lines in (trained.seen, other))
    assert all(np.array_equal(first[name], second[name]) for name in first)


def test_a_tensor_that_the_exporter_merged_with_another_stays(trained):
    model = onnx.ModelProto()
    model.CopyFrom(trained.model)
    kept, merged = "refine.0.first.bias", "refine.0.second.bias"
    for node in model.graph.node:
        node.input[:] = [kept if name == merged else name for name in node.input]
    tensors = trained.tune(model=model, layers=find_layers(model)[0], epochs=0).tensors
    assert kept not in tensors and merged not in tensors
    assert {"refine.0.first.weight", "refine.0.second.weight"} <= set(tensors)


def test_another_run_than_the_bundles_is_refused(trained):
    torch.manual_seed(7)
    other = MambaMoE(trained.network.config).eval()
    with pytest.raises(InputError, match="not the same in the run and in the bundle"):
        trained.tune(network=other)


def test_a_single_block_is_too_little(trained):
    with pytest.raises(InputError, match=r"needs 16 lines.*got 8"):
        trained.tune(lines=rows(trained.seen, slice(0, K)))


numbers = {"seed": st.integers(0, 2**32 - 1), "rows": st.integers(1, 9), "inputs": st.integers(1, 9)}
numbers |= {"outputs": st.integers(1, 9), "largest": st.floats(0.01, 5), "halves": st.booleans()}


def values_of(model):
    return {one.name: onnx.numpy_helper.to_array(one) for one in model.graph.initializer}


def draw(generator, shape, largest, halves):
    """Values beyond the range on both sides; or exactly half way between two of its levels, but for rounding."""
    values = generator.normal(0, largest, shape)
    step = np.float32(largest / 127)
    return ((np.floor(values / step) + 0.5) * step if halves else values).astype(np.float32)


@given(**numbers, linear=st.booleans())
@settings(deadline=None)
def test_a_rounded_product_is_the_reference_layer(seed, rows, inputs, outputs, largest, halves, linear):
    generator = np.random.default_rng(seed)
    x = draw(generator, (rows, inputs), largest, halves)
    weight = generator.normal(size=(inputs, outputs)).astype(np.float32)
    weight[:, 0] = 0
    bias = generator.normal(size=outputs).astype(np.float32)
    tensor = torch.from_numpy(weight.T.copy() if linear else weight)
    with Rounding({tensor: largest}):
        y = F.linear(torch.from_numpy(x), tensor, torch.from_numpy(bias)) if linear else None
        y = torch.addmm(torch.from_numpy(bias), torch.from_numpy(x), tensor) if y is None else y
    expected = reference.quantized_linear(x, np.float32(largest / 127), *quantize_weight(weight, 1), bias)
    np.testing.assert_allclose(y.numpy(), expected, rtol=1e-5, atol=1e-5 * largest)


@given(**numbers)
@settings(deadline=None)
def test_a_rounded_convolution_is_the_reference_layer(seed, rows, inputs, outputs, largest, halves):
    generator = np.random.default_rng(seed)
    past, x = (draw(generator, (lines, rows, inputs), largest, halves) for lines in (1, 4))
    weight = generator.normal(size=(outputs, inputs, 3, 3)).astype(np.float32)
    bias = generator.normal(size=outputs).astype(np.float32)
    tensor = torch.from_numpy(weight)
    window = torch.from_numpy(np.concatenate([past, x])).permute(2, 0, 1)[None]
    with Rounding({tensor: largest}):
        y = F.conv2d(F.pad(window, (1, 1, 0, 1)), tensor, torch.from_numpy(bias))[0].permute(1, 2, 0)
    expected = reference.quantized_block_conv(
        past, x, np.float32(largest / 127), *quantize_weight(weight, 0), bias, relu=False
    )
    np.testing.assert_allclose(y.numpy(), expected, rtol=1e-5, atol=1e-4 * largest)


def test_other_products_are_left_alone():
    x, weight, bias = torch.randn(3, 4), torch.randn(4, 5), torch.randn(5)
    with Rounding({torch.randn(4, 5): 0.1}):
        y = torch.addmm(bias, x, weight)
    assert torch.equal(y, torch.addmm(bias, x, weight))


def test_gradients_pass_the_rounding_but_not_where_values_saturate():
    x = torch.tensor([-2.0, -1.0, -0.3, 0.0, 0.3, 1.0, 2.0], requires_grad=True)
    round_to_int8(x, torch.tensor(1 / 127)).sum().backward()
    assert x.grad.tolist() == [0, 1, 1, 1, 1, 1, 0]
    weight = torch.randn(5, 4, requires_grad=True)
    round_weight(weight, 1).sum().backward()
    assert torch.equal(weight.grad, torch.ones_like(weight))


@given(seed=st.integers(0, 2**32 - 1), axis=st.integers(0, 3))
def test_a_weight_is_rounded_as_the_graph_rounds_it(seed, axis):
    weight = np.random.default_rng(seed).normal(size=(4, 3, 2, 5)).astype(np.float32)
    values, scales = quantize_weight(weight, axis)
    shape = [-1 if i == axis else 1 for i in range(4)]
    rounded = round_weight(torch.from_numpy(weight), axis).numpy()
    np.testing.assert_array_equal(rounded, values * scales.reshape(shape))

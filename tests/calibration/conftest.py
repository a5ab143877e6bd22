"""A bundle around a small network with random weights, and a scene whose labels are what that network says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from hyperline.bundle import Bundle, encode_golden, write_bundle
from hyperline.bundle.bundle import CARD, MODELS
from hyperline.calibration.lines import read_lines
from hyperline.calibration.stream import stream
from hyperline.export.parity import classify
from hyperline.export.step import export_step, untrained_card
from hyperline.scenes import Scene
from hyperline.train.first_layer import unlabelled
from hyperline.train.models import mambamoe
from hyperline.train.models.mambamoe import MambaMoE, MambaMoEConfig

NAMES = ("soil", "grass", "roof")
BANDS = 24


def made_up_scene(lines: int = 104, samples: int = 36, seed: int = 0) -> Scene:
    generator = np.random.default_rng(seed)
    line, sample = np.mgrid[0:lines, 0:samples] / 7
    abundance = np.stack([np.sin(line + sample), np.cos(line - 2 * sample), np.sin(3 * sample)], axis=-1)
    spectra = np.random.default_rng(1).uniform(100, 600, (3, BANDS))
    cube = 2000 + abundance @ spectra + generator.normal(0, 10, (lines, samples, BANDS))
    return Scene("made-up", cube.round().astype(np.uint16), class_names=NAMES)


@pytest.fixture(scope="session")
def bundle_bytes(tmp_path_factory) -> bytes:
    """One scale in place of three: every kind of layer once, exported in a third of the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mambamoe, "SCALES", 1)
        torch.manual_seed(0)
        config = MambaMoEConfig(bands=BANDS, classes=3, components=8, channels=32)
        network = MambaMoE(config)
        scene = made_up_scene()
        network.fit_first_layer(unlabelled(scene))
        with torch.no_grad():
            for parameter in network.parameters():  # an untrained network says nearly the same everywhere
                parameter.add_(torch.randn_like(parameter) * 0.05)
        network = network.requires_grad_(False).eval()
        model = export_step(network, 8, NAMES).SerializeToString(deterministic=True)
        lines, valid = scene.cube[:8, :32].astype(np.float32), np.ones((8, 32), bool)
        answer = classify(network, lines, valid, 8)
        card = untrained_card(network, 8, NAMES, np.linspace(400, 1000, BANDS), (20, 12, 4))
    golden = encode_golden({"lines": lines, "valid": valid, "labels": answer.labels, "logits": answer.logits})
    path = tmp_path_factory.mktemp("bundle") / "small.hlb"
    write_bundle(path, {MODELS["fp32"]: model, CARD: card.to_json(), **golden})
    return path.read_bytes()


@pytest.fixture
def bundle(bundle_bytes, tmp_path) -> Bundle:
    path: Path = tmp_path / "small.hlb"
    path.write_bytes(bundle_bytes)
    return Bundle.open(path)


@pytest.fixture
def model(bundle) -> onnx.ModelProto:
    return onnx.load_from_string(bundle.model())


@pytest.fixture
def scene(bundle, model) -> Scene:
    """Labelled by the float32 model itself: it is right everywhere, so that every changed label is a lost one."""
    plain = made_up_scene()
    answer = stream(model, bundle.card, read_lines(plain, bundle.card))
    return replace(plain, labels=answer.labels)

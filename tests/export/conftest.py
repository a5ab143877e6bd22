"""One small network fitted to counts such as a sensor delivers, and its exports, made once a session."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from hyperline.export.excerpt import cut_excerpt
from hyperline.export.step import export_step
from hyperline.scenes import Scene
from hyperline.train.first_layer import unlabelled
from hyperline.train.models import mambamoe
from hyperline.train.models.mambamoe import MambaMoE, MambaMoEConfig

CLASS_NAMES = ("corn", "Wald", "水")
CONFIG = MambaMoEConfig(bands=24, classes=3, components=8, channels=32)


@pytest.fixture(scope="session")
def scene():
    """Counts of 0 to 4000 with smooth structure, noise, one dead pixel a line and a whole lost line."""
    generator = np.random.default_rng(0)
    line, sample = np.mgrid[0:100, 0:44] / 10
    abundance = np.stack([np.sin(line + sample), np.cos(line - 2 * sample), np.sin(3 * sample)], axis=-1)
    spectra = generator.uniform(100, 600, (3, CONFIG.bands))
    cube = 2000 + abundance @ spectra + generator.normal(0, 10, (100, 44, CONFIG.bands))
    cube = cube.round().astype(np.int16)
    cube[np.arange(100), generator.integers(44, size=100)] = -1
    cube[5] = -1
    return Scene("made-up", cube, class_names=CLASS_NAMES, nodata=-1)


def network_for(scene, config):
    torch.manual_seed(0)
    network = MambaMoE(config)
    network.fit_first_layer(unlabelled(scene))
    with torch.no_grad():
        for parameter in network.parameters():  # an untrained network says nearly the same everywhere
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return network.requires_grad_(False).eval()


@pytest.fixture(scope="session")
def network(scene):
    return network_for(scene, CONFIG)


@pytest.fixture(scope="session")
def model(network):
    return export_step(network, 8, CLASS_NAMES)


@pytest.fixture(scope="session")
def excerpt(scene):
    return cut_excerpt(scene, 96)


@pytest.fixture
def one_scale_network(scene, monkeypatch):
    """Every part of the network once instead of once a scale, which the exporter traces in a third of the time."""
    monkeypatch.setattr(mambamoe, "SCALES", 1)
    return network_for(scene, CONFIG)


@pytest.fixture
def run_dir(tmp_path, scene, network):
    return write_run(tmp_path / "run", scene, network)


@pytest.fixture
def one_scale_run_dir(tmp_path, scene, one_scale_network):
    return write_run(tmp_path / "run", scene, one_scale_network)


@pytest.fixture
def run_dir_of_all_experts(tmp_path, scene, monkeypatch):
    """One scale, whose router picks all four experts for every block."""
    monkeypatch.setattr(mambamoe, "SCALES", 1)
    return write_run(tmp_path / "run", scene, network_for(scene, replace(CONFIG, top_k=4)))


def write_run(folder, scene, network):
    """Write a finished run folder around a network; its accuracy is made up."""
    folder.mkdir()
    metrics = {
        "oa": 0.5,
        "aa": 0.5,
        "kappa": 0.25,
        "per_class": [0.5, None, 0.5],
        "pixels": 8,
        "confusion": [[2, 2, 0, 0], [0, 0, 0, 0], [2, 0, 2, 0]],
    }
    record = {
        "format": 1,
        "hyperline": "0.1.0",
        "torch": torch.__version__,
        "created": "2026-11-23T00:00:00+00:00",
        "seconds": 1.0,
        "scene": {
            "name": scene.name,
            "sha256": "0" * 64,
            "lines": scene.lines,
            "samples": scene.samples,
            "bands": scene.bands,
            "class_names": list(CLASS_NAMES),
            "wavelengths_nm": None,
            "scale": 1.0,
            "nodata": -1,
            "composite_bands": [20, 12, 4],
            "notes": [],
        },
        "split": {"kind": "random", "labels_per_class": 15, "seed": 0, "guard": 0, "hash": "0" * 64},
        "model": network.config.as_dict(),
        "train": {"epochs": 1},
        "offline": metrics | {"block_lines": 104},
        "streamed": metrics | {"block_lines": 8},
        "history": {"loss": [1.0]},
    }
    (folder / "run.json").write_text(json.dumps(record))
    save_file(network.state_dict(), folder / "model.safetensors")
    np.savez(folder / "excerpt.npz", lines=scene.cube[:32], valid=(scene.cube[:32] != -1).any(-1))
    return folder

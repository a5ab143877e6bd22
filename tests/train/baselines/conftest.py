"""Baselines that train in seconds."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hyperline.train.baselines import hybridsn, shallow, ssftt


def train_for(monkeypatch: pytest.MonkeyPatch, epochs: int) -> None:
    """Let patch networks train for so many epochs of small batches."""
    for module, name in ((hybridsn, "HYBRIDSN_RECIPE"), (ssftt, "SSFTT_RECIPE")):
        monkeypatch.setattr(module, name, replace(getattr(module, name), epochs=epochs, batch=6))


@pytest.fixture(autouse=True)
def _short_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shallow, "_TREES", 20)
    train_for(monkeypatch, 3)

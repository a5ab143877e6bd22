"""An engine that takes as long as it is told to."""

import time

import numpy as np
import pytest

from hyperline.runtime.blocks import Block


class PacedEngine:
    """Takes the given times in turn, and keeps its own of each step."""

    def __init__(self, *seconds):
        self.seconds = seconds
        self.steps = []

    def step(self, block):
        began = time.monotonic()
        while time.monotonic() - began < self.seconds[len(self.steps) % len(self.seconds)]:
            pass
        self.steps.append((began, time.monotonic()))


@pytest.fixture
def paced_engine():
    return PacedEngine


@pytest.fixture
def block():
    return Block(np.zeros((4, 8, 5), np.float32), np.ones((4, 8), bool), 4)

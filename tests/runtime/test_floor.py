"""What the floor is measured with."""

import gc
import weakref

import numpy as np

from hyperline.runtime.bench import floor


def test_the_arrays_of_the_product_live_as_long_as_it_may_run(monkeypatch):
    made = []

    def empty(*arguments):
        array = np.zeros(*arguments)
        made.append(weakref.ref(array))
        return array

    monkeypatch.setattr(floor.np, "empty", empty)
    product = floor._product(1)
    monkeypatch.undo()
    gc.collect()
    held = made[-1]
    assert held() is not None
    product()
    assert np.any(held())

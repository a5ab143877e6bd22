"""The guard of the carried state, on our library and without it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperline.plugins.native import OPS_LIBRARY, find_library
from hyperline.runtime import guards
from hyperline.runtime.guards import StateGuard
from hyperline.runtime.ring import parity
from hyperline.runtime.state_copies import StateCopies


class Held:
    """An engine that is nothing but its state."""

    def __init__(self, state):
        self.state = state

    def load_state(self, state):
        self.state[...] = state


@pytest.fixture(params=["native", "numpy"])
def way(request, monkeypatch):
    if request.param == "numpy":
        monkeypatch.setattr(guards, "installed_library", lambda: None)
    elif find_library(OPS_LIBRARY) is None:
        pytest.skip(f"{OPS_LIBRARY} is not installed")
    return request.param


@settings(max_examples=200, deadline=None)
@given(size=st.integers(0, 100), seed=st.integers(0, 2**31), spoil=st.sampled_from([None, np.nan, np.inf, -np.inf]))
def test_copying_folds_as_parity_does_and_sees_what_is_no_number(size, seed, spoil):
    library = guards.installed_library()
    if library is None:
        pytest.skip(f"{OPS_LIBRARY} is not installed")
    generator = np.random.default_rng(seed)
    state = generator.normal(size=size).astype(np.float32)
    if spoil is not None and size:
        state[generator.integers(size)] = spoil
    copy = np.empty_like(state)
    word, finite = library.copy_and_look(state, copy)
    np.testing.assert_array_equal(copy, state)
    assert word == parity(state) == library.fold(state)
    assert finite == np.isfinite(state).all()


@settings(max_examples=100, deadline=None)
@given(sizes=st.lists(st.integers(0, 70), max_size=5), seed=st.integers(0, 2**31))
def test_pieces_are_folded_as_parity_does_however_long(sizes, seed):
    library = guards.installed_library()
    if library is None:
        pytest.skip(f"{OPS_LIBRARY} is not installed")
    pieces = [np.random.default_rng(seed).integers(0, 2**64, size, np.uint64) for size in sizes]
    words = np.ones(len(pieces), np.uint64)
    fold = library.folder(pieces, words)
    fold(len(pieces))
    assert words.tolist() == [parity(piece) for piece in pieces]
    words[:] = 1
    fold(len(pieces) // 2)
    assert words[len(pieces) // 2 :].tolist() == [1] * (len(pieces) - len(pieces) // 2)


def test_a_copy_is_free_again_when_all_have_let_go():
    copies = StateCopies(4)
    copies.reserve(2)
    first = copies.take()
    first.hold()
    second = copies.take()
    first.release()
    second.release()
    assert copies.take() is second
    with pytest.raises(IndexError):
        copies.take()
    first.release()
    assert copies.take() is first


def guarded(blocks=3, size=1001):
    generator = np.random.default_rng(0)
    states = generator.normal(size=(blocks, size)).astype(np.float32)
    copies = StateCopies(size)
    copies.reserve(StateGuard.COPIES + 1)  # one for whoever writes
    guard = StateGuard(copies)
    guard.start(states[0])
    for state in states[1:]:
        assert guard.keep(state)
    return guard, states, Held(states[-1].copy())


def flip(array, bit):
    array.view(np.uint32)[bit // 32] ^= np.uint32(1 << bit % 32)


@pytest.mark.parametrize("bit", [0, 31, 32, 1000 * 32 + 5])
def test_a_flipped_bit_is_mended_from_the_copy(way, bit):
    guard, states, engine = guarded()
    flip(engine.state, bit)
    guard.check(engine)
    np.testing.assert_array_equal(engine.state, states[-1])
    assert (guard.repaired, guard.rolled_back) == (1, 0)


def test_where_the_copy_is_damaged_too_the_state_of_the_block_before_is_taken(way):
    guard, states, engine = guarded()
    flip(engine.state, 77)
    flip(guard.latest.state, 78)
    guard.check(engine)
    np.testing.assert_array_equal(engine.state, states[-2])
    assert (guard.repaired, guard.rolled_back) == (0, 1)
    guard.check(engine)  # and is what stands from now on
    assert (guard.repaired, guard.rolled_back) == (0, 1)


def test_a_copy_on_its_way_to_the_disk_is_left_as_it_is(way):
    guard, states, engine = guarded()
    written = guard.latest.hold()
    flip(engine.state, 77)
    flip(written.state, 78)
    damaged = written.state.copy()
    guard.check(engine)
    for state in states:
        assert guard.keep(state)
    np.testing.assert_array_equal(written.state, damaged)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_state_that_is_no_number_is_not_taken(way, value):
    guard, states, engine = guarded()
    spoilt = states[-1].copy()
    spoilt[500] = value
    assert not guard.keep(spoilt)
    np.testing.assert_array_equal(guard.latest.state, states[-1])
    flip(engine.state, 3)
    guard.check(engine)
    np.testing.assert_array_equal(engine.state, states[-1])
    assert guard.keep(states[0])
    np.testing.assert_array_equal(guard.latest.state, states[0])


def test_a_strip_that_begins_anew_takes_no_more_memory(way):
    guard, states, engine = guarded()
    for _ in range(10):
        guard.start(states[0])  # there are four copies in all
    np.copyto(engine.state, states[0])
    flip(engine.state, 9)
    guard.check(engine)
    np.testing.assert_array_equal(engine.state, states[0])

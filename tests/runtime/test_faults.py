"""Every fault ends in its counter, and in a map that is the same everywhere else."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hyperline.bundle import Bundle
from hyperline.errors import HyperlineError
from hyperline.runtime import strip as strip_module
from hyperline.runtime.engines.ort_cpu import OrtCpuEngine
from hyperline.runtime.flight import LoopOptions
from hyperline.runtime.guards import StateGuard
from hyperline.runtime.ring import LineRing, Slot, parity
from hyperline.runtime.sources import Line
from hyperline.runtime.sources.files import SceneSource
from hyperline.runtime.strip import RunSummary, run_strip
from hyperline.runtime.writer import Writer
from hyperline.scenes import Scene

LINES, SAMPLES = 64, 13


@dataclass(frozen=True)
class Scripted(SceneSource):
    """Hands over lines by a script: indices, or whole lines."""

    script: Iterable[Any] = field(default=())

    def __iter__(self) -> Iterator[Line]:
        for entry in self.script:
            index, changes = entry if isinstance(entry, tuple) else (entry, {})
            row = index % self.scene.lines
            line = Line(index, self.scene.cube[row], time.perf_counter(), self.scene.labels[row])
            yield replace(line, **changes)


@pytest.fixture
def scene(tiny) -> Scene:
    labels = np.random.default_rng(0).integers(0, 5, (LINES, SAMPLES)).astype(np.uint8)
    return Scene("field", tiny.cube(LINES, SAMPLES, 5), labels=labels, nodata=-1.0)


def fly(
    bundle: Bundle, scene: Scene, out: Path, script: Iterable[Any], **options: Any
) -> tuple[RunSummary, np.ndarray]:
    summary = run_strip(bundle, Scripted(scene, script=script), out, threads=1, options=LoopOptions(**options))
    assert summary.received == summary.classified + summary.dropped + summary.rejected
    labels = np.fromfile(out / "classes.img", np.uint8).reshape(-1, SAMPLES)
    assert len(labels) == summary.lines
    return summary, labels


def without(tiny, scene: Scene, lost: Iterable[int]) -> np.ndarray:
    """The map of the strip if these lines held no measurement."""
    cube = scene.cube.copy()
    cube[list(lost)] = -1
    return tiny.expected_map(cube, 4)[0]


def test_lost_lines_hold_the_state_and_keep_their_place(tiny, bundle, scene, tmp_path) -> None:
    lost = {5, 6, 7, 20, 33, 34, 35, 36, 37, 38}
    summary, labels = fly(bundle, scene, tmp_path, [index for index in range(LINES) if index not in lost])
    np.testing.assert_array_equal(labels, without(tiny, scene, lost))
    assert (summary.received, summary.counters.lost, summary.counters.resets) == (LINES - 10, 10, 0)


def test_duplicates_and_lines_out_of_order_are_rejected(tiny, bundle, scene, tmp_path) -> None:
    script = [*range(10), 9, 8, *range(10, 20), 21, 20, *range(22, LINES)]
    summary, labels = fly(bundle, scene, tmp_path, script)
    np.testing.assert_array_equal(labels, without(tiny, scene, {20}))
    assert (summary.rejected, summary.counters.duplicates, summary.counters.lost) == (3, 3, 1)


def test_a_long_gap_begins_the_strip_anew(tiny, bundle, scene, tmp_path) -> None:
    script = [*range(22), *range(40, LINES)]
    summary, labels = fly(bundle, scene, tmp_path, script, max_gap=8)
    first = tiny.expected_map(scene.cube[:22], 4)[0]
    second = tiny.expected_map(scene.cube[40:], 4)[0]
    np.testing.assert_array_equal(labels, np.concatenate([first, second]))
    assert (summary.counters.resets, summary.counters.lost, summary.lines) == (1, 18, 46)


@pytest.mark.parametrize("came", [LINES - 1, LINES - 4, LINES - 11])
def test_lines_lost_at_the_end_keep_their_places_too(tiny, bundle, scene, tmp_path, came: int) -> None:
    summary, labels = fly(bundle, scene, tmp_path, range(came))
    np.testing.assert_array_equal(labels, without(tiny, scene, range(came, LINES)))
    assert (summary.received, summary.counters.lost, summary.counters.resets) == (came, LINES - came, 0)


def test_more_lines_lost_at_the_end_than_a_gap_may_have_are_counted_and_not_filled(
    tiny, bundle, scene, tmp_path, caplog
) -> None:
    summary, labels = fly(bundle, scene, tmp_path, range(40), max_gap=8)
    np.testing.assert_array_equal(labels, tiny.expected_map(scene.cube[:40], 4)[0])
    assert (summary.counters.lost, summary.counters.resets) == (24, 0)
    assert "the strip's last 24 lines are missing" in caplog.text


def test_a_checkpoint_within_a_gap_goes_on_within_it(bundle, scene, tmp_path, monkeypatch) -> None:
    post, at = Writer.post, []

    def watch(self, result):
        counters = result.facts["counters"]
        at.append((result.facts["next_index"], counters["received"] + counters["lost"]))
        post(self, result)

    monkeypatch.setattr(Writer, "post", watch)
    fly(bundle, scene, tmp_path, [*range(6), *range(17, LINES - 9)])
    assert at == [(line, line) for line in range(4, LINES + 1, 4)]


def test_wrong_sizes_and_lines_of_nan_are_counted_and_leave_no_trace(tiny, bundle, scene, tmp_path) -> None:
    floats = replace(scene, cube=scene.cube.astype(np.float32))
    nan = np.full((SAMPLES, scene.bands), np.nan, np.float32)
    changes = {7: {"values": floats.cube[7, :-1]}, 30: {"values": nan}, 31: {"values": nan[:, :2]}}
    summary, labels = fly(bundle, floats, tmp_path, [(index, changes.get(index, {})) for index in range(LINES)])
    np.testing.assert_array_equal(labels, without(tiny, scene, {7, 30, 31}))
    assert summary.rejected == 2 and summary.invalid_pixels >= SAMPLES


def test_an_engine_that_fails_hands_the_strip_to_the_next(tiny, bundle, scene, tmp_path, monkeypatch) -> None:
    class Failing(OrtCpuEngine):
        def step(self, block):
            self.calls = getattr(self, "calls", 0) + 1
            if self.calls == 5:
                self.state[...] = 7.0  # whatever it leaves behind
                raise HyperlineError("the GPU fell off the bus")
            return super().step(block)

    def load(name, model, card, threads, precision, guarded):
        if name == "ort-cuda":
            raise HyperlineError("there is no CUDA here")
        return (Failing if name == "tensorrt" else OrtCpuEngine)(model, card, 1, precision=precision)

    monkeypatch.setattr(strip_module, "load_engine", load)
    source = Scripted(scene, script=range(LINES))
    summary = run_strip(bundle, source, tmp_path, engine="tensorrt", threads=1)
    labels = np.fromfile(tmp_path / "classes.img", np.uint8).reshape(-1, SAMPLES)
    np.testing.assert_array_equal(labels, tiny.expected_map(scene.cube, 4)[0])
    assert (summary.fallbacks, summary.engine, summary.classified) == (1, "ort-cpu", LINES)
    assert "fell off the bus" in summary.failures[0] and "no CUDA" in summary.failures[1]


def test_an_answer_that_is_no_number_costs_its_block_alone(tiny, bundle, scene, tmp_path, monkeypatch) -> None:
    step, calls = OrtCpuEngine.step, iter(range(1000))

    def spoil(self, block):
        outputs = step(self, block)
        if next(calls) == 3:  # lines 12 to 15
            outputs.confidence[0, 0] = np.nan
            self.state[:] = np.nan
        return outputs

    monkeypatch.setattr(OrtCpuEngine, "step", spoil)
    summary, labels = fly(bundle, scene, tmp_path, range(LINES))
    expected = without(tiny, scene, range(12, 16))
    np.testing.assert_array_equal(labels, expected)
    assert (summary.counters.failed, summary.dropped, summary.classified) == (1, 4, LINES - 4)
    uncertainty = np.fromfile(tmp_path / "uncertainty.img", np.uint8).reshape(LINES, SAMPLES)
    experts = np.fromfile(tmp_path / "experts.img", "<f4").reshape(LINES // 4, -1)
    assert not uncertainty[12:16].any() and not experts[3].any() and experts[[2, 4]].any(axis=1).all()
    quicklook = np.fromfile(tmp_path / "quicklook.img", np.uint8).reshape(LINES, SAMPLES, 3)
    assert quicklook[12:16].any()  # the lines were seen


def test_a_block_without_a_pixel_has_no_experts(tiny, bundle, scene, tmp_path) -> None:
    fly(bundle, scene, tmp_path, [*range(20), *range(28, LINES)])
    experts = np.fromfile(tmp_path / "experts.img", "<f4").reshape(LINES // 4, -1)
    np.testing.assert_array_equal(experts.any(axis=1), [block not in (5, 6) for block in range(LINES // 4)])


def test_a_flipped_bit_of_the_state_is_found_before_the_next_block(tiny, bundle, scene, tmp_path, monkeypatch) -> None:
    check, generator = StateGuard.check, np.random.default_rng(0)

    def flip(self, engine):
        data = engine.state.view(np.uint8)
        data[generator.integers(data.size)] ^= 1 << generator.integers(8)
        check(self, engine)

    monkeypatch.setattr(StateGuard, "check", flip)
    summary, labels = fly(bundle, scene, tmp_path, range(LINES))
    np.testing.assert_array_equal(labels, tiny.expected_map(scene.cube, 4)[0])
    assert summary.counters.state_repaired == LINES // 4 + 1  # and before the self-test at the end


def test_where_the_copy_is_damaged_too_the_state_goes_one_block_back(
    tiny, bundle, scene, tmp_path, monkeypatch
) -> None:
    check, blocks = StateGuard.check, iter(range(1000))

    def flip(self, engine):
        if next(blocks) == 6:
            engine.state[0] += 1
            self.latest.state[3] += 1
        check(self, engine)

    monkeypatch.setattr(StateGuard, "check", flip)
    summary, labels = fly(bundle, scene, tmp_path, range(LINES))
    expected = tiny.expected_map(scene.cube, 4)[0]
    np.testing.assert_array_equal(labels[:24], expected[:24])
    assert summary.counters.state_rolled_back == 1 and summary.classified == LINES


def test_a_line_damaged_while_it_waited_is_rejected(tiny, bundle, scene, tmp_path, monkeypatch) -> None:
    intact, seen = Slot.intact, iter(range(1000))

    def flip(self):
        if next(seen) == 9:
            self.values.view(np.uint8).reshape(-1)[17] ^= 4
        return intact(self)

    monkeypatch.setattr(Slot, "intact", flip)
    summary, labels = fly(bundle, scene, tmp_path, range(LINES))
    np.testing.assert_array_equal(labels, without(tiny, scene, {9}))
    assert (summary.rejected, summary.counters.damaged) == (1, 1)


@pytest.mark.parametrize("size", [1, 7, 8, 9, 4096, 5003])
def test_every_single_flip_changes_the_parity(size) -> None:
    data = np.random.default_rng(size).integers(0, 256, size, np.uint8)
    word = parity(data)
    for position in {0, 1, size // 2, size - 1}:
        for bit in range(8):
            data[position % size] ^= 1 << bit
            assert parity(data) != word
            data[position % size] ^= 1 << bit
    assert parity(data) == word


def test_a_clock_that_jumps_changes_nothing(tiny, bundle, scene, tmp_path, monkeypatch) -> None:
    """Deadlines and latency come from the monotonic clock; the sensor's time and the wall's are only kept."""
    stamps = [10**18 + index * 1000 if index < 30 else 5 for index in range(LINES)]
    script = [(index, {"timestamp_ns": stamps[index]}) for index in range(LINES)]
    monkeypatch.setattr(time, "time", lambda: -1e9)
    summary, labels = fly(bundle, scene, tmp_path, script)
    np.testing.assert_array_equal(labels, tiny.expected_map(scene.cube, 4)[0])
    assert 0 <= summary.latency_ms.p999 < 60_000


# ------------------------------------------------------------------------------------------------------------- the ring


def line(index: int, value: int = 0) -> Line:
    return Line(index, np.full((3, 2), value or index, np.int16), 0.0)


def taken(ring: LineRing) -> list[int]:
    indices = []
    while (slot := ring.take(0.0)) is not None:
        indices.append(slot.index)
        assert slot.intact()
    return indices


@pytest.mark.parametrize(
    ("policy", "left", "dropped"), [("drop-oldest", [6, 7, 8, 9], 6), ("drop-newest", [0, 1, 2, 3], 6)]
)
def test_a_full_ring_drops_by_its_policy(policy, left, dropped) -> None:
    ring = LineRing(4, 3, 2, np.dtype(np.int16), policy)
    for index in range(10):
        ring.put(line(index))
    assert (taken(ring), ring.dropped, ring.received, ring.deepest) == (left, dropped, 10, 4)


def test_the_line_that_the_loop_holds_is_never_overwritten() -> None:
    ring = LineRing(2, 3, 2, np.dtype(np.int16), "drop-oldest")
    ring.put(line(0, 77))
    held = ring.take(0.0)
    for index in range(1, 20):
        ring.put(line(index))
    assert held.index == 0 and (held.values == 77).all()
    assert taken(ring) == [18, 19]


def test_a_ring_that_blocks_loses_nothing() -> None:
    ring = LineRing(3, 3, 2, np.dtype(np.int16), "block")
    filler = threading.Thread(target=ring.fill, args=((line(index) for index in range(500)),))
    filler.start()
    indices = []
    while not ring.ended:
        if (slot := ring.take(0.1)) is not None:
            indices.append(slot.index)
    filler.join(5)
    assert indices == list(range(500)) and ring.dropped == 0


def test_an_abandoned_ring_lets_its_source_go() -> None:
    ring = LineRing(2, 3, 2, np.dtype(np.int16), "block")
    filler = threading.Thread(target=ring.fill, args=((line(index) for index in range(500)),))
    filler.start()
    time.sleep(0.05)
    ring.abandon()
    filler.join(5)
    assert not filler.is_alive() and ring.received == ring.dropped

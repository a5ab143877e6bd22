"""Streamed events are those of the whole map, however it is cut into blocks."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from hyperline.errors import InputError
from hyperline.runtime.links.components import EventFinder
from hyperline.runtime.links.event import Event, Rule, parse_rule

NAMES = ("Corn", "Woods", "Water")
RULES = (Rule(1, 0.5, 2), Rule(3, 0.8, 1, weight=2.0))


def streamed(
    labels: np.ndarray, confidence: np.ndarray, cuts: list[int], rules=RULES, most_open: int = 1024
) -> tuple[list[Event], EventFinder]:
    finder = EventFinder(rules, NAMES, labels.shape[1], most_open)
    times = 1.7e9 + np.arange(len(labels)) / 100
    events: list[Event] = []
    for start, end in zip([0, *cuts], [*cuts, len(labels)], strict=True):
        events += finder.block(start, labels[start:end], confidence[start:end], times[start:end])
    return events + finder.end(), finder


def of_the_whole_map(labels: np.ndarray, confidence: np.ndarray) -> set[tuple]:
    found = set()
    for rule in RULES:
        areas, count = ndimage.label((labels == rule.class_id) & (confidence >= rule.confidence), np.ones((3, 3)))
        for area in range(1, count + 1):
            lines, samples = np.nonzero(areas == area)
            if len(lines) < rule.pixels:
                continue
            sure = confidence[lines, samples].astype(float)
            found.add(
                (
                    rule.class_id,
                    len(lines),
                    round(sure.mean(), 9),
                    sure.max(),
                    (lines.min(), lines.max(), samples.min(), samples.max()),
                    (round(lines.mean(), 9), round(samples.mean(), 9)),
                    (1.7e9 + lines.min() / 100, 1.7e9 + lines.max() / 100),
                )
            )
    return found


def essence(event: Event) -> tuple:
    return (
        event.class_id,
        event.pixels,
        round(event.mean_confidence, 9),
        event.max_confidence,
        (event.first_line, event.last_line, event.first_sample, event.last_sample),
        (round(event.centre_line, 9), round(event.centre_sample, 9)),
        (event.first_time, event.last_time),
    )


@settings(max_examples=200, deadline=None)
@given(
    lines=st.integers(1, 24),
    samples=st.integers(1, 17),
    density=st.floats(0.1, 1.0),
    seed=st.integers(0, 2**32),
    data=st.data(),
)
def test_events_are_the_connected_areas_of_the_whole_map(
    lines: int, samples: int, density: float, seed: int, data: st.DataObject
) -> None:
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 4, (lines, samples)).astype(np.uint8)
    labels[generator.random(labels.shape) < density / 2] = 1
    confidence = generator.random(labels.shape, np.float32)
    confidence[generator.random(labels.shape) < density] = 0.9
    cuts = sorted(data.draw(st.sets(st.integers(1, lines - 1)))) if lines > 1 else []
    events, finder = streamed(labels, confidence, cuts)
    assert {essence(event) for event in events} == of_the_whole_map(labels, confidence)
    assert [event.sequence for event in events] == list(range(len(events)))
    assert (finder.found, finder.cut) == (len(events), 0)
    assert all(event.complete for event in events)


def test_a_spiral_that_meets_itself_again_is_one_event() -> None:
    labels = np.zeros((9, 9), np.uint8)
    labels[0, :] = labels[:, 8] = labels[8, :] = labels[2:, 0] = labels[2, :7] = labels[2:7, 6] = labels[6, 2:7] = 1
    events, _ = streamed(labels, np.ones(labels.shape, np.float32), list(range(1, 9)))
    assert [event.pixels for event in events] == [np.count_nonzero(labels)]


def test_too_few_pixels_make_no_event_and_are_counted() -> None:
    labels = np.array([[1, 0, 1, 1], [0, 0, 0, 0]], np.uint8)
    events, finder = streamed(labels, np.ones(labels.shape, np.float32), [])
    assert [(event.pixels, event.first_sample) for event in events] == [(2, 2)]
    assert finder.small == 1


def test_a_gap_in_the_lines_cuts_what_was_open() -> None:
    finder = EventFinder(RULES, NAMES, 4)
    block = np.ones((2, 4), np.uint8), np.ones((2, 4), np.float32), np.zeros(2)
    assert finder.block(0, *block) == []
    (cut,) = finder.block(4, *block)
    assert (cut.complete, cut.first_line, cut.last_line) == (False, 0, 1)
    (rest,) = finder.end()
    assert (rest.complete, rest.first_line, rest.last_line) == (True, 4, 5)


def test_no_more_areas_are_open_than_allowed_and_the_oldest_is_cut_first() -> None:
    labels = np.zeros((8, 7), np.uint8)
    labels[:, 0] = labels[1:, 2] = labels[2:, 4] = labels[3:, 6] = 1
    events, finder = streamed(labels, np.ones(labels.shape, np.float32), list(range(1, 8)), most_open=2)
    assert sum(event.pixels for event in events) + finder.small == np.count_nonzero(labels)  # small ones have 1 pixel
    first = events[0]
    assert (first.first_sample, first.first_line, first.last_line, first.complete) == (0, 0, 2, False)
    assert finder.cut > 0


@pytest.mark.parametrize("broken", [np.nan, np.inf, -np.inf])
def test_what_is_no_probability_is_never_sure_enough(broken: float) -> None:
    events, _ = streamed(np.ones((2, 3), np.uint8), np.full((2, 3), broken, np.float32), [])
    assert events == []


def test_the_value_is_weight_times_pixels_times_mean_confidence() -> None:
    (event,), _ = streamed(np.full((1, 2), 3, np.uint8), np.array([[0.8, 1.0]], np.float32), [])
    assert event.value == pytest.approx(2.0 * 2 * 0.9)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("corn:0.9:20", Rule(1, 0.9, 20)),
        ("3:0:1:2.5", Rule(3, 0.0, 1, 2.5)),
        ("Stone: wet:1:1", Rule(4, 1.0, 1)),
    ],
)
def test_rules_name_a_class_in_any_case_or_its_number(text: str, rule: Rule) -> None:
    assert parse_rule(text, (*NAMES, "Stone: wet")) == rule


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("Corn", "expected CLASS:CONFIDENCE:PIXELS"),
        ("Corn:1.2.3:5", "expected CLASS:CONFIDENCE:PIXELS"),
        ("Maize:0.9:5", "no class 'Maize'; it has 1 Corn, 2 Woods, 3 Water"),
        ("4:0.9:5", "no class '4'"),
        ("0:0.9:5", "no class '0'"),
        ("Corn:1.1:5", "from 0 to 1"),
        ("Corn:0.9:0", "at least 1"),
    ],
)
def test_a_rule_that_cannot_be_is_refused(text: str, fault: str) -> None:
    with pytest.raises(InputError, match=fault):
        parse_rule(text, NAMES)


def test_one_class_takes_one_rule() -> None:
    with pytest.raises(InputError, match="one a class"):
        EventFinder((Rule(1, 0.5, 1), Rule(1, 0.9, 1)), NAMES, 4)

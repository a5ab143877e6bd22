"""The budget is never exceeded, in any stretch of time, and the most valuable goes first."""

import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperline.errors import InputError
from hyperline.runtime.links import Event
from hyperline.runtime.links.outbox import Downlink, Outbox, Rate


def size_of(event: Event) -> int:
    """The size that a test gives an event: its first line."""
    return event.first_line


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


# Something happens: time passes, an event of a value and a size comes to a link, or a link takes a few.
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("wait"), st.floats(0, 20)),
        st.tuples(st.just("put"), st.integers(0, 2), st.integers(1, 9), st.integers(1, 120)),
        st.tuples(st.just("get"), st.integers(0, 2), st.integers(1, 5)),
    ),
    max_size=80,
)


@settings(max_examples=300, deadline=None)
@given(steps=STEPS, rate=st.floats(0.5, 200), burst=st.floats(1, 300), capacity=st.integers(1, 6))
def test_in_no_stretch_of_time_are_more_bytes_spent_than_allowed(
    steps: list[tuple], rate: float, burst: float, capacity: int, make_event
) -> None:
    clock = Clock()
    downlink = Downlink(Rate(rate, burst), clock)
    outboxes = [Outbox(downlink, capacity, size_of) for _ in range(3)]
    put, got = [0, 0, 0], [0, 0, 0]
    spent: list[tuple[float, int]] = []
    for sequence, (what, *values) in enumerate(steps):
        if what == "wait":
            clock.now += values[0]
        elif what == "put":
            link, value, size = values
            outboxes[link].put([make_event(sequence, pixels=value, first_line=size)])
            put[link] += 1
        else:
            link, most = values
            waiting = list(outboxes[link]._waiting)
            taken = outboxes[link].get(most, 0)
            affordable = [event for event in waiting if size_of(event) <= burst]
            assert [paid.event for paid in taken] == sorted(
                affordable, key=lambda event: (-event.value, event.sequence)
            )[: len(taken)]
            spent += [(clock.now, paid.size) for paid in taken]
            got[link] += len(taken)
    for link, outbox in enumerate(outboxes):
        assert put[link] == got[link] + outbox.dropped + len(outbox)
        assert len(outbox) <= outbox.peak <= capacity
    for first, (start, _) in enumerate(spent):
        total = 0
        for end, size in spent[first:]:
            total += size
            assert total <= burst + (end - start) * rate + 1e-6


@given(values=st.lists(st.integers(1, 50), min_size=1, max_size=40), capacity=st.integers(1, 10))
def test_what_does_not_fit_is_the_least_valuable_of_all(values: list[int], capacity: int, make_event) -> None:
    outbox = Outbox(Downlink(None), capacity, size_of)
    for sequence, value in enumerate(values):
        outbox.put([make_event(sequence, pixels=value)])
    kept = outbox.get(capacity + 1, 0)
    assert [item.event.pixels for item in kept] == sorted(values, reverse=True)[:capacity]
    assert outbox.dropped == max(len(values) - capacity, 0)


def test_of_equal_value_the_older_goes_first(make_event) -> None:
    outbox = Outbox(Downlink(None), 10, size_of)
    outbox.put(make_event(sequence) for sequence in (1, 0, 2))
    assert [item.event.sequence for item in outbox.get(10, 0)] == [0, 1, 2]


def test_links_that_share_a_downlink_serve_the_most_valuable_event_of_all(make_event, aircraft) -> None:
    clock = Clock()
    downlink = Downlink(Rate(1000, 50), clock)
    assert downlink.spend(50)
    outboxes = [Outbox(downlink, 9, size_of) for _ in range(2)]
    order: list[int] = []

    def take(outbox: Outbox) -> None:
        while taken := outbox.get(9, 10.0):
            order.extend(paid.event.pixels for paid in taken)

    for outbox, values in zip(outboxes, ([1, 4, 5], [2, 3, 6]), strict=True):
        outbox.put(make_event(value, pixels=value, first_line=50) for value in values)
    threads = [threading.Thread(target=take, args=(outbox,)) for outbox in outboxes]
    for thread in threads:
        thread.start()
    for sent in range(6):
        assert aircraft.eventually(lambda sent=sent: len(order) == sent and len(downlink.asking) == 2)
        clock.now += 1.0  # the burst is one event
    assert aircraft.eventually(lambda: len(order) == 6)
    for outbox in outboxes:
        outbox.close()
    for thread in threads:
        thread.join(10)
    assert order == [6, 5, 4, 3, 2, 1]


def test_a_link_that_is_down_holds_up_no_other(make_event) -> None:
    downlink = Downlink(None)
    down, up = Outbox(downlink, 9, size_of), Outbox(downlink, 9, size_of)
    down.put([make_event(0, pixels=999)])
    up.put([make_event(1)])
    assert [item.event.sequence for item in up.get(1, 0)] == [1]


def test_an_event_larger_than_the_burst_is_dropped_and_blocks_nothing(make_event) -> None:
    outbox = Outbox(Downlink(Rate(10, 100)), 9, size_of)
    outbox.put([make_event(0, pixels=999, first_line=101), make_event(1, first_line=100)])
    assert [item.event.sequence for item in outbox.get(9, 0)] == [1]
    assert outbox.dropped == 1


def test_get_wakes_when_the_bucket_has_filled(make_event) -> None:
    outbox = Outbox(Downlink(Rate(1000, 100)), 9, size_of)
    outbox.put(make_event(sequence, first_line=100) for sequence in range(3))
    start = time.monotonic()
    assert sum(len(outbox.get(9, 5.0)) for _ in range(3)) == 3
    assert 0.19 < time.monotonic() - start < 2


@pytest.mark.parametrize(
    ("text", "rate"), [("100", Rate(100, 1024)), ("2e3", Rate(2000, 20000)), ("50:80", Rate(50, 80))]
)
def test_a_budget_is_bytes_a_second_and_a_burst(text: str, rate: Rate) -> None:
    assert Rate.parse(text) == rate


@pytest.mark.parametrize("text", ["", "0", "-5", "fast", "10:0", "10:x", "nan", "inf", "10:20:30"])
def test_a_budget_that_cannot_be_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="BYTES_PER_SECOND"):
        Rate.parse(text)

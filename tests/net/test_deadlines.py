"""Deadlines under a clock that the test moves."""

from __future__ import annotations

import gc
import math
import weakref
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastserve.net.deadlines import NO_BUCKET, TICK_S, Clock, Deadlines, Watched

START = 1000.0


class Watch(Watched):
    """Something with a deadline. told: when it was told that it is over."""

    def __init__(self, deadlines: Deadlines, then: Callable[[], None] = lambda: None) -> None:
        self._deadlines = deadlines
        self._then = then
        super().__init__()
        self.told: list[float] = []

    def pass_deadline(self) -> None:
        self.told.append(self._deadlines.now)
        self._then()


def tick_until(deadlines: Deadlines, end: float) -> None:
    """Tick as the loop does, every TICK_S."""
    while deadlines.now < end:
        deadlines.tick(deadlines.now + TICK_S)


@pytest.mark.parametrize(
    "seconds", [0.1, TICK_S, 0.3, 1.0, 2.6, 75.0], ids=["part", "tick", "over a tick", "second", "odd", "keep-alive"]
)
def test_a_deadline_that_is_over_is_told_once_and_at_most_a_tick_late(seconds: float) -> None:
    deadlines = Deadlines(START)
    watch = Watch(deadlines)
    deadlines.set(watch, seconds)
    tick_until(deadlines, START + seconds + 10)
    (told,) = watch.told
    assert START + seconds <= told <= START + seconds + TICK_S


@pytest.mark.parametrize("seconds", [0.0, -5.0], ids=["now", "in the past"])
def test_a_deadline_that_is_over_when_it_is_set_is_told_at_the_next_tick(seconds: float) -> None:
    deadlines = Deadlines(START + 0.1)
    watch = Watch(deadlines)
    deadlines.set(watch, seconds)
    deadlines.tick(START + TICK_S)
    assert watch.told == [START + TICK_S]


def test_a_deadline_after_the_clock_was_never_moved_counts_from_its_first_time() -> None:
    deadlines = Deadlines(START)
    assert deadlines.now == START
    watch = Watch(deadlines)
    deadlines.set(watch, 5)
    assert watch.deadline == START + 5


def test_a_deadline_that_is_moved_later_is_told_only_then() -> None:
    deadlines = Deadlines(START)
    watch = Watch(deadlines)
    deadlines.set(watch, 5)
    tick_until(deadlines, START + 4)
    deadlines.set(watch, 5)
    tick_until(deadlines, START + 8.75)
    assert watch.told == []
    tick_until(deadlines, START + 20)
    assert watch.told == [START + 9]


def test_one_that_fails_when_it_is_told_keeps_nobody_from_being_told(caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> None:
        raise RuntimeError("a filter of the user's")

    deadlines = Deadlines(START)
    watches = [Watch(deadlines, fail) for _ in range(3)]
    for watch in watches:
        deadlines.set(watch, 5)
    tick_until(deadlines, START + 10)
    for watch in watches:
        deadlines.set(watch, 5)
    tick_until(deadlines, START + 20)
    assert [watch.told for watch in watches] == [[START + 5, START + 15]] * 3
    assert [record.exc_text or record.getMessage() for record in caplog.records if record.exc_info] != []


def test_a_deadline_that_is_moved_later_over_and_over_is_never_told() -> None:
    deadlines = Deadlines(START)
    watch = Watch(deadlines)
    for _ in range(1000):
        deadlines.set(watch, 5)
        deadlines.tick(deadlines.now + TICK_S)
    assert watch.told == []


def test_a_deadline_that_is_moved_earlier_is_told_then_and_not_again() -> None:
    deadlines = Deadlines(START)
    watch = Watch(deadlines)
    deadlines.set(watch, 75)
    deadlines.set(watch, 2)
    tick_until(deadlines, START + 100)
    assert watch.told == [START + 2]


def test_a_deadline_that_is_moved_by_less_than_a_tick_is_still_not_told_early() -> None:
    deadlines = Deadlines(START)
    watch = Watch(deadlines)
    deadlines.set(watch, 2.0)
    deadlines.set(watch, 1.9)
    deadlines.set(watch, 1.95)
    tick_until(deadlines, START + 10)
    (told,) = watch.told
    assert START + 1.95 <= told <= START + 1.95 + TICK_S


@pytest.mark.parametrize("later", [2.1, 2.3, 2.6, 2.9], ids=str)
def test_a_deadline_that_is_moved_a_little_later_is_not_told_at_its_first_time(later: float) -> None:
    deadlines = Deadlines(START)
    watch = Watch(deadlines)
    deadlines.set(watch, 2.0)
    deadlines.set(watch, later)
    tick_until(deadlines, START + 10)
    (told,) = watch.told
    assert START + later <= told <= START + later + TICK_S


def test_infinity_takes_a_deadline_away_and_another_one_can_be_set_after() -> None:
    deadlines = Deadlines(START)
    watch = Watch(deadlines)
    deadlines.set(watch, 2)
    deadlines.set(watch, math.inf)
    tick_until(deadlines, START + 10)
    assert watch.told == []
    deadlines.set(watch, 1)
    tick_until(deadlines, START + 20)
    assert watch.told == [START + 11]


def test_a_deadline_is_gone_once_it_is_told() -> None:
    deadlines = Deadlines(START)
    watch = Watch(deadlines)
    deadlines.set(watch, 1)
    tick_until(deadlines, START + 1)
    assert watch.deadline == math.inf
    tick_until(deadlines, START + 100)
    assert len(watch.told) == 1


def test_whoever_is_told_may_set_a_further_deadline() -> None:
    deadlines = Deadlines(START)
    watch = Watch(deadlines, lambda: deadlines.set(watch, 2))
    deadlines.set(watch, 2)
    tick_until(deadlines, START + 7)
    assert watch.told == [START + 2, START + 4, START + 6]


def test_whoever_is_told_may_set_a_deadline_that_is_over_and_the_tick_still_ends() -> None:
    deadlines = Deadlines(START)
    watch = Watch(deadlines, lambda: deadlines.set(watch, 0))
    deadlines.set(watch, 0.1)
    deadlines.tick(START + TICK_S)
    deadlines.tick(START + 2 * TICK_S)
    assert watch.told == [START + TICK_S, START + 2 * TICK_S]


def test_all_with_the_same_deadline_are_told() -> None:
    deadlines = Deadlines(START)
    watches = [Watch(deadlines) for _ in range(100)]
    for watch in watches:
        deadlines.set(watch, 3)
    tick_until(deadlines, START + 10)
    assert [watch.told for watch in watches] == [[START + 3]] * 100


def test_one_that_is_forgotten_is_not_told() -> None:
    deadlines = Deadlines(START)
    watch = Watch(deadlines)
    deadlines.set(watch, 1)
    deadlines.forget(watch)
    assert watch.deadline == math.inf
    tick_until(deadlines, START + 10)
    assert watch.told == []


def test_one_without_a_deadline_may_be_forgotten_and_also_twice() -> None:
    deadlines = Deadlines(START)
    watch = Watch(deadlines)
    deadlines.forget(watch)
    deadlines.set(watch, 1)
    deadlines.forget(watch)
    deadlines.forget(watch)
    tick_until(deadlines, START + 10)
    assert watch.told == []


def test_one_that_another_forgets_during_the_same_tick_is_not_told() -> None:
    deadlines = Deadlines(START)
    pair: list[Watch] = []

    def forget_both() -> None:
        for watch in pair:
            deadlines.forget(watch)

    pair += [Watch(deadlines, forget_both), Watch(deadlines, forget_both)]
    for watch in pair:
        deadlines.set(watch, 1)
    tick_until(deadlines, START + 10)
    assert sorted(len(watch.told) for watch in pair) == [0, 1]
    assert all(watch.bucket == NO_BUCKET for watch in pair)


def test_one_that_another_moves_later_during_the_same_tick_is_told_later() -> None:
    deadlines = Deadlines(START)
    pair: list[Watch] = []

    def move_other(index: int) -> None:
        if not pair[1 - index].told:
            deadlines.set(pair[1 - index], 5)

    pair += [Watch(deadlines, lambda: move_other(0)), Watch(deadlines, lambda: move_other(1))]
    for watch in pair:
        deadlines.set(watch, 1)
    tick_until(deadlines, START + 20)
    assert sorted(watch.told for watch in pair) == [[START + 1], [START + 6]]


def test_one_that_is_set_for_the_first_time_during_a_tick_is_told_in_time() -> None:
    deadlines = Deadlines(START)
    late = Watch(deadlines)
    watch = Watch(deadlines, lambda: deadlines.set(late, 1))
    deadlines.set(watch, 1)
    tick_until(deadlines, START + 20)
    assert late.told == [START + 2]


@pytest.mark.parametrize("end", ["forgotten", "told", "forgotten while told"])
def test_nothing_is_kept_alive_that_is_no_longer_watched(end: str) -> None:
    deadlines = Deadlines(START)
    watch = Watch(deadlines)
    if end == "forgotten while told":
        watch = Watch(deadlines, lambda: deadlines.forget(alive()))  # type: ignore[arg-type]
    alive = weakref.ref(watch)
    deadlines.set(watch, 75)
    deadlines.set(watch, 2)
    if end == "forgotten":
        deadlines.forget(watch)
    else:
        tick_until(deadlines, START + 3)
    del watch
    gc.collect()
    assert alive() is None


@pytest.mark.parametrize("lag", [10.0, 60.0, 3600.0], ids=["10 seconds", "minute", "hour"])
def test_after_a_blocked_loop_all_that_is_over_is_told_in_the_first_tick_in_order(lag: float) -> None:
    deadlines = Deadlines(START)
    told: list[int] = []

    def watch(number: int) -> Watch:
        return Watch(deadlines, lambda: told.append(number))

    watches = [watch(number) for number in range(20)]
    for number, each in enumerate(watches):
        deadlines.set(each, lag * (20 - number) / 20)
    later = Watch(deadlines)
    deadlines.set(later, lag + 1)
    deadlines.tick(START + lag)
    assert told == list(reversed(range(20)))
    assert later.told == []
    tick_until(deadlines, START + lag + 2)
    assert later.told == [START + lag + 1]


def test_a_deadline_set_while_a_blocked_loop_catches_up_counts_from_the_present() -> None:
    deadlines = Deadlines(START)
    watch = Watch(deadlines, lambda: deadlines.set(watch, 2))
    deadlines.set(watch, 1)
    deadlines.tick(START + 500)
    assert watch.told == [START + 500]
    tick_until(deadlines, START + 503)
    assert watch.told == [START + 500, START + 502]


def test_a_clock_that_stands_still_or_ticks_more_often_than_it_should_tells_nothing_twice() -> None:
    deadlines = Deadlines(START)
    watch = Watch(deadlines)
    deadlines.set(watch, 1)
    for _ in range(5):
        deadlines.tick(START + 0.01)
    for step in range(40):
        deadlines.tick(START + 0.9 + step / 100)
    assert len(watch.told) == 1


times = st.one_of(st.floats(-1, 3), st.floats(-2, 40))
steps = st.lists(
    st.one_of(
        st.tuples(st.just("set"), st.integers(0, 3), times),
        st.tuples(st.just("take away"), st.integers(0, 3), st.just(math.inf)),
        st.tuples(st.just("forget"), st.integers(0, 3), st.just(0.0)),
        st.tuples(st.just("tick"), st.just(0), st.sampled_from([TICK_S, 0.26, 0.3, 1.0, 30.0])),
    ),
    max_size=60,
)


@given(start=st.floats(0, 1e6), script=steps)
def test_it_does_what_a_list_of_deadlines_would_do_to_the_precision_of_a_tick(
    start: float, script: list[tuple[str, int, float]]
) -> None:
    deadlines = Deadlines(start)
    watches = [Watch(deadlines) for _ in range(4)]
    due = [math.inf] * 4
    for action, index, value in script:
        watch = watches[index]
        if action == "forget":
            deadlines.forget(watch)
            due[index] = math.inf
        elif action != "tick":
            deadlines.set(watch, value)
            due[index] = deadlines.now + value
        else:
            before = [len(watch.told) for watch in watches]
            deadlines.tick(deadlines.now + value)
            for number, watch in enumerate(watches):
                was_told = len(watch.told) - before[number]
                assert was_told <= 1
                if was_told:
                    assert due[number] <= deadlines.now
                    due[number] = math.inf
                else:
                    assert due[number] > deadlines.now - TICK_S
    for watch in watches:
        deadlines.forget(watch)
    references = [weakref.ref(watch) for watch in watches]
    del watches, watch
    assert [reference() for reference in references] == [None] * 4


def test_a_clock_goes_on_as_time_does_but_not_while_the_event_loop_is_blocked() -> None:
    clock = Clock(START)
    assert [clock.read(START + at) for at in (0.25, 0.5, 0.75)] == [START + 0.25, START + 0.5, START + 0.75]
    assert clock.read(START + 10.75) == START + 0.75 + 2 * TICK_S, "ten seconds in one turn"
    assert clock.read(START + 11) == START + 1 + 2 * TICK_S

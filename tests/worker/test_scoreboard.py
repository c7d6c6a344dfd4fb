"""The memory in which workers tell how they are."""

from __future__ import annotations

import os
from typing import Any

import pytest

from fastserve.asgi.metrics import LATENCY_BUCKETS
from fastserve.worker.scoreboard import Report, Scoreboard, WorkerState


def report(slot: int, **more: Any) -> Report:
    """Return a report in which every number is another one."""
    values: dict[str, Any] = {
        "pid": 4711,
        "slot": slot,
        "state": WorkerState.READY,
        "started_us": 1_000_000,
        "beat_us": 2_000_000,
        "connections": 3,
        "is_full": True,
        "running": 2,
        "requests": 7,
        "sent_bytes": 2**40,
        "status": list(range(10)),
        "latency": list(range(100, 100 + LATENCY_BUCKETS)),
    }
    return Report(**{**values, **more})


def test_nothing_is_reported_at_first() -> None:
    scoreboard = Scoreboard(3)
    assert (scoreboard.reports(), scoreboard.is_leaving) == ([], False)


def test_a_record_that_is_reserved_is_that_of_a_worker_which_is_starting() -> None:
    scoreboard = Scoreboard(2)
    record = scoreboard.reserve(5, 12.5)
    (told,) = scoreboard.reports()
    assert (told.slot, told.state, told.pid) == (5, WorkerState.BOOTING, 0)
    assert (told.started_us, told.beat_us, record.beat_us) == (12_500_000, 12_500_000, 12_500_000)
    assert (told.requests, told.status, told.latency) == (0, [0] * 10, [0] * LATENCY_BUCKETS)
    record.claim()
    assert scoreboard.reports()[0].pid == os.getpid()


def test_what_is_written_is_read_by_all() -> None:
    scoreboard = Scoreboard(3)
    records = [scoreboard.reserve(slot, 0.0) for slot in range(3)]
    for slot in (2, 0, 1):
        records[slot].write(report(slot, connections=slot * 10))
    assert scoreboard.reports() == [report(slot, connections=slot * 10) for slot in range(3)]
    assert [record.read() for record in records] == scoreboard.reports()
    assert records[0].beat_us == 2_000_000


def test_the_supervisor_can_say_that_it_has_told_a_worker_to_stop() -> None:
    scoreboard = Scoreboard(1)
    record = scoreboard.reserve(0, 0.0)
    assert not record.is_told
    record.is_told = True
    record.write(report(0))
    assert (record.is_told, record.read()) == (True, report(0))
    record.clear()
    assert not scoreboard.reserve(0, 0.0).is_told


def test_there_are_only_so_many_records_and_one_that_is_cleared_is_free() -> None:
    scoreboard = Scoreboard(2)
    first, second = scoreboard.reserve(0, 0.0), scoreboard.reserve(1, 0.0)
    with pytest.raises(LookupError):
        scoreboard.reserve(2, 0.0)
    second.write(report(1))
    first.write(report(0))
    first.clear()
    assert (first.is_free, second.is_free, scoreboard.reports()) == (True, False, [report(1)])
    third = scoreboard.reserve(2, 3.0)
    assert third.read() == report(
        2,
        pid=0,
        state=WorkerState.BOOTING,
        started_us=3_000_000,
        beat_us=3_000_000,
        connections=0,
        is_full=False,
        running=0,
        requests=0,
        sent_bytes=0,
        status=[0] * 10,
        latency=[0] * LATENCY_BUCKETS,
    )


def test_all_learn_that_the_server_is_leaving_and_no_record_changes() -> None:
    scoreboard = Scoreboard(1)
    scoreboard.reserve(0, 0.0).write(report(0))
    scoreboard.is_leaving = True
    assert (scoreboard.is_leaving, scoreboard.reports()) == (True, [report(0)])
    scoreboard.is_leaving = False
    assert not scoreboard.is_leaving


def test_what_a_process_writes_is_read_by_the_one_that_forked_it() -> None:
    scoreboard = Scoreboard(1)
    record = scoreboard.reserve(0, 0.0)
    pid = os.fork()
    if not pid:
        record.claim()
        os._exit(0)
    assert os.waitpid(pid, 0) == (pid, 0)
    assert record.read().pid == pid

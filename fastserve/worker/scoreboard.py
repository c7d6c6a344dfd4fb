"""What workers tell of themselves, in memory that the supervisor and all workers share.

Each worker has a record, which it writes four times a second and from its event loop: a record that does not change any
more is that of a loop that is blocked. One number of it is the supervisor's: that it has told the worker to stop.
"""

from __future__ import annotations

import enum
import mmap
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from fastserve.asgi.metrics import LATENCY_BUCKETS


class WorkerState(enum.IntEnum):
    """What a worker is doing; NONE is a record that is free."""

    NONE = 0
    BOOTING = 1
    READY = 2
    DRAINING = 3


@dataclass(slots=True)
class Report:
    """What a worker tells.

    Times are in microseconds of the monotonic clock, which all processes share. is_full: there is no space for another
    connection. For status and latency see Metrics.
    """

    pid: int
    slot: int
    state: WorkerState
    started_us: int
    beat_us: int
    connections: int
    is_full: bool
    running: int
    requests: int
    sent_bytes: int
    status: list[int]
    latency: list[int]


_SINGLE = (
    "pid",
    "slot",
    "state",
    "started_us",
    "beat_us",
    "connections",
    "is_full",
    "running",
    "requests",
    "sent_bytes",
)
_FULL_AT = _SINGLE.index("is_full")
_STATUS_AT = len(_SINGLE)
_LATENCY_AT = _STATUS_AT + 10
_TOLD_AT = _LATENCY_AT + LATENCY_BUCKETS
_NUMBERS = _TOLD_AT + 1
_HEADER = 8  # numbers before the first record; the first of them tells whether the server is about to stop


class Scoreboard:
    """A number of records. To be made before the workers are forked."""

    def __init__(self, records: int) -> None:
        self._memory = mmap.mmap(-1, (_HEADER + records * _NUMBERS) * 8)
        self._numbers = memoryview(self._memory).cast("Q")
        self._records = records

    @property
    def is_leaving(self) -> bool:
        """Whether the server is about to stop. Set by the supervisor."""
        return bool(self._numbers[0])

    @is_leaving.setter
    def is_leaving(self, value: bool) -> None:
        self._numbers[0] = value

    def reserve(self, slot: int, now: float) -> Record:
        """Return a record for a worker that is about to be started. now: seconds of the monotonic clock.

        Raises:
            LookupError: all are taken.
        """
        for record in self._all():
            if record.is_free:
                record.reserve(slot, int(now * 1e6))
                return record
        raise LookupError("there are too many workers")

    def reports(self) -> list[Report]:
        """Return what all workers have told last."""
        return [record.read() for record in self._all() if not record.is_free]

    def _all(self) -> Iterator[Record]:
        for number in range(self._records):
            start = _HEADER + number * _NUMBERS
            yield Record(self._numbers[start : start + _NUMBERS])


class Record:
    """The record of one worker."""

    __slots__ = ("_numbers",)

    def __init__(self, numbers: memoryview) -> None:
        self._numbers = numbers

    @property
    def is_free(self) -> bool:
        """Whether it is nobody's."""
        return self._numbers[2] == WorkerState.NONE

    @property
    def beat_us(self) -> int:
        """When it was written last."""
        return int(self._numbers[4])

    @property
    def is_full(self) -> bool:
        """Whether the worker has no space for another connection."""
        return bool(self._numbers[_FULL_AT])

    @is_full.setter
    def is_full(self, value: bool) -> None:
        self._numbers[_FULL_AT] = value

    @property
    def is_told(self) -> bool:
        """Whether the supervisor has told the worker to stop. Set by the supervisor, before it sends the signal."""
        return bool(self._numbers[_TOLD_AT])

    @is_told.setter
    def is_told(self, value: bool) -> None:
        self._numbers[_TOLD_AT] = value

    def reserve(self, slot: int, now_us: int) -> None:
        """Make it that of a worker which is starting."""
        self._numbers[1] = slot
        self._numbers[2] = WorkerState.BOOTING
        self._numbers[3] = self._numbers[4] = now_us

    def claim(self) -> None:
        """Make it that of this process."""
        self._numbers[0] = os.getpid()

    def write(self, report: Report) -> None:
        """Publish a report."""
        for index, name in enumerate(_SINGLE):
            self._numbers[index] = getattr(report, name)
        for index, count in enumerate(report.status):
            self._numbers[_STATUS_AT + index] = count
        for index, count in enumerate(report.latency):
            self._numbers[_LATENCY_AT + index] = count

    def read(self) -> Report:
        """Return the last report. Its numbers may be of two moments, a quarter of a second apart."""
        numbers = self._numbers.tolist()
        single: dict[str, Any] = dict(zip(_SINGLE, numbers[:_STATUS_AT], strict=True))
        single["state"] = WorkerState(single["state"])
        single["is_full"] = bool(single["is_full"])
        return Report(**single, status=numbers[_STATUS_AT:_LATENCY_AT], latency=numbers[_LATENCY_AT:_TOLD_AT])

    def clear(self) -> None:
        """Make the record nobody's."""
        for index in range(_NUMBERS):
            self._numbers[index] = 0

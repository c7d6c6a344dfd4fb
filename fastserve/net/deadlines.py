"""Deadlines without a timer for each: one clock that ticks four times a second, and buckets of whom to look at when.

Moving a deadline back, which happens with every request, costs two assignments: whoever is in a bucket too early is put
into a later one when that bucket comes up.
"""

from __future__ import annotations

import logging
import math

_log = logging.getLogger("fastserve")

TICK_S = 0.25
"""Seconds between two ticks, and so the precision of every deadline."""

NO_BUCKET = 2**62
"""The bucket of those that are in none."""

_TICK_S = TICK_S
# The most that a clock goes on between two ticks.
_MOST_S = 2 * TICK_S


class Watched:
    """Something that has a deadline.

    deadline: when it wants to be told, in seconds (see Clock); infinity for never.
    bucket: where Deadlines keeps it; NO_BUCKET at first, and only Deadlines changes it.
    """

    __slots__ = ("bucket", "deadline")

    def __init__(self) -> None:
        self.deadline = math.inf
        self.bucket = NO_BUCKET

    def pass_deadline(self) -> None:
        """Act: the deadline is over. A further one must be set anew."""
        raise NotImplementedError


class Clock:
    """Tells how much time has passed, except for what the event loop spent in one turn: nobody was heard meanwhile.

    Otherwise deadlines would be over for what has come in time, and is still to be read.
    """

    def __init__(self, now: float) -> None:
        self._told = self._seen = now

    def read(self, now: float) -> float:
        """Return the time; to be called at every tick. now: in seconds of the monotonic clock."""
        self._told += min(now - self._seen, _MOST_S)
        self._seen = now
        return self._told


class Deadlines:
    """The deadlines of one event loop.

    now: the time of the last tick, in seconds (see Clock). It is what deadlines are counted from.
    """

    __slots__ = ("_buckets", "_next_bucket", "now")

    def __init__(self, now: float) -> None:
        self.now = now
        self._buckets: dict[int, set[Watched]] = {}
        self._next_bucket = math.ceil(now / TICK_S)

    def set(self, watched: Watched, seconds: float) -> None:
        """Give `watched` a deadline so many seconds from now; infinity takes it away."""
        watched.deadline = at = self.now + seconds
        if at < watched.bucket * _TICK_S - _TICK_S:
            self._move(watched)

    def forget(self, watched: Watched) -> None:
        """Take the deadline away and keep no reference to `watched`."""
        watched.deadline = math.inf
        self._move(watched)

    def tick(self, now: float) -> None:
        """Move the clock, and tell everyone whose deadline is over."""
        self.now = now
        while self._next_bucket * TICK_S <= now:
            bucket = self._buckets.pop(self._next_bucket, set())
            self._next_bucket += 1
            for watched in bucket:
                watched.bucket = NO_BUCKET
                if watched.deadline > now:
                    self._move(watched)
                else:
                    watched.deadline = math.inf
                    self._tell(watched)

    def _tell(self, watched: Watched) -> None:
        try:
            watched.pass_deadline()
        except Exception:  # The others have their deadlines too.
            _log.exception("A deadline could not be acted on")

    def _move(self, watched: Watched) -> None:
        """Put `watched` into the bucket of the first tick that is not before its deadline."""
        if watched.bucket != NO_BUCKET:
            # The bucket is gone when it is the one that `tick` is going through.
            self._buckets.get(watched.bucket, set()).discard(watched)
            watched.bucket = NO_BUCKET
        if watched.deadline != math.inf:
            watched.bucket = max(math.ceil(watched.deadline / TICK_S), self._next_bucket)
            self._buckets.setdefault(watched.bucket, set()).add(watched)

"""Connections that have been open for long are closed with a response, so that their clients connect anew.

A load balancer that keeps its connections keeps them to the instances that there were: new ones get no load. The ages
differ by chance, so that not all clients come back together.
"""

from __future__ import annotations

import random
from collections.abc import Iterable

from fastserve.net.connection import Connection
from fastserve.net.deadlines import Watched

_SPREAD = 0.1  # of the age, up and down
_LOOKS = 20  # during an age: how exactly it is kept
_MOST_OFTEN_S = 0.25


class Ages:
    """Retires connections that are older than so many seconds, about.

    No connection pays for it with each request, and none is told of: all are looked at now and then.
    """

    def __init__(self, age_s: float) -> None:
        self._age_s = age_s
        self._period_s = max(age_s / _LOOKS, _MOST_OFTEN_S)
        self._next_look_at = 0.0
        self._due: dict[Connection, float] = {}

    def tick(self, now: float, connections: Iterable[Watched]) -> None:
        """Look at the connections that there are, when it is time."""
        if now < self._next_look_at:
            return
        self._next_look_at = now + self._period_s
        known, self._due = self._due, {}
        for each in connections:
            if isinstance(each, Connection):
                due = known.get(each) or now + self._age_s * random.uniform(1 - _SPREAD, 1 + _SPREAD)
                self._due[each] = due
                if due <= now:
                    each.retire()

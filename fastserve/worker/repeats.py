"""Signals that come twice: timeout(1) sends its child one, and then the whole group."""

from __future__ import annotations

import math

_SAME_S = 0.5


class Repeats:
    """Tells a signal that was sent twice from one that was meant twice."""

    def __init__(self) -> None:
        self._kind: object = None
        self._at = -math.inf

    def is_repeated(self, kind: object, now: float) -> bool:
        """Tell whether one of this kind has come within half a second; if not, take note of it. now: in seconds."""
        # No call in between: the handler of the next signal may run in the middle of one.
        if kind is self._kind and now - self._at < _SAME_S:
            return True
        self._kind, self._at = kind, now
        return False

"""How Python looks for cyclic garbage while the server runs (docs/decisions/0011-garbage-collection.md)."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager

THRESHOLDS = (25_000, 10, 10)
"""Young objects, by how many more were made than freed, at which they are looked through; and those of Python for the
rest. Chosen with bench/collector.py: hundreds of requests that wait stay below it, and what is looked through at a time
takes milliseconds."""

_OF_PYTHON = {(700, 10, 10), (2000, 10, 10), (2000, 10, 0)}


@contextmanager
def collecting(policy: str) -> Iterator[Callable[[], None]]:
    """Have the garbage collector work by a value of `--gc`; afterwards it works as before.

    Yields what is to be called when the application has started: then "server" collects once, takes all that is there
    out of later collections, and raises the thresholds, unless the application has chosen its own.
    """
    if policy != "server":
        yield _leave
        return
    before = gc.get_threshold()
    try:
        yield _settle
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


def _settle() -> None:
    gc.collect()
    gc.freeze()
    if gc.get_threshold() in _OF_PYTHON:
        gc.set_threshold(*THRESHOLDS)


def _leave() -> None:
    pass

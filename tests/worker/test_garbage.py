"""How the garbage collector works while a worker serves, and that it is put back."""

from __future__ import annotations

import contextlib
import gc
import weakref
from collections.abc import Iterator

import pytest

from fastserve.worker.garbage import THRESHOLDS, collecting

OF_PYTHON = (2000, 10, 10)


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    before = gc.get_threshold()
    gc.set_threshold(*OF_PYTHON)
    yield
    gc.set_threshold(*before)
    gc.unfreeze()
    gc.enable()


class Cyclic:
    """An object that only the collector frees."""

    def __init__(self) -> None:
        self.itself = self


def test_the_default_leaves_everything_to_python() -> None:
    with collecting("default") as settle:
        settle()
        assert gc.get_threshold() == OF_PYTHON
        assert gc.get_freeze_count() == 0


def test_what_is_there_at_the_start_is_frozen_without_its_garbage() -> None:
    gone = weakref.ref(Cyclic())
    kept = [Cyclic()]
    with collecting("server") as settle:
        settle()
        assert gone() is None
        assert gc.get_freeze_count() > 1000
        assert not any(each is kept[0] for each in gc.get_objects())
        assert gc.get_threshold() == THRESHOLDS


def test_nothing_happens_before_the_application_has_started() -> None:
    with collecting("server"):
        assert gc.get_threshold() == OF_PYTHON
        assert gc.get_freeze_count() == 0


@pytest.mark.parametrize("threshold", [(0, 10, 10), (700, 10, 10), (2000, 10, 0), (5000, 20, 20), (100_000, 5, 5)])
def test_thresholds_that_the_application_has_chosen_are_kept(threshold: tuple[int, int, int]) -> None:
    is_of_python = threshold[0] in (700, 2000)
    with collecting("server") as settle:
        gc.set_threshold(*threshold)
        settle()
        assert gc.get_threshold() == (THRESHOLDS if is_of_python else threshold)


def test_a_collector_that_the_application_has_switched_off_stays_off() -> None:
    with collecting("server") as settle:
        gc.disable()
        settle()
        assert not gc.isenabled()


def test_the_collector_works_as_before_when_the_server_has_ended() -> None:
    with contextlib.suppress(KeyError), collecting("server") as settle:
        settle()
        raise KeyError
    assert gc.get_threshold() == OF_PYTHON
    assert gc.get_freeze_count() == 0


def test_cyclic_garbage_does_not_pile_up() -> None:
    alive: weakref.WeakSet[Cyclic] = weakref.WeakSet()
    most = 0
    with collecting("server") as settle:
        settle()
        for _ in range(20):
            for _ in range(10_000):
                alive.add(Cyclic())
            most = max(most, len(alive))
    assert most < 2 * THRESHOLDS[0]

"""Requests under load survive whatever happens to workers, as far as that is possible (see events.py)."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

import pytest

from .events import EVENTS, Event, happen
from .running import SERVED, RawClient, Start, wait_until


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.name.replace("`", ""))
def test_no_request_is_lost_but_those_that_cannot_be_kept(event: Event, tmp_path: Path) -> None:
    outcome = happen(event, tmp_path)
    assert outcome.failed <= outcome.allowed, outcome.kinds


def test_connections_in_the_queue_of_a_killed_worker_are_answered_by_its_successor(start: Start) -> None:
    # With one worker and a supervisor, all connections are in one queue.
    server = start(SERVED, "--port", "0", "--limit-lifetime", "3600").wait_ready()
    (worker,) = server.workers
    worker.suspend()
    wait_until(lambda: worker.status() == "stopped")
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(RawClient(server.address)).get("/pid") for _ in range(200)]
        os.kill(worker.pid, signal.SIGKILL)
        answers = {int(client.answer().body) for client in clients}
    assert answers == {worker.pid for worker in server.workers} != {worker.pid}
    assert server.stop() == 0

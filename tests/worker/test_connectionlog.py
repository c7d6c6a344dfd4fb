"""Logging when connections are opened and closed."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from fastserve.net.connection import Connection
from fastserve.net.state import ServerState
from fastserve.worker.connectionlog import LoggingServerState, state_class
from tests.doubles import Rig


async def app(scope: Any, receive: Any, send: Any) -> None: ...


@pytest.mark.parametrize(
    ("level", "expected"), [(logging.INFO, ServerState), (logging.DEBUG, LoggingServerState)], ids=["info", "debug"]
)
def test_connections_are_logged_only_if_anybody_would_see_it(
    level: int, expected: type[ServerState], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(level, "fastserve")
    assert state_class() is expected


async def test_connections_are_logged_with_their_clients(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "fastserve")
    common = Rig(app).state
    state = LoggingServerState(
        loop=common.loop,
        timeouts=common.timeouts,
        limits=common.limits,
        deadlines=common.deadlines,
        new_wire=common.new_wire,
        open_exchange=common.open_exchange,
        log_refusal=common.log_refusal,
        observe_refusal=common.observe_refusal,
    )
    connection = Connection(state)
    connection.client = ("192.0.2.1", 5)
    state.add(connection)
    assert state.connections == {connection}
    state.remove(connection)
    assert state.connections == set()
    assert [record.getMessage() for record in caplog.records] == [
        "192.0.2.1:5 - HTTP connection made",
        "192.0.2.1:5 - HTTP connection lost",
    ]

"""What the tests of the supervisor have in common: servers in a folder of the test, and logging that can be read."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from fastserve.settings import BindSettings
from fastserve.supervisor.listeners import ListeningSockets
from tests.process.conftest import folder, start

from .listening import Open

__all__ = ["folder", "listening", "said", "start"]


@pytest.fixture
def listening() -> Iterator[Open]:
    with contextlib.ExitStack() as stack:

        def open_sockets(
            *addresses: str, balance: str = "random", inherited: Mapping[str, Any] | None = None
        ) -> ListeningSockets:
            sockets = ListeningSockets(BindSettings(bind=addresses), balance, inherited)
            stack.callback(sockets.close)
            return sockets

        yield open_sockets


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture, own_logging: None) -> pytest.LogCaptureFixture:
    """What the server logs in this process."""
    logging.getLogger("fastserve").propagate = True
    caplog.set_level(logging.INFO, logger="fastserve")
    return caplog

"""Logging when connections are opened and closed, for `--log-level debug`."""

from __future__ import annotations

import logging
from typing import Any

from fastserve.addresses import describe_client
from fastserve.net.connection import Connection
from fastserve.net.state import ServerState

_log = logging.getLogger("fastserve")


class LoggingServerState(ServerState):
    """See ServerState; logs the connections that are added and removed, once they are past TLS and PROXY headers."""

    def add(self, connection: Any) -> None:
        """See ServerState."""
        super().add(connection)
        _log_connection(connection, "made")

    def remove(self, connection: Any) -> None:
        """See ServerState."""
        super().remove(connection)
        _log_connection(connection, "lost")


def _log_connection(connection: object, event: str) -> None:
    if isinstance(connection, Connection):
        _log.debug("%s - HTTP connection %s", describe_client(connection.client), event)


def state_class() -> type[ServerState]:
    """Return the class of what connections share: one that logs, if anybody would see that."""
    return LoggingServerState if _log.isEnabledFor(logging.DEBUG) else ServerState

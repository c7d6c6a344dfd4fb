"""The access log: one line for each request."""

from __future__ import annotations

import logging
from collections.abc import Callable

from fastserve.asgi.exchange import Exchange

_log = logging.getLogger("fastserve.access")

_CLIENT_CLOSED_REQUEST = 499  # as nginx logs it: there was no response, because the client went away


def log_access(exchange: Exchange) -> None:
    """Log a request that has been answered, or that never will be."""
    head = exchange.head
    # As received: a target is printable ASCII, so nothing in it can act on a terminal (CVE-2020-7694 in uvicorn).
    target = head.raw_path + b"?" + head.query if head.query else head.raw_path
    client = exchange.scope["client"]
    _log.info(
        '%s - "%s %s HTTP/%s" %d',
        f"{client[0]}:{client[1]}" if client and client[1] is not None else "unix",
        head.method,
        target.decode("ascii"),
        head.http_version,
        exchange.status or _CLIENT_CLOSED_REQUEST,
    )


def access_logger(*, wanted: bool) -> Callable[[Exchange], None] | None:
    """Return what logs requests; None when nobody would read it."""
    if wanted and _log.isEnabledFor(logging.INFO) and _log.hasHandlers():
        return log_access
    return None

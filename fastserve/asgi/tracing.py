"""Logging all that the server and the application tell each other, for `--log-level trace`."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterator, Mapping, Sized
from functools import partial
from typing import Any

from fastserve.addresses import describe_client
from fastserve.asgi.types import ASGIApp, Message, Receive, Scope, Send
from fastserve.logs import TRACE

_log = logging.getLogger("uvicorn.asgi")  # This name is what configurations of logging have for it.

_CONTENTS = {"body": "bytes", "bytes": "bytes", "text": "chars"}


def tracer() -> Callable[[ASGIApp], ASGIApp]:
    """Return what makes applications log their messages; when nobody would see that, it leaves them as they are.

    The calls of all applications that one makes are numbered together.
    """
    if not _log.isEnabledFor(TRACE):
        return lambda app: app
    return partial(Traced, itertools.count(1))


class Traced:
    """An application that does what another one does, and logs that. numbers: of calls."""

    def __init__(self, numbers: Iterator[int], app: ASGIApp) -> None:
        self._numbers = numbers
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> object:
        """Call the application (ASGI)."""
        number = next(self._numbers)
        client = scope.get("client")
        who = f"{describe_client(client)} - ASGI" if client else "ASGI"

        def log(event: str, *values: object) -> None:
            _log.log(TRACE, f"%s [%d] {event}", who, number, *values)

        # Functions, and no methods: what looks at whose methods these are finds nobody, and leaves out nothing.
        async def traced_receive() -> Message:
            message = await receive()
            log("Receive %s", without_content(message))
            return message

        async def traced_send(message: Message) -> None:
            log("Send %s", without_content(message))
            await send(message)

        log("Started scope=%s", without_content(scope))
        try:
            result = await self._app(scope, traced_receive, traced_send)
        except BaseException:
            log("Raised exception")
            raise
        log("Completed")
        return result


def without_content(message: Any) -> Any:
    """Return a message, or a scope, as it is shown: how much content there is, and no headers."""
    if not isinstance(message, Mapping):
        return message  # Whoever gets it says what is wrong.
    shown = dict(message)
    for key, unit in _CONTENTS.items():
        content = shown.get(key)
        if isinstance(content, Sized):
            shown[key] = f"<{len(content)} {unit}>"
    if shown.get("headers") is not None:
        shown["headers"] = "<...>"
    return shown

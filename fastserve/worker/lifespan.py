"""The lifespan of the application (ASGI lifespan specification 2.0)."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from fastserve.asgi.scope import ASGI_VERSION
from fastserve.asgi.types import ASGIApp, Message
from fastserve.errors import InvalidMessage, LifespanError
from fastserve.worker.stacks import waiting_stack

_log = logging.getLogger("fastserve")

LIFESPAN_SPEC_VERSION = "2.0"


class Lifespan:
    """Runs the application with a lifespan scope, from before the first request until after the last one.

    mode: "auto", "on" or "off". state: what the application keeps in the lifespan state; None while, or when, there is
    no lifespan.
    """

    def __init__(self, app: ASGIApp, mode: str) -> None:
        self._app = app
        self._mode = mode
        self._inbox: asyncio.Queue[Message] = asyncio.Queue()
        self._reply: asyncio.Future[Message | None] | None = None  # to the event that the application was sent last
        self._task: asyncio.Task[None] | None = None
        self._has_received = False
        self._error: BaseException | None = None
        self._is_given_up = False  # whatever it still raises is known, or of our making
        self._late: LifespanError | None = None  # because it is given up before it has begun
        self.state: dict[str, Any] | None = None

    async def start(self) -> None:
        """Start the application, and wait until it is ready or has turned out to have no lifespan.

        Raises:
            LifespanError: it failed to start, or has no lifespan although the mode is "on".
        """
        if self._late is not None:
            raise self._late
        if self._mode == "off":
            return
        _log.info("Waiting for application startup.")
        state: dict[str, Any] = {}
        self._task = asyncio.create_task(self._run(state))
        reply = await self._send_event("lifespan.startup")
        if reply is None:
            self._judge_missing_start()
        elif reply["type"] == "lifespan.startup.failed":
            raise LifespanError(reply.get("message") or "the application failed to start")
        else:
            self.state = state
        _log.info("Application startup complete.")

    def _judge_missing_start(self) -> None:
        """Decide what it means that the application ended without an answer."""
        if isinstance(self._error, SystemExit | KeyboardInterrupt):
            raise LifespanError(f"the application raised {self._error!r} while starting")
        if self._has_received and self._error is not None:
            # It knows the lifespan, so this is an error in it and not its way of saying that it has none.
            _log.error("Exception in the lifespan of the application", exc_info=self._error)
        if self._mode == "on":
            reason = f": {self._error!r}" if self._error is not None else ""
            raise LifespanError(f"the application did not complete 'lifespan.startup'{reason}")
        if self._error is None or not self._has_received:
            _log.info("ASGI 'lifespan' protocol appears unsupported.")

    async def stop(self) -> None:
        """Tell the application to shut down, and wait until it has."""
        if self._task is None or self._task.done() or self.state is None:
            return
        _log.info("Waiting for application shutdown.")
        reply = await self._send_event("lifespan.shutdown")
        if reply is not None and reply["type"] == "lifespan.shutdown.complete":
            _log.info("Application shutdown complete.")
        elif reply is not None:
            reason = (reply.get("message") or "no reason given").rstrip()
            # Starlette gives the whole traceback as its reason.
            _log.error("Application shutdown failed%s%s", ".\n" if "\n" in reason else ": ", reason)
        elif self._error is not None:
            _log.error("Exception in the lifespan of the application", exc_info=self._error)

    def cancel(self) -> None:
        """Stop the application without telling it."""
        self._is_given_up = True
        if self._task is not None:
            self._task.cancel()

    def give_up(self, reason: str) -> None:
        """Have `start` fail if it has not ended, with what the application waits for, and stop the application."""
        if self._task is None or self._reply is None:
            self._late = LifespanError(reason)
        elif self.state is None and not self._reply.done():
            self._reply.set_exception(LifespanError(reason, waiting_stack(self._task)))
            self.cancel()

    async def _send_event(self, kind: str) -> Message | None:
        """Send an event and return the reply, or None when the application ended without one."""
        self._reply = asyncio.get_running_loop().create_future()
        self._inbox.put_nowait({"type": kind})
        return await self._reply

    async def _run(self, state: dict[str, Any]) -> None:
        asgi = {"version": ASGI_VERSION, "spec_version": LIFESPAN_SPEC_VERSION}
        try:
            await self._app({"type": "lifespan", "asgi": asgi, "state": state}, self._receive, self._send)
        except BaseException as error:
            self._error = error
        if not self._answer(None) and self._error is not None and not self._is_given_up:
            _log.error("Exception in the lifespan of the application", exc_info=self._error)

    async def _receive(self) -> Message:
        self._has_received = True
        return await self._inbox.get()

    async def _send(self, message: Message) -> None:
        kind = message["type"]
        allowed = "lifespan.startup" if self.state is None else "lifespan.shutdown"
        if kind not in (f"{allowed}.complete", f"{allowed}.failed"):
            raise InvalidMessage(f"{kind!r} cannot be sent in answer to {allowed!r}")
        if not self._answer(message):
            raise InvalidMessage(f"{kind!r} cannot be sent twice")
        if kind.endswith(".failed"):
            self._is_given_up = True

    def _answer(self, message: Message | None) -> bool:
        if self._reply is None or self._reply.done():
            return False
        self._reply.set_result(message)
        return True

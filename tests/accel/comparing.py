"""Compare what an application does accelerated with what it does plain, message by message."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastapi import routing

from fastserve.accel import accelerate

ACCEL = str(Path(sys.modules[accelerate.__module__].__file__ or "").parent)

Make = Callable[[list[Any]], Any]
"""Makes an application. Its code notes in the list what it sees."""


@dataclass(frozen=True)
class Sent:
    """A request as it is given to an application. body: in the chunks in which it comes; None for a disconnect."""

    method: str = "GET"
    path: str = "/"
    query: bytes = b""
    headers: tuple[tuple[bytes, bytes], ...] = ()
    body: tuple[bytes | None, ...] = (b"",)
    scope: Mapping[str, Any] = field(default_factory=dict)

    def make_scope(self) -> dict[str, Any]:
        """Return the scope, a new one."""
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "method": self.method,
            "scheme": "http",
            "path": self.path,
            "raw_path": self.path.encode(),
            "query_string": self.query,
            "root_path": "",
            "headers": [(b"host", b"testserver"), *self.headers],
            "client": ("192.0.2.7", 40000),
            "server": ("testserver", 80),
            "state": {},
            **self.scope,
        }


@dataclass
class Done:
    """What an application did: messages, what it raised, what its code noted, and which keys are left in the scope."""

    messages: list[Any] = field(default_factory=list)
    raised: str = ""
    seen: list[Any] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)

    @property
    def status(self) -> int:
        """The status of the response."""
        return int(self.messages[0]["status"])

    @property
    def body(self) -> bytes:
        """The body of the response."""
        return b"".join(message.get("body", b"") for message in self.messages)


async def exchange(app: Any, request: Sent) -> Done:
    """Give a request to an application, and return what it did."""
    done = Done()
    scope = request.make_scope()
    left = list(request.body)

    async def receive() -> dict[str, Any]:
        chunk = left.pop(0) if left else None
        if chunk is None:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": chunk, "more_body": bool(left)}

    async def send(message: Any) -> None:
        done.messages.append(
            {**message, "headers": list(message["headers"])} if "headers" in message else dict(message)
        )

    try:
        await app(scope, receive, send)
    except Exception as error:
        done.raised = f"{type(error).__name__}: {error}"
    done.keys = sorted(scope)
    return done


def by_accelerator() -> bool:
    """Tell whether it is the accelerator that has called the function that calls this, and not the framework."""
    frame = sys._getframe(1)
    while frame.f_back is not None:
        frame = frame.f_back
        name = Path(frame.f_code.co_filename)
        if name.name == "routing.py" and frame.f_code.co_name == "run_endpoint_function":
            return False
        if str(name.parent) == ACCEL:
            return True
    return False


def both(make: Make, *requests: Sent) -> list[Done]:
    """Return what an application does with requests, one after the other, having found it the same both ways."""
    return [accelerated for accelerated, _ in pairs(make, *requests)]


def pairs(make: Make, *requests: Sent) -> list[tuple[Done, Done]]:
    """Return what an application does, accelerated and plain, having compared it."""

    async def run(app: Any, seen: list[Any]) -> list[Done]:
        found = []
        for request in requests:
            del seen[:]
            done = await exchange(app, request)
            done.seen = list(seen)
            found.append(done)
        return found

    # FastAPI remembers what errors say about an endpoint by its id, which another test's endpoint may have had.
    routing._endpoint_context_cache.clear()
    plain_seen: list[Any] = []
    seen: list[Any] = []
    plain = asyncio.run(run(make(plain_seen), plain_seen))
    accelerated = asyncio.run(run(accelerate(make(seen)), seen))
    for one, other in zip(accelerated, plain, strict=True):
        assert one == other
    return list(zip(accelerated, plain, strict=True))

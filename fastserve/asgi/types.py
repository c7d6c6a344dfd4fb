"""The types of the ASGI interface, as this package uses them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, Protocol, TypeAlias

from fastserve.wire.events import Field, RequestHead

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
ASGIApp: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[object]]


class Answered(Protocol):
    """A request that was answered, or never will be: an Exchange or a Session. Both say what the attributes mean."""

    head: RequestHead
    scope: Scope
    status: int
    fields: Iterable[Field]
    sent_bytes: int
    started_at: float

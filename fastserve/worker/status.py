"""What a worker answers itself: whether the server is ready, and how all workers are."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Callable, Sequence
from typing import Any

import orjson

from fastserve.asgi.forwarded import ForwardedFields, named_clients
from fastserve.asgi.types import ASGIApp, Receive, Scope, Send
from fastserve.net.stream import Address
from fastserve.settings import StatusSettings
from fastserve.worker.scoreboard import Report

_PEER = "fastserve.peer"
"""The extension by which ForwardedFieldsWithPeer tells StatusPaths whom the connection is from."""


class ForwardedFieldsWithPeer(ForwardedFields):
    """ForwardedFields that leave the peer in the scope, for StatusPaths, which takes it out again."""

    __slots__ = ()

    def apply(self, scope: dict[str, Any]) -> None:
        """See ForwardedFields."""
        scope["extensions"][_PEER] = scope["client"]
        super().apply(scope)


class StatusPaths:
    """An ASGI application around another one, which answers the paths of `--ready-path` and `--status-path`.

    is_leaving: tells whether the server is about to stop. reports: returns what all workers tell.
    """

    def __init__(
        self,
        app: ASGIApp,
        settings: StatusSettings,
        *,
        is_leaving: Callable[[], bool],
        reports: Callable[[], Sequence[Report]],
    ) -> None:
        self._app = app
        self._settings = settings
        self._is_leaving = is_leaving
        self._reports = reports

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or pass on (ASGI application)."""
        is_http = scope["type"] == "http"
        path = scope["path"].removeprefix(scope["root_path"]) if is_http else None
        peer = scope["extensions"].pop(_PEER, scope["client"]) if is_http else None
        if path is not None and path == self._settings.ready_path:
            await _answer(send, *((503, b"stopping\n") if self._is_leaving() else (200, b"ready\n")))
        elif path is not None and path == self._settings.status_path and _is_from_here(scope, peer):
            body = orjson.dumps(describe(self._reports(), time.monotonic()), option=orjson.OPT_INDENT_2)
            await _answer(send, 200, body + b"\n", b"application/json")
        else:
            await self._app(scope, receive, send)


def _is_from_here(scope: Scope, peer: Address | None) -> bool:
    """Tell whether a request is from this machine: its peer, and every client that is named.

    Whom the server trusts does not matter: what has come by anything elsewhere is from elsewhere.
    """
    named = named_clients(scope["headers"])
    return _is_local(peer) and all(client is not None and _is_local(client) for client in named)


def _is_local(client: Address | None) -> bool:
    if client is None or client[1] is None:
        return True  # by a Unix socket
    address = ipaddress.ip_address(client[0])
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback


async def _answer(send: Send, status: int, body: bytes, content_type: bytes = b"text/plain; charset=utf-8") -> None:
    fields = [(b"content-type", content_type), (b"cache-control", b"no-store")]
    await send({"type": "http.response.start", "status": status, "headers": fields})
    await send({"type": "http.response.body", "body": body})


def describe(reports: Sequence[Report], now: float) -> dict[str, Any]:
    """Return the state of all workers, for JSON. now: seconds of the monotonic clock."""
    workers = [_describe_one(report, now) for report in sorted(reports, key=lambda report: (report.slot, report.pid))]
    names = ("connections", "running", "requests", "sent_bytes")
    return {"workers": workers, "total": {name: sum(worker[name] for worker in workers) for name in names}}


def _describe_one(report: Report, now: float) -> dict[str, Any]:
    return {
        "worker": report.slot,
        "pid": report.pid,
        "state": report.state.name.lower(),
        "uptime_s": round(now - report.started_us / 1e6, 1),
        "last_beat_s": round(max(now - report.beat_us / 1e6, 0.0), 2),
        "connections": report.connections,
        "full": report.is_full,
        "running": report.running,
        "requests": report.requests,
        "sent_bytes": report.sent_bytes,
        "responses": {f"{digit}xx": count for digit, count in enumerate(report.status) if digit and count},
        "without_response": report.status[0],
        "latency_ms": {f"p{share}": _percentile_ms(report.latency, share / 100) for share in (50, 90, 99)},
    }


def _percentile_ms(latency: Sequence[int], share: float) -> float | None:
    """Return the upper bound of the bucket that this share of the requests does not exceed, None without requests."""
    wanted = sum(latency) * share
    seen = 0
    for bucket, count in enumerate(latency):
        seen += count
        if count and seen >= wanted:
            return float((64 << bucket) / 1000)
    return None

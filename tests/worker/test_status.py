"""What a worker answers itself, and to whom."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from fastserve.asgi.metrics import LATENCY_BUCKETS
from fastserve.asgi.types import Message, Receive, Scope, Send
from fastserve.settings import ProxySettings, StatusSettings
from fastserve.worker.scoreboard import Report, WorkerState
from fastserve.worker.status import ForwardedFieldsWithPeer, StatusPaths, describe

LOOPBACK = ("127.0.0.1", 40000)


def report(**more: Any) -> Report:
    """Return what a worker tells that has done nothing so far."""
    values: dict[str, Any] = {
        "pid": 11,
        "slot": 0,
        "state": WorkerState.READY,
        "started_us": 1_000_000,
        "beat_us": 100_000_000,
        "connections": 0,
        "is_full": False,
        "running": 0,
        "requests": 0,
        "sent_bytes": 0,
        "status": [0] * 10,
        "latency": [0] * LATENCY_BUCKETS,
    }
    return Report(**{**values, **more})


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer 204, so that it is known who has answered."""
    await send({"type": "http.response.start", "status": 204})


class Asked:
    """What answers, around an application. leaving: whether the server is about to stop."""

    def __init__(self, reports: Sequence[Report] = (), **settings: str | None) -> None:
        self.leaving = False
        paths = {"ready_path": "/ready", "status_path": "/status", **settings}
        self._app = StatusPaths(
            application, StatusSettings(**paths), is_leaving=lambda: self.leaving, reports=lambda: reports
        )

    async def __call__(self, path: str, client: Any = LOOPBACK, **more: Any) -> list[Message]:
        """Send a request, and return the messages of the response."""
        sent: list[Message] = []

        async def send(message: Message) -> None:
            sent.append(message)

        async def receive() -> Message:
            raise AssertionError("the body is of no interest")

        scope = {"type": "http", "path": path, "root_path": "", "client": client, "headers": [], "extensions": {}}
        await self._app({**scope, **more}, receive, send)
        return sent


async def test_the_ready_path_says_yes_until_the_server_is_about_to_stop() -> None:
    ask = Asked()
    start, body = await ask("/ready")
    assert (start["status"], body) == (200, {"type": "http.response.body", "body": b"ready\n"})
    assert (b"cache-control", b"no-store") in start["headers"]
    ask.leaving = True
    start, body = await ask("/ready")
    assert (start["status"], body["body"]) == (503, b"stopping\n")


@pytest.mark.parametrize("client", [LOOPBACK, ("192.0.2.7", 40000), None], ids=["loopback", "elsewhere", "unix"])
async def test_the_ready_path_answers_everybody(client: Any) -> None:
    assert (await Asked()("/ready", client))[0]["status"] == 200


@pytest.mark.parametrize(
    ("client", "status"),
    [
        (("127.0.0.1", 40000), 200),
        (("127.8.9.10", 40000), 200),
        (("::1", 40000), 200),
        (("::ffff:127.0.0.1", 40000), 200),
        (None, 200),
        (("/run/client.sock", None), 200),
        (("192.0.2.7", 40000), 204),
        (("10.0.0.1", 40000), 204),
        (("::ffff:192.0.2.7", 40000), 204),
        (("2001:db8::1", 40000), 204),
        (("fe80::1%eth0", 40000), 204),
    ],
    ids=str,
)
async def test_the_status_path_answers_only_clients_on_this_machine(client: Any, status: int) -> None:
    assert (await Asked()("/status", client))[0]["status"] == status


ELSEWHERE = ("192.0.2.2", 40000)
FROM_HERE = {
    "nobody in between": (LOOPBACK, "", [], 200),
    "elsewhere": (ELSEWHERE, "", [], 204),
    "a trusted peer elsewhere": (ELSEWHERE, "*", [("x-forwarded-for", "127.0.0.1")], 204),
    "an untrusted peer elsewhere": (ELSEWHERE, "", [("x-forwarded-for", "127.0.0.1")], 204),
    "a proxy here, for here": (LOOPBACK, "127.0.0.1", [("x-forwarded-for", "127.0.0.2")], 200),
    "a proxy here, for elsewhere": (LOOPBACK, "127.0.0.1", [("x-forwarded-for", "203.0.113.9")], 204),
    "an untrusted proxy here": (LOOPBACK, "", [("x-forwarded-for", "203.0.113.9")], 204),
    "a proxy here that trusts anyone": (LOOPBACK, "*", [("x-forwarded-for", "127.0.0.1, 203.0.113.9")], 204),
    "two fields": (LOOPBACK, "*", [("x-forwarded-for", "203.0.113.9"), ("x-forwarded-for", "127.0.0.1")], 204),
    "a name": (LOOPBACK, "*", [("x-forwarded-for", "unknown")], 204),
    "nothing": (LOOPBACK, "*", [("x-forwarded-for", "")], 204),
    "many": (LOOPBACK, "*", [("x-forwarded-for", "203.0.113.9" + ",127.0.0.1" * 100)], 204),
    "Forwarded, for here": (LOOPBACK, "*", [("forwarded", 'for="[::1]";proto=https')], 200),
    "Forwarded, for elsewhere": (LOOPBACK, "", [("forwarded", "for=203.0.113.9")], 204),
    "Forwarded, for nobody": (LOOPBACK, "", [("forwarded", "proto=https")], 204),
    "other fields": (LOOPBACK, "*", [("x-forwarded-proto", "https")], 200),
    "unix": (None, "", [], 200),
    "unix, for here": (None, "unix", [("x-forwarded-for", "127.0.0.1")], 200),
    "unix, for elsewhere": (None, "unix", [("x-forwarded-for", "203.0.113.9")], 204),
    "unix, untrusted": (None, "127.0.0.1", [("x-forwarded-for", "203.0.113.9")], 204),
}


@pytest.mark.parametrize(("peer", "trusted", "fields", "status"), FROM_HERE.values(), ids=FROM_HERE.keys())
async def test_the_status_path_is_for_requests_that_were_nowhere_but_on_this_machine(
    peer: Any, trusted: str, fields: list[tuple[str, str]], status: int
) -> None:
    headers = [(name.encode(), value.encode()) for name, value in fields]
    scope: dict[str, Any] = {"type": "http", "client": peer, "scheme": "http", "headers": headers, "extensions": {}}
    believed = "forwarded" if "forwarded" in dict(fields) else "for"
    ForwardedFieldsWithPeer(ProxySettings(trusted=trusted, fields=believed)).apply(scope)
    assert (await Asked()("/status", **scope))[0]["status"] == status


async def test_the_application_does_not_see_what_is_only_for_the_status_path() -> None:
    scope = {"client": LOOPBACK, "headers": [], "type": "http", "extensions": {}}
    ForwardedFieldsWithPeer(ProxySettings(trusted="*")).apply(scope)
    assert scope["extensions"]
    await Asked()("/other", extensions=scope["extensions"])
    assert not scope["extensions"]


@pytest.mark.parametrize("path", ["/", "/ready/", "/readyness", "/status/x", "/Status", "", "*"])
async def test_other_paths_are_those_of_the_application(path: str) -> None:
    assert (await Asked()(path))[0]["status"] == 204


@pytest.mark.parametrize("path", ["/ready", "/status"])
async def test_a_path_that_is_not_asked_for_is_that_of_the_application(path: str) -> None:
    assert (await Asked(ready_path=None, status_path=None)(path))[0]["status"] == 204


async def test_a_path_is_meant_as_it_is_requested_and_not_below_the_root_path() -> None:
    ask = Asked()
    assert (await ask("/api/ready", root_path="/api"))[0]["status"] == 200
    assert (await ask("/ready", root_path=""))[0]["status"] == 200


async def test_a_lifespan_is_that_of_the_application() -> None:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "lifespan.startup"}

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(await receive())

    paths = StatusPaths(app, StatusSettings(ready_path="/ready"), is_leaving=lambda: True, reports=list)
    await paths({"type": "lifespan"}, receive, send)
    assert sent == [{"type": "lifespan.startup"}]


async def test_the_status_is_json() -> None:
    ask = Asked([report(slot=1, requests=2), report(slot=0, requests=3)])
    start, body = await ask("/status")
    assert (b"content-type", b"application/json") in start["headers"]
    status = json.loads(body["body"])
    assert [worker["worker"] for worker in status["workers"]] == [0, 1]
    assert status["total"] == {"connections": 0, "running": 0, "requests": 5, "sent_bytes": 0}


def test_a_worker_is_described_in_words_and_units() -> None:
    latency = [0] * LATENCY_BUCKETS
    latency[4] = 3
    told = report(
        slot=2,
        state=WorkerState.DRAINING,
        connections=4,
        is_full=True,
        running=1,
        requests=3,
        sent_bytes=500,
        status=[1, 0, 1, 0, 1, 0, 0, 0, 0, 0],
        latency=latency,
    )
    assert describe([told], now=100.5)["workers"] == [
        {
            "worker": 2,
            "pid": 11,
            "state": "draining",
            "uptime_s": 99.5,
            "last_beat_s": 0.5,
            "connections": 4,
            "full": True,
            "running": 1,
            "requests": 3,
            "sent_bytes": 500,
            "responses": {"2xx": 1, "4xx": 1},
            "without_response": 1,
            "latency_ms": {"p50": 1.024, "p90": 1.024, "p99": 1.024},
        }
    ]


def test_a_beat_that_came_meanwhile_is_not_in_the_future() -> None:
    assert describe([report()], now=99.9)["workers"][0]["last_beat_s"] == 0.0


@pytest.mark.parametrize(
    ("counts", "percentiles"),
    [
        ({}, (None, None, None)),
        ({0: 1}, (0.064, 0.064, 0.064)),
        ({0: 50, 1: 50}, (0.064, 0.128, 0.128)),
        ({0: 49, 1: 51}, (0.128, 0.128, 0.128)),
        ({2: 90, 5: 9, 10: 1}, (0.256, 0.256, 2.048)),
        ({2: 89, 5: 9, 10: 2}, (0.256, 2.048, 65.536)),
        ({23: 1}, (536870.912, 536870.912, 536870.912)),
    ],
    ids=["no requests", "one", "half", "less than half", "one in a hundred", "two in a hundred", "very slow"],
)
def test_a_percentile_is_the_bound_that_so_many_requests_are_below(
    counts: dict[int, int], percentiles: tuple[float | None, ...]
) -> None:
    latency = [counts.get(bucket, 0) for bucket in range(LATENCY_BUCKETS)]
    told = describe([report(latency=latency)], now=100.0)["workers"][0]["latency_ms"]
    assert (told["p50"], told["p90"], told["p99"]) == percentiles

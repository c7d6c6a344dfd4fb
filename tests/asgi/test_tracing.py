"""Logging all that the server and the application tell each other."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from fastserve.asgi.tracing import Traced, tracer, without_content
from fastserve.logs import TRACE

SCOPE = {"type": "http", "client": ("::1", 5), "headers": [(b"cookie", b"secret")]}


@pytest.fixture(autouse=True)
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """Have everything logged."""
    caplog.set_level(TRACE, "uvicorn.asgi")
    return caplog


async def receive() -> Any:
    return {"type": "http.request", "body": b"abc"}


async def send(message: Any) -> None:
    if message["type"] != "http.response.body":
        raise ValueError("on purpose")


async def answer(scope: Any, receive: Any, send: Any) -> str:
    assert await receive() == {"type": "http.request", "body": b"abc"}
    await send({"type": "http.response.body", "body": b"12"})
    return "a result"


async def fail(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "unknown"})


async def test_what_is_said_is_logged_and_passed_on(log: pytest.LogCaptureFixture) -> None:
    assert await tracer()(answer)(SCOPE, receive, send) == "a result"
    assert [record.getMessage() for record in log.records] == [
        "::1:5 - ASGI [1] Started scope={'type': 'http', 'client': ('::1', 5), 'headers': '<...>'}",
        "::1:5 - ASGI [1] Receive {'type': 'http.request', 'body': '<3 bytes>'}",
        "::1:5 - ASGI [1] Send {'type': 'http.response.body', 'body': '<2 bytes>'}",
        "::1:5 - ASGI [1] Completed",
    ]
    assert {(record.name, record.levelno) for record in log.records} == {("uvicorn.asgi", TRACE)}


async def test_what_is_raised_is_logged_and_raised(log: pytest.LogCaptureFixture) -> None:
    with pytest.raises(ValueError, match="on purpose") as raised:
        await tracer()(fail)({"type": "lifespan"}, receive, send)
    assert raised.value.__suppress_context__ is False
    assert [record.getMessage() for record in log.records] == [
        "ASGI [1] Started scope={'type': 'lifespan'}",
        "ASGI [1] Send {'type': 'unknown'}",
        "ASGI [1] Raised exception",
    ]


async def test_calls_of_several_applications_are_numbered_together(log: pytest.LogCaptureFixture) -> None:
    trace = tracer()
    for app in (trace(answer), trace(answer)):
        await app(SCOPE, receive, send)
    assert [text for record in log.records if "Completed" in (text := record.getMessage())] == [
        "::1:5 - ASGI [1] Completed",
        "::1:5 - ASGI [2] Completed",
    ]


def test_an_application_stays_as_it_is_when_nobody_would_see_what_is_logged(log: pytest.LogCaptureFixture) -> None:
    assert isinstance(tracer()(answer), Traced)
    log.set_level(logging.DEBUG, "uvicorn.asgi")
    assert tracer()(answer) is answer


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ({"text": "abcd", "bytes": None}, {"text": "<4 chars>", "bytes": None}),
        ({"body": memoryview(b"abc"), "headers": []}, {"body": "<3 bytes>", "headers": "<...>"}),
        ({"body": 7, "headers": None}, {"body": 7, "headers": None}),
        (None, None),
    ],
    ids=["text", "other bytes", "wrong content", "no message"],
)
def test_content_is_shown_as_how_much_it_is(message: Any, shown: Any) -> None:
    assert without_content(message) == shown

"""That the harness can fail: deliberately wrong accelerators, and each difference is reported."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest
from fastapi import BackgroundTasks, Depends, FastAPI, Request
from starlette.responses import PlainTextResponse, StreamingResponse

from tests.equality import suites
from tests.equality.comparing import found, report
from tests.equality.driving import TINT, End, Trace, described
from tests.equality.driving import Request as Asked
from tests.equality.generating import generated
from tests.equality.suites import Difference, Run
from tests.equality.versions import Suite

App = Callable[[Any, Any, Any], Awaitable[None]]


def build(trace: Trace) -> FastAPI:
    """Build a small application whose every part some wrong accelerator below gets wrong."""
    app = FastAPI()

    async def dependency() -> None:
        trace.note("dependency")

    @app.get("/", status_code=201, dependencies=[Depends(dependency)])
    async def endpoint(request: Request, tasks: BackgroundTasks) -> dict[str, int]:
        trace.note("endpoint", sorted(request.scope))
        tasks.add_task(trace.note, "task")
        return {"a": 1}

    @app.get("/sync")
    def sync() -> str:
        trace.note("sync")
        return "sync"

    @app.get("/fail")
    async def fail() -> None:
        raise ValueError("fail")

    @app.get("/stream")
    async def stream() -> StreamingResponse:
        return StreamingResponse(iter([b"a", b"b"]))

    @app.post("/body")
    async def body(request: Request) -> int:
        return len(await request.body())

    return app


ASKED = (
    Asked(label="root"),
    Asked(label="sync", path="/sync"),
    Asked(label="fail", path="/fail"),
    Asked(label="stream", path="/stream"),
    Asked(label="stream to none", path="/stream", end=End.LEAVES),
    Asked(label="stream broken", path="/stream", breaks_after=1),
    Asked(label="body", method="POST", path="/body", body=(b"a", b"b")),
    Asked(label="cut body", method="POST", path="/body", body=(b"a",), is_whole=False),
)


def test_an_application_is_equal_to_itself() -> None:
    assert found(build, lambda app: app, ASKED) == []
    assert found(build, lambda app: app, ASKED, lifespan=False) == []


def sending(change: Callable[[dict[str, Any]], Any]) -> Callable[[App], App]:
    """Return an accelerator that changes what is sent."""

    def accelerate(app: App) -> App:
        async def wrong(scope: Any, receive: Any, send: Any) -> None:
            async def changed(message: dict[str, Any]) -> None:
                await send(change(message) if message["type"].startswith("http") else message)

            await app(scope, receive, changed)

        return wrong

    return accelerate


def before(act: Callable[[Any, Any], Awaitable[object]]) -> Callable[[App], App]:
    """Return an accelerator that does something before each request."""

    def accelerate(app: App) -> App:
        async def wrong(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] == "http":
                await act(scope, receive)
            await app(scope, receive, send)

        return wrong

    return accelerate


def _other_status(message: dict[str, Any]) -> dict[str, Any]:
    return message | {"status": 200} if message.get("status") == 201 else message


def _other_order(message: dict[str, Any]) -> dict[str, Any]:
    return message | {"headers": message["headers"][::-1]} if "headers" in message else message


def _other_case(message: dict[str, Any]) -> dict[str, Any]:
    if "headers" not in message:
        return message
    return message | {"headers": [(name.title(), value) for name, value in message["headers"]]}


def _other_bytes(message: dict[str, Any]) -> dict[str, Any]:
    return message | {"body": message["body"].replace(b":1", b": 1")} if "body" in message else message


def _other_key(message: dict[str, Any]) -> dict[str, Any]:
    return message | {"more_body": False} if message.get("body") == b"sync" else message


def _other_type(message: dict[str, Any]) -> dict[str, Any]:
    return message | {"body": bytearray(message["body"])} if "body" in message else message


async def _set_variable(scope: Any, receive: Any) -> None:
    TINT.set("wrong")


async def _touch_scope(scope: Any, receive: Any) -> None:
    scope["accelerated"] = True


async def _read_early(scope: Any, receive: Any) -> None:
    await receive()


async def _leave_a_task(scope: Any, receive: Any) -> None:
    _leave_a_task.kept = asyncio.create_task(asyncio.sleep(60))  # type: ignore[attr-defined]


async def _report(scope: Any, receive: Any) -> None:
    asyncio.get_running_loop().call_exception_handler({"message": "lost", "exception": ValueError("lost")})


def joined(app: App) -> App:
    """Send the parts of a body in one message."""

    async def wrong(scope: Any, receive: Any, send: Any) -> None:
        body = b""

        async def join(message: dict[str, Any]) -> None:
            nonlocal body
            body += message.get("body", b"")
            if message.get("more_body"):
                return
            await send(message | {"body": body} if "body" in message else message)

        await app(scope, receive, join)

    return wrong


def translating(app: App) -> App:
    """Raise another exception, with the same text."""

    async def wrong(scope: Any, receive: Any, send: Any) -> None:
        try:
            await app(scope, receive, send)
        except ValueError as raised:
            raise RuntimeError(str(raised)) from None

    return wrong


def swallowing(app: App) -> App:
    """Let no exception out."""

    async def wrong(scope: Any, receive: Any, send: Any) -> None:
        with suppress(Exception):
            await app(scope, receive, send)

    return wrong


def without_cause(app: App) -> App:
    """Raise the same exception with another context."""

    async def wrong(scope: Any, receive: Any, send: Any) -> None:
        try:
            await app(scope, receive, send)
        except ValueError as raised:
            raise raised from KeyError("cause")

    return wrong


def returning(app: App) -> Callable[[Any, Any, Any], Awaitable[object]]:
    """Return something."""

    async def wrong(scope: Any, receive: Any, send: Any) -> object:
        await app(scope, receive, send)
        return "done" if scope["type"] == "http" else None

    return wrong


def hanging(app: App) -> App:
    """Wait for what never comes when the body is cut."""

    async def wrong(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/body" and (await receive())["more_body"]:
            await asyncio.Event().wait()
        await app(scope, receive, send)

    return wrong


def in_the_loop(app: Any) -> Any:
    """Run a sync endpoint in the event loop's thread."""
    route = next(each for each in app.routes if each.path == "/sync")

    async def wrong(scope: Any, receive: Any, send: Any) -> None:
        if scope.get("path") == "/sync":
            route.endpoint()
            await PlainTextResponse('"sync"', media_type="application/json")(scope, receive, send)
        else:
            await app(scope, receive, send)

    return wrong


def without_dependencies(app: Any) -> Any:
    """Forget the dependencies of a route."""
    for route in app.routes:
        if hasattr(route, "dependant"):
            route.dependant.dependencies.clear()
    return app


def without_lifespan(app: App) -> App:
    """Fail at start-up."""

    async def wrong(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await send({"type": "lifespan.startup.failed", "message": "no"})
        else:
            await app(scope, receive, send)

    return wrong


WRONG = {
    "another status": (sending(_other_status), "root", "events"),
    "another order of fields": (sending(_other_order), "root", "events"),
    "another case of names": (sending(_other_case), "root", "events"),
    "other bytes": (sending(_other_bytes), "root", "events"),
    "a message with one more key": (sending(lambda message: message | {"more": 1}), "root", "events"),
    "another type of body": (sending(_other_type), "root", "events"),
    "parts joined": (joined, "stream", "events"),
    "a body read early": (before(_read_early), "root", "events"),
    "another exception": (translating, "fail", "raised"),
    "no exception": (swallowing, "fail", "raised"),
    "another cause": (without_cause, "fail", "raised"),
    "something returned": (returning, "root", "returned"),
    "another thread": (in_the_loop, "sync", "notes"),
    "no dependency": (without_dependencies, "root", "notes"),
    "a context variable": (before(_set_variable), "root", "notes"),
    "a key in the scope": (before(_touch_scope), "root", "scope"),
    "a task left": (before(_leave_a_task), "root", "left"),
    "something unhandled": (before(_report), "root", "unhandled"),
    "no lifespan": (without_lifespan, "startup", "events"),
}


@pytest.mark.parametrize(("accelerator", "label", "what"), WRONG.values(), ids=list(WRONG))
def test_what_is_wrong_is_reported(accelerator: Callable[[Any], Any], label: str, what: str) -> None:
    differing = found(build, accelerator, ASKED)
    assert (label, what) in {(each.label, each.what) for each in differing}
    assert label in report(differing, most=len(differing))


def test_an_application_that_hangs_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.equality.driving.HUNG_S", 0.2)
    asked = [Asked(label="cut", method="POST", path="/body", body=(b"a",), is_whole=False)]
    (events, *_) = found(build, hanging, asked, lifespan=False)
    assert "hung" in str(events)


def test_the_same_is_asked_every_time() -> None:
    document = build(Trace()).openapi()
    assert generated(document) == generated(document)
    assert len(generated(document)) > 400


@pytest.mark.parametrize(
    ("one", "other"),
    [(1, True), (1, 1.0), ("1", b"1"), ((1,), [1]), ({"a": 1}, {}), (ValueError("a"), ValueError("b")), (0.0, -0.0)],
    ids=str,
)
def test_different_values_are_described_differently(one: object, other: object) -> None:
    assert described(one) == described(one)
    assert described(one) != described(other)


# The comparison of two runs of a suite.


def test_a_test_that_ends_otherwise_is_a_difference() -> None:
    plain = Run({"a": "passed", "b": "failed", "c": "skipped", "d": "passed"})
    accelerated = Run({"a": "failed", "b": "failed", "c": "skipped", "e": "passed"})
    assert suites.differences(plain, accelerated) == [
        Difference("a", "passed", "failed"),
        Difference("d", "passed", None),
        Difference("e", None, "passed"),
    ]


def test_a_suite_in_which_nothing_was_accelerated_proves_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(suites, "Environment", _Environment)
    monkeypatch.setattr(suites, "CAN_WATCH", True)
    assert suites.main(["--framework", "starlette", "--accelerator", "a:b"]) == 1
    assert "proves nothing" in capsys.readouterr().out


class _Environment:
    """An environment whose suite has one test, which runs one endpoint whatever the accelerator is."""

    def __init__(self, suite: Suite, cache: object) -> None:
        pass

    def make(self) -> None:
        pass

    def run(self, accelerator: str, tests: object, processes: int) -> Run:
        return Run({"a": "passed"}, requests=Counter({"endpoint": 1, "requests": 1}))

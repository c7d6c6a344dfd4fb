"""Calling the application, on connections without sockets."""

from __future__ import annotations

import asyncio
import contextvars
import sys
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from fastserve.asgi.types import Receive, Scope, Send
from fastserve.errors import ClientDisconnected
from tests.doubles import Peer, PlayedApp, Rig, post, request, response, turns, until

CLOSE = "connection: close"
FAILED = response(
    b"Internal Server Error", status="500 Internal Server Error\r\ncontent-type: text/plain; charset=utf-8"
)
BUSY = response(
    b"Service Unavailable",
    status="503 Service Unavailable\r\ncontent-type: text/plain; charset=utf-8\r\nretry-after: 1",
)
START = {"type": "http.response.start", "status": 200}
PART = {"type": "http.response.body", "body": b"part", "more_body": True}
LAST = {"type": "http.response.body", "body": b"ok"}

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return what was logged as an error, with the type of the exception if there is one."""
    found = []
    for record in caplog.records:
        if record.levelname in ("ERROR", "CRITICAL"):
            exception = record.exc_info[1] if record.exc_info else None
            found.append(record.getMessage() + (f": {exception!r}" if exception else ""))
    return found


async def answers(peer: Peer, data: bytes = b"") -> bytes:
    """Send a request, and return what the connection has written since the last time."""
    peer.send(data or request())
    await turns()
    return peer.take()


# Observers.


@pytest.mark.parametrize("answered", [True, False])
async def test_an_observer_that_fails_is_no_failure_of_the_request(
    answered: bool, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(rig: Rig, exchange: object) -> None:
        raise ValueError("a filter of the user's")

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if answered:
            await send(START)
            await send(LAST)

    monkeypatch.setattr(Rig, "_log_access", fail)
    rig = Rig(app)
    peer = rig.connect()
    assert await answers(peer) == (response() if answered else FAILED)
    assert rig.application.running == 0
    logged = ['A request could not be logged or counted: ValueError("a filter of the user\'s")']
    assert errors(caplog) == ([] if answered else ["ASGI callable returned without starting response."]) + logged


# Contexts.


@pytest.mark.parametrize("how", ["one connection", "pipelined", "two connections"])
@pytest.mark.parametrize("waits", [False, True], ids=["at once", "after a wait"])
async def test_what_a_request_sets_in_its_context_is_not_seen_by_the_next(how: str, waits: bool) -> None:
    seen: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(variable.get())
        variable.set(scope["path"])
        if waits:
            await asyncio.sleep(0)
        await send(START)
        await send(LAST)
        seen.append(variable.get())

    rig = Rig(app)
    peer = rig.connect()
    if how == "pipelined":
        peer.send(request("/a") + request("/b"))
    else:
        peer.send(request("/a"))
        await turns()
        (peer if how == "one connection" else rig.connect()).send(request("/b"))
    await turns(20)
    assert seen == ["unset", "/a", "unset", "/b"]
    assert variable.get() == "unset"


async def test_every_request_sees_the_context_in_which_the_server_was_started() -> None:
    seen: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(variable.get())
        await send(START)
        await send(LAST)

    token = variable.set("at the start")
    rig = Rig(app)
    variable.reset(token)
    variable.set("later")
    for _ in range(2):
        await answers(rig.connect())
    assert seen == ["at the start", "at the start"]


async def test_the_state_of_the_lifespan_is_copied_for_each_request() -> None:
    app = PlayedApp()
    rig = Rig(app)
    rig.scopes.state = {"pool": []}
    peer = rig.connect()
    for number in range(2):
        peer.send(request())
        await turns()
        assert app.calls[-1].scope["state"] == {"pool": [0] * number}
        app.calls[-1].scope["state"]["pool"].append(0)
        app.calls[-1].scope["state"]["user"] = "x"
        await app.calls[-1].respond()
    assert rig.scopes.state == {"pool": [0, 0]}


# The limit of requests at the same time.


async def test_a_request_over_the_limit_gets_503_and_the_next_one_is_served() -> None:
    app = PlayedApp()
    rig = Rig(app, limit_concurrency=2)
    first, second, third = (rig.connect() for _ in range(3))
    for peer in (first, second):
        assert await answers(peer) == b""
    assert (await answers(third), third.phase, len(app.calls)) == (BUSY, "WAITING", 2)
    await app.calls[0].respond()
    assert first.take() == response()
    assert (await answers(third), len(app.calls)) == (b"", 3)
    await app.calls[1].respond()
    await app.calls[2].respond()
    assert (second.take(), third.take(), rig.application.running) == (response(), response(), 0)
    assert rig.logged == [("/", 503), ("/", 200), ("/", 200), ("/", 200)]


async def test_a_call_counts_until_it_returns_and_not_only_until_it_has_answered() -> None:
    app = PlayedApp()
    rig = Rig(app, limit_concurrency=1)
    peer = rig.connect()
    await answers(peer)
    await app.calls[0].start()
    await app.calls[0].body(b"ok")
    assert peer.take() == response()
    assert await answers(peer) == BUSY
    app.calls[0].end()
    await turns()
    assert await answers(peer) == b""
    await app.calls[1].respond()


async def test_the_body_of_a_request_that_gets_503_is_dropped() -> None:
    app = PlayedApp()
    rig = Rig(app, limit_concurrency=1)
    await answers(rig.connect())
    peer = rig.connect()
    assert await answers(peer, post(b"hel", length=5)) == BUSY
    peer.send(b"lo")
    assert (await answers(peer, post(b"hello")), peer.phase) == (BUSY, "WAITING")
    await app.calls[0].respond()


async def test_without_a_limit_any_number_runs() -> None:
    app = PlayedApp()
    rig = Rig(app)
    for _ in range(500):
        rig.connect().send(request())
    await turns()
    assert (len(app.calls), rig.application.running) == (500, 500)
    for call in app.calls:
        call.end()


# Applications that fail.


class Interrupt(BaseException):
    """Something that is no Exception."""


RAISED = [ValueError("x"), SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError(), GeneratorExit(), Interrupt()]
EACH_RAISED = pytest.mark.parametrize("error", RAISED, ids=lambda error: type(error).__name__)


@EACH_RAISED
@pytest.mark.parametrize("when", ["at once", "after a wait", "after the start"])
async def test_whatever_an_application_raises_is_a_500_and_the_worker_lives(
    error: BaseException, when: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/fine":
            await send(START)
            await send(LAST)
            return
        if when == "after a wait":
            await asyncio.sleep(0)
        if when == "after the start":
            await send({**START, "headers": [(b"x", b"y")]})
        raise error

    rig = Rig(app)
    peer = rig.connect()
    assert (await answers(peer), peer.phase) == (FAILED, "WAITING")
    assert errors(caplog) == [f"Exception in ASGI application: {error!r}"]
    assert await answers(peer, request("/fine")) == response()
    assert (rig.application.running, rig.logged) == (0, [("/", 500), ("/fine", 200)])


@EACH_RAISED
async def test_whatever_is_raised_in_the_middle_of_a_body_closes_without_the_last_chunk(
    error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        await send(PART)
        raise error

    rig = Rig(app)
    peer = rig.connect()
    assert await answers(peer) == b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\npart\r\n"
    assert (peer.phase, rig.state.connections) == ("CLOSED", set())
    assert errors(caplog) == [f"Exception in ASGI application: {error!r}"]
    assert rig.logged == [("/", 200)]


async def test_what_is_raised_after_the_response_is_logged_and_changes_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    app = PlayedApp()
    rig = Rig(app)
    peer = rig.connect()
    await answers(peer)
    await app.calls[0].start()
    await app.calls[0].body(b"ok")
    app.calls[0].fail(ValueError("late"))
    await turns()
    assert (peer.take(), peer.phase) == (response(), "WAITING")
    assert errors(caplog) == ["Exception in ASGI application: ValueError('late')"]
    assert rig.logged == [("/", 200)]


async def test_a_response_that_cannot_be_sent_is_a_500(caplog: pytest.LogCaptureFixture) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({**START, "headers": [(b"x", b"a\r\nset-cookie: b")]})
        await send(LAST)

    peer = Rig(app).connect()
    assert await answers(peer) == FAILED
    assert len(errors(caplog)) == 1


async def test_a_body_that_is_shorter_than_declared_closes_the_connection(caplog: pytest.LogCaptureFixture) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({**START, "headers": [(b"content-length", b"9")]})
        await send(PART)
        await send(LAST)

    rig = Rig(app)
    peer = rig.connect()
    assert await answers(peer) == b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\npart"
    assert (peer.phase, len(errors(caplog))) == ("CLOSED", 1)


@pytest.mark.parametrize(
    ("sends", "answer", "what"),
    [
        ([], FAILED, "starting"),
        ([START], FAILED, "completing"),
        ([START, PART], b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\npart\r\n", "completing"),
    ],
    ids=["nothing", "the start", "a part"],
)
async def test_an_application_that_returns_too_early_fails(
    sends: list[dict[str, Any]], answer: bytes, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for message in sends:
            await send(message)

    rig = Rig(app)
    peer = rig.connect()
    assert await answers(peer) == answer
    assert errors(caplog) == [f"ASGI callable returned without {what} response."]
    assert len(rig.logged) == 1


async def test_an_application_that_returns_something_is_told_so(caplog: pytest.LogCaptureFixture) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> str:
        await send(START)
        await send(LAST)
        return "done"

    peer = Rig(app).connect()
    assert await answers(peer) == response()
    assert errors(caplog) == ["ASGI callable should return None, but returned 'done'."]


@pytest.mark.parametrize(
    "callable_", [lambda scope, receive, send: None, lambda: None], ids=["not async", "no arguments"]
)
async def test_what_is_no_application_is_a_500(callable_: Callable[..., Any], caplog: pytest.LogCaptureFixture) -> None:
    peer = Rig(callable_).connect()
    assert await answers(peer) == FAILED
    assert "TypeError" in errors(caplog)[0]


# Clients that are gone.


@pytest.mark.parametrize(
    "error",
    [
        ClientDisconnected(),
        ExceptionGroup("tasks", [ClientDisconnected()]),
        ExceptionGroup("tasks", [ClientDisconnected(), ExceptionGroup("inner", [ClientDisconnected()])]),
    ],
    ids=["alone", "in a group", "in groups"],
)
async def test_an_application_may_let_the_disconnect_through(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    app = PlayedApp()
    rig = Rig(app)
    peer = rig.connect()
    await answers(peer)
    peer.reset()
    app.calls[0].fail(error)
    await turns()
    assert (errors(caplog), rig.logged, rig.application.running) == ([], [("/", 0)], 0)


async def test_what_else_is_in_a_group_with_the_disconnect_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    app = PlayedApp()
    rig = Rig(app)
    peer = rig.connect()
    await answers(peer)
    peer.reset()
    app.calls[0].fail(ExceptionGroup("tasks", [ClientDisconnected(), ValueError("mine")]))
    await turns()
    (line,) = errors(caplog)
    assert "ValueError('mine')" in line
    assert "ClientDisconnected" not in line


async def test_a_task_group_of_an_application_that_sends_to_a_client_that_is_gone_is_quiet(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        async def stream() -> None:
            await send(START)
            while True:
                await send(PART)
                await asyncio.sleep(0)

        async with asyncio.TaskGroup() as group:
            group.create_task(stream())

    rig = Rig(app)
    peer = rig.connect()
    await answers(peer)
    peer.reset()
    await turns(20)
    assert (errors(caplog), rig.application.running) == ([], 0)


@pytest.mark.parametrize("how", ["FIN", "RST"])
async def test_an_application_that_returns_because_the_client_is_gone_is_quiet(
    how: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    rig = Rig(app)
    peer = rig.connect()
    await answers(peer)
    peer.end() if how == "FIN" else peer.reset()
    await turns()
    assert (errors(caplog), rig.logged) == ([], [("/", 0)])
    assert (peer.take(), rig.state.connections, rig.application.running) == (b"", set(), 0)


# What runs on.


async def test_work_after_the_response_runs_while_the_next_request_of_the_connection_is_answered() -> None:
    app = PlayedApp()
    rig = Rig(app)
    peer = rig.connect()
    await answers(peer)
    await app.calls[0].start()
    await app.calls[0].body(b"first")
    assert peer.take() == response(b"first")
    await answers(peer, request("/b"))
    await app.calls[1].respond(b"second")
    assert (peer.take(), rig.application.running) == (response(b"second"), 1)
    assert rig.logged == [("/", 200), ("/b", 200)]
    app.calls[0].end()
    await turns()
    assert (rig.application.running, len(rig.logged)) == (0, 2)


async def test_nothing_is_waited_for_when_nothing_runs() -> None:
    await Rig(PlayedApp()).application.wait_idle()


async def test_the_wait_ends_when_the_last_call_has_returned() -> None:
    app = PlayedApp()
    rig = Rig(app)
    await answers(rig.connect())
    await answers(rig.connect())
    waiting = asyncio.ensure_future(rig.application.wait_idle())
    await turns()
    app.calls[0].end()
    await turns()
    await answers(rig.connect())  # one more begins
    app.calls[1].end()
    await turns()
    assert not waiting.done()
    app.calls[2].end()
    await waiting


async def test_a_call_that_begins_as_the_last_one_returns_is_waited_for_too() -> None:
    app = PlayedApp()
    rig = Rig(app)
    await answers(rig.connect())
    peer = rig.connect()
    waiting = asyncio.ensure_future(rig.application.wait_idle())
    await turns()
    app.calls[0].end()
    asyncio.get_running_loop().call_soon(peer.send, request())  # in the turn in which it does
    await turns()
    assert (len(app.calls), waiting.done()) == (2, False)
    app.calls[1].end()
    await waiting


async def test_all_calls_can_be_cancelled(caplog: pytest.LogCaptureFixture) -> None:
    app = PlayedApp()
    rig = Rig(app)
    waiting, started, sending, done = (rig.connect() for _ in range(4))
    for peer in (waiting, started, sending, done):
        await answers(peer)
    await app.calls[1].start()
    await app.calls[2].start()
    await app.calls[2].body(b"part", more=True)
    await turns()
    sent = sending.take()
    await app.calls[3].start()
    await app.calls[3].body(b"ok")
    rig.state.keeps_connections = False
    rig.application.cancel_all()
    await rig.application.wait_idle()
    failed = FAILED.replace(b"length: 21\r\n", b"length: 21\r\nconnection: close\r\n")
    assert (waiting.take(), started.take(), sending.take(), done.take()) == (failed, failed, b"", response())
    assert sent.endswith(b"part\r\n")
    assert errors(caplog) == []


@pytest.mark.parametrize("reaction", ["another error", "a group", "re-raised", "returns"])
async def test_whatever_comes_of_a_cancellation_of_ours_is_not_logged(
    reaction: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError as error:
            if reaction == "another error":
                raise ValueError("no rollback") from error
            if reaction == "a group":
                raise BaseExceptionGroup("tasks", [error, ValueError("no rollback")]) from error
            if reaction == "re-raised":
                raise

    rig = Rig(app)
    peer = rig.connect()
    await answers(peer)
    rig.application.cancel_all()
    await rig.application.wait_idle()
    assert (peer.take(), errors(caplog)) == (FAILED, [])


async def test_what_fails_by_itself_before_and_after_others_are_cancelled_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    released = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] != "/held":
            raise ValueError(scope["path"])
        try:
            await released.wait()
        except asyncio.CancelledError:
            await released.wait()
            raise

    rig = Rig(app)
    await answers(rig.connect(), request("/before"))
    await answers(rig.connect(), request("/held"))
    rig.application.cancel_all()
    await answers(rig.connect(), request("/after"))
    released.set()
    await rig.application.wait_idle()
    assert errors(caplog) == [
        "Exception in ASGI application: ValueError('/before')",
        "Exception in ASGI application: ValueError('/after')",
    ]


async def test_an_application_that_holds_on_to_its_cancellation_goes_on_running() -> None:
    released = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        while not released.is_set():
            try:
                await released.wait()
            except asyncio.CancelledError:
                pass
        await send(START)
        await send(LAST)

    rig = Rig(app)
    peer = rig.connect()
    await answers(peer)
    rig.application.cancel_all()
    await turns()
    assert rig.application.running == 1
    released.set()
    await rig.application.wait_idle()
    assert peer.take() == response()


async def test_without_an_access_log_nothing_is_logged_and_all_is_served(caplog: pytest.LogCaptureFixture) -> None:
    app = PlayedApp()
    rig = Rig(app, access_log=False)
    peer = rig.connect()
    await answers(peer)
    await app.calls[0].respond()
    assert peer.take() == response()
    await answers(peer)
    peer.reset()
    app.calls[1].end()
    await turns()
    assert (rig.logged, errors(caplog), rig.application.running) == ([], [], 0)


# Task factories.


async def test_a_task_factory_that_was_set_makes_the_tasks() -> None:
    made: list[object] = []

    def factory(loop: asyncio.AbstractEventLoop, coro: Coroutine[Any, Any, Any], **more: Any) -> asyncio.Task[Any]:
        task = asyncio.Task(coro, loop=loop, **more)
        made.append(task)
        return task

    seen: list[object] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(asyncio.current_task())
        await send(START)
        await send(LAST)

    rig = Rig(app)
    asyncio.get_running_loop().set_task_factory(factory)
    rig.application.refresh()
    peer = rig.connect()
    assert await answers(peer) == response()
    assert seen
    assert seen[0] in made
    assert rig.application.running == 0


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with Python 3.12")
async def test_the_eager_task_factory_of_asyncio_may_be_set() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        await send(LAST)

    rig = Rig(app)
    asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
    rig.application.refresh()
    peer = rig.connect()
    peer.send(request())
    assert (peer.take(), rig.application.running) == (response(), 0)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with Python 3.12")
async def test_an_application_that_does_not_wait_is_done_when_its_request_was_taken() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert await receive() == {"type": "http.request", "body": b"", "more_body": False}
        await send(START)
        await send(LAST)

    rig = Rig(app)
    peer = rig.connect()
    peer.send(request())
    assert (peer.take(), rig.application.running) == (response(), 0)


async def test_an_application_runs_in_a_task_that_can_be_found_and_has_a_deadline() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert asyncio.current_task() is not None
        async with asyncio.timeout(5):
            await asyncio.sleep(0)
        await send(START)
        await send(LAST)

    assert await answers(Rig(app).connect()) == response()


class Gone(Exception):
    """What a framework makes of a disconnect, as Starlette does."""


@pytest.mark.parametrize("way", ["from it", "while handling it"])
async def test_an_error_that_a_framework_makes_of_a_disconnect_is_not_logged(
    way: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        try:
            while True:
                await send({"type": "http.response.body", "body": b"x", "more_body": True})
                await asyncio.sleep(0)
        except OSError as error:
            if way == "from it":
                raise Gone from error
            raise Gone  # noqa: B904

    rig = Rig(app)
    peer = rig.connect()
    peer.send(request())
    await turns()
    peer.reset()
    await until(lambda: not rig.application.running)
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


async def test_an_error_that_was_raised_because_of_itself_is_an_error_like_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        error = RuntimeError("because of itself")
        error.__cause__ = RuntimeError("and the other way round")
        error.__cause__.__cause__ = error
        raise error

    assert (await answers(Rig(app).connect())).startswith(b"HTTP/1.1 500 ")
    assert caplog.messages == ["Exception in ASGI application"]

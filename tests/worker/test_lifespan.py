"""The lifespan of the application: every mode and every way in which it can go."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from fastserve.asgi.types import ASGIApp, Message, Receive, Scope, Send
from fastserve.errors import InvalidMessage, LifespanError
from fastserve.worker.lifespan import Lifespan
from tests.doubles import turns

COMPLETE: Message = {"type": "lifespan.startup.complete"}
STOPPED: Message = {"type": "lifespan.shutdown.complete"}
EXCEPTION = "Exception in the lifespan of the application"
UNSUPPORTED = "ASGI 'lifespan' protocol appears unsupported."
MODES = pytest.mark.parametrize("mode", ["auto", "on"])


@pytest.fixture(autouse=True)
def _info(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "fastserve")


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return what was logged, with the type of the exception if there is one."""
    found = []
    for record in caplog.records:
        if record.name == "fastserve":
            exception = record.exc_info[1] if record.exc_info else None
            found.append(record.getMessage() + (f": {exception!r}" if exception else ""))
    return found


@asynccontextmanager
async def lifespan_of(app: ASGIApp, mode: str = "auto") -> AsyncIterator[Lifespan]:
    """Make a lifespan, and leave no task behind."""
    lifespan = Lifespan(app, mode)
    try:
        yield lifespan
    finally:
        lifespan.cancel()
        await turns()


class Orderly:
    """An application with a lifespan. events: what it was sent. scope: the scope of its lifespan."""

    def __init__(self) -> None:
        self.events: list[Message] = []
        self.scope: Scope = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope = scope
        scope["state"]["ready"] = True
        for answer in (COMPLETE, STOPPED):
            self.events.append(await receive())
            await send(answer)


# Applications that take too long.


async def hanging(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await asyncio.Event().wait()


@MODES
async def test_a_start_that_is_given_up_fails_with_what_it_waits_for(
    mode: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with lifespan_of(hanging, mode) as lifespan:
        starting = asyncio.create_task(lifespan.start())
        await turns()
        lifespan.give_up("it takes too long")
        with pytest.raises(LifespanError, match=r"^it takes too long$") as failed:
            await starting
        await turns()
    assert ", in hanging\n    await asyncio.Event().wait()\n" in failed.value.stack
    assert lines(caplog) == ["Waiting for application startup."]


async def test_a_start_that_is_given_up_before_it_has_begun_does_not_begin() -> None:
    app = Orderly()
    async with lifespan_of(app) as lifespan:
        lifespan.give_up("it takes too long")
        with pytest.raises(LifespanError, match=r"^it takes too long$"):
            await lifespan.start()
    assert app.events == []


async def without_lifespan(scope: Scope, receive: Receive, send: Send) -> None:
    """Return at once."""


@pytest.mark.parametrize("app", [Orderly(), without_lifespan], ids=["lifespan", "none"])
async def test_what_has_started_is_not_given_up(app: ASGIApp) -> None:
    async with lifespan_of(app) as lifespan:
        await lifespan.start()
        before = lifespan.state
        lifespan.give_up("it takes too long")
        await lifespan.stop()
        assert lifespan.state == before


# Applications that do as they should.


@MODES
async def test_an_application_is_started_and_stopped(mode: str, caplog: pytest.LogCaptureFixture) -> None:
    app = Orderly()
    async with lifespan_of(app, mode) as lifespan:
        states = [lifespan.state]
        await lifespan.start()
        states.append(lifespan.state)
        assert states == [None, {"ready": True}]
        assert app.events == [{"type": "lifespan.startup"}]
        await lifespan.stop()
    assert app.events == [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]
    assert lines(caplog) == [
        "Waiting for application startup.",
        "Application startup complete.",
        "Waiting for application shutdown.",
        "Application shutdown complete.",
    ]


async def test_the_scope_is_as_the_specification_has_it() -> None:
    app = Orderly()
    async with lifespan_of(app) as lifespan:
        await lifespan.start()
        assert app.scope == {
            "type": "lifespan",
            "asgi": {"version": "3.0", "spec_version": "2.0"},
            "state": {"ready": True},
        }
        assert lifespan.state is app.scope["state"]


async def test_start_waits_until_the_application_is_ready() -> None:
    ready = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await ready.wait()
        await send(COMPLETE)
        await receive()

    async with lifespan_of(app) as lifespan:
        starting = asyncio.ensure_future(lifespan.start())
        await turns()
        assert not starting.done()
        ready.set()
        await starting


async def test_stop_waits_until_the_application_has_ended() -> None:
    may_end = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send(COMPLETE)
        await receive()
        await may_end.wait()
        await send(STOPPED)

    async with lifespan_of(app) as lifespan:
        await lifespan.start()
        stopping = asyncio.ensure_future(lifespan.stop())
        await turns()
        assert not stopping.done()
        may_end.set()
        await stopping


async def test_an_application_that_is_off_is_not_called(caplog: pytest.LogCaptureFixture) -> None:
    app = Orderly()
    async with lifespan_of(app, "off") as lifespan:
        await lifespan.start()
        await lifespan.stop()
    assert (app.events, app.scope, lifespan.state, lines(caplog)) == ([], {}, None, [])


# Applications that do not.


class Outcome:
    """What comes of an application that does not start.

    refuses: the text of the LifespanError in each mode; None where it is served without lifespan.
    """

    def __init__(self, *, auto: str | None = None, on: str | None, logs: list[str]) -> None:
        self.refuses = {"auto": auto, "on": on}
        self.logs = logs


async def raises_before(scope: Scope, receive: Receive, send: Send) -> None:
    raise ValueError("x")


async def asserts(scope: Scope, receive: Receive, send: Send) -> None:
    assert scope["type"] == "http"


async def raises_after(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    raise ValueError("x")


async def raises_much_later(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await turns()
    raise ValueError("x")


async def returns_at_once(scope: Scope, receive: Receive, send: Send) -> None:
    pass


async def returns_after(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()


async def fails_with_a_message(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "lifespan.startup.failed", "message": "no database"})


async def fails_without_a_message(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "lifespan.startup.failed"})
    raise ValueError("and then this")


async def leaves_before(scope: Scope, receive: Receive, send: Send) -> None:
    raise SystemExit(4)


async def leaves_after(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    raise SystemExit("enough")


async def is_interrupted(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    raise KeyboardInterrupt


async def sends_something_wrong(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "http.response.start", "status": 200})


async def sends_the_end_first(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await send(STOPPED)


NOT_COMPLETED = "the application did not complete 'lifespan.startup'"
OUTCOMES = {
    raises_before: Outcome(on=f"{NOT_COMPLETED}: ValueError('x')", logs=[UNSUPPORTED]),
    asserts: Outcome(on=f"{NOT_COMPLETED}: AssertionError", logs=[UNSUPPORTED]),
    raises_after: Outcome(on=f"{NOT_COMPLETED}: ValueError('x')", logs=[f"{EXCEPTION}: ValueError('x')"]),
    raises_much_later: Outcome(on=f"{NOT_COMPLETED}: ValueError('x')", logs=[f"{EXCEPTION}: ValueError('x')"]),
    returns_at_once: Outcome(on=NOT_COMPLETED, logs=[UNSUPPORTED]),
    returns_after: Outcome(on=NOT_COMPLETED, logs=[UNSUPPORTED]),
    fails_with_a_message: Outcome(auto="no database", on="no database", logs=[]),
    fails_without_a_message: Outcome(
        auto="the application failed to start", on="the application failed to start", logs=[]
    ),
    leaves_before: Outcome(
        auto="the application raised SystemExit(4) while starting",
        on="the application raised SystemExit(4) while starting",
        logs=[],
    ),
    leaves_after: Outcome(
        auto="the application raised SystemExit('enough') while starting",
        on="the application raised SystemExit('enough') while starting",
        logs=[],
    ),
    is_interrupted: Outcome(
        auto="the application raised KeyboardInterrupt() while starting",
        on="the application raised KeyboardInterrupt() while starting",
        logs=[],
    ),
    sends_something_wrong: Outcome(
        on=f"{NOT_COMPLETED}: InvalidMessage(",
        logs=[f"{EXCEPTION}: InvalidMessage(\"'http.response.start' cannot be sent in answer to 'lifespan.startup'\")"],
    ),
    sends_the_end_first: Outcome(
        on=f"{NOT_COMPLETED}: InvalidMessage(",
        logs=[
            f"{EXCEPTION}: InvalidMessage("
            "\"'lifespan.shutdown.complete' cannot be sent in answer to 'lifespan.startup'\")"
        ],
    ),
}


@MODES
@pytest.mark.parametrize("app", list(OUTCOMES), ids=lambda app: app.__name__)
async def test_an_application_that_does_not_start_is_served_without_lifespan_or_refused(
    app: Any, mode: str, caplog: pytest.LogCaptureFixture
) -> None:
    refusal = OUTCOMES[app].refuses[mode]
    async with lifespan_of(app, mode) as lifespan:
        if refusal is None:
            await lifespan.start()
            assert lines(caplog) == [
                "Waiting for application startup.",
                *OUTCOMES[app].logs,
                "Application startup complete.",
            ]
            caplog.clear()
            await lifespan.stop()
            assert lines(caplog) == []
        else:
            with pytest.raises(LifespanError) as raised:
                await lifespan.start()
            assert str(raised.value).startswith(refusal)
            assert "Application startup complete." not in lines(caplog)
            await lifespan.stop()
        assert lifespan.state is None


async def test_an_error_after_the_first_event_is_logged_with_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    async with lifespan_of(raises_after) as lifespan:
        await lifespan.start()
    assert "in raises_after" in caplog.text
    assert "ValueError: x" in caplog.text


@pytest.mark.parametrize(
    "callable_", [lambda scope, receive, send: None, lambda: None], ids=["not async", "no arguments"]
)
async def test_what_is_no_application_has_no_lifespan(callable_: Any, caplog: pytest.LogCaptureFixture) -> None:
    async with lifespan_of(callable_) as lifespan:
        await lifespan.start()
    assert UNSUPPORTED in lines(caplog)


# Between start and stop.


async def test_an_answer_that_is_sent_twice_raises_in_the_application(caplog: pytest.LogCaptureFixture) -> None:
    raised: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send(COMPLETE)
        for message in (COMPLETE, STOPPED):
            try:
                await send(message)
            except InvalidMessage as error:
                raised.append(str(error))
            await turns()
        await receive()
        await send(STOPPED)

    async with lifespan_of(app) as lifespan:
        await lifespan.start()
        await turns(30)
        assert raised == [
            "'lifespan.startup.complete' cannot be sent twice",
            "'lifespan.shutdown.complete' cannot be sent twice",
        ]
        await lifespan.stop()
    assert lines(caplog)[-1] == "Application shutdown complete."


async def test_an_application_that_returns_after_its_start_is_served_with_its_state_and_not_stopped(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        scope["state"]["a"] = 1
        await send(COMPLETE)

    async with lifespan_of(app) as lifespan:
        await lifespan.start()
        assert lifespan.state == {"a": 1}
        await turns()
        await lifespan.stop()
    assert lines(caplog)[-1] == "Application startup complete."


async def test_an_application_whose_lifespan_fails_while_it_is_served_has_its_error_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send(COMPLETE)
        raise ValueError("in the background")

    async with lifespan_of(app) as lifespan:
        await lifespan.start()
        await turns()
        await lifespan.stop()
    assert f"{EXCEPTION}: ValueError('in the background')" in lines(caplog)


async def test_an_application_that_raises_after_it_said_that_its_start_failed_is_not_logged_too(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no database"})
        raise ValueError("no database")

    async with lifespan_of(app) as lifespan:
        with pytest.raises(LifespanError, match="no database"):
            await lifespan.start()
        await turns()
    assert lines(caplog) == ["Waiting for application startup."]


# The end.


async def shutdown_fails(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await send(COMPLETE)
    await receive()
    await send({"type": "lifespan.shutdown.failed", "message": "disk full"})


async def shutdown_fails_as_in_starlette(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await send(COMPLETE)
    await receive()
    await send({"type": "lifespan.shutdown.failed", "message": "Traceback:\n  disk full\n"})
    raise OSError("disk full")


async def shutdown_fails_silently(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await send(COMPLETE)
    await receive()
    await send({"type": "lifespan.shutdown.failed"})


async def shutdown_raises(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await send(COMPLETE)
    await receive()
    raise ValueError("x")


async def shutdown_leaves(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await send(COMPLETE)
    await receive()
    raise SystemExit(1)


async def shutdown_answers_the_start(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await send(COMPLETE)
    await receive()
    await send(COMPLETE)


async def shutdown_returns(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await send(COMPLETE)
    await receive()


@pytest.mark.parametrize(
    ("app", "line"),
    [
        (shutdown_fails, "Application shutdown failed: disk full"),
        (shutdown_fails_as_in_starlette, "Application shutdown failed.\nTraceback:\n  disk full"),
        (shutdown_fails_silently, "Application shutdown failed: no reason given"),
        (shutdown_raises, f"{EXCEPTION}: ValueError('x')"),
        (shutdown_leaves, f"{EXCEPTION}: SystemExit(1)"),
        (
            shutdown_answers_the_start,
            f"{EXCEPTION}: InvalidMessage("
            "\"'lifespan.startup.complete' cannot be sent in answer to 'lifespan.shutdown'\")",
        ),
        (shutdown_returns, "Waiting for application shutdown."),
    ],
    ids=lambda case: getattr(case, "__name__", ""),
)
async def test_a_shutdown_that_fails_is_logged_and_the_end_all_the_same(
    app: Any, line: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with lifespan_of(app) as lifespan:
        await lifespan.start()
        await lifespan.stop()
    assert lines(caplog)[-1] == line


async def test_stop_before_start_does_nothing(caplog: pytest.LogCaptureFixture) -> None:
    app = Orderly()
    async with lifespan_of(app) as lifespan:
        await lifespan.stop()
        lifespan.cancel()
    assert (app.events, lines(caplog)) == ([], [])


async def test_an_application_that_is_starting_can_be_cancelled() -> None:
    ended: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await receive()
            await asyncio.Event().wait()
        finally:
            ended.append("ended")

    async with lifespan_of(app) as lifespan:
        starting = asyncio.ensure_future(lifespan.start())
        await turns()
        starting.cancel()
        await turns()
        lifespan.cancel()
        await turns()
    assert ended == ["ended"]


@pytest.mark.parametrize("stops", [False, True], ids=["while it is served", "while it stops"])
async def test_an_application_that_was_cancelled_is_not_reported(stops: bool, caplog: pytest.LogCaptureFixture) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send(COMPLETE)
        await receive()
        await asyncio.Event().wait()

    async with lifespan_of(app) as lifespan:
        await lifespan.start()
        stopping = asyncio.ensure_future(lifespan.stop()) if stops else None
        await turns()
        if stopping is not None:
            stopping.cancel()
        lifespan.cancel()
        await turns()
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == []


async def test_an_answer_that_comes_after_the_start_was_given_up_raises_in_the_application() -> None:
    answers = asyncio.Event()
    raised: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await answers.wait()
        try:
            await send(COMPLETE)
        except InvalidMessage as error:
            raised.append(str(error))

    async with lifespan_of(app) as lifespan:
        starting = asyncio.ensure_future(lifespan.start())
        await turns()
        starting.cancel()
        await turns()
        answers.set()
        await turns()
    assert raised == ["'lifespan.startup.complete' cannot be sent twice"]

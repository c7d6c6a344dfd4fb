"""One request and its response, between a played stream and a played application."""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import Coroutine, Iterable
from typing import Any

import pytest

from fastserve.asgi.awaitables import SENT
from fastserve.asgi.exchange import Caller as BaseCaller
from fastserve.asgi.exchange import Exchange, Writing, respond, take_content
from fastserve.asgi.types import Message
from fastserve.errors import ApplicationError, ClientDisconnected, InvalidMessage, InvalidResponse
from fastserve.net.stream import Stream
from fastserve.wire.events import Field, RequestHead
from tests.doubles import CLIENT, SERVER, turns

START: Message = {"type": "http.response.start", "status": 200, "headers": [(b"a", b"b")]}
PART: Message = {"type": "http.response.body", "body": b"part", "more_body": True}
LAST: Message = {"type": "http.response.body", "body": b"last"}
DISCONNECT: Message = {"type": "http.disconnect"}


class PlayedStream(Stream):
    """A stream that keeps what it is told. refuses: what it raises instead, once."""

    def __init__(self) -> None:
        super().__init__()
        self.client = CLIENT
        self.server = SERVER
        self.told: list[Any] = []
        self.refuses: Exception | None = None
        self.sends_files = True
        self.declared: int | None = None

    def start_response(self, status: int, fields: Iterable[Field]) -> None:
        self._refuse()
        self.told.append((status, list(fields)))

    def send_body(self, body: bytes, last: bool) -> int:
        self._refuse()
        assert type(body) is bytes
        self.told.append((body, last))
        return len(body)

    def declare_length(self, length: int) -> int:
        if self.declared is None:
            self.declared = length
        return self.declared

    def send_file(self, fd: int, offset: int, count: int, last: bool) -> int:
        self.told.append((os.pread(fd, count, offset), last))
        return count

    def send_early_hint(self, links: Iterable[bytes]) -> None:
        self.told.append(list(links))

    def takes_trailers(self) -> bool:
        return True

    def send_trailers(self, fields: Iterable[Field]) -> None:
        self._refuse()
        self.told.append(list(fields))

    def wait_writable(self, raises: bool) -> Coroutine[Any, Any, None]:
        return asyncio.sleep(0)

    def ask_for_body(self) -> None:
        self.told.append("ask")

    def resume_reading(self) -> None:
        self.told.append("resume")

    def abort(self) -> None:
        self.told.append("abort")

    def take(self) -> list[Any]:
        """Return what was told since the last time."""
        told, self.told = self.told, []
        return told

    def _refuse(self) -> None:
        refusal, self.refuses = self.refuses, None
        if refusal is not None:
            raise refusal


class Caller(BaseCaller):
    """Who calls the application. calls, sent, left: what it was asked to do, and told."""

    def __init__(self) -> None:
        self.raises_disconnect = True
        self.calls: list[Exchange] = []
        self.sent: list[Exchange] = []
        self.left: list[Exchange] = []

    def call(self, exchange: Exchange) -> None:
        self.calls.append(exchange)

    def peer_left(self, exchange: Exchange) -> None:
        self.left.append(exchange)

    def response_sent(self, exchange: Exchange) -> None:
        self.sent.append(exchange)


class Played:
    """An exchange, with what is around it."""

    def __init__(self, content_length: int | None = 0) -> None:
        head = RequestHead("GET", b"/a", b"", "1.1", None, [], content_length)
        self.stream = PlayedStream()
        self.caller = Caller()
        self.exchange = Exchange(head, {"type": "http"}, self.stream, self.caller)

    @property
    def writing(self) -> Writing:
        """How far the response is, as the exchange shows it."""
        return Writing[repr(self.exchange).split()[-1].rstrip(">")]

    async def send(self, *messages: Message) -> None:
        for message in messages:
            await self.exchange.send(message)


LEADING: dict[Writing, list[Message]] = {
    Writing.AWAITING_START: [],
    Writing.HEAD_HELD: [START],
    Writing.BODY: [START, PART],
    Writing.TRAILERS: [{**START, "trailers": True}, LAST],
    Writing.DONE: [START, LAST],
}
"""What to send to come into each state."""

MOVES: dict[tuple[Writing, str], Writing] = {
    (Writing.AWAITING_START, "start"): Writing.HEAD_HELD,
    (Writing.HEAD_HELD, "part"): Writing.BODY,
    (Writing.HEAD_HELD, "last"): Writing.DONE,
    (Writing.HEAD_HELD, "pathsend"): Writing.DONE,
    (Writing.TRAILERS, "trailers"): Writing.DONE,
    (Writing.BODY, "part"): Writing.BODY,
    (Writing.BODY, "last"): Writing.DONE,
}
"""Every move that is allowed."""

SENDABLE: dict[str, Message] = {
    "start": START,
    "part": PART,
    "last": LAST,
    "trailers": {"type": "http.response.trailers", "headers": []},
    "pathsend": {"type": "http.response.pathsend", "path": __file__},
    "push": {"type": "http.response.push", "path": "/"},
    "websocket": {"type": "websocket.accept"},
    "disconnect": DISCONNECT,
    "request": {"type": "http.request"},
    "lifespan": {"type": "lifespan.startup.complete"},
    "unknown": {"type": "http.response.early"},
    "empty": {"type": ""},
    "none": {"type": None},
}

PAIRS = [(state, name) for state in Writing for name in SENDABLE]
PAIR_IDS = [f"{state.name}-{name}" for state, name in PAIRS]


async def in_state(state: Writing, content_length: int | None = 0) -> Played:
    """Return an exchange in this state."""
    played = Played(content_length)
    await played.send(*LEADING[state])
    assert played.writing is state
    played.stream.take()
    played.caller.sent.clear()
    return played


# What the application may send.


@pytest.mark.parametrize(("state", "name"), PAIRS, ids=PAIR_IDS)
async def test_a_message_moves_the_response_on_or_raises(state: Writing, name: str) -> None:
    played = await in_state(state)
    if (state, name) in MOVES:
        await played.send(SENDABLE[name])
        assert played.writing is MOVES[state, name]
        assert len(played.stream.take()) == 1
    else:
        with pytest.raises(InvalidMessage, match="cannot be sent"):
            await played.send(SENDABLE[name])
        assert (played.writing, played.stream.take()) == (state, [])
    assert played.caller.sent == ([played.exchange] if MOVES.get((state, name)) is Writing.DONE else [])


@pytest.mark.parametrize(("state", "name"), PAIRS, ids=PAIR_IDS)
async def test_a_message_to_a_client_that_is_gone_raises(state: Writing, name: str) -> None:
    played = await in_state(state)
    played.exchange.connection_lost()
    expected = ClientDisconnected if (state, name) in MOVES else InvalidMessage
    with pytest.raises(expected):
        await played.send(SENDABLE[name])
    assert (played.writing, played.stream.take(), played.caller.sent) == (state, [], [])


@pytest.mark.parametrize(("state", "name"), PAIRS, ids=PAIR_IDS)
async def test_before_2_4_a_message_to_a_client_that_is_gone_goes_nowhere(state: Writing, name: str) -> None:
    played = await in_state(state)
    played.caller.raises_disconnect = False
    played.exchange.connection_lost()
    await played.send(SENDABLE[name], SENDABLE[name])
    assert (played.writing, played.stream.take(), played.caller.sent) == (state, [], [])
    assert respond(played.exchange.send, 200, FIELDS, b"body")
    assert (played.writing, played.stream.take()) == (state, [])


async def test_one_who_streams_to_nobody_lets_others_run() -> None:
    played = await in_state(Writing.BODY)
    played.caller.raises_disconnect = False
    played.exchange.connection_lost()
    ran: list[str] = []
    asyncio.get_running_loop().call_soon(ran.append, "another")
    await played.send(PART)
    assert ran == ["another"]


# A response in one step.

FIELDS: list[Field] = [(b"content-length", b"4"), (b"content-type", b"text/plain")]


async def test_a_response_in_one_step_is_what_two_messages_are() -> None:
    at_once, in_turn = await in_state(Writing.AWAITING_START), await in_state(Writing.AWAITING_START)
    assert respond(at_once.exchange.send, 201, FIELDS, b"body")
    await in_turn.send(
        {"type": "http.response.start", "status": 201, "headers": FIELDS},
        {"type": "http.response.body", "body": b"body"},
    )
    assert at_once.stream.take() == in_turn.stream.take()
    assert at_once.caller.sent == [at_once.exchange]
    for name in ("status", "fields", "sent_bytes"):
        assert getattr(at_once.exchange, name) == getattr(in_turn.exchange, name)
    assert at_once.writing is in_turn.writing is Writing.DONE
    assert await at_once.exchange.receive() == DISCONNECT


@pytest.mark.parametrize("state", [state for state in Writing if state is not Writing.AWAITING_START])
async def test_a_response_in_one_step_needs_one_that_is_not_started(state: Writing) -> None:
    played = await in_state(state)
    with pytest.raises(InvalidMessage) as at_once:
        respond(played.exchange.send, 200, FIELDS, b"body")
    with pytest.raises(InvalidMessage) as in_turn:
        await played.send(START)
    assert str(at_once.value) == str(in_turn.value)
    assert (played.stream.take(), played.writing) == ([], state)


async def test_a_response_in_one_step_to_a_client_that_is_gone_raises() -> None:
    played = await in_state(Writing.AWAITING_START)
    played.exchange.connection_lost()
    with pytest.raises(ClientDisconnected):
        respond(played.exchange.send, 200, FIELDS, b"body")
    assert played.stream.take() == []


async def test_a_response_in_one_step_that_cannot_be_sent_may_be_another_one() -> None:
    played = await in_state(Writing.AWAITING_START)
    played.stream.refuses = InvalidResponse("wrong")
    with pytest.raises(InvalidResponse):
        respond(played.exchange.send, 1, FIELDS, b"body")
    assert played.writing is Writing.AWAITING_START
    assert respond(played.exchange.send, 200, FIELDS, b"body")


async def test_what_is_not_the_send_of_an_exchange_takes_no_response_in_one_step() -> None:
    played = await in_state(Writing.AWAITING_START)

    async def send(message: Message) -> None:
        await played.exchange.send(message)

    assert not respond(send, 200, FIELDS, b"body")
    assert not respond(played.caller.calls.append, 200, FIELDS, b"body")  # type: ignore[arg-type]
    assert (played.stream.take(), played.writing) == ([], Writing.AWAITING_START)


def test_the_errors_are_what_applications_catch() -> None:
    assert issubclass(ClientDisconnected, OSError)
    assert issubclass(InvalidMessage, ApplicationError)
    assert issubclass(InvalidResponse, ApplicationError)
    assert issubclass(ApplicationError, RuntimeError)


@pytest.mark.parametrize(
    ("state", "text"),
    [
        (Writing.AWAITING_START, "before 'http.response.start'"),
        (Writing.HEAD_HELD, "between 'http.response.start' and 'http.response.body'"),
        (Writing.BODY, "before the response body is complete"),
        (Writing.DONE, "after the response is complete"),
    ],
)
async def test_an_invalid_message_names_itself_and_the_state(state: Writing, text: str) -> None:
    played = await in_state(state)
    with pytest.raises(InvalidMessage) as raised:
        await played.send({"type": "http.oops"})
    assert str(raised.value) == f"'http.oops' cannot be sent {text}"


async def test_an_exchange_shows_what_it_is_and_how_far() -> None:
    assert repr(Played().exchange) == "<Exchange GET b'/a' AWAITING_START>"


async def test_the_start_is_checked_at_once_and_the_body_follows() -> None:
    played = Played()
    await played.send(START)
    assert played.stream.take() == [(200, [(b"a", b"b")])]
    assert (played.exchange.status, played.exchange.is_done()) == (200, False)
    await played.send(PART, PART)
    assert played.stream.take() == [(b"part", False), (b"part", False)]
    await played.send(LAST)
    assert played.stream.take() == [(b"last", True)]
    assert (played.exchange.status, played.exchange.sent_bytes, played.exchange.is_done()) == (200, 12, True)


@pytest.mark.parametrize("headers", [{}, {"headers": None}, {"headers": []}, {"headers": iter(())}])
async def test_a_start_needs_no_headers(headers: dict[str, Any]) -> None:
    played = Played()
    await played.send({"type": "http.response.start", "status": 204, **headers})
    assert played.stream.take() == [(204, [])]


async def test_headers_may_be_any_iterable() -> None:
    played = Played()
    await played.send({"type": "http.response.start", "status": 200, "headers": (pair for pair in [(b"a", b"b")])})
    assert played.stream.take() == [(200, [(b"a", b"b")])]


@pytest.mark.parametrize("body", [{}, {"body": b""}])
async def test_a_body_message_needs_neither_body_nor_more_body(body: dict[str, Any]) -> None:
    played = await in_state(Writing.HEAD_HELD)
    await played.send({"type": "http.response.body", **body})
    assert (played.stream.take(), played.writing) == ([(b"", True)], Writing.DONE)


async def test_keys_that_nobody_knows_are_ignored() -> None:
    played = Played()
    await played.send({**START, "x": 1}, {**LAST, "y": 2})
    assert played.exchange.is_done()


@pytest.mark.parametrize("message", [{"type": "http.response.start"}, {}], ids=["status", "type"])
async def test_a_message_without_what_it_must_have_raises_and_changes_nothing(message: Message) -> None:
    played = Played()
    with pytest.raises((InvalidMessage, KeyError)):
        await played.send(message)
    assert (played.writing, played.exchange.status) == (Writing.AWAITING_START, 0)
    await played.send(START, LAST)
    assert played.exchange.is_done()


async def test_a_start_that_the_wire_refuses_did_not_happen() -> None:
    played = Played()
    played.stream.refuses = InvalidResponse("bad name")
    with pytest.raises(InvalidResponse, match="bad name"):
        await played.send(START)
    assert (played.writing, played.exchange.status) == (Writing.AWAITING_START, 0)
    await played.send(START)
    assert played.writing is Writing.HEAD_HELD


@pytest.mark.parametrize("state", [Writing.HEAD_HELD, Writing.BODY])
async def test_a_body_that_the_wire_refuses_was_not_sent(state: Writing) -> None:
    played = await in_state(state)
    sent = played.exchange.sent_bytes
    played.stream.refuses = InvalidResponse("too long")
    with pytest.raises(InvalidResponse, match="too long"):
        await played.send(LAST)
    assert (played.writing, played.exchange.sent_bytes, played.caller.sent) == (state, sent, [])


# Bodies.


async def test_a_body_of_bytes_is_not_copied() -> None:
    played = await in_state(Writing.HEAD_HELD)
    body = b"x" * 100
    await played.send({"type": "http.response.body", "body": body})
    assert played.stream.take()[0][0] is body


@pytest.mark.parametrize("kind", [bytearray, memoryview], ids=["bytearray", "memoryview"])
async def test_a_body_that_may_change_after_it_was_sent_is_copied(kind: Any) -> None:
    played = await in_state(Writing.HEAD_HELD)
    buffer = bytearray(b"hello")
    body = buffer if kind is bytearray else memoryview(buffer)
    sending = played.exchange.send({"type": "http.response.body", "body": body, "more_body": True})
    buffer[:] = b"HELLO"
    await sending
    assert played.stream.take() == [(b"hello", False)]
    assert played.exchange.sent_bytes == 5


@pytest.mark.parametrize(
    ("view", "body"),
    [
        (memoryview(b"abcdef")[::2], b"ace"),
        (memoryview(b"\x01\x00\x00\x00\x02\x00\x00\x00").cast("i"), b"\x01\x00\x00\x00\x02\x00\x00\x00"),
    ],
    ids=["every other byte", "integers"],
)
async def test_a_body_may_be_any_memoryview(view: memoryview, body: bytes) -> None:
    played = await in_state(Writing.HEAD_HELD)
    await played.send({"type": "http.response.body", "body": view})
    assert (played.stream.take(), played.exchange.sent_bytes) == ([(body, True)], len(body))


@pytest.mark.parametrize("body", ["text", 5, None, [b"x"]], ids=["str", "int", "None", "list"])
async def test_a_body_that_is_not_bytes_raises_and_changes_nothing(body: object) -> None:
    played = await in_state(Writing.HEAD_HELD)
    with pytest.raises(InvalidMessage, match=f"must be bytes, not {type(body).__name__}"):
        await played.send({"type": "http.response.body", "body": body})
    assert (played.writing, played.stream.take()) == (Writing.HEAD_HELD, [])


async def test_send_waits_only_when_the_client_does_not_keep_up_and_more_is_to_come() -> None:
    played = Played()
    played.stream.is_writable = False
    assert played.exchange.send(START) is SENT
    sending = played.exchange.send(PART)
    assert sending is not SENT
    await sending
    assert played.exchange.send(LAST) is SENT
    assert played.stream.take()[-1] == (b"last", True)


async def test_a_message_is_sent_when_send_returns_awaited_or_not() -> None:
    played = Played()
    played.exchange.send(START)
    played.exchange.send(LAST)
    assert played.exchange.is_done()


# What the application receives (CONTRACTS 5, items 13 to 17).


async def receive_now(played: Played) -> Message:
    """Return a message that must be there already."""
    receiving = asyncio.ensure_future(played.exchange.receive())
    await turns()
    assert receiving.done()
    return receiving.result()


async def receive_later(played: Played) -> asyncio.Future[Message]:
    """Return the future of a message that must not be there yet."""
    receiving = asyncio.ensure_future(played.exchange.receive())
    await turns()
    assert not receiving.done()
    return receiving


async def test_the_start_of_an_exchange_calls_the_application() -> None:
    played = Played()
    played.exchange.start()
    assert played.caller.calls == [played.exchange]


async def test_a_request_without_a_body_is_one_empty_message_and_then_a_wait() -> None:
    played = Played()
    assert await receive_now(played) == {"type": "http.request", "body": b"", "more_body": False}
    waiting = await receive_later(played)
    played.exchange.peer_closed()
    assert await waiting == DISCONNECT
    assert await receive_now(played) == DISCONNECT
    assert "ask" not in played.stream.take()


async def test_a_body_comes_in_the_parts_in_which_it_arrives() -> None:
    played = Played(content_length=10)
    for data, last in ((b"hello", False), (b"world", True)):
        waiting = await receive_later(played)
        played.exchange.receive_body(data, last)
        assert await waiting == {"type": "http.request", "body": data, "more_body": not last}
    (await receive_later(played)).cancel()


async def test_parts_that_arrived_before_they_were_asked_for_come_as_one() -> None:
    played = Played(content_length=None)
    played.exchange.receive_body(b"a", False)
    played.exchange.receive_body(b"b", False)
    assert played.exchange.unread_bytes == 2
    assert await receive_now(played) == {"type": "http.request", "body": b"ab", "more_body": True}
    assert (played.exchange.unread_bytes, played.stream.take()) == (0, ["resume"])
    played.exchange.receive_body(b"c", False)
    played.exchange.receive_body(b"", True)
    assert await receive_now(played) == {"type": "http.request", "body": b"c", "more_body": False}
    (await receive_later(played)).cancel()


@pytest.mark.parametrize("parts", [[], [b"hello"], [b"hel", b"lo"]])
async def test_a_body_that_is_there_is_taken_in_one_step(parts: list[bytes]) -> None:
    played = Played(content_length=len(b"".join(parts)))
    for number, part in enumerate(parts, 1):
        assert take_content(played.exchange.receive) is None
        played.exchange.receive_body(part, number == len(parts))
    assert take_content(played.exchange.receive) == b"".join(parts)
    assert (played.exchange.unread_bytes, played.stream.take()) == (0, ["resume"] if parts else [])
    assert take_content(played.exchange.receive) is None
    (await receive_later(played)).cancel()


async def test_of_a_body_of_which_a_part_was_received_the_rest_is_taken() -> None:
    played = Played(content_length=None)
    played.exchange.receive_body(b"a", False)
    await receive_now(played)
    played.exchange.receive_body(b"b", True)
    assert take_content(played.exchange.receive) == b"b"


async def test_a_body_whose_client_is_gone_is_taken_and_after_the_response_none_is() -> None:
    played = Played(content_length=5)
    played.exchange.receive_body(b"hello", True)
    played.exchange.connection_lost()
    assert take_content(played.exchange.receive) == b"hello"
    assert await receive_now(played) == DISCONNECT
    answered = Played(content_length=5)
    answered.exchange.receive_body(b"hello", True)
    await answered.send(START, LAST)
    assert take_content(answered.exchange.receive) is None
    assert await receive_now(answered) == DISCONNECT


async def test_what_is_not_the_receive_of_an_exchange_takes_no_body_in_one_step() -> None:
    async def receive() -> Message:
        return {"type": "http.request"}

    assert take_content(receive) is None
    assert take_content(Played().caller.calls.pop) is None  # type: ignore[arg-type]


async def test_the_end_of_a_chunked_body_may_be_an_empty_message() -> None:
    played = Played(content_length=None)
    played.exchange.receive_body(b"a", False)
    assert (await receive_now(played))["more_body"]
    played.exchange.receive_body(b"", True)
    assert await receive_now(played) == {"type": "http.request", "body": b"", "more_body": False}
    (await receive_later(played)).cancel()


async def test_the_body_is_asked_for_only_while_it_is_waited_for() -> None:
    played = Played(content_length=5)
    played.exchange.receive()
    assert played.stream.take() == []
    waiting = await receive_later(played)
    assert played.stream.take() == ["ask"]
    played.exchange.receive_body(b"hello", True)
    await waiting
    played.stream.take()
    (await receive_later(played)).cancel()
    assert played.stream.take() == []


async def test_what_has_arrived_is_received_before_the_disconnect() -> None:
    played = Played(content_length=10)
    played.exchange.receive_body(b"hel", False)
    played.exchange.connection_lost()
    assert played.exchange.peer_is_gone
    assert await receive_now(played) == {"type": "http.request", "body": b"hel", "more_body": True}
    for _ in range(3):
        assert await receive_now(played) == DISCONNECT


async def test_a_request_whose_client_has_sent_all_and_closed_is_received_whole() -> None:
    played = Played(content_length=3)
    played.exchange.receive_body(b"abc", True)
    played.exchange.peer_closed()
    assert await receive_now(played) == {"type": "http.request", "body": b"abc", "more_body": False}
    assert await receive_now(played) == DISCONNECT


async def test_a_client_that_closed_its_side_can_still_be_answered() -> None:
    played = Played()
    played.exchange.peer_closed()
    await played.send(START, PART, LAST)
    assert played.exchange.is_done()


@pytest.mark.parametrize("state", [Writing.AWAITING_START, Writing.HEAD_HELD, Writing.BODY])
async def test_after_the_body_receive_waits_until_the_response_is_complete(state: Writing) -> None:
    played = await in_state(state)
    await played.exchange.receive()
    waiting = await receive_later(played)
    await played.send(*{Writing.AWAITING_START: [START, LAST]}.get(state, [LAST]))
    assert await waiting == DISCONNECT
    for _ in range(3):
        assert await receive_now(played) == DISCONNECT


async def test_after_the_response_there_is_only_the_disconnect_though_the_body_was_not_read() -> None:
    played = Played(content_length=10)
    played.exchange.receive_body(b"hel", False)
    await played.send(START, LAST)
    assert await receive_now(played) == DISCONNECT
    played.exchange.receive_body(b"lo", False)
    assert await receive_now(played) == DISCONNECT


async def test_of_several_that_receive_each_message_goes_to_one() -> None:
    played = Played(content_length=10)
    waiting = [await receive_later(played) for _ in range(3)]
    played.exchange.receive_body(b"one", False)
    await turns()
    assert sum(each.done() for each in waiting) == 1
    played.exchange.receive_body(b"two", True)
    await turns()
    done = [each.result()["body"] for each in waiting if each.done()]
    assert sorted(done) == [b"one", b"two"]
    await played.send(START, LAST)
    await turns()
    assert [each.result()["type"] for each in waiting].count("http.disconnect") == 1


async def test_all_that_receive_are_told_of_the_disconnect() -> None:
    played = Played(content_length=10)
    waiting = [await receive_later(played) for _ in range(3)]
    played.exchange.connection_lost()
    assert await asyncio.gather(*waiting) == [DISCONNECT] * 3


async def test_a_receive_that_is_cancelled_is_cancelled_and_loses_nothing() -> None:
    played = Played(content_length=5)
    waiting = await receive_later(played)
    played.exchange.receive_body(b"hello", True)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert (await receive_now(played))["body"] == b"hello"


async def test_a_receive_that_is_cancelled_does_not_hinder_another_one() -> None:
    played = Played(content_length=5)
    first, second = await receive_later(played), await receive_later(played)
    first.cancel()
    await turns()
    played.exchange.receive_body(b"hello", True)
    assert (await second)["body"] == b"hello"


async def test_asking_over_and_over_whether_the_client_is_gone_takes_no_memory() -> None:
    played = Played()
    await played.exchange.receive()

    def futures() -> int:
        gc.collect()
        return sum(isinstance(each, asyncio.Future) for each in gc.get_objects())

    before = futures()
    for _ in range(200):  # as Starlette's Request.is_disconnected() does, for each part of a stream
        waiting = await receive_later(played)
        waiting.cancel()
        await turns(2)
    assert futures() - before < 20


# When the application fails.


@pytest.mark.parametrize(
    ("state", "told", "status"),
    [
        (Writing.AWAITING_START, [(500, "fields"), (b"Internal Server Error", True)], 500),
        (Writing.HEAD_HELD, [(500, "fields"), (b"Internal Server Error", True)], 500),
        (Writing.BODY, ["abort"], 200),
        (Writing.DONE, [], 200),
    ],
)
async def test_a_failure_is_a_500_where_that_is_still_possible(state: Writing, told: list[Any], status: int) -> None:
    played = await in_state(state)
    played.exchange.fail()
    fields = [(b"content-type", b"text/plain; charset=utf-8")]
    assert played.stream.take() == [(500, fields) if each == (500, "fields") else each for each in told]
    assert played.exchange.status == status
    assert played.caller.sent == ([played.exchange] if status == 500 else [])


@pytest.mark.parametrize("state", list(Writing))
async def test_a_failure_is_not_told_to_a_client_that_is_gone(state: Writing) -> None:
    played = await in_state(state)
    played.exchange.connection_lost()
    played.exchange.fail()
    played.exchange.abandon()
    assert (played.stream.take(), played.writing) == ([], state)


@pytest.mark.parametrize("state", list(Writing))
async def test_an_exchange_that_is_abandoned_closes_unless_it_is_done(state: Writing) -> None:
    played = await in_state(state)
    played.exchange.abandon()
    assert played.stream.take() == ([] if state is Writing.DONE else ["abort"])


async def test_that_the_client_left_is_told_once() -> None:
    played = Played()
    for _ in range(2):
        played.exchange.peer_closed()
    played.exchange.connection_lost()
    assert played.caller.left == [played.exchange]

"""What a client sends, as events: any split of the bytes gives the same ones, and whatever is wrong is named."""

from __future__ import annotations

import random
import sys
import tracemalloc
import zlib
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastserve.errors import WebSocketViolation
from fastserve.wire.ws.deflate import Deflating, Inflater
from fastserve.wire.ws.events import NO_CODE, Close, Ping, Pong, WebSocketEvent
from fastserve.wire.ws.frames import RSV1, Opcode
from fastserve.wire.ws.reader import Reader, most_compressed_bytes
from tests.wire.ws.client import close, frame, text

MOST = 1 << 20


def read(reader: Reader, *pieces: bytes) -> list[WebSocketEvent]:
    """Return the events of some pieces."""
    events = []
    for piece in pieces:
        reader.receive_data(piece)
        while (event := reader.next_event()) is not None:
            events.append(event)
    return events


def refusal(data: bytes, *, max_bytes: int = MOST, inflater: Inflater | None = None) -> int:
    """Return the code with which this is refused."""
    with pytest.raises(WebSocketViolation) as caught:
        read(Reader(max_bytes, inflater), data)
    return caught.value.code


def compressed(content: bytes) -> bytes:
    """Return content as permessage-deflate sends it."""
    squeezer = zlib.compressobj(wbits=-15)
    return (squeezer.compress(content) + squeezer.flush(zlib.Z_SYNC_FLUSH))[:-4]


EVERYTHING = b"".join(
    (
        text("h\u00e9llo \u20ac \U0001f600"),
        frame(Opcode.PING, b"p"),
        frame(Opcode.TEXT, b"\xe2\x82", fin=False),
        frame(Opcode.PONG),
        frame(Opcode.CONTINUATION, b"", fin=False),
        frame(Opcode.CONTINUATION, b"\xac!"),
        frame(Opcode.BINARY, bytes(range(256)) * 2),
        frame(Opcode.BINARY),
        frame(Opcode.TEXT),
        frame(Opcode.BINARY, b"a", fin=False),
        frame(Opcode.CONTINUATION),
        frame(Opcode.BINARY, b"x" * 70000),
        close(1001, b"bye"),
        b"what comes after a close frame does not count",
    )
)
EVENTS: list[WebSocketEvent] = [
    "h\u00e9llo \u20ac \U0001f600",
    Ping(b"p"),
    Pong(b""),
    "\u20ac!",
    bytes(range(256)) * 2,
    b"",
    "",
    b"a",
    b"x" * 70000,
    Close(1001, "bye"),
]


def test_frames_become_messages_and_control_events() -> None:
    reader = Reader(MOST)
    assert read(reader, EVERYTHING) == EVENTS
    assert reader.count_unread() == 0


def test_octets_that_come_one_by_one_give_the_same_events() -> None:
    head = EVERYTHING[:800]
    assert read(Reader(MOST), *(head[at : at + 1] for at in range(len(head)))) == read(Reader(MOST), head)


@given(places=st.lists(st.integers(0, len(EVERYTHING) - 50), max_size=12).map(sorted))
def test_any_split_gives_the_same_events(places: list[int]) -> None:
    ends: Iterable[int] = (*places, len(EVERYTHING))
    begins = (0, *places)
    assert read(Reader(MOST), *(EVERYTHING[a:b] for a, b in zip(begins, ends, strict=True))) == EVENTS


@pytest.mark.parametrize(
    "data",
    [text("x"), frame(Opcode.PING), frame(Opcode.BINARY, b"x", fin=False), text("x") + frame(Opcode.PING)[:3]],
    ids=["a message", "a ping", "a fragment", "a message and the beginning of another frame"],
)
def test_what_was_read_is_not_kept(data: bytes) -> None:
    reader = Reader(MOST)
    before = sys.getrefcount(data)
    read(reader, data)
    assert sys.getrefcount(data) == before


@pytest.mark.parametrize("opcode", [Opcode.TEXT, Opcode.BINARY], ids=["text", "binary"])
@pytest.mark.parametrize("is_compressed", [True, False], ids=["compressed", "plain"])
@pytest.mark.parametrize("run", [0, 100], ids=["all small", "now and then a larger one"])
def test_a_message_takes_not_much_more_memory_than_its_fragments_have(
    opcode: Opcode, is_compressed: bool, run: int
) -> None:
    small, large = b"\xc3\xa9", b"x" * 300
    contents = ([*[small] * run, large] if run else [small]) * (60_000 // (2 * run + 300 if run else 2))
    squeezer = zlib.compressobj(wbits=-15)

    def payload(content: bytes) -> bytes:
        return squeezer.compress(content) + squeezer.flush(zlib.Z_SYNC_FLUSH) if is_compressed else content

    fragments = [frame(Opcode.CONTINUATION, payload(content), fin=False) for content in contents]
    data = frame(opcode, rsv=RSV1 if is_compressed else 0, fin=False) + b"".join(fragments)
    pieces = [data[at : at + 4096] for at in range(0, len(data), 4096)]
    reader = Reader(MOST, Inflater(Deflating()))
    tracemalloc.start()
    try:
        assert read(reader, *pieces) == []
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 200_000
    content = b"".join(contents)
    assert read(reader, frame(Opcode.CONTINUATION)) == [content.decode() if opcode == Opcode.TEXT else content]


def test_messages_that_are_dropped_are_not_looked_at_and_control_frames_are_read_on() -> None:
    reader = Reader(100, Inflater(Deflating()))
    assert read(reader, frame(Opcode.TEXT, b"begun", fin=False)) == []
    reader.drop_messages()
    data = b"".join(
        (
            frame(Opcode.CONTINUATION, b"\xff" * 90, fin=False),
            frame(Opcode.PING, b"p"),
            frame(Opcode.CONTINUATION, b"\xff" * 90),
            frame(Opcode.BINARY, b"no deflate data", rsv=RSV1),
            close(1000),
        )
    )
    assert read(reader, *(data[at : at + 7] for at in range(0, len(data), 7))) == [Ping(b"p"), Close(1000, "")]


def test_the_framing_of_messages_that_are_dropped_is_judged() -> None:
    reader = Reader(100)
    reader.drop_messages()
    assert read(reader, frame(Opcode.TEXT)) == []
    with pytest.raises(WebSocketViolation) as caught:
        read(reader, frame(Opcode.CONTINUATION))
    assert caught.value.code == 1002


def test_what_is_not_pulled_stays_unread() -> None:
    reader = Reader(MOST)
    reader.receive_data(text("one") + text("two"))
    assert reader.next_event() == "one"
    assert reader.count_unread() == len(text("two"))


@pytest.mark.parametrize(
    ("data", "code"),
    [
        pytest.param(frame(Opcode.TEXT, b"x", masked=False), 1002, id="not masked"),
        pytest.param(frame(Opcode.TEXT, b"x", rsv=0x40), 1002, id="RSV1 without compression"),
        pytest.param(frame(Opcode.TEXT, b"x", rsv=0x20), 1002, id="RSV2"),
        pytest.param(frame(Opcode.PING, rsv=0x10), 1002, id="RSV3"),
        pytest.param(frame(3), 1002, id="opcode 3"),
        pytest.param(frame(7), 1002, id="opcode 7"),
        pytest.param(frame(11), 1002, id="opcode 11"),
        pytest.param(frame(15), 1002, id="opcode 15"),
        pytest.param(frame(Opcode.PING, fin=False), 1002, id="fragmented ping"),
        pytest.param(frame(Opcode.CLOSE, fin=False), 1002, id="fragmented close"),
        pytest.param(frame(Opcode.PING, b"x" * 126), 1002, id="long ping"),
        pytest.param(frame(Opcode.CONTINUATION, b"x"), 1002, id="continuation of nothing"),
        pytest.param(frame(Opcode.TEXT, b"x", fin=False) + frame(Opcode.TEXT, b"x"), 1002, id="message in a message"),
        pytest.param(frame(Opcode.TEXT, b"x", length=b"\x7e\0\x01"), 1002, id="length of 16 bits for 1"),
        pytest.param(frame(Opcode.TEXT, b"x", length=b"\x7f" + b"\0" * 7 + b"\x01"), 1002, id="64 bits for 1"),
        pytest.param(frame(Opcode.BINARY, length=b"\x7f" + b"\xff" * 8), 1002, id="negative length"),
        pytest.param(frame(Opcode.CLOSE, b"\x03"), 1002, id="half a code"),
        *(pytest.param(close(code), 1002, id=f"code {code}") for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 2999)),
        pytest.param(close(5000), 1002, id="code 5000"),
        pytest.param(close(1000, b"\xff"), 1007, id="reason that is not UTF-8"),
        pytest.param(frame(Opcode.TEXT, b"\xff"), 1007, id="not UTF-8"),
        pytest.param(frame(Opcode.TEXT, b"\xed\xa0\x80"), 1007, id="a surrogate"),
        pytest.param(frame(Opcode.TEXT, b"\xe2\x82"), 1007, id="half a character at the end"),
        pytest.param(frame(Opcode.BINARY, length=b"\x7f" + (MOST + 1).to_bytes(8, "big")), 1009, id="too big"),
    ],
)
def test_what_is_wrong_is_named_by_its_code(data: bytes, code: int) -> None:
    assert refusal(data) == code


@pytest.mark.parametrize("code", [1000, 1003, 1007, 1014, 3000, 4999])
def test_a_valid_code_and_reason_are_passed_on(code: int) -> None:
    assert read(Reader(MOST), close(code, "gr\u00fc\u00dfe".encode())) == [Close(code, "gr\u00fc\u00dfe")]


def test_a_close_frame_without_a_code_has_none() -> None:
    assert read(Reader(MOST), close()) == [Close(NO_CODE, "")]


def test_bad_text_is_noticed_within_a_frame_that_is_not_complete() -> None:
    reader = Reader(MOST)
    whole = frame(Opcode.TEXT, b"good \xce\xba\xe1 \xf4\x90" + b"x" * 100)
    with pytest.raises(WebSocketViolation) as caught:
        read(reader, whole[:20])
    assert caught.value.code == 1007


def test_bad_text_is_noticed_before_the_last_fragment() -> None:
    assert refusal(frame(Opcode.TEXT, b"\xe2\x82", fin=False) + frame(Opcode.CONTINUATION, b"x", fin=False)) == 1007


def test_a_message_may_be_as_large_as_the_limit_in_one_frame_or_in_many() -> None:
    whole = frame(Opcode.BINARY, b"x" * 100)
    parts = frame(Opcode.BINARY, b"x" * 60, fin=False) + frame(Opcode.CONTINUATION, b"x" * 40)
    assert read(Reader(100), whole, parts, whole) == [b"x" * 100] * 3


@pytest.mark.parametrize(
    "data",
    [
        frame(Opcode.BINARY, b"x" * 101)[:8],
        frame(Opcode.BINARY, b"x" * 60, fin=False) + frame(Opcode.CONTINUATION, b"x" * 41)[:8],
    ],
    ids=["one frame", "fragments"],
)
def test_a_message_over_the_limit_is_refused_at_the_head_of_its_frame(data: bytes) -> None:
    assert refusal(data, max_bytes=100) == 1009


# Compressed messages.


def test_a_compressed_message_is_inflated_also_in_fragments() -> None:
    content = compressed("h\u00e9llo".encode() * 100)
    middle = len(content) // 2
    pieces = (
        frame(Opcode.TEXT, content, rsv=RSV1),
        frame(Opcode.TEXT, content[:middle], rsv=RSV1, fin=False) + frame(Opcode.PING),
        frame(Opcode.CONTINUATION, content[middle:]),
        text("plain"),
    )
    reader = Reader(MOST, Inflater(Deflating(client_forgets=True)))
    assert read(reader, *pieces) == ["h\u00e9llo" * 100, Ping(b""), "h\u00e9llo" * 100, "plain"]


def test_a_bomb_is_refused_without_being_inflated() -> None:
    bomb = frame(Opcode.BINARY, compressed(bytes(200 << 20)), rsv=RSV1)
    assert len(bomb) < 300_000
    assert refusal(bomb, inflater=Inflater(Deflating())) == 1009


def test_the_limit_is_that_of_the_inflated_message() -> None:
    data = frame(Opcode.BINARY, compressed(b"x" * 1000), rsv=RSV1)
    assert read(Reader(1000, Inflater(Deflating())), data) == [b"x" * 1000]
    assert refusal(data, max_bytes=999, inflater=Inflater(Deflating())) == 1009


EMPTY_BLOCK = b"\0\0\0\xff\xff"


def test_the_compressed_form_of_a_message_has_a_limit_too() -> None:
    most = most_compressed_bytes(1000)
    count = most // len(EMPTY_BLOCK)
    one = frame(Opcode.BINARY, EMPTY_BLOCK * count + b"\0", rsv=RSV1)
    many = frame(Opcode.BINARY, EMPTY_BLOCK, rsv=RSV1, fin=False)
    many += frame(Opcode.CONTINUATION, EMPTY_BLOCK, fin=False) * (count - 1)
    reader = Reader(1000, Inflater(Deflating()))
    assert read(reader, one, many + frame(Opcode.CONTINUATION, b"\0"), one) == [b""] * 3
    for data in (many + frame(Opcode.CONTINUATION, EMPTY_BLOCK), frame(Opcode.BINARY, bytes(most + 1), rsv=RSV1)[:8]):
        assert refusal(data, max_bytes=1000, inflater=Inflater(Deflating())) == 1009


@pytest.mark.parametrize("flush", [zlib.Z_SYNC_FLUSH, zlib.Z_FULL_FLUSH])
def test_the_limit_of_the_compressed_form_has_room_for_a_compressor_that_gains_nothing(flush: int) -> None:
    content = random.Random(1).randbytes(10_000)
    for level in range(10):
        squeezer = zlib.compressobj(level, wbits=-9, memLevel=1, strategy=zlib.Z_FIXED)
        parts = [squeezer.compress(content[at : at + 4]) + squeezer.flush(flush) for at in range(0, len(content), 4)]
        data = frame(Opcode.BINARY, b"".join(parts)[:-4], rsv=RSV1)
        assert read(Reader(len(content), Inflater(Deflating())), data) == [content]


def test_the_limits_may_be_as_large_as_a_length_can_be() -> None:
    assert read(Reader((1 << 63) - 1, Inflater(Deflating())), frame(Opcode.BINARY, compressed(b"x"), rsv=RSV1)) == [
        b"x"
    ]


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (frame(Opcode.TEXT, b"\xff\xff\xff", rsv=RSV1), 1007),
        (frame(Opcode.TEXT, compressed(b"\xff"), rsv=RSV1), 1007),
        (frame(Opcode.PING, rsv=RSV1), 1002),
        (frame(Opcode.TEXT, b"", rsv=RSV1, fin=False) + frame(Opcode.CONTINUATION, rsv=RSV1), 1002),
        (frame(Opcode.TEXT, compressed(b"x"), rsv=RSV1 | 0x20), 1002),
    ],
    ids=["no deflate data", "inflated to bad text", "compressed ping", "compressed continuation", "RSV2 too"],
)
def test_what_is_wrong_with_compression_is_named_by_its_code(data: bytes, code: int) -> None:
    assert refusal(data, inflater=Inflater(Deflating())) == code

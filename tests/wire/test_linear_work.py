"""Hostile requests cost no more work than their size: each of these would take hours if a reader backtracked.

The guard is no measurement. It is there so that a test fails instead of hanging.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from types import FrameType

import pytest

from fastserve.settings import RequestLimits
from fastserve.wire.events import BodyData

from .peer import Ending, cut_everywhere, new_wire, read, read_pieces

GUARD_CPU_S = 5.0  # of which a linear reader needs a hundredth
HEAD = b"POST / HTTP/1.1\r\nHost: a\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"


def _give_up(signum: int, frame: FrameType | None) -> None:
    raise AssertionError("the work is not linear")


@pytest.fixture(autouse=True)
def _guard() -> Iterator[None]:
    """Interrupt a test that would not come to an end."""
    before = signal.signal(signal.SIGVTALRM, _give_up)
    signal.setitimer(signal.ITIMER_VIRTUAL, GUARD_CPU_S)
    yield
    signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    signal.signal(signal.SIGVTALRM, before)


@pytest.mark.parametrize(
    ("data", "status"),
    [
        pytest.param(HEAD + b"Transfer-Encoding: %b(\r\n\r\n" % (b"a; ," * 10_000), 400, id="codings with parameters"),
        pytest.param(HEAD + b"Transfer-Encoding: %b(\r\n\r\n" % (b"a \t ," * 10_000), 400, id="codings with spaces"),
        pytest.param(
            HEAD + b"Transfer-Encoding: a;%b\x22,(\r\n\r\n" % (b" " * 60_000), 400, id="spaces in a parameter"
        ),
        pytest.param(HEAD + b"Transfer-Encoding: %b(\r\n\r\n" % (b"a" * 60_000), 400, id="long coding"),
        pytest.param(HEAD + b"Content-Length: %bx\r\n\r\n" % (b"1" * 60_000), 400, id="long length"),
        pytest.param(HEAD + b"Expect: %b\r\n\r\n" % (b"100-continue," * 4000), 417, id="expectations"),
        pytest.param(HEAD + b"X%b: a\r\n\r\n" % (b" " * 60_000), 400, id="spaces before the colon"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: %b@\r\n\r\n" % (b"a" * 60_000), 400, id="long host"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: %b%%\r\n\r\n" % (b"%41" * 20_000), 400, id="escapes in a host"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: [%b\r\n\r\n" % (b":" * 60_000), 400, id="colons in a host"),
        pytest.param(b"GET http://%b@/ HTTP/1.1\r\n" % (b"a" * 16_000), 400, id="long authority"),
        pytest.param(b"GET %b HTTP/1.1\r\n" % (b"http:/" * 2600), 400, id="schemes"),
        pytest.param(b"%b( / HTTP/1.1\r\n" % (b"a" * 16_000), 400, id="long method"),
        pytest.param(b"GET / HTTP/%b\r\n" % (b"1." * 8000), 400, id="long version"),
        pytest.param(b"GET %b HTTP/1.1\r\n" % (b" " * 16_000), 400, id="spaces in the line"),
        pytest.param(CHUNKED + b"1%b(\r\n" % (b";a" * 8000), 400, id="chunk extensions"),
        pytest.param(CHUNKED + b"1%b(\r\n" % (b";a=b" * 4000), 400, id="chunk extensions with values"),
        pytest.param(CHUNKED + b'1%b"\r\n' % (b';a="b"' * 2700), 400, id="chunk extensions with strings"),
        pytest.param(CHUNKED + b'1;a="%b\r\n' % (b'\\"' * 8000), 400, id="escapes in a chunk extension"),
    ],
)
def test_a_hostile_request_is_refused(data: bytes, status: int, parser: str) -> None:
    assert read(parser, data).ending == status


def test_many_connection_options_are_read(parser: str) -> None:
    transcript = read(parser, HEAD + b"Connection: %bclose\r\n\r\n" % (b"x ,\t" * 15_000))
    assert transcript.ending is Ending.LAST


@pytest.mark.parametrize("piece_bytes", [None, 5, 65536])
def test_a_body_of_100_000_small_chunks_is_read(piece_bytes: int | None, parser: str) -> None:
    """CVE-2025-69229 in aiohttp."""
    wire = new_wire(parser)
    data = CHUNKED + b"1\r\nx\r\n" * 100_000 + b"0\r\n\r\n"
    step = piece_bytes or len(data)
    size = 0
    for start in range(0, len(data), step):
        wire.receive_data(data[start : start + step])
        while event := wire.next_event():
            size += len(event.data) if isinstance(event, BodyData) else 0
    assert wire.is_complete
    assert size == 100_000


def test_100_000_pipelined_requests_are_read(parser: str) -> None:
    wire = new_wire(parser)
    wire.receive_data(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 100_000)
    count = 0
    while wire.next_event():
        count += 1
        wire.start_next_message()
    assert count == 100_000


@pytest.mark.parametrize(
    "start",
    [
        pytest.param(b"1" + b";a" * 30_000, id="chunk extensions"),
        pytest.param(b'1;a="%b' % (b"x" * 60_000), id="string in a chunk extension"),
        pytest.param(b"0\r\n" + b"X: y\r\n" * 10_000, id="trailers"),
    ],
)
def test_what_arrives_byte_by_byte_is_not_read_again_with_each_byte(start: bytes) -> None:
    limits = RequestLimits(trailer_bytes=64 * 1024, fields=20_000)
    transcript = read_pieces("httptools", [CHUNKED, *cut_everywhere(start)], limits=limits)
    assert transcript.ending is Ending.INCOMPLETE

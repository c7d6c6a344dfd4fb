"""The limits of a request with the default settings: met exactly, and counted across reads."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fastserve.settings import RequestLimits

from .peer import Ending, cut, cut_everywhere, read_pieces

KIB = 1024
LIMITS = RequestLimits()
HOST = b"Host: a\r\n"
GET = b"GET / HTTP/1.1\r\n" + HOST
CHUNKED = b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n"


def _in_kilobytes(data: bytes) -> list[bytes]:
    return cut(data, range(1000, len(data), 1000))


def _last_bytes_one_by_one(data: bytes) -> list[bytes]:
    return cut(data, range(len(data) - 8, len(data)))


@pytest.fixture(
    params=[
        pytest.param(lambda data: [data], id="whole"),
        pytest.param(_in_kilobytes, id="in kilobytes"),
        pytest.param(_last_bytes_one_by_one, id="last bytes one by one"),
    ]
)
def pieces(request: pytest.FixtureRequest) -> Callable[[bytes], list[bytes]]:
    """A way to cut data into pieces."""
    way: Callable[[bytes], list[bytes]] = request.param
    return way


def _line(length: int) -> bytes:
    """Return a request with a request line of this length."""
    return b"GET /%b HTTP/1.1\r\n" % (b"x" * (length - len(b"GET / HTTP/1.1"))) + HOST + b"\r\n"


def _section(length: int) -> bytes:
    """Return a request with a field section of this length, its empty line included."""
    frame = HOST + b"X: \r\n\r\n"
    return b"GET / HTTP/1.1\r\n" + HOST + b"X: %b\r\n\r\n" % (b"x" * (length - len(frame)))


def _section_of_lines(length: int) -> bytes:
    """Return the same, of several lines."""
    line = b"X: %b\r\n" % (b"x" * 995)
    lines = line * ((length - 100) // len(line))
    rest = length - len(HOST) - len(lines) - len(b"X: \r\n\r\n")
    return b"GET / HTTP/1.1\r\n" + HOST + lines + b"X: %b\r\n\r\n" % (b"x" * rest)


def _fields(count: int) -> bytes:
    """Return a request with this many fields."""
    return GET + b"".join(b"X-%d: a\r\n" % number for number in range(count - 1)) + b"\r\n"


def _trailers(length: int) -> bytes:
    """Return a request with a trailer section of this length, its empty line included."""
    return CHUNKED + b"0\r\nX: %b\r\n\r\n" % (b"x" * (length - len(b"X: \r\n\r\n")))


def _trailer_fields(count: int) -> bytes:
    """Return a request with this many trailers."""
    return CHUNKED + b"0\r\n" + b"".join(b"X-%d: a\r\n" % number for number in range(count)) + b"\r\n"


def _one_extension(length: int) -> bytes:
    """Return a request with chunk extensions of this length, in one line."""
    return CHUNKED + b"1;%b\r\nx\r\n0\r\n\r\n" % (b"a" * (length - 1))


def _many_extensions(length: int) -> bytes:
    """Return the same, in many lines."""
    full, rest = divmod(length, 64)
    chunks = b"1;%b\r\nx\r\n" % (b"a" * 63) * full
    return CHUNKED + chunks + b"0%b\r\n\r\n" % (b";" + b"a" * (rest - 1) if rest else b"")


EXACT = [
    pytest.param(_line, 16 * KIB, 414, id="request line"),
    pytest.param(_section, 64 * KIB, 431, id="field section of one large field"),
    pytest.param(_section_of_lines, 64 * KIB, 431, id="field section of many fields"),
    pytest.param(_fields, 128, 431, id="number of fields"),
    pytest.param(_trailers, 16 * KIB, 431, id="trailer section"),
    pytest.param(_trailer_fields, 128, 431, id="number of trailers"),
    pytest.param(_one_extension, 16 * KIB, 400, id="one chunk extension"),
    pytest.param(_many_extensions, 16 * KIB, 400, id="chunk extensions of all chunks"),
]


@pytest.mark.parametrize(("build", "limit", "status"), EXACT)
def test_a_request_may_be_as_large_as_the_limit_and_not_larger(
    build: Callable[[int], bytes], limit: int, status: int, parser: str, pieces: Callable[[bytes], list[bytes]]
) -> None:
    for size in (limit - 1, limit):
        assert read_pieces(parser, pieces(build(size))).ending is Ending.IDLE, size
    assert read_pieces(parser, pieces(build(limit + 1))).ending == status


@pytest.mark.parametrize(
    ("start", "more", "status"),
    [
        pytest.param(b"GET /", b"x" * 100, 414, id="request line"),
        pytest.param(GET + b"X: ", b"x" * 100, 431, id="field"),
        pytest.param(GET, b"X: y\r\n", 431, id="fields"),
        pytest.param(GET, b"X: %b\r\n" % (b"y" * 5000), 431, id="large fields"),
        pytest.param(GET, b"no colon\r\n", 431, id="lines that are no fields"),
        pytest.param(CHUNKED + b"0\r\nX: ", b"x" * 100, 431, id="trailer"),
        pytest.param(CHUNKED + b"0\r\n", b"X: y\r\n", 431, id="trailers"),
        pytest.param(CHUNKED + b"1;", b"x" * 100, 400, id="chunk extension"),
        pytest.param(CHUNKED, b"1;xxxxxxxxxxxxxxxxxxxx\r\ny\r\n", 400, id="chunk extensions"),
        pytest.param(CHUNKED, b"0" * 100, 400, id="digits of a chunk size"),
        pytest.param(CHUNKED + b"1\r\nx\r\n", b"z" * 100, 400, id="garbage for a chunk size"),
    ],
)
def test_a_request_that_never_ends_is_refused_within_its_limit(
    start: bytes, more: bytes, status: int, parser: str
) -> None:
    times = 2 * max(LIMITS.line_bytes, LIMITS.head_bytes, LIMITS.trailer_bytes) // len(more)
    assert read_pieces(parser, [start, *[more] * times]).ending == status


def test_smaller_limits_count_byte_by_byte(parser: str) -> None:
    limits = RequestLimits(line_bytes=64, head_bytes=64, fields=3, trailer_bytes=20)
    for data, outcome in [
        (_line(64), Ending.IDLE),
        (_line(65), 414),
        (_section(64), Ending.IDLE),
        (_section(65), 431),
        (_fields(3), Ending.IDLE),
        (_fields(4), 431),
        (_trailers(20), Ending.IDLE),
        (_trailers(21), 431),
        (_one_extension(20), Ending.IDLE),
        (_one_extension(21), 400),
    ]:
        assert read_pieces(parser, cut_everywhere(data), limits=limits).ending == outcome
        assert read_pieces(parser, [data], limits=limits).ending == outcome


def test_a_line_of_8000_bytes_and_fields_of_8_kilobytes_are_served(parser: str) -> None:
    line = b"GET /%b HTTP/1.1\r\n" % (b"x" * 7986)
    data = line + HOST + b"Cookie: %b\r\n" % (b"y" * 8 * KIB) * 7 + b"\r\n"
    assert read_pieces(parser, [data]).ending is Ending.IDLE


def _with_length(size: int) -> bytes:
    return GET.replace(b"GET", b"PUT") + b"Content-Length: %d\r\n\r\n%b" % (size, b"x" * size)


def _with_chunks(size: int) -> bytes:
    chunks = b"1000\r\n%b\r\n" % (b"x" * 0x1000) * (size // 0x1000)
    return CHUNKED + chunks + b"%x\r\n%b\r\n0\r\n\r\n" % (size % 0x1000, b"x" * (size % 0x1000))


@pytest.mark.parametrize("build", [_with_length, _with_chunks])
def test_a_body_may_be_as_large_as_the_limit_and_not_larger(
    build: Callable[[int], bytes], parser: str, pieces: Callable[[bytes], list[bytes]]
) -> None:
    limits = RequestLimits(body_bytes=100_000)
    assert read_pieces(parser, pieces(build(100_000)), limits=limits).ending is Ending.IDLE
    assert read_pieces(parser, pieces(build(100_001)), limits=limits).ending == 413


def test_a_body_that_is_announced_too_large_is_refused_before_it_comes(parser: str) -> None:
    limits = RequestLimits(body_bytes=10)
    with_length = GET + b"Content-Length: 11\r\n\r\n"
    transcript = read_pieces(parser, [with_length], limits=limits)
    assert transcript.ending == 413
    assert transcript.messages == ()  # an application is not called for it
    assert read_pieces(parser, [CHUNKED + b"b\r\n"], limits=limits).ending == 413

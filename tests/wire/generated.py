"""Requests that Hypothesis makes: valid ones together with what must be read from them, and broken ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from hypothesis import strategies as st

from fastserve.wire.events import Field, RequestHead

from .peer import Message

Draw: TypeAlias = "st.DrawFn"

_TOKEN = "!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_TARGET = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) not in "#?")
_VALUE = "".join(map(chr, [*range(0x21, 0x7F), *range(0x80, 0x100)]))
_WITH_MEANING = {b"host", b"content-length", b"transfer-encoding", b"connection", b"expect"}


def _text(alphabet: str, *, least: int = 0, most: int = 12) -> st.SearchStrategy[bytes]:
    return st.text(alphabet, min_size=least, max_size=most).map(lambda text: text.encode("latin-1"))


_tokens = _text(_TOKEN, least=1)
_methods = st.sampled_from(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"]) | _tokens.map(
    lambda token: token.decode().replace("CONNECT", "CONNECTED")
)
_hosts = st.sampled_from([b"example.com", b"example.com:8000", b"127.0.0.1", b"[2001:db8::1]:80", b"a_b-c.d", b"%41"])
_white_space = st.text(" \t", max_size=3).map(str.encode)
_values = st.lists(_text(_VALUE, least=1), max_size=3).map(b" \t ".join)
_bodies = st.binary(max_size=60)


@dataclass(frozen=True, slots=True)
class Sent:
    """The bytes of a request, and the message that they are."""

    data: bytes
    message: Message


@st.composite
def _field_lines(draw: Draw, own: Sequence[Field]) -> tuple[bytes, list[Field]]:
    """A field section with these fields in it, and the fields as they must be read."""
    others = draw(st.lists(st.tuples(_tokens, _values), max_size=4))
    fields = draw(st.permutations([*own, *(each for each in others if each[0].lower() not in _WITH_MEANING)]))
    lines = [b"%b:%b%b%b\r\n" % (name, draw(_white_space), value, draw(_white_space)) for name, value in fields]
    return b"".join(lines) + b"\r\n", [(name.lower(), value) for name, value in fields]


@st.composite
def _targets(draw: Draw) -> tuple[bytes, bytes | None, bytes, bytes]:
    """A target, and its authority, path and query."""
    path = b"/" + draw(_text(_TARGET))
    query = draw(_text(_TARGET + "?"))
    target = path + b"?" + query if query or draw(st.booleans()) else path
    if draw(st.integers(0, 7)):
        return target, None, path, query
    authority = draw(_hosts)
    return draw(st.sampled_from([b"http://", b"HTTPS://"])) + authority + target, authority, path, query


@st.composite
def _chunked(draw: Draw) -> tuple[bytes, bytes]:
    """A body in chunks, and what it is."""
    data = body = b""
    extensions = st.sampled_from([b"", b";a", b";a=b", b';a="b;\\"\xff"', b";a;b=c"])
    for chunk in draw(st.lists(_bodies.filter(bool), max_size=4)):
        size = draw(st.sampled_from([b"%x", b"%X", b"%05x"])) % len(chunk)
        data += b"%b%b\r\n%b\r\n" % (size, draw(extensions), chunk)
        body += chunk
    trailers = draw(st.sampled_from([b"", b"Checksum: abc\r\n", b"A:\r\nA: \xff\r\n"]))
    return data + draw(st.sampled_from([b"0", b"000"])) + draw(extensions) + b"\r\n" + trailers + b"\r\n", body


@st.composite
def requests(draw: Draw, *, may_close: bool = True) -> Sent:
    """A valid request."""
    method = draw(_methods)
    target, authority, path, query = draw(_targets())
    version = draw(st.sampled_from(["1.1", "1.1", "1.1", "1.0"]))
    framing = draw(st.sampled_from(["none", "length", "chunked"] if version == "1.1" else ["none", "length"]))
    keep_alive = not (may_close and draw(st.booleans()))
    own = [(b"Host", draw(_hosts))]
    if not keep_alive:
        own.append((b"Connection", b"close"))
    elif version == "1.0":
        own.append((b"connection", b"Keep-Alive"))
    encoded = body = b""
    length: int | None = 0
    if framing == "length":
        encoded = body = draw(_bodies)
        length = len(body)
        own.append((b"content-length", b"%d" % length))
    elif framing == "chunked":
        encoded, body = draw(_chunked())
        length = None
        own.append((b"Transfer-Encoding", b"chunked"))
    expects = draw(st.integers(0, 5)) == 0
    if expects:
        own.append((b"Expect", b"100-continue"))
    section, fields = draw(_field_lines(own))
    if authority is not None:
        fields = [(b"host", authority), *(field for field in fields if field[0] != b"host")]
    waits = expects and version == "1.1" and length != 0
    head = RequestHead(method, path, query, version, authority, fields, length, keep_alive, waits)
    line = b"%b %b HTTP/%b\r\n" % (method.encode(), target, version.encode())
    return Sent(line + section + encoded, Message(head, body))


@st.composite
def conversations(draw: Draw) -> tuple[bytes, tuple[Message, ...]]:
    """Valid requests, one behind the other, of which only the last may close; and the messages that they are.

    Some come more than once, as they do from most clients.
    """
    pool = draw(st.lists(requests(may_close=False), min_size=1, max_size=3))
    sent = [*draw(st.lists(st.sampled_from(pool), max_size=4)), draw(requests())]
    return b"".join(each.data for each in sent), tuple(each.message for each in sent)


cuts = st.lists(st.integers(0, 600), max_size=12)
"""Places to cut the bytes at."""

_FRAGMENTS = [
    *(bytes([octet]) for octet in b'\r\n\t\0\x0b\x7f\x80\xff :;,="()[]@#?*+-_05aFx/.'),
    b"\r\n",
    b"\r\n\r\n",
    b"\r\n ",
    b"0\r\n\r\n",
    b"HTTP/1.1",
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"Host: a\r\n",
    b"Connection: close\r\n",
    b"Connection: Upgrade\r\nUpgrade: x\r\n",
    b"Content-Length: 5\r\n",
    b"Transfer-Encoding: chunked\r\n",
]
_Edit: TypeAlias = Callable[[bytes], bytes]
_places = st.integers(0, 600)


def _replacing(place: int, octet: int) -> _Edit:
    return lambda data: data[: place % len(data)] + bytes([octet]) + data[place % len(data) + 1 :] if data else data


def _deleting(place: int, count: int) -> _Edit:
    return lambda data: data[: place % len(data)] + data[place % len(data) + count :] if data else data


def _inserting(place: int, fragment: bytes) -> _Edit:
    return lambda data: data[: place % (len(data) + 1)] + fragment + data[place % (len(data) + 1) :]


_edits = (
    st.builds(_replacing, _places, st.integers(0, 255))
    | st.builds(_deleting, _places, st.integers(1, 5))
    | st.builds(_inserting, _places, st.sampled_from(_FRAGMENTS))
)


@st.composite
def broken(draw: Draw, valid: st.SearchStrategy[bytes]) -> bytes:
    """Bytes that were valid before one to four edits. By chance they still are."""
    data = draw(valid)
    for edit in draw(st.lists(_edits, min_size=1, max_size=4)):
        data = edit(data)
    return data


def _mostly(usual: list[bytes], odd: list[bytes]) -> st.SearchStrategy[bytes]:
    """One of the usual, and once in a while one of the others."""
    return st.sampled_from([*(usual * (12 * len(odd) // len(usual) + 1)), *odd])


_line_ends = _mostly([b"\r\n"], [b"\n", b"\r", b"\r\r\n", b"\r\n ", b"\n\r", b""])
_line_parts = (
    _mostly(
        [b"GET", b"POST", b"PUT", b"HEAD", b"OPTIONS", b"PROPFIND"],
        [b"get", b"CONNECT", b"", b"G\0T", b"G,T", b"\xc7ET", b"\r\nGET", b"\nGET", b" GET", b"PRI", b"GET" * 90],
    ),
    _mostly([b" "], [b"  ", b"\t", b"", b"\x0b", b" \t"]),
    _mostly(
        [b"/", b"/a/b%20c", b"/?q", b"/p?a=b&c=d", b"//x", b"/?"],
        [
            b"*",
            b"a:80",
            b"http://h/p",
            b"",
            b"/#f",
            b"/a b",
            b"/\xff",
            b"/\0",
            b"/\x7f",
            b"/?\t",
            b"?",
            b"/" + b"x" * 300,
        ],
    ),
    _mostly([b" "], [b"  ", b"\t", b"", b"\x0b"]),
    _mostly(
        [b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.0"],
        [b"HTTP/1.2", b"HTTP/2.0", b"HTTP/0.9", b"http/1.1", b"HTTP/1.1 ", b"HTTP/1", b"HTTP/11", b"HTTP/1.10", b""],
    ),
)
_plain_lines = _mostly(
    [b"Host: a", b"Accept: */*", b"X-A: b", b"Cookie: a=b; c", b"accept-ENCODING:gzip \t", b"E:", b"L: \xe9"],
    [
        b"Host: b",
        b"Host:",
        b"Host: a b",
        b"Host: [::1",
        b"A",
        b": a",
        b"A : b",
        b" A: b",
        b"A\0: b",
        b"A: \0",
        b"\xe9: a",
    ],
)
_meant_lines = _mostly(
    [
        b"Content-Length: 3",
        b"Transfer-Encoding: chunked",
        b"Connection: close",
        b"Connection: Keep-Alive",
        b"Content-Length: 0",
    ],
    [
        b"Content-Length: +3",
        b"Content-Length: 3, 3",
        b"Content-Length: 03",
        b"Content-Length:",
        b"Content-Length: " + b"9" * 16,
        b"Content-Length: " + b"9" * 25,
        b"Content-Length\t: 3",
        b"Content-Length: 3\t",
        b"Transfer-Encoding: Chunked",
        b"Transfer-Encoding: chunked\t",
        b"Transfer-Encoding: gzip, chunked",
        b"Transfer-Encoding: identity",
        b"Transfer-Encoding:",
        b"Transfer-Encoding: \x0bchunked",
        b"Transfer_Encoding: chunked",
        b"Connection: close, keep-alive",
        b"Connection: Upgrade",
        b"Connection:",
        b"Upgrade: websocket",
        b"Expect: 100-continue",
        b"Expect: 200",
        b"Proxy-Connection: close",
    ],
)
_body_starts = st.sampled_from([b"", b"", b"abc", b"abcGET / HTTP/1.1\r\nHost: a\r\n\r\n", b"3\r\nabc\r\n0\r\n\r\n"])


@st.composite
def assembled(draw: Draw) -> bytes:
    """Heads made of parts that are mostly right, with what may be a body behind them: each mistake stands alone.

    Unlike edits, this finds places that a change of single octets hardly reaches: one framing field too many, the same
    one twice, a value that one reader trims and another does not.
    """
    data = b""
    for _ in range(draw(st.integers(1, 3))):
        lines = [b"".join(map(draw, _line_parts))]
        if draw(st.integers(0, 9)):
            lines.append(b"Host: example.com")
        lines += draw(st.lists(_plain_lines, max_size=4))
        lines += draw(st.lists(_meant_lines, max_size=2))
        data += b"".join(line + draw(_line_ends) for line in lines) + draw(_line_ends) + draw(_body_starts)
    return data

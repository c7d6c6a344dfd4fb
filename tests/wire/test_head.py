"""The head reader takes what ordinary clients send, and whatever it takes is read as the libraries read it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings, target
from hypothesis import strategies as st

from fastserve.settings import RequestLimits

from .corpus import all_octets
from .generated import assembled, broken, conversations, cuts
from .heads import all_cuts, check, taken
from .peer import cut

_corpus = all_octets()
_octets = st.sampled_from(list(_corpus.values()))
_of_conversations = conversations().map(lambda conversation: conversation[0])
_narrow = st.builds(
    RequestLimits, line_bytes=st.integers(64, 400), head_bytes=st.integers(64, 200), fields=st.integers(1, 6)
)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"GET / HTTP/1.1\r\nHost: 127.0.0.1:8000\r\n\r\n", id="wrk"),
        pytest.param(
            b"GET /a?b=c HTTP/1.1\r\nHost: example.com\r\nUser-Agent: curl/8\r\nAccept: */*\r\n\r\n", id="curl"
        ),
        pytest.param(
            b"POST /items HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\nConnection: keep-alive\r\n"
            b"Content-Length: 2\r\nContent-Type: application/json\r\n\r\n{}",
            id="httpx",
        ),
        pytest.param(
            b"PUT /file HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n", id="upload"
        ),
        pytest.param(b"HEAD / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", id="health check"),
        pytest.param(b"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\nHost: a\r\n\r\n", id="ab"),
        pytest.param(
            b"GET / HTTP/1.1\r\nHost: a\r\nCookie: a=b; c=d\r\nX-Forwarded-For: ::1\r\nA:\r\nB:\t \xe9\r\n\r\n",
            id="proxy",
        ),
    ],
)
def test_the_reader_takes_what_ordinary_clients_send(data: bytes) -> None:
    assert check(data + data, cuts=all_cuts(data + data)) in (1, 2)  # One when the first one closes.


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_the_reader_takes_all_common_methods(method: str) -> None:
    [head] = taken(b"%b / HTTP/1.1\r\nHost: a\r\n\r\n" % method.encode())
    assert head.message.head.method == method


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param([b"Host: a", b"Host: a"], id="two Hosts"),
        pytest.param([b"Host: a b"], id="no host"),
        pytest.param([b"Content-Length: 0"], id="Host missing"),
        pytest.param([b"Host: a", b"Content-Length: 0", b"content-length: 0"], id="two lengths"),
        pytest.param([b"Host: a", b"Content-Length: 0, 0"], id="a list of lengths"),
        pytest.param([b"Host: a", b"Content-Length: +0"], id="a length with a sign"),
        pytest.param([b"Host: a", b"Transfer-Encoding: chunked", b"TRANSFER-ENCODING: chunked"], id="two codings"),
        pytest.param([b"Host: a", b"Transfer-Encoding: chunked, chunked"], id="chunked twice"),
        pytest.param([b"Host: a", b"Transfer-Encoding: gzip, chunked"], id="another coding"),
        pytest.param([b"Host: a", b"Transfer-Encoding: chunked", b"Content-Length: 0"], id="coding and length"),
        pytest.param([b"Host: a", b"Expect: 200-ok"], id="an expectation"),
        pytest.param([b"Host: a", b" b: c"], id="folded"),
    ],
)
def test_the_reader_leaves_what_needs_judgement_to_the_library(lines: list[bytes]) -> None:
    data = b"POST / HTTP/1.1\r\n" + b"".join(line + b"\r\n" for line in lines) + b"\r\n0\r\n\r\n"
    assert check(data, cuts=all_cuts(data)) == 0


@pytest.mark.parametrize("data", [pytest.param(data, id=name) for name, data in _corpus.items()])
def test_the_reader_is_right_about_the_corpus_however_it_is_cut(data: bytes) -> None:
    check(data, cuts=all_cuts(data))


@pytest.mark.parametrize("spare", [-1, 0, 1])
def test_the_reader_keeps_to_the_limits_to_the_byte(spare: int) -> None:
    line = b"GET /%b?b HTTP/1.1" % (b"a" * 60)
    fields = b"Host: a\r\nA: %b\r\nC:\r\n\r\n" % (b"a" * 60)
    data = line + b"\r\n" + fields
    for limits in (
        RequestLimits(line_bytes=len(line) + spare),
        RequestLimits(head_bytes=len(fields) + spare),
        RequestLimits(fields=3 + spare),
    ):
        assert check(data, limits, cuts=all_cuts(data)) == (spare >= 0)


@settings(max_examples=200, deadline=None)
@given(_of_conversations, cuts)
def test_the_reader_is_right_about_valid_requests(data: bytes, places: list[int]) -> None:
    check(data, cuts=[cut(data, places)])


@settings(max_examples=800, deadline=None)
@given(assembled(), cuts)
def test_the_reader_is_right_about_heads_with_mistakes(data: bytes, places: list[int]) -> None:
    target(float(check(data, cuts=[cut(data, places)])))


@settings(max_examples=150, deadline=None)
@given(assembled())
def test_the_reader_is_right_about_heads_with_mistakes_in_any_two_pieces(data: bytes) -> None:
    check(data, cuts=all_cuts(data))


@settings(max_examples=500, deadline=None)
@given(broken(_octets | _of_conversations), cuts)
def test_the_reader_is_right_about_what_edits_make_of_requests(data: bytes, places: list[int]) -> None:
    check(data, cuts=[cut(data, places)])


@settings(max_examples=400, deadline=None)
@given(assembled() | _of_conversations, _narrow, cuts)
def test_the_reader_is_right_whatever_the_limits(data: bytes, limits: RequestLimits, places: list[int]) -> None:
    check(data, limits, cuts=[cut(data, places)])


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=120), st.sampled_from([b"", b"GET / HTTP/1.1\r\n", b"GET / HTTP/1.1\r\nHost: a\r\n"]))
def test_the_reader_is_right_about_random_bytes(noise: bytes, before: bytes) -> None:
    check(before + noise + b"\r\n\r\n")


def test_whether_the_reader_took_a_head_is_told_apart() -> None:
    plain = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    other = b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\na"
    assert [each.octets for each in taken(plain + other + plain)] == [plain, plain]
    assert taken(other) == []

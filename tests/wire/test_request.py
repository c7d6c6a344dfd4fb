"""Request lines: methods, versions, and what the forms of a target mean."""

from __future__ import annotations

import pytest

from fastserve.errors import ProtocolViolation
from fastserve.wire.events import RequestHead
from fastserve.wire.http1.request import parse_request_line


def _refusal_of_line(line: bytes) -> int:
    with pytest.raises(ProtocolViolation) as caught:
        parse_request_line(line)
    assert caught.value.reason
    return caught.value.status


def test_a_request_line_becomes_a_head_without_fields() -> None:
    head = parse_request_line(b"GET /a/b?c=d HTTP/1.1")
    assert head == RequestHead("GET", b"/a/b", b"c=d", "1.1", None, [], 0, True, False)


@pytest.mark.parametrize(
    "method",
    ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "get", "M-SEARCH", "!#$%&'*+-.^_`|~0"],
)
def test_any_token_is_a_method_and_keeps_its_case(method: str) -> None:
    assert parse_request_line(method.encode() + b" / HTTP/1.1").method == method


def test_an_octet_that_is_in_no_token_is_in_no_method() -> None:
    token = b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
    for octet in set(range(256)) - set(token):
        assert _refusal_of_line(b"G%cT / HTTP/1.1" % octet) == 400


@pytest.mark.parametrize(
    ("version", "served_as"),
    [(b"HTTP/1.0", "1.0"), (b"HTTP/1.1", "1.1"), (b"HTTP/1.2", "1.1"), (b"HTTP/1.9", "1.1")],
)
def test_versions_of_http_1_are_served(version: bytes, served_as: str) -> None:
    assert parse_request_line(b"GET / " + version).http_version == served_as


@pytest.mark.parametrize("version", [b"HTTP/0.9", b"HTTP/2.0", b"HTTP/2.1", b"HTTP/3.0", b"HTTP/9.9", b"HTTP/0.0"])
def test_other_versions_are_not_supported(version: bytes) -> None:
    assert _refusal_of_line(b"GET / " + version) == 505


@pytest.mark.parametrize(
    "version",
    [
        pytest.param(b"HTTP/1", id="no minor version"),
        pytest.param(b"HTTP/1.", id="empty minor version"),
        pytest.param(b"HTTP/.1", id="empty major version"),
        pytest.param(b"HTTP/1.10", id="two digits"),
        pytest.param(b"HTTP/11.1", id="two digits before the dot"),
        pytest.param(b"HTTP/01.1", id="leading zero"),
        pytest.param(b"HTTP/1,1", id="comma"),
        pytest.param(b"HTTP/+1.1", id="sign"),
        pytest.param(b"HTTP/x.1", id="letter"),
        pytest.param(b"HTTP/1.\xb9", id="digit of Latin-1"),
        pytest.param(b"http/1.1", id="lower case"),
        pytest.param(b"HTTPS/1.1", id="another protocol"),
        pytest.param(b"HTTP/1.1\r", id="bare CR behind"),
        pytest.param(b"HTTP/1.1\n", id="bare LF behind"),
        pytest.param(b"HTTP/1.1\t", id="tab behind"),
        pytest.param(b"HTTP/1.1\x00", id="NUL behind"),
        pytest.param(b"", id="empty"),
    ],
)
def test_a_malformed_version_is_refused(version: bytes) -> None:
    assert _refusal_of_line(b"GET / " + version) == 400


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"GET", id="method only"),
        pytest.param(b"GET /", id="no version"),
        pytest.param(b"GET HTTP/1.1", id="no target"),
        pytest.param(b"/ HTTP/1.1", id="no method"),
        pytest.param(b" / HTTP/1.1", id="empty method"),
        pytest.param(b"GET  HTTP/1.1", id="empty target"),
        pytest.param(b"GET  / HTTP/1.1", id="two spaces before the target"),
        pytest.param(b"GET /  HTTP/1.1", id="two spaces behind the target"),
        pytest.param(b" GET / HTTP/1.1", id="space before"),
        pytest.param(b"GET / HTTP/1.1 ", id="space behind"),
        pytest.param(b"GET /a b HTTP/1.1", id="space in the target"),
        pytest.param(b"GET\t/\tHTTP/1.1", id="tabs"),
        pytest.param(b"GET\t/ x HTTP/1.1", id="tab and space"),
    ],
)
def test_a_line_that_is_not_three_parts_with_a_space_between_is_refused(line: bytes) -> None:
    assert _refusal_of_line(line) == 400


# Targets.


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        (b"/", b"/", b""),
        (b"//x", b"//x", b""),
        (b"/?", b"/", b""),
        (b"/a?b?c", b"/a", b"b?c"),
        (b"/%zz%00%ff?%", b"/%zz%00%ff", b"%"),
        (b"/a/../b;c=d", b"/a/../b;c=d", b""),
        (b"/http://other.example/", b"/http://other.example/", b""),
    ],
)
def test_a_target_in_origin_form_is_split_at_the_first_question_mark(target: bytes, path: bytes, query: bytes) -> None:
    head = parse_request_line(b"GET " + target + b" HTTP/1.1")
    assert (head.raw_path, head.query, head.authority) == (path, query, None)


def test_a_target_is_printable_ascii_without_a_fragment() -> None:
    for octet in range(256):
        line = b"GET /%c HTTP/1.1" % octet
        if 0x21 <= octet <= 0x7E and octet not in b"#?":
            assert parse_request_line(line).raw_path == b"/%c" % octet
        elif octet != ord("?"):
            assert _refusal_of_line(line) == 400


@pytest.mark.parametrize(
    ("target", "authority", "path", "query"),
    [
        (b"http://example.com/", b"example.com", b"/", b""),
        (b"http://example.com", b"example.com", b"/", b""),
        (b"http://example.com?q", b"example.com", b"/", b"q"),
        (b"http://example.com/a?b?c", b"example.com", b"/a", b"b?c"),
        (b"HTTPS://Example.com:443//x", b"Example.com:443", b"//x", b""),
        (b"http://[2001:db8::1]:80/a", b"[2001:db8::1]:80", b"/a", b""),
        (b"http://a/http://b/", b"a", b"/http://b/", b""),
        (b"http://a?/http://b/", b"a", b"/", b"/http://b/"),
    ],
)
def test_a_target_in_absolute_form_is_taken_apart(target: bytes, authority: bytes, path: bytes, query: bytes) -> None:
    head = parse_request_line(b"GET " + target + b" HTTP/1.1")
    assert (head.authority, head.raw_path, head.query) == (authority, path, query)


@pytest.mark.parametrize(
    ("target", "path"),
    [(b"*", b"*"), (b"http://a", b"*"), (b"http://a/", b"/"), (b"http://a?q", b"/"), (b"/*", b"/*")],
)
def test_options_may_be_about_the_whole_server(target: bytes, path: bytes) -> None:
    assert parse_request_line(b"OPTIONS " + target + b" HTTP/1.1").raw_path == path


@pytest.mark.parametrize(
    "target",
    [
        pytest.param(b"*", id="asterisk"),
        pytest.param(b"*/", id="asterisk with more"),
        pytest.param(b"index.html", id="relative"),
        pytest.param(b"?q", id="query only"),
        pytest.param(b"example.com:80", id="authority"),
        pytest.param(b"/a#b", id="fragment"),
        pytest.param(b"http://a/#b", id="fragment in absolute form"),
        pytest.param(b"http:/a/", id="one slash"),
        pytest.param(b"http:///a", id="no authority"),
        pytest.param(b"http://", id="nothing behind the scheme"),
        pytest.param(b"http://?q", id="no authority before the query"),
        pytest.param(b"http://:80/", id="empty host (RFC 9110 section 4.2.1)"),
        pytest.param(b"http://user@example.com/", id="user"),
        pytest.param(b"http://user:password@example.com/", id="user and password"),
        pytest.param(b"http://exa\\mple.com/", id="backslash in the host"),
        pytest.param(b"http://example.com:x/", id="port of letters"),
        pytest.param(b"http://[::1/", id="bracket not closed"),
        pytest.param(b"ftp://example.com/", id="ftp"),
        pytest.param(b"ws://example.com/", id="ws"),
        pytest.param(b"xhttp://example.com/", id="scheme that ends in http"),
    ],
)
def test_a_target_in_another_form_is_refused(target: bytes) -> None:
    assert _refusal_of_line(b"GET " + target + b" HTTP/1.1") == 400


def test_an_asterisk_and_more_is_refused_even_for_options() -> None:
    assert _refusal_of_line(b"OPTIONS *? HTTP/1.1") == 400


@pytest.mark.parametrize("target", [b"example.com:443", b"/", b"http://example.com/"])
def test_connect_is_not_implemented(target: bytes) -> None:
    assert _refusal_of_line(b"CONNECT " + target + b" HTTP/1.1") == 501

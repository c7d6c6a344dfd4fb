"""What proxies say about the client."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastserve.asgi.forwarded import ForwardedFields, parse_node
from fastserve.asgi.scope import ScopeBuilder
from fastserve.net.stream import Address, Stream
from fastserve.settings import FORWARDED_FIELDS, ProxySettings
from fastserve.wire.events import Field, RequestHead

PROXY = ("10.0.0.1", 40000)
REAL = ("192.0.2.7", 0)
X_FIELDS = "for,proto,host,port,prefix"


def build(
    *fields: Field,
    peer: Address | None = PROXY,
    trusted: str = "10.0.0.0/8",
    names: str = "for,proto",
    root_path: str = "",
    target: bytes = b"/a%20b",
) -> dict[str, Any]:
    """Return the scope of a request with these fields besides Host."""
    stream = Stream()
    stream.client, stream.server = peer, ("10.0.0.2", 8000)
    forwarded = ForwardedFields(ProxySettings(trusted=trusted, fields=names))
    head = RequestHead("GET", target, b"", "1.1", None, [(b"host", b"inside:8000"), *fields])
    return ScopeBuilder(root_path, forwarded).build(head, stream)


def x_for(text: str) -> Field:
    return (b"x-forwarded-for", text.encode("latin-1"))


def x(name: str, value: str) -> Field:
    return (f"x-forwarded-{name}".encode(), value.encode("latin-1"))


def rfc7239(text: str) -> Field:
    return (b"forwarded", text.encode("latin-1"))


def host_of(scope: dict[str, Any]) -> list[bytes]:
    return [value for name, value in scope["headers"] if name == b"host"]


# Who is trusted.

PEERS = [
    pytest.param(PROXY, "10.0.0.0/8", True, id="network"),
    pytest.param(PROXY, "10.0.0.1", True, id="address"),
    pytest.param(PROXY, "127.0.0.1, 10.0.0.1", True, id="list"),
    pytest.param(PROXY, "10.0.0.2,unix", False, id="another"),
    pytest.param(PROXY, "*", True, id="everyone"),
    pytest.param(PROXY, "", False, id="nobody"),
    pytest.param(("::ffff:10.0.0.1", 1), "10.0.0.1", True, id="IPv4 on an IPv6 socket"),
    pytest.param(("::1", 1), "::1", True, id="IPv6"),
    pytest.param(("2001:db8::0:1", 1), "2001:0db8::/32", True, id="IPv6 network"),
    pytest.param(("fe80::1%eth0", 1), "fe80::/10", True, id="IPv6 with a zone"),
    pytest.param(None, "unix", True, id="Unix socket"),
    pytest.param(("/run/client", None), "unix", True, id="Unix socket with a name"),
    pytest.param(None, "127.0.0.1,::1", False, id="Unix socket that is not trusted"),
    pytest.param(None, "*", True, id="Unix socket among everyone"),
]


@pytest.mark.parametrize(("peer", "trusted", "is_believed"), PEERS)
def test_only_trusted_peers_are_believed(peer: Address | None, trusted: str, is_believed: bool) -> None:
    scope = build(x_for("192.0.2.7"), x("proto", "https"), peer=peer, trusted=trusted)
    assert (scope["client"], scope["scheme"]) == ((REAL, "https") if is_believed else (peer, "http"))


# The chain.

CHAINS = [
    pytest.param("192.0.2.7", REAL, id="one"),
    pytest.param("203.0.113.9, 192.0.2.7", REAL, id="the client has written one itself"),
    pytest.param("192.0.2.7, 10.0.0.9", REAL, id="two proxies"),
    pytest.param("192.0.2.7 ,\t10.0.0.9,10.1.2.3", REAL, id="three proxies"),
    pytest.param("10.0.0.7, 10.0.0.9", ("10.0.0.7", 0), id="the client is trusted too"),
    pytest.param("192.0.2.7:4711", ("192.0.2.7", 4711), id="port"),
    pytest.param("2001:db8::7", ("2001:db8::7", 0), id="IPv6"),
    pytest.param("[2001:db8::7]:4711", ("2001:db8::7", 4711), id="IPv6 with a port"),
    pytest.param("2001:DB8:0::7", ("2001:db8::7", 0), id="IPv6 in another form"),
    pytest.param("192.0.2.7, unknown", PROXY, id="the proxy does not know"),
    pytest.param("192.0.2.7, unknown, 10.0.0.9", ("10.0.0.9", 0), id="the second proxy does not know"),
    pytest.param("", PROXY, id="empty"),
    pytest.param(",", PROXY, id="comma"),
    pytest.param("192.0.2.7,", PROXY, id="comma at the end"),
    pytest.param("192.0.2", PROXY, id="part of an address"),
    pytest.param("192.0.2.007", PROXY, id="octal"),
    pytest.param("192.0.2.7:65536", PROXY, id="port too large"),
    pytest.param("192.0.2.7:", PROXY, id="no port after the colon"),
    pytest.param("[2001:db8::7", PROXY, id="no closing bracket"),
    pytest.param("[192.0.2.7]", PROXY, id="brackets around IPv4"),
    pytest.param("::1%<script>", PROXY, id="zone"),
    pytest.param("192.0.2.7\xb2", PROXY, id="no ASCII"),
    pytest.param("1" * 70000, PROXY, id="long"),
]


@pytest.mark.parametrize(("text", "client"), CHAINS)
def test_x_forwarded_for_is_read_from_its_end_to_the_first_untrusted_address(text: str, client: Address) -> None:
    assert build(x_for(text))["client"] == client


def test_with_everyone_trusted_the_first_address_is_the_client() -> None:
    assert build(x_for("192.0.2.7, 198.51.100.1, 10.0.0.9"), trusted="*")["client"] == REAL


def test_several_lines_are_one_list() -> None:
    assert build(x_for("203.0.113.9"), x_for("192.0.2.7"), x_for("10.0.0.9"))["client"] == REAL


def test_a_chain_without_end_is_not_read_to_its_beginning() -> None:
    assert build(x_for("192.0.2.7," + "10.0.0.9," * 1000 + "10.0.0.9"))["client"] == ("10.0.0.9", 0)


# Schemes.

SCHEMES = [
    pytest.param(["https"], "https", id="https"),
    pytest.param(["HTTPS"], "https", id="capitals"),
    pytest.param(["wss"], "https", id="wss"),
    pytest.param(["ws"], "http", id="ws"),
    pytest.param(["http"], "http", id="http"),
    pytest.param(["https, http"], "http", id="list"),
    pytest.param(["http", "https"], "https", id="lines"),
    pytest.param(["javascript"], "http", id="unknown"),
    pytest.param([""], "http", id="empty"),
    pytest.param(["https,"], "http", id="comma"),
]


@pytest.mark.parametrize(("values", "scheme"), SCHEMES)
def test_the_scheme_is_what_the_nearest_proxy_says(values: list[str], scheme: str) -> None:
    assert build(*(x("proto", value) for value in values))["scheme"] == scheme


# Host, port and prefix, which have to be asked for.


def test_fields_that_are_not_named_are_not_believed() -> None:
    plain = build()
    fields = (x("host", "evil.example"), x("port", "1"), x("prefix", "/evil"), rfc7239("for=192.0.2.7;proto=https"))
    scope = build(*fields)
    scope["headers"] = scope["headers"][:1]
    assert scope == plain


HOSTS = [
    pytest.param(["host: example.org"], b"example.org", ("example.org", 80), id="host"),
    pytest.param(["host: example.org", "proto: https"], b"example.org", ("example.org", 443), id="host over TLS"),
    pytest.param(["host: example.org:444", "proto: https"], b"example.org:444", ("example.org", 444), id="with a port"),
    pytest.param(["host: example.org", "port: 8443"], b"example.org:8443", ("example.org", 8443), id="host and port"),
    pytest.param(["host: example.org:1", "port: 2"], b"example.org:1", ("example.org", 1), id="two ports"),
    pytest.param(["host: evil.example, example.org"], b"example.org", ("example.org", 80), id="list"),
    pytest.param(["host: [2001:db8::1]:81"], b"[2001:db8::1]:81", ("2001:db8::1", 81), id="IPv6"),
    pytest.param(["host: [2001:db8::1]"], b"[2001:db8::1]", ("2001:db8::1", 80), id="IPv6 without a port"),
    pytest.param(["port: 443", "proto: https"], b"inside", ("inside", 443), id="port"),
    pytest.param(["port: 8443"], b"inside:8443", ("inside", 8443), id="unusual port"),
    pytest.param(["host: example.org/evil"], b"inside:8000", ("10.0.0.2", 8000), id="no host"),
    pytest.param(["host: user@example.org"], b"inside:8000", ("10.0.0.2", 8000), id="user"),
    pytest.param(["host: \xe9xample.org"], b"inside:8000", ("10.0.0.2", 8000), id="no ASCII"),
    pytest.param(["host: :80"], b"inside:8000", ("10.0.0.2", 8000), id="no name"),
    pytest.param(["port: 0"], b"inside:8000", ("10.0.0.2", 8000), id="port 0"),
    pytest.param(["port: 65536"], b"inside:8000", ("10.0.0.2", 8000), id="port too large"),
    pytest.param(["port: \xb2"], b"inside:8000", ("10.0.0.2", 8000), id="port that is no number"),
]


@pytest.mark.parametrize(("lines", "host", "server"), HOSTS)
def test_host_and_port_are_what_the_client_asked_for(lines: list[str], host: bytes, server: Address) -> None:
    scope = build(*(x(*line.split(": ")) for line in lines), names=X_FIELDS)
    assert (host_of(scope), scope["server"]) == ([host], server)


PREFIXES = [
    pytest.param("/api", "/api", "/api/a b", b"/api/a%20b", id="one"),
    pytest.param("/api/", "/api", "/api/a b", b"/api/a%20b", id="slash at the end"),
    pytest.param("/a%20b/c", "/a b/c", "/a b/c/a b", b"/a%20b/c/a%20b", id="escaped"),
    pytest.param("/", "/old", "/old/a b", b"/old/a%20b", id="slash"),
    pytest.param("", "/old", "/old/a b", b"/old/a%20b", id="empty"),
    pytest.param("api", "/old", "/old/a b", b"/old/a%20b", id="no slash"),
    pytest.param("//evil.example", "/old", "/old/a b", b"/old/a%20b", id="another host"),
    pytest.param("/a/../b", "/old", "/old/a b", b"/old/a%20b", id="dots"),
    pytest.param("/a/%2e%2e/b", "/old", "/old/a b", b"/old/a%20b", id="escaped dots"),
    pytest.param("/%2Fevil.example", "/old", "/old/a b", b"/old/a%20b", id="escaped slash"),
    pytest.param("/a%0d", "/old", "/old/a b", b"/old/a%20b", id="control character"),
    pytest.param("/a?b", "/old", "/old/a b", b"/old/a%20b", id="query"),
    pytest.param("/\xe9", "/old", "/old/a b", b"/old/a%20b", id="no ASCII"),
]


@pytest.mark.parametrize(("prefix", "root_path", "path", "raw_path"), PREFIXES)
def test_the_prefix_comes_in_place_of_root_path(prefix: str, root_path: str, path: str, raw_path: bytes) -> None:
    scope = build(x("prefix", prefix), names=X_FIELDS, root_path="/old")
    assert (scope["root_path"], scope["path"], scope["raw_path"]) == (root_path, path, raw_path)


def test_a_prefix_is_not_put_in_front_of_the_whole_server() -> None:
    scope = build(x("prefix", "/api"), names=X_FIELDS, target=b"*")
    assert (scope["root_path"], scope["path"], scope["raw_path"]) == ("/api", "*", b"*")


# RFC 7239.

ELEMENTS = [
    pytest.param("for=192.0.2.7;proto=https", REAL, "https", id="one"),
    pytest.param("For=192.0.2.7 ; PROTO=https", REAL, "https", id="capitals and blanks"),
    pytest.param('for="[2001:db8::7]:4711"', ("2001:db8::7", 4711), "http", id="quoted"),
    pytest.param("for=203.0.113.9;proto=https, for=192.0.2.7;proto=http", REAL, "http", id="the client wrote one"),
    pytest.param("for=192.0.2.7;proto=https, for=10.0.0.9;proto=http", REAL, "https", id="two proxies"),
    pytest.param("for=192.0.2.7;proto=https,, ,", REAL, "https", id="empty elements"),
    pytest.param('for=", for=192.0.2.7;proto=https', REAL, "https", id="an open quotation mark of the client"),
    pytest.param('for="192.0.2.9\\", for=192.0.2.7', REAL, "http", id="an escaped quotation mark of the client"),
    pytest.param('for=192.0.2.7;x="a, for=203.0.113.9"', REAL, "http", id="a comma in quotation marks"),
    pytest.param("for=192.0.2.9;for=192.0.2.7", PROXY, "http", id="twice"),
    pytest.param("for=192.0.2.9, for=unknown;proto=https", PROXY, "https", id="unknown"),
    pytest.param("for=192.0.2.9, for=_secret;proto=https", PROXY, "https", id="hidden"),
    pytest.param("for=192.0.2.9, proto=https", PROXY, "https", id="without a client"),
    pytest.param('for="192.0.2.7:_port"', REAL, "http", id="hidden port"),
    pytest.param("for=[2001:db8::7]", PROXY, "http", id="not quoted"),
    pytest.param("192.0.2.7", PROXY, "http", id="no pair"),
    pytest.param("for", PROXY, "http", id="name only"),
    pytest.param("", PROXY, "http", id="empty"),
]


@pytest.mark.parametrize(("text", "client", "scheme"), ELEMENTS)
def test_forwarded_is_read_from_its_end_to_the_first_untrusted_address(text: str, client: Address, scheme: str) -> None:
    scope = build(rfc7239(text), names="forwarded")
    assert (scope["client"], scope["scheme"]) == (client, scheme)


def test_the_host_is_that_of_the_element_of_the_client() -> None:
    text = 'for=203.0.113.9;host=evil.example, for=192.0.2.7;host="example.org:8443";proto=https, for=10.0.0.9;host=b'
    scope = build(rfc7239(text), names="forwarded")
    assert (host_of(scope), scope["server"]) == ([b"example.org:8443"], ("example.org", 8443))


def test_a_prefix_can_be_believed_beside_forwarded() -> None:
    scope = build(rfc7239("for=192.0.2.7"), x("prefix", "/api"), x_for("203.0.113.9"), names="forwarded,prefix")
    assert (scope["client"], scope["root_path"]) == (REAL, "/api")


# Whatever comes.

SOMETHING = st.one_of(
    st.text(st.characters(max_codepoint=255, exclude_characters="\r\n\0"), max_size=40),
    st.text('for="10.0.0.1, ;\\unknown[:]%_protohttps', max_size=60),
)


@given(values=st.lists(st.tuples(st.sampled_from(FORWARDED_FIELDS), SOMETHING), max_size=6))
def test_nothing_that_a_client_sends_comes_before_what_the_proxy_adds(values: list[tuple[str, str]]) -> None:
    sent = [rfc7239(value) if name == "forwarded" else x(name, value) for name, value in values]
    added = [x("for", "192.0.2.7"), x("proto", "https"), x("host", "a.example"), x("port", "444"), x("prefix", "/a")]
    scope = build(*sent, *added, names=X_FIELDS)
    assert (scope["client"], scope["scheme"], host_of(scope)) == (REAL, "https", [b"a.example:444"])
    assert (scope["server"], scope["root_path"], scope["path"]) == (("a.example", 444), "/a", "/a/a b")
    scope = build(*sent, rfc7239('for=192.0.2.7;proto=https;host="a.example"'), names="forwarded")
    assert (scope["client"], scope["scheme"], host_of(scope)) == (REAL, "https", [b"a.example"])


@given(values=st.lists(st.tuples(st.sampled_from(FORWARDED_FIELDS), SOMETHING), max_size=6))
def test_a_scope_is_sound_whatever_the_fields_are(values: list[tuple[str, str]]) -> None:
    sent = [rfc7239(value) if name == "forwarded" else x(name, value) for name, value in values]
    for names in (X_FIELDS, "forwarded,prefix"):
        scope = build(*sent, names=names, trusted="*")
        assert parse_node(scope["client"][0]) is not None
        assert 0 <= scope["client"][1] <= 65535
        assert scope["scheme"] in ("http", "https")
        assert scope["path"] == scope["root_path"] + "/a b"
        assert len(host_of(scope)) == 1


LONG = [
    pytest.param(lambda size: rfc7239(" " * size), id="blanks"),
    pytest.param(lambda size: rfc7239("a=b;" * (size // 4)), id="pairs"),
    pytest.param(lambda size: rfc7239('a=",' * (size // 4)), id="quotation marks"),
    pytest.param(lambda size: rfc7239('"\\,' * (size // 3)), id="escapes"),
    pytest.param(lambda size: rfc7239("," * size), id="commas"),
    pytest.param(lambda size: x_for("," * size), id="commas of a chain"),
    pytest.param(lambda size: x("prefix", "/a" * (size // 2) + "?"), id="prefix"),
]


@pytest.mark.parametrize("field", LONG)
def test_a_long_field_takes_little_time(field: Any) -> None:
    made = field(60_000)
    began = time.perf_counter()
    for names in (X_FIELDS, "forwarded,prefix"):
        build(made, names=names)
    assert time.perf_counter() - began < 0.2


def test_the_fields_of_the_request_stay_as_they_came() -> None:
    head = RequestHead("GET", b"/", b"", "1.1", None, [(b"host", b"a"), x("host", "b.example")])
    before = head.fields.copy()
    stream = Stream()
    stream.client = PROXY
    scope = ScopeBuilder("", ForwardedFields(ProxySettings(trusted="*", fields="host"))).build(head, stream)
    assert (host_of(scope), head.fields) == ([b"b.example"], before)


def test_what_fields_say_is_remembered_for_a_number_of_short_ones_only() -> None:
    forwarded = ForwardedFields(ProxySettings(trusted="10.0.0.0/8"))
    builder = ScopeBuilder("", forwarded)
    stream = Stream()
    stream.client, stream.server = PROXY, ("10.0.0.2", 8000)
    for number in range(3000):
        for text in (f"192.0.2.7:{number}", f"192.0.2.7:{number}" + ",10.0.0.9" * 30):
            head = RequestHead("GET", b"/", b"", "1.1", None, [(b"host", b"a"), x_for(text)])
            for _ in range(2):
                assert builder.build(head, stream)["client"] == ("192.0.2.7", number)
    assert len(forwarded._known) <= 1024
    assert all(len(value) <= 256 for fields in forwarded._known for _, value in fields)

"""The scope of a request."""

from __future__ import annotations

import contextlib
import copy
import json
from typing import Any

import pytest

from fastserve.asgi.scope import ScopeBuilder, decode_path
from fastserve.net.stream import Address, Stream
from fastserve.wire.events import RequestHead
from tests.doubles import CLIENT, SERVER, PlayedApp, Rig, post, request, turns

EXTENSIONS = (
    "http.response.pathsend",
    "http.response.zerocopysend",
    "http.response.early_hint",
    "http.response.trailers",
)


def stream(client: Address | None = CLIENT, server: Address | None = SERVER) -> Stream:
    """Return the stream of a request from these addresses."""
    made = Stream()
    made.client, made.server = client, server
    return made


def head(raw_path: bytes = b"/", query: bytes = b"", **more: Any) -> RequestHead:
    """Return the head of a request."""
    values: dict[str, Any] = {
        "method": "GET",
        "http_version": "1.1",
        "authority": None,
        "fields": [(b"host", b"example.org")],
    }
    return RequestHead(raw_path=raw_path, query=query, **{**values, **more})


def test_a_scope_is_as_the_specification_has_it() -> None:
    fields = [(b"host", b"example.org"), (b"x", b"1"), (b"x", b"\xff")]
    assert ScopeBuilder("").build(head(b"/a%20b/%C3%B6", b"q=%20a", method="PUT", fields=fields), stream()) == {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "server": ("192.0.2.1", 8000),
        "client": ("192.0.2.7", 40000),
        "scheme": "http",
        "method": "PUT",
        "root_path": "",
        "path": "/a b/ö",
        "raw_path": b"/a%20b/%C3%B6",
        "query_string": b"q=%20a",
        "headers": fields,
        "extensions": {name: {} for name in EXTENSIONS},
    }


@pytest.mark.parametrize(
    ("raw_path", "path"),
    [
        (b"/", "/"),
        (b"/a/b", "/a/b"),
        (b"/a%2Fb", "/a/b"),
        (b"/a+b", "/a+b"),
        (b"/%00", "/\x00"),
        (b"/%C3%B6", "/ö"),
        (b"/%ff", "/\ufffd"),
        (b"/%C3", "/\ufffd"),
        (b"/%zz", "/%zz"),
        (b"/%", "/%"),
        (b"/%2", "/%2"),
        (b"//x", "//x"),
        (b"/../x", "/../x"),
        (b"*", "*"),
    ],
)
def test_a_path_is_decoded_once_and_what_is_not_utf_8_is_replaced(raw_path: bytes, path: str) -> None:
    assert decode_path(raw_path) == path
    scope = ScopeBuilder("").build(head(raw_path), stream())
    assert (scope["path"], scope["raw_path"]) == (path, raw_path)


@pytest.mark.parametrize(
    ("root_path", "raw_path", "expected"),
    [
        ("/api", b"/x%20y", ("/api", "/api/x y", b"/api/x%20y")),
        ("/api/", b"/x", ("/api", "/api/x", b"/api/x")),
        ("/api", b"/api/x", ("/api", "/api/api/x", b"/api/api/x")),
        ("/a b/ö", b"/x", ("/a b/ö", "/a b/ö/x", b"/a%20b/%C3%B6/x")),
        ("api", b"/x", ("/api", "/api/x", b"/api/x")),
        ("//api/v1//", b"/x", ("/api/v1", "/api/v1/x", b"/api/v1/x")),
        ("/", b"/x", ("", "/x", b"/x")),
        ("/api", b"*", ("/api", "*", b"*")),
    ],
    ids=["prefix", "slash at its end", "twice", "quoted", "no slash", "more slashes", "only a slash", "asterisk"],
)
def test_path_and_raw_path_begin_with_the_root_path(
    root_path: str, raw_path: bytes, expected: tuple[str, str, bytes]
) -> None:
    scope = ScopeBuilder(root_path).build(head(raw_path), stream())
    assert (scope["root_path"], scope["path"], scope["raw_path"]) == expected


@pytest.mark.parametrize(
    ("client", "server"),
    [(CLIENT, SERVER), (("::1", 5), ("::1", 80)), (None, ("/run/app.sock", None))],
    ids=["IPv4", "IPv6", "unix"],
)
def test_both_addresses_are_those_of_the_stream(client: Address | None, server: Address | None) -> None:
    scope = ScopeBuilder("").build(head(), stream(client, server))
    assert (scope["client"], scope["server"]) == (client, server)


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_the_version_of_the_request_is_named(version: str) -> None:
    assert ScopeBuilder("").build(head(http_version=version), stream())["http_version"] == version


def test_without_a_lifespan_there_is_no_state() -> None:
    assert "state" not in ScopeBuilder("").build(head(), stream())


def test_each_scope_has_a_shallow_copy_of_the_state() -> None:
    shared: list[int] = []
    builder = ScopeBuilder("")
    builder.state = {"shared": shared, "number": 1}
    first, second = builder.build(head(), stream()), builder.build(head(), stream())
    first["state"]["number"] = 2
    first["state"]["shared"].append(3)
    assert second["state"] == {"shared": [3], "number": 1}
    assert builder.state == {"shared": [3], "number": 1}


def test_an_empty_state_is_there() -> None:
    builder = ScopeBuilder("")
    builder.state = {}
    assert builder.build(head(), stream())["state"] == {}


def mutables(value: object) -> set[int]:
    """Return the identities of all dictionaries and lists in a scope that can be changed."""
    if isinstance(value, dict):
        with contextlib.suppress(TypeError):
            value["changed"] = value.pop("changed", None)
            del value["changed"]
            return {id(value)}.union(*(mutables(each) for each in value.values()))
    if isinstance(value, list):
        return {id(value)}.union(*(mutables(each) for each in value))
    return set()


@pytest.mark.parametrize(
    "data", [request(), post(b"x"), request("http://example.org/")], ids=["GET", "POST", "absolute"]
)
async def test_two_requests_on_one_connection_share_nothing_that_can_be_changed(data: bytes) -> None:
    app = PlayedApp()
    rig = Rig(app)
    rig.scopes.state = {"a": 1}
    peer = rig.connect()
    for _ in range(3):
        peer.send(data)
        await turns()
        await app.calls[-1].respond()
        app.calls[-1].scope["headers"].append((b"x", b"y"))
        app.calls[-1].scope["asgi"]["version"] = "4"
        app.calls[-1].scope["state"]["b"] = 2
    first, second, third = (call.scope for call in app.calls)
    assert not mutables(first) & mutables(second) & mutables(third)
    assert first == second == third
    assert len(third["headers"]) == len(first["headers"]) <= 3


def test_extensions_are_those_that_work() -> None:
    old = RequestHead("GET", b"/", b"", "1.0", None, [])
    scope = ScopeBuilder("").build(old, stream())
    assert scope["extensions"] == {"http.response.pathsend": {}, "http.response.zerocopysend": {}}
    scope["extensions"]["more"] = {}
    tls = stream()
    tls.tls = {"server_cert": None}
    scope = ScopeBuilder("").build(old, tls)
    assert scope["extensions"]["tls"] == {"server_cert": None}
    scope["extensions"]["tls"]["server_cert"] = "changed"
    assert tls.tls == {"server_cert": None}
    assert set(ScopeBuilder("").build(head(b"/"), stream())["extensions"]) == set(EXTENSIONS)


def test_paths_are_offered_where_they_are_to_be() -> None:
    builder = ScopeBuilder("")
    for version in ("1.0", "1.1"):
        for offered in (False, True):
            builder.offer_paths(offered)
            scope = builder.build(RequestHead("GET", b"/", b"", version, None, []), stream())
            assert ("http.response.pathsend" in scope["extensions"]) is offered
            assert "http.response.zerocopysend" in scope["extensions"]


def test_the_version_of_the_specification_is_told() -> None:
    assert ScopeBuilder("").build(head(), stream())["asgi"] == {"version": "3.0", "spec_version": "2.4"}
    scope = ScopeBuilder("", None, "2.3").build(head(), stream())
    assert scope["asgi"] == {"version": "3.0", "spec_version": "2.3"}


def test_a_scope_can_be_copied_and_its_extensions_are_dictionaries() -> None:
    scope = ScopeBuilder("").build(head(b"/"), stream())
    assert copy.deepcopy(scope) == scope
    details = scope["extensions"]["http.response.trailers"]

    def merge() -> None:
        changed = details
        changed |= {"a": 1}

    for change in (
        lambda: details.setdefault("a", 1),
        lambda: details.update(a=1),
        merge,
        lambda: details.__setitem__("a", 1),
    ):
        with pytest.raises(TypeError, match="belongs to all requests"):
            change()
    assert json.loads(json.dumps(scope["extensions"])) == scope["extensions"]


def test_a_websocket_has_extensions_of_its_own() -> None:
    made = stream()
    made.scheme, made.tls = "https", {"tls_version": 0x0304}
    scope = ScopeBuilder("").build_websocket(head(b"/"), made, [])
    assert scope["scheme"] == "wss"
    assert scope["extensions"] == {"websocket.http.response": {}, "tls": {"tls_version": 0x0304}}

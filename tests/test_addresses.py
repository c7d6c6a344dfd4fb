"""Addresses to listen on."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fastserve.addresses import (
    AllowList,
    BindAddress,
    InheritedAddress,
    TcpAddress,
    UnixAddress,
    describe_client,
    parse_bind,
)
from fastserve.errors import SettingsError


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:8000", TcpAddress("127.0.0.1", 8000)),
        ("example.org:80", TcpAddress("example.org", 80)),
        (":8000", TcpAddress("", 8000)),
        ("*:8000", TcpAddress("*", 8000)),
        ("0.0.0.0:0", TcpAddress("0.0.0.0", 0)),
        ("localhost:65535", TcpAddress("localhost", 65535)),
        ("[::1]:8000", TcpAddress("::1", 8000)),
        ("[::]:8000", TcpAddress("::", 8000)),
        ("[fe80::1%eth0]:8000", TcpAddress("fe80::1%eth0", 8000)),
        ("unix:/run/app.sock", UnixAddress("/run/app.sock")),
        ("unix:app.sock", UnixAddress("app.sock")),
        ("unix:/run/a:b", UnixAddress("/run/a:b")),
        ("fd://3", InheritedAddress(3)),
        ("fd://0", InheritedAddress(0)),
        ("fd:8000", TcpAddress("fd", 8000)),
    ],
)
def test_what_names_an_address(text: str, address: BindAddress) -> None:
    assert parse_bind(text) == address


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        "8000",
        "localhost",
        "localhost:",
        "localhost:http",
        "localhost:65536",
        "localhost:-1",
        "[::1:80",
        "::1]:80",
        "[127.0.0.1]:80",
        "localhost:+80",
        "localhost: 80",
        "localhost:8_0",
        "localhost:٨٠",
        "localhost:²",
        "::1:8000",
        "::",
        "[::1]",
        "[::1]:",
        "[::1:8000",
        "unix:",
        "fd://",
        "fd://x",
        "fd://-1",
        "http://localhost:8000",
    ],
)
def test_what_names_none_is_refused_with_what_would(text: str) -> None:
    with pytest.raises(SettingsError) as raised:
        parse_bind(text)
    assert str(raised.value) == f"--bind: {text!r} is not HOST:PORT, [IPV6]:PORT, unix:PATH or fd://N"


@given(st.text(alphabet=st.sampled_from("[]:/0128unixfd.a-%٨²"), max_size=20))
@example("unix:8000")
def test_any_text_names_an_address_or_is_refused(text: str) -> None:
    try:
        address = parse_bind(text)
    except SettingsError:
        return
    if isinstance(address, TcpAddress):
        shown = f"[{address.host}]" if ":" in address.host else address.host
        assert 0 <= address.port <= 65535
        assert parse_bind(f"{shown}:{address.port}") == address
    elif isinstance(address, UnixAddress):
        assert text == f"unix:{address.path}"
    else:
        assert address.fd >= 0


@pytest.mark.parametrize(
    ("client", "text"),
    [
        pytest.param(("127.0.0.1", 5), "127.0.0.1:5", id="IP"),
        pytest.param(("/run/client", None), "unix", id="named Unix socket"),
        pytest.param(None, "unix", id="unnamed Unix socket"),
    ],
)
def test_a_client_is_described_in_one_way(client: tuple[str, int | None] | None, text: str) -> None:
    assert describe_client(client) == text


def test_what_is_trusted_is_remembered_for_a_number_of_peers_only() -> None:
    allowed = AllowList("192.0.2.0/24", "--flag")
    for number in range(10_000):
        assert not allowed.has(f"10.0.{number // 256}.{number % 256}")
    assert allowed.has("192.0.2.7")
    assert len(allowed._known) <= 4096


@pytest.mark.parametrize("host", ["", "unknown", "192.0.2", "192.0.2.7/32"])
def test_what_is_no_address_is_not_trusted(host: str) -> None:
    assert not AllowList("192.0.2.7,unix", "--flag").has(host)

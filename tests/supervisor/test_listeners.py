"""Listening on TCP addresses, real ones of this machine. Other sockets are in test_listeners_local."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from fastserve.errors import BindError
from fastserve.settings import BindSettings
from fastserve.supervisor.listeners import ListeningSockets
from tests.process.running import ipv6

from .listening import BACKLOG, SLOTS, Open, accepted

linux = pytest.mark.skipif(
    sys.platform != "linux", reason="only Linux spreads connections over such a group of sockets"
)


@pytest.fixture
def taken_port() -> Iterator[int]:
    """A port of 127.0.0.1 that another program listens on."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock.getsockname()[1]


def port_of(sockets: ListeningSockets) -> int:
    return int(sockets.for_slot(0)[0].getsockname()[1])


# TCP.


@SLOTS
@pytest.mark.parametrize(
    ("host", "family"),
    [
        pytest.param("127.0.0.1", socket.AF_INET, id="IPv4"),
        pytest.param("[::1]", socket.AF_INET6, id="IPv6", marks=ipv6),
    ],
)
def test_every_slot_can_be_connected_to_at_the_url(
    listening: Open, slots: int, host: str, family: socket.AddressFamily
) -> None:
    sockets = listening(f"{host}:0", slots=slots)
    sockets.listen(BACKLOG)
    port = port_of(sockets)
    assert port > 0
    assert sockets.urls == [f"http://{host}:{port}"]
    for slot in range(slots):
        assert [(sock.family, sock.getsockname()[1]) for sock in sockets.for_slot(slot)] == [(family, port)]
    socket.create_connection((host.strip("[]"), port)).close()


def test_a_name_is_shown_as_it_was_given(listening: Open) -> None:
    sockets = listening("localhost:0")
    sockets.listen(BACKLOG)
    assert sockets.urls == [f"http://localhost:{port_of(sockets)}"]
    socket.create_connection(("localhost", port_of(sockets))).close()


@SLOTS
@ipv6
def test_port_0_is_the_same_port_for_every_address_of_a_name(
    listening: Open, slots: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    name_has(monkeypatch, "127.0.0.1", "127.0.0.2", "::1")
    sockets = listening("several.test:0", slots=slots)
    port = port_of(sockets)
    assert sockets.urls == [f"http://several.test:{port}"]
    for slot in range(slots):
        assert [sock.getsockname()[:2] for sock in sockets.for_slot(slot)] == [
            ("127.0.0.1", port),
            ("127.0.0.2", port),
            ("::1", port),
        ]


def test_an_address_that_a_name_has_twice_is_listened_on_once(listening: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    name_has(monkeypatch, "127.0.0.1", "127.0.0.1")
    assert len(listening("twice.test:0").for_slot(0)) == 1


def name_has(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    """Let every name stand for these addresses."""
    real = socket.getaddrinfo

    def getaddrinfo(host: str, port: int, **more: int) -> list[object]:
        return [found for address in addresses for found in real(address, port, type=socket.SOCK_STREAM)]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


@SLOTS
def test_several_addresses_with_port_0_have_ports_of_their_own(listening: Open, slots: int) -> None:
    sockets = listening("127.0.0.1:0", "127.0.0.1:0", slots=slots)
    for slot in range(slots):
        ports = [sock.getsockname()[1] for sock in sockets.for_slot(slot)]
        assert len(set(ports)) == 2
        assert sockets.urls == [f"http://127.0.0.1:{port}" for port in ports]


@ipv6
def test_both_families_can_listen_on_the_same_port(listening: Open) -> None:
    port = port_of(listening("127.0.0.1:0"))
    (sock,) = listening(f"[::1]:{port}").for_slot(0)
    assert sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)


@linux
def test_connections_are_spread_over_the_slots(listening: Open) -> None:
    sockets = listening("127.0.0.1:0", slots=2)
    sockets.listen(BACKLOG)
    clients = [socket.create_connection(("127.0.0.1", port_of(sockets))) for _ in range(64)]
    counts = [accepted(sockets.for_slot(slot)[0]) for slot in range(2)]
    for client in clients:
        client.close()
    assert sum(counts) == 64
    assert min(counts) > 0


def test_a_connection_waits_until_someone_accepts(listening: Open) -> None:
    sockets = listening("127.0.0.1:0")
    sockets.listen(BACKLOG)
    with socket.create_connection(("127.0.0.1", port_of(sockets))) as client:
        client.sendall(b"hello")
        connection, _ = sockets.for_slot(0)[0].accept()
        with connection:
            assert connection.recv(5) == b"hello"
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_nobody_can_connect_before_the_sockets_listen(listening: Open) -> None:
    port = port_of(listening("127.0.0.1:0"))
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))


@SLOTS
def test_nobody_can_connect_after_close(listening: Open, slots: int) -> None:
    sockets = listening("127.0.0.1:0", slots=slots)
    sockets.listen(BACKLOG)
    sockets.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port_of_url(sockets)))


def port_of_url(sockets: ListeningSockets) -> int:
    return int(sockets.urls[0].rpartition(":")[2])


def test_a_program_that_is_started_does_not_get_the_sockets(listening: Open, tmp_path: Path) -> None:
    sockets = listening("127.0.0.1:0", f"unix:{tmp_path / 'sock'}", slots=2)
    assert not any(sock.get_inheritable() for slot in range(2) for sock in sockets.for_slot(slot))


# A port that is taken.


@SLOTS
@pytest.mark.parametrize("first_slots", [1, 2], ids=["first has one slot", "first has two slots"])
def test_a_second_server_on_the_same_port_fails(listening: Open, first_slots: int, slots: int) -> None:
    first = listening("127.0.0.1:0", slots=first_slots)
    first.listen(BACKLOG)
    with pytest.raises(BindError, match=rf"^cannot listen on 127\.0\.0\.1:{port_of(first)}: Address already in use$"):
        listening(f"127.0.0.1:{port_of(first)}", slots=slots)


@SLOTS
@pytest.mark.parametrize("first_slots", [1, 2], ids=["first has one slot", "first has two slots"])
def test_a_second_server_fails_also_while_the_first_one_does_not_listen_yet(
    listening: Open, first_slots: int, slots: int
) -> None:
    """One process listens only when its application has started, which may take minutes."""
    first = listening("127.0.0.1:0", slots=first_slots)
    with pytest.raises(BindError):
        listening(f"127.0.0.1:{port_of(first)}", slots=slots).listen(BACKLOG)


@SLOTS
def test_the_port_of_another_program_is_taken(listening: Open, taken_port: int, slots: int) -> None:
    with pytest.raises(BindError, match="Address already in use"):
        listening(f"127.0.0.1:{taken_port}", slots=slots)


@linux
@SLOTS
def test_the_port_of_a_program_that_shares_it_is_taken_all_the_same(listening: Open, slots: int) -> None:
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(BindError):
            listening(f"127.0.0.1:{other.getsockname()[1]}", slots=slots)


@SLOTS
def test_a_port_can_be_listened_on_again_at_once(listening: Open, slots: int) -> None:
    """Connections of the server before, of which the kernel remembers the end, are not in the way."""
    first = listening("127.0.0.1:0", slots=slots)
    first.listen(BACKLOG)
    port = port_of(first)
    clients = [socket.create_connection(("127.0.0.1", port)) for _ in range(16)]
    for slot in range(slots):
        accepted(first.for_slot(slot)[0])  # the server's side closes first: it keeps the connection in TIME_WAIT
    for client in clients:
        client.close()
    first.close()
    again = listening(f"127.0.0.1:{port}", slots=slots)
    again.listen(BACKLOG)
    socket.create_connection(("127.0.0.1", port)).close()


# Addresses that cannot be.


@pytest.mark.parametrize(
    ("address", "message"),
    [
        pytest.param("192.0.2.1:0", "cannot listen on 192.0.2.1:0: Cannot assign requested address", id="not ours"),
        pytest.param(f"{'a' * 64}.test:0", "cannot listen on a{64}.test: .*label", id="not a name"),
        pytest.param("127.0.0.1:1", "cannot listen on 127.0.0.1:1: Permission denied", id="not allowed"),
    ],
)
def test_an_address_that_cannot_be_listened_on_is_named_with_the_reason(
    listening: Open, address: str, message: str
) -> None:
    if "Permission" in message and may_bind_low_ports():
        pytest.skip("this user may listen on low ports")
    with pytest.raises(BindError, match=message):
        listening(address)


def may_bind_low_ports() -> bool:
    try:
        socket.create_server(("127.0.0.1", 1)).close()
    except OSError:
        return False
    return True


def test_a_name_without_an_address_is_named_with_the_reason(listening: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    def getaddrinfo(host: str, port: int, **more: int) -> list[object]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    with pytest.raises(BindError, match=r"^cannot listen on nowhere\.test: Name or service not known$"):
        listening("nowhere.test:0")


# Failing in the middle.


@pytest.mark.parametrize(
    "last",
    [
        pytest.param("127.0.0.1:{taken}", id="taken port"),
        pytest.param("unix:{folder}/nowhere/sock", id="no such folder"),
        pytest.param("unix:{folder}/notes.txt", id="not a socket"),
        pytest.param("192.0.2.1:0", id="not our address"),
    ],
)
@SLOTS
def test_nothing_is_left_open_when_one_of_several_addresses_fails(
    listening: Open, tmp_path: Path, taken_port: int, slots: int, last: str
) -> None:
    (tmp_path / "notes.txt").touch()
    fds = psutil.Process().num_fds()
    with pytest.raises(BindError):
        listening("127.0.0.1:0", f"unix:{tmp_path}/sock", last.format(taken=taken_port, folder=tmp_path), slots=slots)
    assert psutil.Process().num_fds() == fds
    assert not (tmp_path / "sock").exists()


@SLOTS
def test_close_leaves_nothing_open(tmp_path: Path, slots: int) -> None:
    fds = psutil.Process().num_fds()
    settings = BindSettings(bind=("127.0.0.1:0", "localhost:0", f"unix:{tmp_path}/sock"))
    ListeningSockets(settings, slots).close()
    assert psutil.Process().num_fds() == fds

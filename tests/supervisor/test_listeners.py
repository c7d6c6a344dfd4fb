"""Listening on TCP addresses, real ones of this machine. Other sockets are in test_listeners_local."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path

import psutil
import pytest

from fastserve.errors import BindError
from fastserve.settings import BindSettings
from fastserve.supervisor import steering
from fastserve.supervisor.listeners import ListeningSockets
from tests.process.running import ipv6

from .listening import BALANCES, SLOTS, Open, accepted, connected, linux, listen, port_of


@pytest.fixture
def taken_port() -> Iterator[int]:
    """A port of 127.0.0.1 that another program listens on."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock.getsockname()[1]


# TCP.


@SLOTS
@BALANCES
@pytest.mark.parametrize(
    ("host", "family"),
    [
        pytest.param("127.0.0.1", socket.AF_INET, id="IPv4"),
        pytest.param("[::1]", socket.AF_INET6, id="IPv6", marks=ipv6),
    ],
)
def test_every_slot_can_be_connected_to_at_the_url(
    listening: Open, slots: int, balance: str, host: str, family: socket.AddressFamily
) -> None:
    sockets = listening(f"{host}:0", balance=balance)
    listen(sockets, slots=slots)
    port = port_of(sockets)
    assert port > 0
    assert sockets.urls == [f"http://{host}:{port}"]
    for slot in range(slots):
        assert [(sock.family, sock.getsockname()[1]) for sock in sockets.for_slot(slot)] == [(family, port)]
    socket.create_connection((host.strip("[]"), port)).close()


@linux
@BALANCES
def test_each_slot_has_sockets_of_its_own_unless_they_are_shared(listening: Open, balance: str) -> None:
    sockets = listening("127.0.0.1:0", balance=balance)
    listen(sockets, slots=3)
    different = {sock for slot in range(3) for sock in sockets.for_slot(slot)}
    assert len(different) == len(sockets.fds()) == (1 if balance == "shared" else 3)
    assert sockets.slots == (set() if balance == "shared" else {0, 1, 2})


def test_a_name_is_shown_as_it_was_given(listening: Open) -> None:
    sockets = listening("localhost:0")
    listen(sockets)
    assert sockets.urls == [f"http://localhost:{port_of(sockets)}"]
    socket.create_connection(("localhost", port_of(sockets))).close()


def test_no_host_is_every_address(listening: Open) -> None:
    sockets = listening(":0")
    listen(sockets)
    names = [sock.getsockname()[0] for sock in sockets.for_slot(0)]
    assert "0.0.0.0" in names
    assert sockets.urls[0].startswith("http://")
    connected(port_of(sockets), 1)


@SLOTS
@BALANCES
@ipv6
def test_port_0_is_the_same_port_for_every_address_of_a_name(
    listening: Open, slots: int, balance: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name_has(monkeypatch, "127.0.0.1", "127.0.0.2", "::1")
    sockets = listening("several.test:0", balance=balance)
    listen(sockets, slots=slots)
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
    sockets = listening("127.0.0.1:0", "127.0.0.1:0")
    listen(sockets, slots=slots)
    for slot in range(slots):
        ports = [sock.getsockname()[1] for sock in sockets.for_slot(slot)]
        assert len(set(ports)) == 2
        assert sockets.urls == [f"http://127.0.0.1:{port}" for port in ports]


@ipv6
def test_both_families_can_listen_on_the_same_port(listening: Open) -> None:
    port = port_of(listening("127.0.0.1:0"))
    (sock,) = listening(f"[::1]:{port}").for_slot(0)
    assert sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)


def test_a_connection_waits_until_someone_accepts(listening: Open) -> None:
    sockets = listening("127.0.0.1:0")
    listen(sockets)
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
@BALANCES
def test_nobody_can_connect_after_close(listening: Open, slots: int, balance: str) -> None:
    sockets = listening("127.0.0.1:0", balance=balance)
    listen(sockets, slots=slots)
    port = port_of(sockets)
    sockets.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))


def test_a_program_that_is_started_does_not_get_the_sockets(listening: Open, tmp_path: Path) -> None:
    sockets = listening("127.0.0.1:0", f"unix:{tmp_path / 'sock'}")
    listen(sockets, slots=2)
    assert not any(os.get_inheritable(fd) for fd in sockets.fds())


# Slots that come and go.


@linux
@ipv6
def test_a_slot_can_be_added_and_removed_at_any_time(listening: Open, tmp_path: Path) -> None:
    sockets = listening("127.0.0.1:0", "[::1]:0", f"unix:{tmp_path}/sock")
    listen(sockets, slots=2)
    fds = psutil.Process().num_fds()
    sockets.add_slot(5)
    sockets.add_slot(5)
    assert sockets.slots == {0, 1, 5}
    assert len(sockets.for_slot(5)) == 3
    assert psutil.Process().num_fds() == fds + 2
    sockets.remove_slot(5)
    sockets.remove_slot(5)
    assert sockets.slots == {0, 1}
    assert psutil.Process().num_fds() == fds


def test_shared_sockets_stay_when_a_slot_is_removed(listening: Open) -> None:
    sockets = listening("127.0.0.1:0", balance="shared")
    listen(sockets, slots=2)
    sockets.remove_slot(1)
    connected(port_of(sockets), 1)


@linux
def test_a_slot_that_cannot_be_opened_everywhere_can_be_removed(
    listening: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    sockets = listening("127.0.0.1:0", "127.0.0.1:0")
    listen(sockets)
    listen_really = socket.socket.listen

    def listen_on_first(sock: socket.socket, backlog: int) -> None:
        if sock.getsockname()[1] != port_of(sockets):
            raise OSError(98, "Address already in use")
        listen_really(sock, backlog)

    monkeypatch.setattr(socket.socket, "listen", listen_on_first)
    with pytest.raises(BindError):
        sockets.add_slot(1)
    sockets.remove_slot(1)
    assert sockets.slots == {0}


@BALANCES
@ipv6
def test_a_worker_keeps_the_sockets_of_its_slot_only(listening: Open, tmp_path: Path, balance: str) -> None:
    sockets = listening("127.0.0.1:0", "[::1]:0", f"unix:{tmp_path}/sock", balance=balance)
    listen(sockets, slots=3)
    own = sockets.for_slot(1)
    assert sockets.keep_only(1) == own
    assert len(own) == 3
    assert sorted(sockets.fds()) == sorted(sock.fileno() for sock in own)
    assert -1 not in sockets.fds()


# Spreading connections.


def counts(sockets: ListeningSockets, connections: int) -> dict[int, int]:
    """Connect so often, and return how many connections the slots get that get any."""
    connected(int(sockets.urls[0].rpartition(":")[2]), connections)
    taken = {slot: accepted(sockets.for_slot(slot)[0]) for slot in sorted(sockets.slots)}
    return {slot: count for slot, count in taken.items() if count}


@pytest.fixture
def steered(listening: Open) -> ListeningSockets:
    """Four slots, between which the kernel chooses at random."""
    sockets = listening("127.0.0.1:0")
    listen(sockets, slots=4)
    try:
        steering.attach(sockets.for_slot(0)[0], steering.random_program([0]))
    except OSError as error:
        pytest.skip(f"this kernel does not take programs: {error}")
    return sockets


@linux
@BALANCES
def test_connections_are_spread_over_the_slots(listening: Open, balance: str) -> None:
    sockets = listening("127.0.0.1:0", balance=balance)
    listen(sockets, slots=2)
    sockets.steer({0, 1}, {})
    assert sum(counts(sockets, 64).values()) == (0 if balance == "shared" else 64)
    assert balance == "shared" or len(counts(sockets, 64)) == 2


@linux
@pytest.mark.parametrize("ready", [{0}, {2}, {1, 3}, {0, 1, 2, 3}, set()], ids=str)
def test_only_slots_that_are_ready_get_connections(steered: ListeningSockets, ready: set[int]) -> None:
    steered.steer(ready, {})
    assert set(counts(steered, 100)) == (ready or {0, 1, 2, 3})


@linux
@pytest.mark.parametrize("removed", [0, 1, 2, 3])
def test_connections_go_where_they_should_after_a_slot_was_removed(steered: ListeningSockets, removed: int) -> None:
    for ready in (3, 2, 1, 0):
        steered.steer({ready}, {})
        if ready == removed + 1 or (removed == 3 and ready == 0):
            steered.remove_slot(removed)
        if ready in steered.slots:
            assert set(counts(steered, 10)) == {ready}


@linux
def test_a_removed_slot_does_not_change_who_is_ready(steered: ListeningSockets) -> None:
    steered.steer({0, 3}, {})
    steered.remove_slot(1)
    assert set(counts(steered, 60)) == {0, 3}
    steered.add_slot(1)
    assert set(counts(steered, 60)) == {0, 3}
    steered.steer({1, 3}, {})
    assert set(counts(steered, 60)) == {1, 3}
    steered.remove_slot(0)
    steered.remove_slot(3)
    steered.add_slot(7)
    steered.steer({7}, {})
    assert set(counts(steered, 10)) == {7}


@linux
@pytest.mark.parametrize("balance", ["random", "cpu"])
def test_one_slot_needs_no_steering_and_a_second_one_gets_nothing_before_it_is_ready(
    listening: Open, said: pytest.LogCaptureFixture, balance: str
) -> None:
    sockets = listening("127.0.0.1:0", balance=balance)
    listen(sockets)
    sockets.steer({0}, {})
    assert counts(sockets, 5) == {0: 5}
    sockets.add_slot(1)
    assert counts(sockets, 32) == {0: 32}
    sockets.steer({1}, {})
    assert counts(sockets, 32) == {1: 32}
    sockets.remove_slot(1)
    sockets.steer({0}, {})
    assert counts(sockets, 5) == {0: 5}
    assert said.messages == []


@contextlib.contextmanager
def running_on(cpu: int) -> Iterator[None]:
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cpu})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@linux
@pytest.mark.parametrize(
    ("ready", "pinned", "gets"),
    [
        pytest.param({0, 1, 2}, {2: 0}, {2}, id="the one on the CPU"),
        pytest.param({0, 1}, {2: 0}, {0, 1}, id="the one on the CPU is not ready"),
        pytest.param({0, 1, 2}, {1: 0, 2: 0}, {1, 2}, id="two on the CPU"),
        pytest.param({0, 1}, {1: 0, 2: 0}, {1}, id="one of the two on the CPU is ready"),
        pytest.param({1, 3}, {0: 999}, {1, 3}, id="nobody on the CPU"),
    ],
)
def test_connections_go_to_the_cpu_where_they_arrive(
    steered: ListeningSockets, listening: Open, ready: set[int], pinned: Mapping[int, int], gets: set[int]
) -> None:
    cpu = min(os.sched_getaffinity(0))
    sockets = listening("127.0.0.1:0", balance="cpu")
    listen(sockets, slots=4)
    sockets.steer(ready, {slot: number + cpu for slot, number in pinned.items()})
    with running_on(cpu):
        assert set(counts(sockets, 60)) == gets


@linux
def test_the_cpu_of_a_slot_counts_also_when_the_order_has_changed(steered: ListeningSockets, listening: Open) -> None:
    cpu = min(os.sched_getaffinity(0))
    sockets = listening("127.0.0.1:0", balance="cpu")
    listen(sockets, slots=4)
    sockets.remove_slot(0)
    sockets.steer({1, 2, 3}, {3: cpu})
    with running_on(cpu):
        assert counts(sockets, 30) == {3: 30}


@linux
def test_what_the_kernel_refuses_is_said_once(
    listening: Open, said: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object) -> None:
        raise OSError(92, "Protocol not available")

    monkeypatch.setattr(steering, "attach", refuse)
    sockets = listening("127.0.0.1:0")
    listen(sockets, slots=2)
    sockets.steer({0}, {})
    sockets.steer({0, 1}, {})
    assert said.messages == ["New connections cannot be steered to workers that are ready: Protocol not available."]
    assert len(counts(sockets, 64)) == 2


# A port that is taken.


@SLOTS
@BALANCES
def test_a_second_server_on_the_same_port_fails(listening: Open, slots: int, balance: str) -> None:
    first = listening("127.0.0.1:0")
    listen(first, slots=slots)
    with pytest.raises(BindError, match=rf"^cannot listen on 127\.0\.0\.1:{port_of(first)}: Address already in use$"):
        listening(f"127.0.0.1:{port_of(first)}", balance=balance)
    assert sum(counts(first, 16).values()) == 16, "the first one has all connections"


@BALANCES
def test_a_second_server_that_was_as_fast_fails_when_it_listens(listening: Open, balance: str) -> None:
    first = listening("127.0.0.1:0", balance=balance)
    address = f"127.0.0.1:{port_of(first)}"
    second = listening(address, balance=balance)
    listen(first)
    with pytest.raises(BindError, match=rf"^cannot listen on {address}: Address already in use$"):
        second.listen()


def test_a_port_that_is_asked_for_twice_is_taken(listening: Open) -> None:
    port = port_of(listening("127.0.0.1:0"))
    for first, second, reason in (
        (f"127.0.0.1:{port}", f"127.0.0.1:{port}", "it is given twice"),
        (f"0.0.0.0:{port}", f"127.0.0.1:{port}", f"it is included in 0.0.0.0:{port}, which is given too"),
        (f"127.0.0.1:{port}", f"0.0.0.0:{port}", f"it includes 127.0.0.1:{port}, which is given too"),
    ):
        with pytest.raises(BindError) as raised:
            listening(first, second)
        assert str(raised.value) == f"cannot listen on {second}: {reason}"
    listening(f"127.0.0.1:{port}", f"127.0.0.2:{port}").listen()


@BALANCES
def test_the_port_of_another_program_is_taken(listening: Open, taken_port: int, balance: str) -> None:
    with pytest.raises(BindError, match="Address already in use"):
        listening(f"127.0.0.1:{taken_port}", balance=balance)


@linux
@BALANCES
def test_the_port_of_a_program_that_shares_it_is_taken_all_the_same(listening: Open, balance: str) -> None:
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(BindError):
            listening(f"127.0.0.1:{other.getsockname()[1]}", balance=balance)


@SLOTS
def test_a_port_can_be_listened_on_again_at_once(listening: Open, slots: int) -> None:
    """Connections of the server before, of which the kernel remembers the end, are not in the way."""
    first = listening("127.0.0.1:0")
    listen(first, slots=slots)
    port = port_of(first)
    clients = [socket.create_connection(("127.0.0.1", port)) for _ in range(16)]
    for slot in range(slots):
        accepted(first.for_slot(slot)[0])  # the server's side closes first: it keeps the connection in TIME_WAIT
    for client in clients:
        client.close()
    first.close()
    listen(listening(f"127.0.0.1:{port}"))
    connected(port, 1)


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
@BALANCES
def test_nothing_is_left_open_when_one_of_several_addresses_fails(
    listening: Open, tmp_path: Path, taken_port: int, balance: str, last: str
) -> None:
    (tmp_path / "notes.txt").touch()
    fds = psutil.Process().num_fds()
    last = last.format(taken=taken_port, folder=tmp_path)
    with pytest.raises(BindError):
        listening("127.0.0.1:0", "127.0.0.1:0", f"unix:{tmp_path}/sock", last, balance=balance)
    assert psutil.Process().num_fds() == fds
    assert not (tmp_path / "sock").exists()


@BALANCES
def test_close_leaves_nothing_open(tmp_path: Path, balance: str) -> None:
    fds = psutil.Process().num_fds()
    settings = BindSettings(bind=("127.0.0.1:0", "127.0.0.1:0", "localhost:0", f"unix:{tmp_path}/sock"))
    sockets = ListeningSockets(settings, balance)
    listen(sockets, slots=3)
    sockets.close()
    sockets.close()
    assert psutil.Process().num_fds() == fds

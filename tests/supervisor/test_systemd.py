"""What a service manager is told, and what it tells: with its sockets, and without it."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fastserve.supervisor.systemd import Notifier, listen_fds

OWN = str(os.getpid())


# Sockets that it opened.


def test_sockets_are_those_after_the_standard_streams_and_are_taken_once() -> None:
    environ = {"LISTEN_PID": OWN, "LISTEN_FDS": "2", "LISTEN_FDNAMES": "http:admin", "HOME": "/"}
    assert listen_fds(environ) == [3, 4]
    assert environ == {"HOME": "/"}
    assert listen_fds(environ) == []


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"LISTEN_PID": "1", "LISTEN_FDS": "2"},
        {"LISTEN_FDS": "2"},
        {"LISTEN_PID": OWN},
        {"LISTEN_PID": OWN, "LISTEN_FDS": "0"},
        {"LISTEN_PID": OWN, "LISTEN_FDS": "x"},
        {"LISTEN_PID": OWN, "LISTEN_FDS": "-1"},
    ],
    ids=["nothing", "another process", "no process", "no number", "none", "no digits", "negative"],
)
def test_without_sockets_for_this_process_there_are_none_and_children_have_none_either(environ: dict[str, str]) -> None:
    assert listen_fds(environ) == []
    assert environ == {}


# The service manager.

NewManager = Callable[[str], socket.socket]
NewNotifier = Callable[[dict[str, str]], Notifier]


@pytest.fixture
def new_manager() -> Iterator[NewManager]:
    """Return what makes the socket of a manager, at the address that it tells services."""
    made: list[socket.socket] = []

    def make(address: str) -> socket.socket:
        manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        made.append(manager)
        manager.bind("\0" + address[1:] if address[0] == "@" else address)
        manager.setblocking(False)
        return manager

    yield make
    for manager in made:
        manager.close()


@pytest.fixture
def new_notifier() -> Iterator[NewNotifier]:
    """Return what makes a notifier."""
    with contextlib.ExitStack() as stack:

        def make(environ: dict[str, str]) -> Notifier:
            notifier = Notifier(environ)
            stack.callback(notifier.close)
            return notifier

        yield make


@pytest.fixture(params=["path", "abstract"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "notify") if request.param == "path" else f"@fastserve-test-{os.getpid()}"


def test_the_manager_is_told_everything(address: str, new_manager: NewManager, new_notifier: NewNotifier) -> None:
    manager = new_manager(address)
    environ = {"NOTIFY_SOCKET": address, "HOME": "/"}
    notifier = new_notifier(environ)
    assert environ == {"HOME": "/"}
    told = []
    for tell in (notifier.ready, notifier.stopping, notifier.alive, lambda: notifier.succeeded_by(4711)):
        tell()
        told.append(manager.recv(1000).decode())
    assert told == [f"READY=1\nMAINPID={OWN}", "STOPPING=1", "WATCHDOG=1", "MAINPID=4711"]
    notifier.reloading()
    first, second = manager.recv(1000).decode().split("\n")
    assert first == "RELOADING=1"
    assert int(second.removeprefix("MONOTONIC_USEC=")) > 0


def test_a_notifier_that_is_closed_tells_nothing_any_more(
    address: str, new_manager: NewManager, new_notifier: NewNotifier
) -> None:
    manager = new_manager(address)
    notifier = new_notifier({"NOTIFY_SOCKET": address})
    notifier.close()
    notifier.ready()
    with pytest.raises(BlockingIOError):
        manager.recv(1000)


def test_a_manager_that_is_gone_is_no_reason_to_stop(
    tmp_path: Path, new_manager: NewManager, new_notifier: NewNotifier
) -> None:
    address = str(tmp_path / "notify")
    new_manager(address).close()
    notifier = new_notifier({"NOTIFY_SOCKET": address})
    notifier.ready()
    notifier.alive()


@pytest.mark.parametrize("environ", [{}, {"NOTIFY_SOCKET": ""}], ids=["none", "empty"])
def test_without_a_manager_nobody_is_told_anything(environ: dict[str, str]) -> None:
    notifier = Notifier(environ)
    for tell in (notifier.ready, notifier.reloading, notifier.stopping, notifier.alive):
        tell()
    notifier.succeeded_by(4711)
    assert notifier.watchdog_s is None


@pytest.mark.parametrize(
    ("environ", "watchdog_s"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "3000000"}, 1.5),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": OWN}, 1.5),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "x"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_PID": OWN}, None),
    ],
    ids=["not asked for", "any process", "this process", "another process", "no number", "zero", "no time"],
)
def test_the_watchdog_is_fed_twice_as_often_as_it_asks_for(
    environ: dict[str, str], watchdog_s: float | None, tmp_path: Path, new_notifier: NewNotifier
) -> None:
    environ = {**environ, "NOTIFY_SOCKET": str(tmp_path / "notify")}
    assert new_notifier(environ).watchdog_s == watchdog_s
    assert environ == {}


def test_a_watchdog_without_a_socket_is_none() -> None:
    assert Notifier({"WATCHDOG_USEC": "3000000"}).watchdog_s is None


def test_a_server_that_replaces_this_one_is_told_what_this_one_was(tmp_path: Path, new_notifier: NewNotifier) -> None:
    told = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "3000000"}
    first = new_notifier({**told, "WATCHDOG_PID": OWN, "HOME": "/"})
    assert first.environment == told
    assert new_notifier(dict(first.environment)).watchdog_s == 1.5
    assert Notifier({"HOME": "/"}).environment == {}

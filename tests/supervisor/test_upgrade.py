"""Giving way to a new server, with a small program in its place."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

import fastserve
from fastserve.supervisor.upgrade import Heir, Inheritance, inherit

from .listening import Open, listen, port_of

PATIENCE_S = 20.0

HEIR = """
import json, os, select, sys
from fastserve.settings import BindSettings
from fastserve.supervisor.listeners import ListeningSockets
from fastserve.supervisor.upgrade import inherit

inheritance = inherit(os.environ)
sockets = ListeningSockets(BindSettings(bind=("127.0.0.1:0",)), "random", inheritance.addresses)
told = {
    "arguments": sys.argv[1:],
    "folder": os.getcwd(),
    "variable": os.environ.get("GIVEN"),
    "again": inherit(os.environ) is None,
    "pid": inheritance.pid,
    "listen_fds": inheritance.listen_fds,
    "urls": sockets.urls,
    "inheritable": any(os.get_inheritable(fd) for fd in [*sockets.fds(), inheritance.channel.fileno()]),
}
if sys.argv[1] == "fails":
    sys.exit(3)
client, _ = sockets.for_slot(1)[0].accept()
client.sendall(json.dumps(told).encode())
client.close()
assert not inheritance.is_over()
inheritance.accept()
select.select([inheritance.channel], [], [])
sys.exit(7 if inheritance.is_over() else 1)
"""

StartHeir = Callable[..., Heir]


@pytest.fixture
def start_heir(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[StartHeir]:
    """Start a new server on these sockets. It accepts one connection of slot 1, and then says that it is ready."""
    (tmp_path / "heir.py").write_text(HEIR)
    heirs = []

    def start(sockets: Any = None, what: str = "serves", folder: Path = tmp_path) -> Heir:
        monkeypatch.setattr(sys, "orig_argv", ["python", str(tmp_path / "heir.py"), what])
        environment = {"GIVEN": "as well", "PYTHONPATH": str(Path(fastserve.__file__).parents[1])}
        addresses, fds = ({}, []) if sockets is None else (sockets.describe(), sockets.fds())
        heir = Heir(addresses, fds, listen_fds=[3, 4], environment=environment, folder=str(folder))
        heirs.append(heir)
        return heir

    yield start
    for heir in heirs:
        heir.close()
        if psutil.pid_exists(heir.pid) and psutil.Process(heir.pid).ppid() == os.getpid():
            os.kill(heir.pid, signal.SIGKILL)
            os.waitpid(heir.pid, 0)


def wait_for(heir: Heir) -> bool | None:
    """Return what the heir has become, as soon as it says anything."""
    assert select.select([heir.channel], [], [], PATIENCE_S)[0], "the heir is silent"
    return heir.is_ready()


def reap(heir: Heir) -> int:
    _, status = os.waitpid(heir.pid, 0)
    heir.reaped(os.waitstatus_to_exitcode(status))
    return os.waitstatus_to_exitcode(status)


def test_a_new_server_is_the_same_command_on_the_same_sockets(
    start_heir: StartHeir, listening: Open, tmp_path: Path
) -> None:
    sockets = listening("127.0.0.1:0")
    listen(sockets, slots=2)
    sockets.steer({1}, {})
    heir = start_heir(sockets)
    assert heir.is_ready() is False
    with socket.create_connection(("127.0.0.1", port_of(sockets)), timeout=PATIENCE_S) as client:
        told = json.loads(client.makefile().read())
    assert told == {
        "arguments": ["serves"],
        "folder": str(tmp_path),
        "variable": "as well",
        "again": True,
        "pid": os.getpid(),
        "listen_fds": [3, 4],
        "urls": sockets.urls,
        "inheritable": False,
    }
    assert wait_for(heir) is True
    heir.close()
    assert reap(heir) == 7, "it has not seen that this server has ended"


def test_a_new_server_that_ends_without_being_ready_has_failed(start_heir: StartHeir, listening: Open) -> None:
    sockets = listening("127.0.0.1:0")
    listen(sockets, slots=2)
    heir = start_heir(sockets, "fails")
    assert wait_for(heir) is None
    assert reap(heir) == 3
    socket.create_connection(("127.0.0.1", port_of(sockets))).close()


def test_a_new_server_that_is_killed_has_failed(start_heir: StartHeir, listening: Open) -> None:
    sockets = listening("127.0.0.1:0")
    listen(sockets, slots=2)
    heir = start_heir(sockets)
    os.kill(heir.pid, signal.SIGKILL)
    assert wait_for(heir) is None
    assert reap(heir) == -signal.SIGKILL


def test_a_new_server_that_was_ready_and_has_ended_has_failed(start_heir: StartHeir, listening: Open) -> None:
    sockets = listening("127.0.0.1:0")
    listen(sockets, slots=2)
    sockets.steer({1}, {})
    heir = start_heir(sockets)
    socket.create_connection(("127.0.0.1", port_of(sockets))).close()
    assert select.select([heir.channel], [], [], PATIENCE_S)[0], "the heir is silent"
    os.kill(heir.pid, signal.SIGKILL)
    assert reap(heir) == -signal.SIGKILL
    assert heir.is_ready() is None


def test_a_new_server_that_cannot_be_started_leaves_nothing_open(start_heir: StartHeir, tmp_path: Path) -> None:
    fds = psutil.Process().num_fds()
    with pytest.raises(FileNotFoundError):
        start_heir(folder=tmp_path / "nowhere")
    assert psutil.Process().num_fds() == fds


def test_the_sockets_do_not_stay_inheritable_in_this_process(start_heir: StartHeir, listening: Open) -> None:
    sockets = listening("127.0.0.1:0")
    listen(sockets, slots=2)
    heir = start_heir(sockets)
    assert not any(os.get_inheritable(fd) for fd in [*sockets.fds(), heir.channel.fileno()])


# The other side, in this process.


@pytest.fixture
def inheritance() -> Iterator[tuple[Inheritance, socket.socket]]:
    """What a server was given, and the other end of its channel."""
    ours, theirs = socket.socketpair()
    environ = {
        "FASTSERVE_INHERITANCE": json.dumps(
            {"pid": 77, "channel": ours.detach(), "addresses": {"a": {"url": "x"}}, "listen_fds": [3]}
        ),
        "HOME": "/",
    }
    given = inherit(environ)
    assert given is not None
    assert environ == {"HOME": "/"}
    with theirs, given.channel:
        yield given, theirs


def test_a_server_that_nobody_has_started_inherits_nothing() -> None:
    assert inherit({"HOME": "/"}) is None


def test_what_was_given_is_as_it_was_described(inheritance: tuple[Inheritance, socket.socket]) -> None:
    given, _ = inheritance
    assert (given.pid, given.addresses, given.listen_fds) == (77, {"a": {"url": "x"}}, [3])


def test_the_other_server_is_over_when_its_end_is_closed(inheritance: tuple[Inheritance, socket.socket]) -> None:
    given, theirs = inheritance
    assert not given.is_over()
    theirs.send(b"something else")
    assert not given.is_over()
    theirs.close()
    assert given.is_over()


def test_the_other_server_is_over_also_when_it_has_not_read_that_this_one_is_ready(
    inheritance: tuple[Inheritance, socket.socket],
) -> None:
    given, theirs = inheritance
    given.accept()
    assert not given.is_over()
    theirs.close()
    assert given.is_over()


def test_it_does_not_matter_when_there_is_nobody_left_to_tell(inheritance: tuple[Inheritance, socket.socket]) -> None:
    given, theirs = inheritance
    theirs.close()
    given.accept()
    assert given.is_over()

"""Unix sockets, in folders of the test, and sockets that the process was started with."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

from fastserve.errors import BindError

from .listening import BACKLOG, SLOTS, Open, accepted

# Unix sockets.


@SLOTS
def test_a_unix_socket_is_shared_by_all_slots(listening: Open, tmp_path: Path, slots: int) -> None:
    path = tmp_path / "sock"
    sockets = listening(f"unix:{path}", slots=slots)
    sockets.listen(BACKLOG)
    assert sockets.urls == [f"unix:{path}"]
    with socket.socket(socket.AF_UNIX) as client:
        for slot in range(slots):
            (sock,) = sockets.for_slot(slot)
            assert sock.getsockname() == str(path)
            assert not accepted(sock)
        client.connect(str(path))
        assert accepted(sockets.for_slot(slots - 1)[0]) == 1


def test_any_user_may_connect_to_a_unix_socket(listening: Open, tmp_path: Path) -> None:
    listening(f"unix:{tmp_path / 'sock'}")
    assert stat.S_IMODE(os.stat(tmp_path / "sock").st_mode) == 0o666


def test_the_file_of_a_unix_socket_is_removed_at_the_end(listening: Open, tmp_path: Path) -> None:
    listening(f"unix:{tmp_path / 'sock'}", slots=2).close()
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_gone_already_does_not_matter_at_the_end(listening: Open, tmp_path: Path) -> None:
    sockets = listening(f"unix:{tmp_path / 'sock'}")
    (tmp_path / "sock").unlink()
    sockets.close()


def test_the_socket_of_a_server_that_was_killed_is_replaced(listening: Open, tmp_path: Path) -> None:
    path = tmp_path / "sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
        dead.listen()
    assert path.exists()
    listening(f"unix:{path}").listen(BACKLOG)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))


@SLOTS
def test_the_socket_of_a_server_that_lives_is_left_alone(listening: Open, tmp_path: Path, slots: int) -> None:
    path = tmp_path / "sock"
    listening(f"unix:{path}").listen(BACKLOG)
    with pytest.raises(BindError, match=rf"^cannot listen on unix:{path}: another server does$"):
        listening(f"unix:{path}", slots=slots)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))


def test_the_socket_of_a_server_that_is_still_starting_is_left_alone(listening: Open, tmp_path: Path) -> None:
    path = tmp_path / "sock"
    first = listening(f"unix:{path}")
    with pytest.raises(BindError):
        listening(f"unix:{path}")
    first.listen(BACKLOG)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))


def test_a_file_that_is_not_a_socket_is_left_alone(listening: Open, tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("keep me")
    with pytest.raises(BindError, match=rf"^cannot listen on unix:{path}: Address already in use$"):
        listening(f"unix:{path}")
    assert path.read_text() == "keep me"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        pytest.param("nowhere/sock", "No such file or directory", id="no such folder"),
        pytest.param("x" * 108, "AF_UNIX path too long", id="too long"),
    ],
)
def test_a_path_that_cannot_be_is_named_with_the_reason(
    listening: Open, tmp_path: Path, name: str, reason: str
) -> None:
    with pytest.raises(BindError, match=rf"^cannot listen on unix:{tmp_path / name}: {reason}$"):
        listening(f"unix:{tmp_path / name}")


# Sockets that the process was started with.


@SLOTS
def test_an_inherited_socket_is_shared_by_all_slots(listening: Open, slots: int) -> None:
    ours = socket.create_server(("127.0.0.1", 0))
    port = ours.getsockname()[1]
    sockets = listening(f"fd://{ours.detach()}", slots=slots)
    sockets.listen(BACKLOG)
    assert sockets.urls == [f"http://127.0.0.1:{port}"]
    assert [sockets.for_slot(slot)[0].getsockname()[1] for slot in range(slots)] == [port] * slots
    with socket.create_connection(("127.0.0.1", port)):
        assert accepted(sockets.for_slot(slots - 1)[0]) == 1


def test_an_inherited_unix_socket_has_the_url_of_its_path(listening: Open, tmp_path: Path) -> None:
    ours = socket.socket(socket.AF_UNIX)
    ours.bind(str(tmp_path / "sock"))
    sockets = listening(f"fd://{ours.detach()}")
    assert sockets.urls == [f"unix:{tmp_path / 'sock'}"]
    sockets.close()
    assert (tmp_path / "sock").exists(), "the file belongs to whoever made the socket"


def test_an_fd_that_is_not_open_is_refused(listening: Open) -> None:
    fd = os.dup(0)
    os.close(fd)
    with pytest.raises(BindError, match=rf"^cannot listen on fd://{fd}: Bad file descriptor$"):
        listening(f"fd://{fd}")


def test_an_fd_that_is_not_a_socket_is_refused(listening: Open, tmp_path: Path) -> None:
    with (tmp_path / "file").open("w") as file, pytest.raises(BindError, match="Socket operation on non-socket"):
        listening(f"fd://{file.fileno()}")


def test_a_datagram_socket_is_refused(listening: Open) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
        fd = datagrams.detach()
    with pytest.raises(BindError, match=rf"^cannot listen on fd://{fd}: it is not a stream socket$"):
        listening(f"fd://{fd}")


def test_a_connected_socket_is_refused(listening: Open) -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        fd = ours.detach()
        with pytest.raises(BindError, match=f"cannot listen on fd://{fd}"):
            listening(f"fd://{fd}").listen(BACKLOG)

"""Unix sockets, in folders of the test, and sockets that the process was started with."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
from pathlib import Path

import pytest

from fastserve.errors import BindError

from .listening import BALANCES, Open, accepted, listen

# Unix sockets.


@BALANCES
def test_a_unix_socket_is_shared_by_all_slots(listening: Open, tmp_path: Path, balance: str) -> None:
    path = tmp_path / "sock"
    sockets = listening(f"unix:{path}", balance=balance)
    listen(sockets, slots=2)
    assert sockets.urls == [f"unix:{path}"]
    (sock,) = sockets.for_slot(0)
    assert sockets.for_slot(1) == [sock]
    assert sock.getsockname() == str(path)
    assert connects(path)
    assert accepted(sock) == 1


def connects(path: Path) -> bool:
    """Tell whether someone listens there."""
    with socket.socket(socket.AF_UNIX) as client:
        try:
            client.connect(str(path))
        except OSError:
            return False
        return True


def test_any_user_may_connect_to_a_unix_socket(listening: Open, tmp_path: Path) -> None:
    listening(f"unix:{tmp_path / 'sock'}")
    assert stat.S_IMODE(os.stat(tmp_path / "sock").st_mode) == 0o666


def test_the_file_of_a_unix_socket_is_removed_at_the_end(listening: Open, tmp_path: Path) -> None:
    listening(f"unix:{tmp_path / 'sock'}").close()
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_gone_already_does_not_matter_at_the_end(listening: Open, tmp_path: Path) -> None:
    sockets = listening(f"unix:{tmp_path / 'sock'}")
    (tmp_path / "sock").unlink()
    sockets.close()


def test_a_file_that_another_server_has_made_since_is_left_alone_at_the_end(listening: Open, tmp_path: Path) -> None:
    path = tmp_path / "sock"
    first = listening(f"unix:{path}")
    path.rename(tmp_path / "moved")
    listening(f"unix:{path}")
    first.close()
    assert connects(path)


def dead_socket(path: Path) -> None:
    """Leave the file of a socket that nobody listens on."""
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
        dead.listen()


def test_the_socket_of_a_server_that_was_killed_is_replaced(listening: Open, tmp_path: Path) -> None:
    path = tmp_path / "sock"
    dead_socket(path)
    assert not connects(path)
    listening(f"unix:{path}")
    assert connects(path)


def test_a_dead_socket_that_cannot_be_removed_is_in_use(
    listening: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: str) -> None:
        raise PermissionError(1, "Operation not permitted")

    path = tmp_path / "sock"
    dead_socket(path)
    monkeypatch.setattr(os, "unlink", refuse)
    with pytest.raises(BindError, match=rf"^cannot listen on unix:{path}: Address already in use$"):
        listening(f"unix:{path}")


def test_the_socket_of_a_server_that_lives_is_left_alone(listening: Open, tmp_path: Path) -> None:
    path = tmp_path / "sock"
    listening(f"unix:{path}")
    with pytest.raises(BindError, match=rf"^cannot listen on unix:{path}: another server does$"):
        listening(f"unix:{path}")
    assert connects(path)


def new_client() -> socket.socket:
    client = socket.socket(socket.AF_UNIX)
    client.setblocking(False)
    return client


def test_the_socket_of_a_server_that_hangs_is_left_alone(listening: Open, tmp_path: Path) -> None:
    """A client that waits for a place in its queue would wait for good."""
    path = tmp_path / "sock"
    with socket.socket(socket.AF_UNIX) as hanging, contextlib.ExitStack() as stack:
        hanging.bind(str(path))
        hanging.listen(0)
        client = stack.enter_context(new_client())
        while client.connect_ex(str(path)) == 0:
            client = stack.enter_context(new_client())
        with pytest.raises(BindError, match="Address already in use"):
            listening(f"unix:{path}")
    assert path.exists()


def test_a_file_that_is_not_a_socket_is_left_alone(listening: Open, tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("keep me")
    with pytest.raises(BindError, match=rf"^cannot listen on unix:{path}: it is a file, and no socket$"):
        listening(f"unix:{path}")
    assert path.read_text() == "keep me"
    with pytest.raises(BindError, match=rf"^cannot listen on unix:{tmp_path}: it is a directory, and no socket$"):
        listening(f"unix:{tmp_path}")


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


@BALANCES
@pytest.mark.parametrize("listens", [False, True], ids=["bound", "listening"])
def test_an_inherited_socket_is_shared_by_all_slots(listening: Open, balance: str, listens: bool) -> None:
    ours = socket.socket()
    ours.bind(("127.0.0.1", 0))
    if listens:
        ours.listen()
    port = ours.getsockname()[1]
    fd = ours.detach()
    os.set_inheritable(fd, True)
    sockets = listening(f"fd://{fd}", balance=balance)
    assert not os.get_inheritable(fd)
    listen(sockets, slots=2)
    sockets.steer({0, 1}, {})
    assert sockets.urls == [f"http://127.0.0.1:{port}"]
    (sock,) = sockets.for_slot(0)
    assert sockets.for_slot(1) == [sock]
    with socket.create_connection(("127.0.0.1", port)):
        assert accepted(sock) == 1


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
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ours:
        with pytest.raises(BindError, match=rf"^cannot listen on fd://{ours.fileno()}: it is not a stream socket$"):
            listening(f"fd://{ours.fileno()}")
        assert ours.getsockname(), "it is not ours to close"


def test_a_connected_socket_is_refused(listening: Open) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        with pytest.raises(BindError, match=rf"^cannot listen on fd://{ours.fileno()}: it is connected$"):
            listening(f"fd://{ours.fileno()}")
        theirs.send(b"x")
        assert ours.recv(1) == b"x"

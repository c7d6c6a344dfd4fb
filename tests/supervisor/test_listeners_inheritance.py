"""Sockets that one server describes and another one takes: here both are in this process, by duplicated descriptors."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson
import psutil
import pytest

from fastserve.errors import BindError
from fastserve.supervisor import steering
from fastserve.supervisor.listeners import ListeningSockets
from tests.process.running import ipv6

from .listening import BALANCES, Open, accepted, connected, linux, listen, port_of

pytestmark = linux


def given(sockets: ListeningSockets) -> dict[str, Any]:
    """Return the description of these sockets as another process gets it: as JSON, with descriptors of its own."""
    description: dict[str, Any] = orjson.loads(orjson.dumps(sockets.describe()))
    for opened in description.values():
        opened["shared"] = [os.dup(fd) for fd in opened["shared"]]
        for group in opened["groups"]:
            group["fds"] = {slot: os.dup(fd) for slot, fd in group["fds"].items()}
    return description


def names(sockets: ListeningSockets, slots: int) -> list[list[Any]]:
    return [[sock.getsockname() for sock in sockets.for_slot(slot)] for slot in range(slots)]


@BALANCES
@ipv6
def test_another_server_has_the_same_sockets(listening: Open, tmp_path: Path, balance: str) -> None:
    addresses = ("127.0.0.1:0", "[::1]:0", "127.0.0.1:0", f"unix:{tmp_path}/sock")
    first = listening(*addresses, balance=balance)
    listen(first, slots=2)
    fds = psutil.Process().num_fds()
    second = listening(*addresses, balance=balance, inherited=given(first))
    listen(second, slots=2)
    assert (second.urls, second.slots) == (first.urls, first.slots)
    assert names(second, 2) == names(first, 2)
    assert psutil.Process().num_fds() == fds + len(first.fds()), "nothing else was opened"
    assert second.describe().keys() == first.describe().keys()


def test_the_sockets_of_a_service_manager_are_passed_on(listening: Open) -> None:
    ours = socket.create_server(("127.0.0.1", 0))
    address = f"fd://{ours.detach()}"
    first = listening(address)
    second = listening(address, inherited=given(first))
    assert second.urls == first.urls
    first.close()
    connected(port_of(second), 1)


def test_connections_that_wait_are_there_for_the_other_server(listening: Open) -> None:
    first = listening("127.0.0.1:0")
    listen(first, slots=2)
    connected(port_of(first), 16)
    second = listening("127.0.0.1:0", inherited=given(first))
    first.close()
    assert sum(accepted(second.for_slot(slot)[0]) for slot in range(2)) == 16


def test_the_other_server_may_have_more_slots_and_knows_their_order(listening: Open) -> None:
    first = listening("127.0.0.1:0")
    listen(first, slots=3)
    first.remove_slot(0)
    second = listening("127.0.0.1:0", inherited=given(first))
    first.close()
    second.listen()
    second.add_slot(0)
    for ready in (0, 1, 2):
        second.steer({ready}, {})
        connected(int(second.for_slot(1)[0].getsockname()[1]), 5)
        assert [accepted(second.for_slot(slot)[0]) for slot in range(3)] == [5 * (slot == ready) for slot in range(3)]


def test_an_address_that_is_new_is_opened_and_one_that_is_not_wanted_any_more_is_closed(
    listening: Open, tmp_path: Path
) -> None:
    first = listening("127.0.0.1:0", "localhost:0", f"unix:{tmp_path}/sock")
    listen(first, slots=2)
    fds = psutil.Process().num_fds()
    second = listening("127.0.0.1:0", f"unix:{tmp_path}/new", inherited=given(first))
    assert second.urls == [first.urls[0], f"unix:{tmp_path}/new"]
    assert psutil.Process().num_fds() == fds + len(second.fds())
    dropped = first.for_slot(0)[-1].getsockname()[1]
    first.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("localhost", dropped))


@pytest.mark.parametrize("balance", ["kernel", "shared"])
def test_what_the_first_server_has_steered_is_not_when_the_other_one_leaves_it_to_the_kernel(
    listening: Open, balance: str
) -> None:
    first = listening("127.0.0.1:0")
    listen(first, slots=2)
    first.steer({0}, {})
    second = listening("127.0.0.1:0", balance=balance, inherited=given(first))
    connected(port_of(second), 16)
    assert accepted(second.for_slot(1)[0]) == 0, "not before there is someone to accept"
    accepted(second.for_slot(0)[0])
    second.steer({0, 1}, {})
    connected(port_of(second), 64)
    assert min(accepted(second.for_slot(slot)[0]) for slot in range(2)) > 0


def test_programs_that_the_other_server_starts_do_not_get_the_sockets(listening: Open, tmp_path: Path) -> None:
    first = listening("127.0.0.1:0", f"unix:{tmp_path}/sock")
    description = given(first)
    for opened in description.values():
        for fd in [*opened["shared"], *(fd for group in opened["groups"] for fd in group["fds"].values())]:
            os.set_inheritable(fd, True)
    second = listening("127.0.0.1:0", f"unix:{tmp_path}/sock", inherited=description)
    assert not any(os.get_inheritable(fd) for fd in second.fds())


def test_a_slot_is_closed_late_without_a_word(listening: Open, said: pytest.LogCaptureFixture) -> None:
    """The first server may end when this one already does."""
    sockets = listening("127.0.0.1:0")
    listen(sockets, slots=3)
    sockets.steer({0}, {})
    sockets.close()
    sockets.remove_slot(2)
    assert said.messages == []


# The file of a Unix socket: whose it is to remove.


def pair(listening: Open, path: Path) -> tuple[ListeningSockets, ListeningSockets]:
    first = listening(f"unix:{path}")
    return first, listening(f"unix:{path}", inherited=given(first))


def test_a_server_that_has_given_way_leaves_the_file_to_the_other_one(listening: Open, tmp_path: Path) -> None:
    first, second = pair(listening, tmp_path / "sock")
    second.take_over()
    first.give_away()
    first.close()
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(tmp_path / "sock"))
    second.close()
    assert not (tmp_path / "sock").exists()


def test_a_server_that_fails_leaves_the_file_to_the_first_one(listening: Open, tmp_path: Path) -> None:
    first, second = pair(listening, tmp_path / "sock")
    second.close()
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(tmp_path / "sock"))
    first.close()
    assert not (tmp_path / "sock").exists()


@pytest.mark.parametrize("wants", [True, False], ids=["wanted", "not wanted any more"])
def test_a_server_that_cannot_listen_elsewhere_leaves_the_file_to_the_first_one(
    listening: Open, tmp_path: Path, wants: bool
) -> None:
    address = f"unix:{tmp_path}/sock"
    first = listening(address)
    description: Mapping[str, Any] = given(first)
    fds = psutil.Process().num_fds()
    with pytest.raises(BindError):
        listening(*([address] if wants else []), f"unix:{tmp_path}/nowhere/sock", inherited=description)
    assert (tmp_path / "sock").exists()
    assert psutil.Process().num_fds() == fds - 1, "its own descriptor is closed"


def test_a_program_can_be_left_to_the_kernel_twice(listening: Open) -> None:
    sockets = listening("127.0.0.1:0", balance="kernel")
    listen(sockets)
    sockets.steer({0}, {})
    sockets.steer({0}, {})
    with pytest.raises(OSError, match=r"\[Errno"):
        steering.detach(sockets.for_slot(0)[0])

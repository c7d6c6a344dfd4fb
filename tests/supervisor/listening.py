"""What the tests of listening sockets share."""

from __future__ import annotations

import select
import socket
import sys
from collections.abc import Mapping
from typing import Any, Protocol

import pytest

from fastserve.supervisor.listeners import ListeningSockets

SLOTS = pytest.mark.parametrize("slots", [1, 3], ids=["one slot", "three slots"])
BALANCES = pytest.mark.parametrize("balance", ["random", "cpu", "kernel", "shared"])

linux = pytest.mark.skipif(
    sys.platform != "linux", reason="only Linux spreads connections over such a group of sockets"
)


class Open(Protocol):
    """Opens the sockets for addresses as --bind takes them, to be closed with the test."""

    def __call__(
        self, *addresses: str, balance: str = "random", inherited: Mapping[str, Any] | None = None
    ) -> ListeningSockets:
        """Open them."""


def listen(sockets: ListeningSockets, *, slots: int = 1) -> None:
    """Listen with so many slots, as the parent process does."""
    sockets.listen()
    for slot in range(slots):
        sockets.add_slot(slot)


def port_of(sockets: ListeningSockets) -> int:
    """Return the port of the first address."""
    return int(sockets.for_slot(0)[0].getsockname()[1])


def accepted(sock: socket.socket) -> int:
    """Accept all connections that wait, and return how many they were."""
    count = 0
    while select.select([sock], [], [], 0)[0]:
        sock.accept()[0].close()
        count += 1
    return count


def connected(port: int, count: int) -> None:
    """Connect so many times to a port of 127.0.0.1."""
    for _ in range(count):
        socket.create_connection(("127.0.0.1", port)).close()

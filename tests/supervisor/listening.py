"""What the tests of listening sockets share."""

from __future__ import annotations

import select
import socket
from typing import Protocol

import pytest

from fastserve.supervisor.listeners import ListeningSockets

BACKLOG = 128
SLOTS = pytest.mark.parametrize("slots", [1, 2], ids=["one slot", "two slots"])


class Open(Protocol):
    """Opens the sockets for addresses as --bind takes them, to be closed with the test."""

    def __call__(self, *addresses: str, slots: int = 1) -> ListeningSockets:
        """Open them."""


def accepted(sock: socket.socket) -> int:
    """Accept all connections that wait, and return how many they were."""
    count = 0
    while select.select([sock], [], [], 0)[0]:
        sock.accept()[0].close()
        count += 1
    return count

"""What systemd and a service tell each other: sockets that it opened, and how the service is.

Both need nothing but the environment and a datagram (sd_listen_fds(3), sd_notify(3)).
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import MutableMapping

_FIRST_FD = 3  # SD_LISTEN_FDS_START


def listen_fds(environ: MutableMapping[str, str]) -> list[int]:
    """Return the sockets that this process was started with, and keep the processes that it starts from taking them."""
    pid, count = environ.pop("LISTEN_PID", ""), environ.pop("LISTEN_FDS", "")
    environ.pop("LISTEN_FDNAMES", None)
    if pid != str(os.getpid()) or not count.isdigit():
        return []
    return list(range(_FIRST_FD, _FIRST_FD + int(count)))


class Notifier:
    """Tells the service manager how the server is; does nothing when there is none.

    watchdog_s: how often it wants to hear of us, in seconds; None when it does not. environment: what told us all this,
    for a server that replaces this one; other processes are not to have it.
    """

    def __init__(self, environ: MutableMapping[str, str]) -> None:
        names = ("NOTIFY_SOCKET", "WATCHDOG_USEC")
        self.environment = {name: environ[name] for name in names if name in environ}
        address = environ.pop("NOTIFY_SOCKET", "")
        self._socket: socket.socket | None = None
        if address:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._address = "\0" + address[1:] if address[0] == "@" else address
        watchdog_us = environ.pop("WATCHDOG_USEC", "")
        is_ours = environ.pop("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        # Twice as often as it has to be.
        is_wanted = self._socket is not None and watchdog_us.isdigit() and is_ours
        self.watchdog_s = (int(watchdog_us) / 2e6 or None) if is_wanted else None

    def ready(self) -> None:
        """Tell that requests are served, and by which process."""
        self._send(f"READY=1\nMAINPID={os.getpid()}")

    def reloading(self) -> None:
        """Tell that workers are being replaced; `ready` ends it."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """Tell that the server is about to end."""
        self._send("STOPPING=1")

    def succeeded_by(self, pid: int) -> None:
        """Tell that another process is the server from now on."""
        self._send(f"MAINPID={pid}")

    def alive(self) -> None:
        """Tell that the server is running (WatchdogSec=)."""
        self._send("WATCHDOG=1")

    def close(self) -> None:
        """Tell nothing any more."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _send(self, message: str) -> None:
        if self._socket is not None:
            with contextlib.suppress(OSError):  # A manager that is gone is no reason to stop.
                self._socket.sendto(message.encode(), self._address)

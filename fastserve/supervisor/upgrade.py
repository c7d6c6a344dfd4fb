"""Starting a new server on the sockets of this one, and giving way when it is ready (SIGUSR2).

The new server is the same command, started anew: it may be another version, with other options. It inherits the
listening sockets, so no connection is refused and none is lost. When it does not become ready, this one goes on.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import Any

_VARIABLE = "FASTSERVE_INHERITANCE"
_READY = b"ready"


@dataclass(slots=True)
class Inheritance:
    """What a server was given by the one that started it.

    pid: of that one. addresses: for each address, how its sockets were described there (see ListeningSockets.describe).
    listen_fds: the sockets that the service manager had given to the first server.
    """

    pid: int
    channel: socket.socket
    addresses: dict[str, Any] = field(default_factory=dict)
    listen_fds: list[int] = field(default_factory=list)

    def accept(self) -> None:
        """Tell the other server that this one is ready, and that it may stop."""
        with contextlib.suppress(OSError):  # It may have ended.
            self.channel.send(_READY)

    def is_over(self) -> bool:
        """Take what comes by the channel, and tell whether the other server has ended."""
        try:
            return not self.channel.recv(16)
        except BlockingIOError:
            return False
        except ConnectionResetError:
            return True


def inherit(environ: MutableMapping[str, str]) -> Inheritance | None:
    """Return what this process was given, if it was started by another server."""
    text = environ.pop(_VARIABLE, None)
    if text is None:
        return None
    content = json.loads(text)
    channel = socket.socket(fileno=content["channel"])
    channel.setblocking(False)
    channel.set_inheritable(False)
    return Inheritance(content["pid"], channel, content["addresses"], content["listen_fds"])


class Heir:
    """A new server that this one has started.

    addresses, fds: what ListeningSockets says of itself. listen_fds: see Inheritance. environment: variables besides
    those of this process. folder: where to start it, which is where this one was started.

    Raises:
        OSError: it cannot be started.
    """

    def __init__(
        self,
        addresses: dict[str, Any],
        fds: Sequence[int],
        *,
        listen_fds: Sequence[int],
        environment: Mapping[str, str],
        folder: str,
    ) -> None:
        self.channel, theirs = socket.socketpair()
        with theirs:
            content = {
                "pid": os.getpid(),
                "channel": theirs.fileno(),
                "addresses": addresses,
                "listen_fds": list(listen_fds),
            }
            try:
                self._process = subprocess.Popen(
                    [sys.executable, *sys.orig_argv[1:]],
                    env={**os.environ, **environment, _VARIABLE: json.dumps(content)},
                    pass_fds=[*fds, theirs.fileno()],
                    cwd=folder,
                )
            except BaseException:
                self.channel.close()
                raise
        self.pid = self._process.pid
        self.channel.setblocking(False)

    def is_ready(self) -> bool | None:
        """Tell whether the new server is ready; None when it has ended, also if it was ready before."""
        if self._process.returncode is not None:
            return None
        try:
            said = self.channel.recv(16)
        except BlockingIOError:
            return False
        except ConnectionResetError:
            said = b""
        return said == _READY or None

    def reaped(self, status: int) -> None:
        """Take note that the process has been waited for."""
        self._process.returncode = status

    def close(self) -> None:
        """Let it go on by itself."""
        self.channel.close()
        self._process.returncode = self._process.returncode or 0  # Nobody here waits for it any more.

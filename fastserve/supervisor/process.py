"""The parent's view of one worker: its process id, the socket that it talks by, and its record on the scoreboard."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
from dataclasses import dataclass

from fastserve.worker.owner import GIVE_UP
from fastserve.worker.scoreboard import Record


@dataclass(slots=True)
class WorkerProcess:
    """A worker that was forked. has_failed: whether it has said why it cannot start."""

    slot: int
    pid: int
    channel: socket.socket
    record: Record
    has_failed: bool = False
    _unread: bytes = b""

    def messages(self) -> list[tuple[str, str]]:
        """Return what the worker has said since the last call: pairs of an event and a text.

        Raises:
            EOFError: it says nothing any more.
        """
        try:
            data = self.channel.recv(64 * 1024)
        except BlockingIOError:
            return []
        except ConnectionResetError:
            data = b""
        if not data:
            raise EOFError
        *lines, self._unread = (self._unread + data).split(b"\n")
        return [message for line in lines if (message := _read(line)) is not None]

    def ask_to_give_up(self) -> None:
        """Ask it to end, and to say why it is not ready; nothing happens when it has ended."""
        with contextlib.suppress(OSError):
            self.channel.send(GIVE_UP)

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal; nothing happens when the process has ended."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def close(self) -> None:
        """Close what belongs to it, when it is gone."""
        self.channel.close()
        self.record.clear()


def _read(line: bytes) -> tuple[str, str] | None:
    """Return what a line says; None when it is torn, as by a signal that made the worker say something else as well."""
    try:
        event, text = json.loads(line)
    except (ValueError, TypeError):
        return None
    return event, text


def describe_end(status: int) -> str:
    """Return an exit status in words; negative ones are signals."""
    if status >= 0:
        return f"exit status {status}"
    try:
        return f"killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"killed by signal {-status}"

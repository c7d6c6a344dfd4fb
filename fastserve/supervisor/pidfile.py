"""The file that holds the process id of the server."""

from __future__ import annotations

import contextlib
import logging
import os
from pathlib import Path

from fastserve.errors import StartupError

_log = logging.getLogger("fastserve")

_PID_END = 2**31  # pid_t; zero and below name groups of processes


class PidFile:
    """A file with the id of this process, written when this is entered and removed when it is left.

    predecessor: the server that this one is to replace. While the file names that, it is left alone until `take_over`.

    Raises:
        StartupError: when entered: the file names another process that is running, or cannot be written.
    """

    def __init__(self, path: str, *, predecessor: int | None = None) -> None:
        self._path = Path(path)
        self._predecessor = predecessor

    def __enter__(self) -> PidFile:
        running = self._read()
        if running is not None and running == self._predecessor:
            return self
        if running is not None and running != os.getpid() and _is_running(running):
            raise StartupError(f"{self._path} names process {running}, which is running")
        try:
            self._write()
        except OSError as error:
            raise StartupError(self._complaint(error)) from None
        return self

    def take_over(self) -> None:
        """Write the file, now that this is the server. That it cannot be is logged: this one serves without."""
        try:
            self._write()
        except OSError as error:
            _log.error("%s. The server goes on without it.", self._complaint(error))

    def _write(self) -> None:
        if self._read() != os.getpid():  # Readers never find it empty when it says so already.
            self._path.write_text(f"{os.getpid()}\n")

    def _complaint(self, error: OSError) -> str:
        return f"cannot write {self._path}: {error.strerror}"

    def __exit__(self, *exc: object) -> None:
        if self._read() == os.getpid():
            with contextlib.suppress(OSError):
                self._path.unlink()

    def _read(self) -> int | None:
        try:
            pid = int(self._path.read_text())
        except (OSError, ValueError):
            return None
        return pid if 0 < pid < _PID_END else None


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True

"""The file that holds the process id of the server."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from fastserve.errors import StartupError

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
        self.take_over()
        return self

    def take_over(self) -> None:
        """Write the file, now that this is the server, if it does not say so already: readers never find it empty then.

        Raises:
            StartupError: it cannot be written.
        """
        if self._read() == os.getpid():
            return
        try:
            self._path.write_text(f"{os.getpid()}\n")
        except OSError as error:
            raise StartupError(f"cannot write {self._path}: {error.strerror}") from None

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

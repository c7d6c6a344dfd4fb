"""The parent's view of the process that watches files: a change of one is a reason to replace the worker.

What happens then is up to the fleet, as with every other reason: the successor starts first.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import logging
import os
import subprocess
import sys
import time
from pathlib import Path

from fastserve.errors import StartupError
from fastserve.settings import ReloadSettings
from fastserve.supervisor import watcher

_log = logging.getLogger("fastserve")

_WHAT_WATCHES = {"listen": "WatchFiles", "poll": "StatReload"}


class Watcher:
    """Watches files. directories: where. name: by what, as uvicorn calls it.

    Raises:
        StartupError: it cannot be started.
    """

    def __init__(self, settings: ReloadSettings) -> None:
        what = watcher.watched(settings.directories, settings.includes, settings.excludes, settings.delay_s)
        for directory in settings.directories:
            if not Path(directory).is_dir():
                _log.warning("--reload-dir: %s: there is no such directory, so it is not watched", directory)
        how = "listen" if importlib.util.find_spec("watchfiles") is not None else "poll"
        self.directories = sorted(what.directories)
        self.name = _WHAT_WATCHES[how]
        self._unread = b""
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", watcher.__file__, how, what.to_json(), str(os.getpid()), str(time.time_ns())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
            )
        except OSError as error:
            raise StartupError(f"cannot watch files: {error}") from None
        assert self._process.stdout is not None
        self._output = self._process.stdout
        os.set_blocking(self._output.fileno(), False)

    def fileno(self) -> int:
        """Return what can be read from when there is something to say."""
        return self._output.fileno()

    def changes(self) -> list[str]:
        """Return the paths of what has changed since the last call, as they are shown.

        Raises:
            EOFError: nothing is watched any more.
        """
        try:
            data = os.read(self.fileno(), 1 << 16)
        except BlockingIOError:
            return []
        if not data:
            raise EOFError
        *lines, self._unread = (self._unread + data).split(b"\n")
        paths = dict.fromkeys(path for line in lines for path in json.loads(line))
        return [_shown(path) for path in paths]

    def close_in_child(self) -> None:
        """Let go of it, in a process that was forked."""
        self._output.close()

    def close(self) -> None:
        """End it."""
        self._output.close()
        self._process.kill()
        with contextlib.suppress(ChildProcessError):
            self._process.wait()


def _shown(path: str) -> str:
    with contextlib.suppress(ValueError, OSError):  # It is elsewhere, or the current folder was removed.
        return str(Path(path).relative_to(Path.cwd()))
    return path

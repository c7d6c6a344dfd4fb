"""A real gunicorn with fastserve's worker class, in a process of its own."""

from __future__ import annotations

import importlib.metadata
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from .running import PACKAGE_ROOT, SERVED, RunningServer

OLDEST = "21.2.0"
"""The oldest gunicorn that is supported: before, it needed pkg_resources, which setuptools has no more."""

CURRENT = importlib.metadata.version("gunicorn")

Begin = Callable[..., "RunningGunicorn"]
"""Starts a gunicorn with these arguments, and waits until its workers are ready."""


class RunningGunicorn(RunningServer):
    """`gunicorn -k fastserve.gunicorn.FastserveWorker` with these arguments."""

    @property
    def urls(self) -> list[str]:
        """Where it says that it is listening."""
        return re.findall(r"Listening at: (\S+) \(", self.log)

    def wait_workers(self, count: int = 1) -> RunningGunicorn:
        """Wait until so many workers in all have become ready."""
        self.wait_log("Fastserve worker is ready", times=count)
        return self

    @property
    def booted(self) -> list[int]:
        """The process ids of all workers that have been ready, in this order."""
        return [int(pid) for pid in re.findall(r"worker is ready \(pid: ([0-9]+)\)", self.log)]


def install(version: str, folder: Path) -> Path:
    """Put a version of gunicorn into a folder of its own, and return that; skip the test where that cannot be had."""
    target = folder / f"gunicorn-{version}"
    if not target.exists():
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(target)]
        done = subprocess.run([*pip, f"gunicorn=={version}"], capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"gunicorn {version} cannot be installed: {done.stderr.strip()[-300:]}")
    return target


@contextmanager
def beginning(folder: Path, path: str = "") -> Iterator[Begin]:
    """Give what starts gunicorn in this folder, with a further path for Python; end all afterwards."""
    servers: list[RunningGunicorn] = []
    # As the command does it. With `-m gunicorn`, an upgrade (SIGUSR2) finds gunicorn's modules in place of Python's.
    command = folder / "command.py"
    command.write_text("from gunicorn.app.wsgiapp import run\nrun()\n")

    def begin(
        *arguments: str,
        app: str = SERVED,
        worker: str = "fastserve.gunicorn.FastserveWorker",
        bind: str = "127.0.0.1:0",
    ) -> RunningGunicorn:
        server = RunningGunicorn(
            (command.name, app, "-k", worker, "-b", bind, *arguments),
            folder,
            environment={"PYTHONPATH": os.pathsep.join((path, str(PACKAGE_ROOT)))} if path else {},
            fds=(),
            runs=(),
            under=(sys.executable,),
        )
        servers.append(server)
        return server

    try:
        yield begin
    finally:
        for server in servers:
            server.end()

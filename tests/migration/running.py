"""Runs the command of a project in an environment, and writes down what a client sees of it."""

from __future__ import annotations

import os
import re
import shlex
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Origin, Subprotocol

from .catalogue import Ask, Project, Talk

START_S = 90.0
STOP_S = 20.0
NOT_COMPARED = {"date", "server"}
"""Fields that name the server or the time."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A response. fields: names and values in order, without those that are not compared."""

    status: int
    fields: tuple[tuple[str, str], ...]
    body: bytes


@dataclass(slots=True)
class Run:
    """What was seen of one run. talks: the messages of each WebSocket and how it closed. log: all that was written."""

    answers: dict[str, Answer] = field(default_factory=dict)
    talks: dict[str, tuple[str, ...]] = field(default_factory=dict)
    reloaded: bool = False
    status: int | None = None
    stop_s: float = 0.0
    log: str = ""


def free_port() -> int:
    """Return a port that nobody listens on now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


class Runner:
    """Runs a project in one environment. environment: the folder of the virtual environment."""

    def __init__(self, project: Project, environment: Path) -> None:
        self._project = project
        self._bin = environment / "bin"

    def run(self, *, with_fastserve: bool) -> Run:
        """Start the project, ask it everything, and stop it."""
        with tempfile.TemporaryDirectory(prefix="migration-") as name, self._renamed(with_fastserve, Path(name)):
            return self._run(with_fastserve, Path(name))

    def _run(self, with_fastserve: bool, folder: Path) -> Run:
        project, port, found = self._project, free_port(), Run()
        variables = self._variables(folder, port)
        for command in project.prepares:
            self._shell(command, folder, variables).check_returncode()
        command = project.with_fastserve() if with_fastserve else project.command
        *assignments, words = _split(command.format(port=port))
        variables |= dict(each.split("=", 1) for each in assignments[0])
        words[0] = str(self._bin / words[0])
        with tempfile.TemporaryFile() as log:
            process = subprocess.Popen(
                words,
                cwd=folder,
                env=variables,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
            try:
                _wait_listening(process, port)
                self._ask(found, port)
                found.reloaded = self._reload(folder, log.fileno())
                _stop(process, found)
            except AssertionError as error:
                raise AssertionError(f"{error}; the log:\n{_content(log.fileno())[-3000:]}") from None
            finally:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                found.log = _content(log.fileno())
        return found

    @contextmanager
    def _renamed(self, wanted: bool, folder: Path) -> Iterator[None]:
        """Have a module of the project import fastserve in uvicorn's place."""
        module = self._project.imports
        for name, content in self._project.files.items():
            text = _with_import(content) if wanted and name == f"{module}.py" else content
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text.lstrip("\n"))
        if not wanted or not module or f"{module}.py" in self._project.files:
            yield
            return
        (file,) = self._bin.parent.glob(f"lib/python3*/site-packages/{module.replace('.', '/')}.py")
        before = file.read_text()
        file.write_text(_with_import(before))
        try:
            yield
        finally:
            file.write_text(before)

    def _variables(self, folder: Path, port: int) -> dict[str, str]:
        found = {name: value for name, value in os.environ.items() if not name.startswith(("FASTSERVE_", "PYTHON"))}
        found |= {"PATH": f"{self._bin}:{found['PATH']}", "HOME": str(folder), "NO_COLOR": "1", "PYTHONUNBUFFERED": "1"}
        # For commands without a port. It is a variable of uvicorn, which both read.
        found |= {"UVICORN_PORT": str(port)}
        return found | {
            name: value.format(port=port, folder=folder) for name, value in self._project.environment.items()
        }

    def _shell(self, command: str, folder: Path, variables: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
        words = shlex.split(command)
        return subprocess.run([str(self._bin / words[0]), *words[1:]], cwd=folder, env=dict(variables), text=True)

    def _ask(self, found: Run, port: int) -> None:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60, trust_env=False) as client:
            for ask in self._project.asks:
                found.answers[_name(ask)] = _answer(client, ask, port)
        for talk in self._project.talks:
            found.talks[talk.target] = _talk(talk, port)

    def _reload(self, folder: Path, log: int) -> bool:
        """Change a file and wait until the application has started anew."""
        if self._project.reloads is None:
            return False
        name, old, new = self._project.reloads
        before = _starts(log)
        content = (folder / name).read_text()
        assert old in content
        (folder / name).write_text(content.replace(old, new))
        ends_at = time.monotonic() + START_S
        while _starts(log) == before:
            if time.monotonic() > ends_at:
                return False
            time.sleep(0.05)
        return True


def _content(log: int) -> str:
    return os.pread(log, 10_000_000, 0).decode(errors="replace")


def _starts(log: int) -> int:
    return len(re.findall(r"Started server process", _content(log)))


def _split(command: str) -> tuple[list[str], list[str]]:
    """Return the assignments in front of a command, and its words."""
    words = shlex.split(command)
    count = next(index for index, word in enumerate(words) if not re.match(r"[A-Z_]+=", word))
    return words[:count], words[count:]


def _with_import(text: str) -> str:
    changed = re.sub(r"^(\s*)import uvicorn$", r"\1import fastserve as uvicorn", text, flags=re.MULTILINE)
    assert changed != text
    return changed


def _wait_listening(process: subprocess.Popen[bytes], port: int) -> None:
    ends_at = time.monotonic() + START_S
    while True:
        assert process.poll() is None, f"it ended with {process.returncode}"
        assert time.monotonic() < ends_at, "it does not listen"
        with suppress(httpx.HTTPError), httpx.Client(trust_env=False, timeout=START_S) as client:
            client.get(f"http://127.0.0.1:{port}/favicon.ico")
            return
        time.sleep(0.1)


def _name(ask: Ask) -> str:
    return f"{ask.method} {ask.target} {ask.body[:70]!r}" if ask.body else f"{ask.method} {ask.target}"


def _answer(client: httpx.Client, ask: Ask, port: int) -> Answer:
    response = client.request(ask.method, ask.target, headers=dict(ask.fields), content=ask.body or None)
    fields = tuple(
        (name, value.replace(str(port), "PORT"))
        for name, value in response.headers.multi_items()
        if name not in NOT_COMPARED
    )
    body = b"" if ask.varies else response.content.replace(str(port).encode(), b"PORT")
    if ask.varies:
        fields = tuple(
            (name, "" if name in ("content-length", "set-cookie", "etag") else value) for name, value in fields
        )
    return Answer(response.status_code, fields, body)


def _talk(talk: Talk, port: int) -> tuple[str, ...]:
    heard: list[str] = []
    try:
        url, origin = f"ws://127.0.0.1:{port}{talk.target}", Origin(f"http://127.0.0.1:{port}")
        subprotocols = [Subprotocol(each) for each in talk.subprotocols] or None
        with connect(url, subprotocols=subprotocols, proxy=None, origin=origin, open_timeout=30) as socket:
            heard.append(f"open, {socket.subprotocol}")
            for message in talk.sends:
                socket.send(message)
            heard += [str(socket.recv(timeout=30)) for _ in range(talk.receives)]
    except InvalidStatus as error:
        heard.append(f"refused with {error.response.status_code}")
    except ConnectionClosed as error:
        heard.append(f"closed: {error.rcvd}")
    except TimeoutError:
        heard.append("nothing more")
    return tuple(heard)


def _stop(process: subprocess.Popen[bytes], found: Run) -> None:
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        found.status = process.wait(STOP_S)
    found.stop_s = time.monotonic() - began

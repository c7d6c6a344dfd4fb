"""A real server in a process of its own, and a client that shows every byte."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol, TypeVar

import httpx
import psutil
import pytest

import fastserve

T = TypeVar("T")

SERVED = "served:app"
"""The application that is there in every folder made by `prepare` (see served.py)."""

FASTSERVE = ("-m", "fastserve")
"""The arguments for Python that run a server."""

WORKERS = pytest.mark.parametrize("workers", ["1", "2"], ids=["one process", "two workers"])
"""Run a test with and without a parent process; `workers` is for --workers."""

PACKAGE_ROOT = Path(fastserve.__file__).parents[1]
# Generous: the machine may be busy. What a test says about speed, it says itself.
_PATIENCE_S = 30.0
# Half a second after a signal was handled, the same signal is another one; this is safely later.
_SAME_SIGNAL_S = 1.0


def wait_until(what: Callable[[], T], *, within_s: float = _PATIENCE_S) -> T:
    """Return what this gives as soon as it is true.

    Raises:
        TimeoutError: it is not in time.
    """
    ends_at = time.monotonic() + within_s
    while not (found := what()):
        if time.monotonic() > ends_at:
            raise TimeoutError(f"not so within {within_s:g} seconds: {what}")
        time.sleep(0.01)
    return found


def is_alive(process: psutil.Process) -> bool:
    """Tell whether a process has not ended; one that nobody has waited for has."""
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def has_ipv6() -> bool:
    """Tell whether this machine can be connected to by IPv6."""
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


ipv6 = pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")


def prepare(folder: Path) -> Path:
    """Put the application of the process tests into a folder."""
    shutil.copy(Path(__file__).with_name("served.py"), folder / "served.py")
    return folder


class RunningServer:
    """`python -m fastserve` with these arguments, in a process group of its own.

    folder: where it runs, and finds its application. environment: variables besides those of the test run. fds: what it
    inherits. runs: what Python runs in place of `-m fastserve`. under: the command that runs Python.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        folder: Path,
        *,
        environment: Mapping[str, str],
        fds: Sequence[int],
        runs: Sequence[str],
        under: Sequence[str],
    ) -> None:
        self.folder = folder
        self._stdout = _new_file()
        self._stderr = _new_file()
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("FASTSERVE_") or name == "FASTSERVE_PURE"
        }
        path = [str(PACKAGE_ROOT), *inherited.get("PYTHONPATH", "").split(os.pathsep)]
        self._process = subprocess.Popen(
            [*under, *runs, *arguments],
            cwd=folder,
            env={**inherited, "PYTHONPATH": os.pathsep.join(filter(None, path)), **environment},
            stdin=subprocess.DEVNULL,
            stdout=self._stdout,
            stderr=self._stderr,
            pass_fds=fds,
            start_new_session=True,
        )
        self.pid = self._process.pid

    # What it says.

    @property
    def log(self) -> str:
        """What it has written to standard error."""
        return _content(self._stderr)

    @property
    def output(self) -> str:
        """What it has written to standard output."""
        return _content(self._stdout)

    @property
    def urls(self) -> list[str]:
        """Where it says that it is running."""
        return re.findall(r"Fastserve running on (\S+) \(Press CTRL\+C to quit\)\n", self.log)

    @property
    def url(self) -> str:
        """The first of them."""
        return self.urls[0]

    @property
    def address(self) -> tuple[str, int]:
        """The host and port of that."""
        url = httpx.URL(self.url)
        assert url.port is not None
        return url.host, url.port

    def wait_log(self, text: str, *, times: int = 1) -> RunningServer:
        """Wait until the log has this text so many times."""
        return self.wait_for(lambda: self.log.count(text) >= times, f"{text!r} is not in the log {times} times")

    def wait_ready(self) -> RunningServer:
        """Wait until every worker accepts connections. For an application with a lifespan."""
        self.wait_log("Fastserve running on")
        workers = re.search(r", (\d+) workers? ?[,(]", self.log)
        assert workers is not None, self.log
        return self.wait_log("Application startup complete.", times=int(workers[1]))

    def wait_for(self, what: Callable[[], object], complaint: str) -> RunningServer:
        """Wait until this is true, which it will not be any more when the server has ended."""

        def is_so() -> bool:
            # In this order: what is written last is seen when it has ended.
            has_ended = not self.is_running
            return has_ended or bool(what())

        try:
            wait_until(is_so)
        except TimeoutError:
            raise AssertionError(f"{complaint}; the log:\n{self.log}") from None
        assert what(), f"{complaint}, and the server has ended with {self._process.returncode}; the log:\n{self.log}"
        return self

    # Its processes.

    @property
    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    @property
    def process(self) -> psutil.Process:
        """The process that was started, for its resources."""
        return psutil.Process(self.pid)

    @property
    def workers(self) -> list[psutil.Process]:
        """Its child processes; none when it has ended."""
        try:
            children = self.process.children()
        except psutil.NoSuchProcess:
            return []
        return [child for child in children if is_alive(child)]

    def send_signal(self, number: int) -> None:
        """Send a signal to the process that was started."""
        self._process.send_signal(number)

    def wait_past(self, text: str) -> None:
        """Wait until it has logged this, and for so long that the same signal is not taken for the one before."""
        self.wait_log(text)
        seen_at = time.monotonic()
        wait_until(lambda: time.monotonic() - seen_at > _SAME_SIGNAL_S)

    def send_signal_to_group(self, number: int) -> None:
        """Send a signal to every process, as a terminal does for Ctrl-C and systemd for a stop."""
        os.killpg(self.pid, number)

    def wait_exit(self, *, within_s: float = _PATIENCE_S) -> int:
        """Return the exit status; negative for a signal."""
        try:
            return self._process.wait(within_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it has not ended within {within_s:g} seconds; the log:\n{self.log}") from None

    def stop(self) -> int:
        """End it as an operator does, and return the exit status."""
        self.send_signal(signal.SIGTERM)
        return self.wait_exit()

    def end(self) -> None:
        """End what is left of it at once."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()
        self._stdout.close()
        self._stderr.close()


def _new_file() -> IO[bytes]:
    return tempfile.TemporaryFile()


def _content(file: IO[bytes]) -> str:
    # Not through the position of the file, which is the server's too.
    return os.pread(file.fileno(), os.fstat(file.fileno()).st_size, 0).decode()


class Start(Protocol):
    """Starts a server, which is ended with the test."""

    def __call__(
        self,
        *arguments: str,
        environment: Mapping[str, str] | None = None,
        fds: Sequence[int] = (),
        runs: Sequence[str] = FASTSERVE,
        under: Sequence[str] = (sys.executable,),
    ) -> RunningServer:
        """Start `python -m fastserve` with these arguments (see RunningServer)."""


@contextlib.contextmanager
def starting_servers(folder: Path) -> Iterator[Start]:
    """Give what starts servers in this folder, and end them all afterwards."""
    servers: list[RunningServer] = []

    def start(
        *arguments: str,
        environment: Mapping[str, str] | None = None,
        fds: Sequence[int] = (),
        runs: Sequence[str] = FASTSERVE,
        under: Sequence[str] = (sys.executable,),
    ) -> RunningServer:
        server = RunningServer(arguments, folder, environment=environment or {}, fds=fds, runs=runs, under=under)
        servers.append(server)
        return server

    try:
        yield start
    finally:
        for server in servers:
            server.end()


# What the application of the tests and the tests tell each other (see served.py).


@dataclass(frozen=True, slots=True)
class Gate:
    """A request to a path that waits, known by its name."""

    folder: Path
    name: str

    def wait_reached(self) -> None:
        """Wait until the application has got the request."""
        wait_until((self.folder / f"{self.name}.reached").exists)

    def open(self) -> None:
        """Let it answer."""
        (self.folder / f"{self.name}.open").touch()


def life(folder: Path) -> list[str]:
    """Return what the application has written down, as in "startup 4711"."""
    file = folder / "life.txt"
    return file.read_text().splitlines() if file.exists() else []


# Clients.


def new_client(server: RunningServer) -> httpx.Client:
    """Return a client with connections of its own, to be closed by the caller."""
    return httpx.Client(base_url=server.url, timeout=_PATIENCE_S, trust_env=False)


@dataclass(frozen=True, slots=True)
class Answer:
    """A response, with the names of its fields in lower case."""

    status: int
    fields: dict[str, str]
    body: bytes


def _connect_unix(path: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.connect(path)
    except OSError:
        sock.close()
        raise
    return sock


def listens(path: str) -> bool:
    """Tell whether a server listens on a Unix socket; one that is bound may not do so yet."""
    try:
        _connect_unix(path).close()
    except (FileNotFoundError, ConnectionRefusedError):
        return False
    return True


class RawClient:
    """A connection on which the test says every byte."""

    def __init__(self, address: tuple[str, int] | str) -> None:
        self.sock = _connect_unix(address) if isinstance(address, str) else socket.create_connection(address)
        self.sock.settimeout(_PATIENCE_S)
        self._file = self.sock.makefile("rb")

    def __enter__(self) -> RawClient:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._file.close()
        self.sock.close()

    def get(self, *targets: str) -> RawClient:
        """Send a request for each of these targets, all at once."""
        self.sock.sendall(b"".join(f"GET {target} HTTP/1.1\r\nHost: test\r\n\r\n".encode() for target in targets))
        return self

    def send(self, data: bytes) -> RawClient:
        """Send these bytes."""
        self.sock.sendall(data)
        return self

    def answer(self) -> Answer:
        """Return the next response, which has a Content-Length."""
        status_line, _, lines = self._head().partition("\r\n")
        fields = {}
        for line in lines.splitlines():
            name, _, value = line.partition(":")
            fields[name.lower()] = value.strip()
        return Answer(int(status_line.split()[1]), fields, self._file.read(int(fields["content-length"])))

    def interim(self) -> int:
        """Return the status of the next response, which is one without a body."""
        return int(self._head().split()[1])

    def _head(self) -> str:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            line = self._file.readline()
            if not line:
                raise ConnectionResetError(f"closed after {head!r}")
            head += line
        return head.decode("latin-1")

    def rest(self) -> bytes:
        """Return all that comes until the server closes."""
        return self._file.read()

"""The kinds of load: each is a program that puts it on a server and prints what it saw as one line of JSON."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

_REPORT = Path(__file__).parent / "report.lua"
_TIMEOUT_S = 30

BROWSER = (
    "Connection: keep-alive",
    'sec-ch-ua: "Chromium";v="140", "Not A Brand";v="99"',
    "sec-ch-ua-mobile: ?0",
    'sec-ch-ua-platform: "Linux"',
    "Upgrade-Insecure-Requests: 1",
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36",
    "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8",
    "Sec-Fetch-Site: none",
    "Sec-Fetch-Mode: navigate",
    "Sec-Fetch-User: ?1",
    "Sec-Fetch-Dest: document",
    "Accept-Encoding: gzip, deflate, br, zstd",
    "Accept-Language: en-US,en;q=0.9",
)
"""With Host, the fourteen fields of a page that is opened in Chromium."""


class Load(Protocol):
    """What is put on a server."""

    @property
    def path(self) -> str:
        """What is asked for."""

    @property
    def method(self) -> str:
        """How it is asked for."""

    @property
    def fields(self) -> tuple[str, ...]:
        """Request fields besides Host, each as NAME: VALUE."""

    @property
    def body(self) -> bytes:
        """What is sent with the request."""

    def command(self, port: int, pid: int, seconds: float, body_file: Path) -> list[str]:
        """Return the program that puts this load on a server for about so long; body_file contains the body."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Request:
    """See Load."""

    path: str = "/"
    method: str = "GET"
    fields: tuple[str, ...] = ()
    body: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wrk(_Request):
    """wrk: connections that send the next request as soon as they have the response."""

    connections: int = 256

    def command(self, port: int, pid: int, seconds: float, body_file: Path) -> list[str]:
        """See Load."""
        whole_seconds = max(1, round(seconds))  # It knows no parts of seconds.
        command = ["wrk", "--threads", "1", "--connections", str(self.connections), "--duration", f"{whole_seconds}s"]
        command += [part for field in self.fields for part in ("--header", field)]
        command += ["--timeout", f"{_TIMEOUT_S}s", "--script", str(_REPORT), f"http://127.0.0.1:{port}{self.path}"]
        return [*command, "--", self.method, *([str(body_file)] if self.body else [])]


@dataclass(frozen=True, slots=True, kw_only=True)
class Burst(_Request):
    """Many new connections at once: bench/burst.py. Takes as long as it takes."""

    connections: int = 256

    def command(self, port: int, pid: int, seconds: float, body_file: Path) -> list[str]:
        """See Load."""
        program = [sys.executable, "-m", "bench.burst", str(port)]
        return [*program, "--path", self.path, "--connections", str(self.connections)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Herd(_Request):
    """Many connections that rest: bench/herd.py. Takes as long as it takes."""

    connections: int = 10_000

    def command(self, port: int, pid: int, seconds: float, body_file: Path) -> list[str]:
        """See Load."""
        program = [sys.executable, "-m", "bench.herd", str(port), "--pid", str(pid)]
        return [*program, "--path", self.path, "--connections", str(self.connections)]

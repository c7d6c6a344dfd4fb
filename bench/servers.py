"""How each server is started: one worker, on the event loop and parser that it takes by itself."""

from __future__ import annotations

import enum
import os
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path

_NODE = Path(__file__).parent / "node"
_MODULES = _NODE / "node_modules"
_BUN = _MODULES / ".bin" / "bun"
BASELINE = Path("build/baseline")
"""The C program of bench/baseline.c, when that is compiled."""


class Mode(enum.Enum):
    """What a server is told besides the application and the port."""

    QUIET = "no access log"
    ACCESS_LOG = "access log"
    DEFAULTS = "defaults"
    PATIENT = "no access log, and keeps connections open for long"


@dataclass(frozen=True, slots=True)
class Server:
    """command: the arguments, with {app} and {port}; options: further ones by mode; environment: further variables.

    scenarios: the only ones it takes part in, when its answer is its own.
    """

    name: str
    command: tuple[str, ...]
    options: dict[Mode, tuple[str, ...]] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    scenarios: frozenset[str] | None = None

    def arguments(self, app: str, port: int, mode: Mode) -> list[str]:
        """Return the command line for an application, as MODULE:ATTRIBUTE, and a port."""
        return [*(part.format(app=app, port=port) for part in self.command), *self.options.get(mode, ())]

    def variables(self) -> dict[str, str]:
        """Return the environment to run in."""
        return {**os.environ, **self.environment}

    def is_installed(self) -> bool:
        """Tell whether its program is here. Servers for Python come with bench/requirements.txt."""
        files = [part for part in self.command[1:] if part.endswith(".mjs")]
        return shutil.which(self.command[0]) is not None and (not files or _MODULES.exists())


def _python(*arguments: str) -> tuple[str, ...]:
    return (sys.executable, "-m", *arguments)


_IDLE_S = "600"


def _options(
    quiet: tuple[str, ...], logged: tuple[str, ...], patient: tuple[str, ...] = ()
) -> dict[Mode, tuple[str, ...]]:
    return {Mode.QUIET: quiet, Mode.ACCESS_LOG: logged, Mode.PATIENT: (*quiet, *patient)}


_LIKE_UVICORN = _options(("--log-level", "warning", "--no-access-log"), (), ("--timeout-keep-alive", _IDLE_S))
_FASTSERVE = _python("fastserve", "{app}", "--port", "{port}")
_OF_NODE = frozenset({"fastapi-json", "burst"})


def _node(name: str, runtime: str, program: str) -> Server:
    command = (runtime, str(_NODE / program), "{port}")
    return Server(name, command, environment={"NODE_ENV": "production"}, scenarios=_OF_NODE)


SERVERS = {
    server.name: server
    for server in (
        Server("fastserve", _FASTSERVE, _LIKE_UVICORN),
        Server("fastserve-pure", _FASTSERVE, _LIKE_UVICORN, {"FASTSERVE_PURE": "1"}),
        Server("fastserve-unaccelerated", (*_FASTSERVE, "--accelerate", "off"), _LIKE_UVICORN),
        Server("uvicorn", _python("uvicorn", "{app}", "--port", "{port}"), _LIKE_UVICORN),
        Server(
            "granian",
            _python("granian", "{app}", "--interface", "asgi", "--port", "{port}", "--backlog", "2048"),
            _options(("--no-access-log", "--log-level", "warning"), ("--access-log",), ("--backpressure", "20000")),
        ),
        Server(
            "hypercorn",
            _python("hypercorn", "{app}", "--bind", "127.0.0.1:{port}", "--backlog", "2048"),
            _options(("--log-level", "warning"), ("--access-logfile", "-"), ("--keep-alive", _IDLE_S)),
        ),
        Server(
            "gunicorn",
            _python("gunicorn", "{app}", "--bind", "127.0.0.1:{port}", "--worker-class", "asgi"),
            _options(("--log-level", "warning"), ("--access-logfile", "-"), ("--keep-alive", _IDLE_S)),
        ),
        Server("baseline", (str(BASELINE), "{port}"), scenarios=frozenset({"json", "json-browser"})),
        # Other languages' frameworks, beside FastAPI: see bench/node.
        _node("express", "node", "express.mjs"),
        _node("nestjs", "node", "nest.mjs"),
        _node("hono", "node", "hono.mjs"),
        _node("hono-bun", str(_BUN), "hono-bun.mjs"),
    )
}

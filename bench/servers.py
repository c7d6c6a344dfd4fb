"""How each server is started: one worker, and no access log unless it is asked for."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Server:
    """command: the arguments, with {app} and {port}; environment: further variables."""

    name: str
    command: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict)

    def arguments(self, app: str, port: int) -> list[str]:
        """Return the command line for an application, as MODULE:ATTRIBUTE, and a port."""
        return [part.format(app=app, port=port) for part in self.command]

    def variables(self) -> dict[str, str]:
        """Return the environment to run in."""
        return {**os.environ, **self.environment}


def _python(*arguments: str) -> tuple[str, ...]:
    return (sys.executable, "-m", *arguments)


_QUIET = ("--log-level", "warning", "--no-access-log")
_FASTSERVE = _python("fastserve", "{app}", "--port", "{port}")
_UVICORN = _python("uvicorn", "{app}", "--port", "{port}")
_GUNICORN = _python("gunicorn", "{app}", "--bind", "127.0.0.1:{port}", "--worker-class", "asgi")
_GRANIAN = _python("granian", "{app}", "--interface", "asgi", "--port", "{port}", "--backlog", "2048")
_LOGGED = " (access log)"

SERVERS = {
    server.name: server
    for server in (
        Server("fastserve", (*_FASTSERVE, *_QUIET)),
        Server("fastserve-pure", (*_FASTSERVE, *_QUIET), {"FASTSERVE_PURE": "1"}),
        Server("uvicorn", (*_UVICORN, *_QUIET)),
        Server("granian", (*_GRANIAN, "--no-access-log", "--log-level", "warning")),
        Server("hypercorn", _python("hypercorn", "{app}", "--bind", "127.0.0.1:{port}", "--log-level", "warning")),
        Server("gunicorn", (*_GUNICORN, "--log-level", "warning")),
        # With their defaults, which for some is an access log.
        Server(f"fastserve{_LOGGED}", _FASTSERVE),
        Server(f"uvicorn{_LOGGED}", _UVICORN),
        Server(f"granian{_LOGGED}", (*_GRANIAN, "--access-log")),
    )
}

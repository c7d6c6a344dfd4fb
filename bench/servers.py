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


_FASTSERVE = _python("fastserve", "{app}", "--port", "{port}", "--log-level", "warning", "--no-access-log")

SERVERS = {
    server.name: server
    for server in (
        Server("fastserve", _FASTSERVE),
        Server("fastserve-pure", _FASTSERVE, {"FASTSERVE_PURE": "1"}),
        Server(
            "uvicorn",
            _python("uvicorn", "{app}", "--port", "{port}", "--log-level", "warning", "--no-access-log"),
        ),
    )
}

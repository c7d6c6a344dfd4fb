"""What a command line of fastserve in a file of docs/deploy means, by fastserve's own reading of it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from fastserve import cli
from fastserve.settings import Settings

PROJECT = Path(__file__).parents[2]
DEPLOY = PROJECT / "docs" / "deploy"


class Reader:
    """Runs the command line up to the point where it would serve."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self._monkeypatch = monkeypatch
        self._served: list[Settings] = []
        for name in os.environ:
            if name.startswith(("FASTSERVE_", "UVICORN_")):
                monkeypatch.delenv(name)
        monkeypatch.chdir(folder)

        def serve(settings: Settings) -> int:
            self._served.append(settings)
            return 0

        monkeypatch.setattr(cli, "serve", serve)

    def settings(self, command: Sequence[str], environment: Mapping[str, str] | None = None) -> Settings:
        """Return what a command means, which must be right and be about fastserve."""
        program, *arguments = command
        assert Path(program).name == "fastserve", command
        for name, value in (environment or {}).items():
            self._monkeypatch.setenv(name, value)
        assert cli.main(arguments) == 0, arguments
        return self._served.pop()


def stop_s(settings: Settings) -> float:
    """Return how long a server may take to end after SIGTERM."""
    return settings.timeouts.drain_delay_s + settings.timeouts.stop_s

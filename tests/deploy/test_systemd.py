"""The units: that they fit each other and the server. What systemd tells a server is in tests/supervisor."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from .commands import DEPLOY, Reader, stop_s

UNITS = DEPLOY / "systemd"
needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")


def unit(name: str) -> dict[str, str]:
    """Return the settings of a unit, each of which is there once."""
    found = {}
    for line in (UNITS / name).read_text().splitlines():
        if line and not line.startswith(("#", "[")):
            key, _, value = line.partition("=")
            assert key not in found
            found[key] = value
    return found


def remarks(folder: Path, service: str) -> str:
    """Return what systemd has to say of the units, with this text for that of the service."""
    folder.mkdir(exist_ok=True)
    shutil.copy(UNITS / "app.socket", folder)
    # It looks whether the command is there, which it is not on this machine.
    (folder / "app.service").write_text(service.replace("/srv/app/venv/bin/fastserve", shutil.which("true") or ""))
    units = [str(folder / "app.service"), str(folder / "app.socket")]
    done = subprocess.run(["systemd-analyze", "verify", *units], capture_output=True, text=True)
    # Of these units; those of the machine have remarks of their own.
    return "".join(line for line in done.stderr.splitlines(keepends=True) if "app." in line)


@needs_systemd
def test_systemd_has_nothing_to_say_of_them(tmp_path: Path) -> None:
    service = (UNITS / "app.service").read_text()
    assert remarks(tmp_path / "good", service) == ""
    assert "WatchDogSecs" in remarks(tmp_path / "bad", service.replace("WatchdogSec", "WatchDogSecs"))


def test_the_command_is_right_and_leaves_the_sockets_to_systemd(read: Reader) -> None:
    settings = read.settings(unit("app.service")["ExecStart"].split())
    assert not settings.bind.is_named
    assert "ListenStream" in unit("app.socket")
    assert int(unit("app.socket")["Backlog"]) == settings.bind.backlog


def test_systemd_waits_for_the_server(read: Reader) -> None:
    service = unit("app.service")
    assert int(service["TimeoutStopSec"]) > stop_s(read.settings(service["ExecStart"].split()))


def test_the_signals_are_those_of_the_supervisor() -> None:
    service = unit("app.service")
    assert service["KillMode"] == "mixed"  # SIGTERM is for the supervisor alone
    assert "KillSignal" not in service
    assert service["ExecReload"] == "/bin/kill -HUP $MAINPID"


def test_a_start_that_cannot_succeed_is_not_repeated() -> None:
    assert unit("app.service")["RestartPreventExitStatus"].split() == ["2", "3"]  # docs/decisions/0004-exit-status.md


@pytest.mark.parametrize("page", ["systemd.md", "kubernetes.md", "docker.md"])
def test_a_page_tells_of_every_setting(page: str) -> None:
    text = (DEPLOY / page).read_text()
    missing = [name for name in _settings(page) if f"`{name}" not in text]
    assert missing == []


def _settings(page: str) -> list[str]:
    if page == "systemd.md":
        return [*unit("app.service"), *unit("app.socket")]
    if page == "docker.md":
        text = (DEPLOY / "docker" / "Dockerfile").read_text()
        return sorted(set(re.findall(r"^([A-Z]+) ", text, re.MULTILINE)))
    return re.findall(r"- (--[a-z-]+)", (DEPLOY / "kubernetes" / "app.yaml").read_text())

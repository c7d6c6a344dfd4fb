"""A page in a headless Chromium that opens WebSockets and an event stream, and sees the worker replaced.

BROWSER names the program; without it Chromium is used where it is installed.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.certificates import flags, write_pair
from tests.process.running import RunningServer, starting_servers, wait_until

HERE = Path(__file__).parent
OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--ignore-certificate-errors",
)
# A browser may take long to start on a busy machine.
PAGE_S = 90.0


@pytest.fixture(scope="module")
def browser() -> str:
    asked = os.environ.get("BROWSER")
    found = shutil.which(asked or "chromium")
    if found is None:
        assert not asked, f"there is no {asked}"
        pytest.skip("there is no Chromium: make browser, when it is installed")
    return found


@contextlib.contextmanager
def browsing(browser: str, url: str, folder: Path) -> Iterator[None]:
    """Have a page open. folder: for what the browser keeps."""
    with (folder / "browser.log").open("wb") as log:
        command = [browser, *OPTIONS, f"--user-data-dir={folder / 'profile'}", url]
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        try:
            yield
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


class Seen:
    """What the page has told so far, by the names of its steps (see browser_page.html)."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "seen.jsonl"

    def steps(self) -> list[list[Any]]:
        """Return the steps in their order, each with what was seen."""
        text = self._file.read_text() if self._file.exists() else ""
        return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]

    def wait(self, step: str) -> Any:
        """Return what was seen in a step, as soon as it is told."""
        wait_until(lambda: {step, "error"} & {name for name, _ in self.steps()}, within_s=PAGE_S)
        return dict(self.steps())[step] if "error" not in dict(self.steps()) else pytest.fail(str(self.steps()))


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_a_browser_sees_what_it_should(browser: str, loop: str, tls: bool, tmp_path: Path) -> None:
    for name in ("browser_site.py", "browser_page.html"):
        shutil.copy(HERE / name, tmp_path)
    certificates = flags(write_pair(tmp_path)) if tls else ()
    options = ["--workers", "2", "--loop", loop, "--ws-max-size", str(2**20), "--timeout-graceful-shutdown", "1"]
    with starting_servers(tmp_path) as start:
        server = start("browser_site:app", "--port", "0", *options, *certificates).wait_ready()
        seen = Seen(tmp_path)
        with browsing(browser, f"{server.url}/", tmp_path):
            check_messages(seen)
            check_ends(seen)
            check_restart(seen, server)
        assert server.stop() == 0
        assert server.log.count("Traceback") == 1, server.log  # /raises


def check_messages(seen: Seen) -> None:
    handshake = seen.wait("handshake")
    assert handshake["protocol"] == "chat"
    assert handshake["extensions"].startswith("permessage-deflate")
    assert seen.wait("closed by the browser") == closed(3001, "genug")
    assert ["disconnect", [3001, "genug"]] in seen.steps()


def check_ends(seen: Seen) -> None:
    assert seen.wait("closes") == closed(4002, "weil es Zeit ist")
    assert seen.wait("returns") == closed(1000)
    assert seen.wait("raises") == closed(1011)
    assert seen.wait("denies") == {"code": 1006, "reason": "", "clean": False}
    too_big = seen.wait("too big")
    assert (too_big["code"], too_big["clean"]) == (1009, True)


def check_restart(seen: Seen, server: RunningServer) -> None:
    first = seen.wait("event stream")
    server.send_signal(signal.SIGHUP)
    assert seen.wait("restart") == closed(1012)
    again = seen.wait("event stream again")
    assert again["pid"] != first["pid"]
    assert int(again["last"]) >= 1, "the browser says which event it has seen last"
    assert seen.wait("done")


def closed(code: int, reason: str = "") -> dict[str, Any]:
    return {"code": code, "reason": reason, "clean": True}

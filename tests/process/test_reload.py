"""`--reload`: real files, a real server, and connections that stay open meanwhile."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import httpx
import psutil
import pytest

from .running import RawClient, RunningServer, Start, is_alive, wait_until

APP = """
import asyncio

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        for event in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{event}.complete"})
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    while scope["path"] == "/events":
        await send({"type": "http.response.body", "body": b"data: x", "more_body": True})
        await asyncio.sleep(0.05)
    await send({"type": "http.response.body", "body": b"ANSWER"})
"""

WATCHERS = pytest.mark.parametrize("watcher", ["WatchFiles", "StatReload"])


def write(folder: Path, answer: str) -> None:
    # Of another size each time: a compiled file is taken when size and second are the same.
    (folder / "changing.py").write_text(APP.replace("ANSWER", answer))


def start_reloading(start: Start, folder: Path, *arguments: str, watcher: str = "StatReload") -> RunningServer:
    """Start a server that reloads; without watchfiles if so is wanted."""
    environment = {}
    if watcher == "StatReload":
        (folder / "hidden").mkdir()
        (folder / "hidden" / "sitecustomize.py").write_text(
            "import importlib.util as u\nfind = u.find_spec\n"
            "u.find_spec = lambda name, *rest: None if name == 'watchfiles' else find(name, *rest)\n"
        )
        package = str(Path(__file__).parents[2])
        environment = {"PYTHONPATH": f"{folder / 'hidden'}{os.pathsep}{package}"}
    arguments = ("changing:app", "--port", "0", "--reload", "--reload-delay", "0.05", *arguments)
    server = start(*arguments, environment=environment).wait_log("Started reloader process")
    assert f"using {watcher}\n" in server.log
    return server


def answer(server: RunningServer) -> str:
    return httpx.get(server.url, trust_env=False, timeout=30).text


@WATCHERS
def test_a_change_is_served_and_open_streams_do_not_hold_it_up(start: Start, folder: Path, watcher: str) -> None:
    write(folder, "one")
    server = start_reloading(start, folder, watcher=watcher).wait_log("Fastserve running on")
    old = server.process.children()
    with RawClient(server.address) as stream, httpx.Client(base_url=server.url, trust_env=False, timeout=30) as kept:
        stream.send(b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n")
        assert stream.sock.recv(10)
        assert kept.get("/").text == "one"
        write(folder, "second")
        server.wait_log(f"{watcher} detected changes in 'changing.py'. Reloading...")
        wait_until(lambda: answer(server) == "second", within_s=10)
        assert stream.rest() is not None  # It is cut, while the test has patience for more than that.
    server.wait_log("Finished server process")
    wait_until(lambda: sum(map(is_alive, old)) == 1)  # the watcher is still there
    assert server.stop() == 0
    wait_until(lambda: not any(is_alive(process) for process in old))
    assert f"Will watch for changes in these directories: ['{folder}']" in server.log


def test_a_mistake_is_shown_and_the_next_change_is_waited_for(start: Start, folder: Path) -> None:
    write(folder, "one")
    server = start_reloading(start, folder).wait_log("Fastserve running on")
    (folder / "changing.py").write_text("def app(:\n")
    server.wait_log("SyntaxError: ").wait_log("waits for the next change, and serves as it was")
    assert answer(server) == "one"
    write(folder, "third")
    wait_until(lambda: answer(server) == "third", within_s=10)
    assert server.stop() == 0


def test_a_mistake_at_the_start_is_waited_for_too(start: Start, folder: Path) -> None:
    (folder / "changing.py").write_text("def app(:\n")
    server = start_reloading(start, folder)
    server.wait_log("SyntaxError: ").wait_log("Fastserve waits for the next change.")
    assert "Fastserve running on" not in server.log
    write(folder, "mended")
    server.wait_log("Fastserve running on")
    assert answer(server) == "mended"
    server.send_signal_to_group(signal.SIGINT)  # Ctrl-C
    assert server.wait_exit() == 0
    assert "not watched any more" not in server.log


def test_several_workers_are_not_used_and_that_is_said(start: Start, folder: Path) -> None:
    write(folder, "one")
    server = start_reloading(start, folder, "--workers", "2").wait_log("Fastserve running on")
    assert '"workers" flag is ignored when reloading is enabled.' in server.log
    assert "1 worker (and a supervisor, for --reload)" in server.log
    assert server.log.count("Started server process") == 1


def test_the_watcher_ends_with_a_server_that_is_killed(start: Start, folder: Path) -> None:
    write(folder, "one")
    server = start_reloading(start, folder).wait_log("Fastserve running on")
    children = server.process.children()
    server.send_signal(signal.SIGKILL)
    psutil.wait_procs(children, timeout=10)
    wait_until(lambda: not any(is_alive(process) for process in children), within_s=10)


def test_a_program_reloads_what_it_has_imported_itself(start: Start, folder: Path) -> None:
    write(folder, "one")
    (folder / "outer.py").write_text("from changing import app\n")
    (folder / "program.py").write_text(
        "import fastserve as uvicorn\nimport outer, changing\n"
        "if __name__ == '__main__':\n    uvicorn.run('outer:app', port=0, reload=True, reload_delay=0.05)\n"
        "    open('after', 'a').write('x')\n"
    )
    server = start(runs=("program.py",)).wait_log("Fastserve running on")
    assert answer(server) == "one"
    write(folder, "second")
    wait_until(lambda: answer(server) == "second", within_s=10)
    assert server.stop() == 0
    assert (folder / "after").read_text() == "x"  # Workers do not go on in the program.

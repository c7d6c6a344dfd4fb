"""Programs that call `fastserve.run`, `Server.run` and `serve`: how they end, and what they leave behind."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest

from .running import RawClient, RunningServer, Start, listens, new_client, wait_until

PROGRAM = """
import asyncio, atexit, sys
import fastserve as uvicorn
from served import app

async def own():
    await uvicorn.Server(uvicorn.Config(app, port=0)).serve()
    await asyncio.sleep(3600)  # which a signal ends too

WAYS = {
    "object": lambda: uvicorn.run(app, port=0),
    "name": lambda: uvicorn.run("served:app", port=0),
    "workers": lambda: uvicorn.run("served:app", port=0, workers=2),
    "own loop": lambda: asyncio.run(own()),
}
if __name__ == "__main__":
    atexit.register(lambda: open("at_exit", "a").write("x"))
    try:
        WAYS[sys.argv[1]]()
    finally:
        open("finally", "a").write("x")
    open("after", "a").write("x")
"""


def start_program(start: Start, folder: Path, way: str) -> RunningServer:
    (folder / "program.py").write_text(PROGRAM)
    server = start(way, runs=("program.py",)).wait_log("Fastserve running on")
    server.wait_log("Application startup complete.", times=2 if way == "workers" else 1)
    with new_client(server) as client:
        assert client.get("/").text == "hello"
    return server


@pytest.mark.parametrize("way", ["object", "name", "workers"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_run_returns_after_a_signal_once_and_only_in_the_program(
    start: Start, folder: Path, way: str, number: int
) -> None:
    server = start_program(start, folder, way)
    server.send_signal(number)
    assert server.wait_exit() == 0
    assert [(folder / name).read_text() for name in ("finally", "after", "at_exit")] == ["x"] * 3
    assert "Traceback" not in server.log


@pytest.mark.parametrize(
    ("number", "status"),
    [(signal.SIGTERM, -signal.SIGTERM), (signal.SIGINT, -signal.SIGINT)],
    ids=["SIGTERM", "SIGINT"],
)
def test_a_program_with_its_own_loop_hears_of_the_signal_too(
    start: Start, folder: Path, number: int, status: int
) -> None:
    server = start_program(start, folder, "own loop")
    server.send_signal(number)
    assert server.wait_exit() == status
    assert "Application shutdown complete." in server.log
    assert not (folder / "after").exists()


FAILURES = {
    "no such application": "uvicorn.run('absent:app')",
    "workers that do not start": "uvicorn.run('absent:app', workers=2)",
    "an object and workers": "uvicorn.run(uvicorn, workers=2)",
    "an object that is no application": "uvicorn.run(uvicorn)",
}


@pytest.mark.parametrize("text", FAILURES.values(), ids=FAILURES.keys())
def test_a_failed_start_ends_the_program_with_3(start: Start, folder: Path, text: str) -> None:
    (folder / "program.py").write_text(f"import fastserve as uvicorn\n{text}\nopen('after', 'w')\n")
    server = start(runs=("program.py",))
    assert server.wait_exit() == 3
    assert not (folder / "after").exists()
    assert "Traceback" not in server.log


MISSING = {"stdout": ">&-", "stderr": "2>&-", "all": "<&- >&- 2>&-"}


@pytest.mark.parametrize("way", ["object", "name", "workers", "own loop"])
@pytest.mark.parametrize("redirection", MISSING.values(), ids=MISSING.keys())
def test_a_program_without_standard_streams_serves(start: Start, folder: Path, way: str, redirection: str) -> None:
    (folder / "program.py").write_text(PROGRAM.replace("port=0", "uds='app.sock'"))
    server = start(way, runs=("program.py",), under=("sh", "-c", f'exec "$@" {redirection}', "sh", sys.executable))
    path = str(folder / "app.sock")
    wait_until(lambda: listens(path))
    with RawClient(path) as client:
        assert client.get("/").answer().body == b"hello"
    server.send_signal(signal.SIGTERM)
    assert server.wait_exit() == (-signal.SIGTERM if way == "own loop" else 0)
    assert server.output in ("", 'INFO:     unix - "GET / HTTP/1.1" 200 OK\n')
    lines = server.log.splitlines()
    assert all(line.startswith("INFO:     ") for line in lines), server.log
    assert not any("GET /" in line for line in lines), "the access log is for standard output"


UNGUARDED = {
    "run": "fastserve.run('unguarded:app', port=0)",
    "run with workers": "fastserve.run('unguarded:app', port=0, workers=2)",
    "run with an object": "fastserve.run(app, port=0) if __name__ != '__main__' else "
    "fastserve.run('unguarded:app', port=0)",
    "Server": "fastserve.Server(fastserve.Config('unguarded:app', port=0)).run()",
}


@pytest.mark.parametrize("text", UNGUARDED.values(), ids=UNGUARDED.keys())
def test_a_module_that_starts_a_server_while_it_is_loaded_is_told_of_the_guard(
    start: Start, folder: Path, text: str
) -> None:
    (folder / "unguarded.py").write_text(f"import asyncio, fastserve\nfrom served import app\n{text}\n")
    server = start(runs=("unguarded.py",))
    assert server.wait_exit() == 3
    reason = '"unguarded:app" starts a server while it is loaded; put that under: if __name__ == "__main__".'
    assert server.log.count(f"ERROR:    Error loading ASGI app: {reason}\n") == 1
    assert "Traceback" not in server.log
    assert "Fastserve running on" not in server.log


UNGUARDED_LOOPS = {
    "serve": "fastserve.serve('unguarded:app', port=0)",
    "Server.serve": "fastserve.Server(fastserve.Config('unguarded:app', port=0)).serve()",
}


@pytest.mark.parametrize("text", UNGUARDED_LOOPS.values(), ids=UNGUARDED_LOOPS.keys())
@pytest.mark.parametrize(
    ("runs", "what"),
    [
        (("unguarded.py",), '"unguarded" runs an event loop while it is loaded'),
        (("-m", "fastserve", "unguarded:app", "--port", "0"), '"unguarded:app" starts a server while it is loaded'),
    ],
    ids=["as a program", "by the command"],
)
def test_a_module_that_serves_in_a_loop_while_it_is_loaded_is_told_of_the_guard(
    start: Start, folder: Path, text: str, runs: tuple[str, ...], what: str
) -> None:
    (folder / "unguarded.py").write_text(f"import asyncio, fastserve\nfrom served import app\nasyncio.run({text})\n")
    server = start(runs=runs)
    assert server.wait_exit() == 3
    guard = 'put that under: if __name__ == "__main__".'
    assert server.log.count(f"ERROR:    Error loading ASGI app: {what}; {guard}\n") == 1


def test_a_module_may_start_a_task_that_serves_while_it_is_loaded(start: Start, folder: Path) -> None:
    (folder / "busy.py").write_text(
        "import asyncio, fastserve\nfrom served import app\n"
        "other = fastserve.Server(fastserve.Config(app, port=0))\n"
        "task = asyncio.get_running_loop().create_task(other.serve())\n"
    )
    (folder / "program.py").write_text(
        "import asyncio, sys, fastserve\n"
        "async def main():\n"
        "    server = fastserve.Server(fastserve.Config('busy:app', port=0))\n"
        "    task = asyncio.create_task(server.serve())\n"
        "    while not server.started or not sys.modules['busy'].other.started:\n"
        "        await asyncio.sleep(0.01)\n"
        "    server.should_exit = sys.modules['busy'].other.should_exit = True\n"
        "    await asyncio.gather(task, sys.modules['busy'].task)\n"
        "asyncio.run(main())\n"
    )
    server = start(runs=("program.py",))
    assert server.wait_exit() == 0
    assert server.log.count("Fastserve running on") == 2
    with pytest.raises(ProcessLookupError):
        server.send_signal_to_group(0)


def test_the_command_tells_of_the_guard_too(start: Start, folder: Path) -> None:
    (folder / "unguarded.py").write_text("import fastserve\nfrom served import app\nfastserve.run(app, port=0)\n")
    server = start("unguarded:app", "--port", "0")
    assert server.wait_exit() == 3
    assert 'put that under: if __name__ == "__main__".' in server.log


def test_what_the_application_leaves_to_the_end_of_a_worker_is_done(start: Start, folder: Path) -> None:
    (folder / "leaving.py").write_text(
        "import atexit, os\nfrom served import app\natexit.register(lambda: open(f'left.{os.getpid()}', 'w'))\n"
    )
    (folder / "program.py").write_text("import fastserve\nfastserve.run('leaving:app', port=0, workers=2)\n")
    server = start(runs=("program.py",)).wait_log("Application startup complete.", times=2)
    pids = {worker.pid for worker in server.workers}
    assert server.stop() == 0
    wait_until(lambda: {int(path.suffix[1:]) for path in folder.glob("left.*")} == pids)


def test_event_streams_that_look_for_the_handler_of_sigterm_see_that_the_server_stops(
    start: Start, folder: Path
) -> None:
    (folder / "looking.py").write_text(
        "import asyncio, signal\n"
        "async def app(scope, receive, send):\n"
        "    assert scope['type'] == 'http'\n"
        "    await send({'type': 'http.response.start', 'status': 200, 'headers': []})\n"
        "    server = signal.getsignal(signal.SIGTERM).__self__\n"
        "    while not server.should_exit:\n"
        "        await send({'type': 'http.response.body', 'body': b'x', 'more_body': True})\n"
        "        await asyncio.sleep(0.01)\n"
        "    await send({'type': 'http.response.body', 'body': b'end'})\n"
    )
    server = start("looking:app", "--port", "0").wait_log("Fastserve running on")
    with new_client(server) as client, client.stream("GET", "/") as response:
        parts = response.iter_bytes()
        assert next(parts)
        server.send_signal(signal.SIGTERM)
        assert b"".join(parts).endswith(b"end")
    assert server.wait_exit() == 0
    assert "Cancelling" not in server.log

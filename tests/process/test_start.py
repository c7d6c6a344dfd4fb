"""What the server says when it starts and ends, and what it answers to options and applications that are wrong."""

from __future__ import annotations

import platform
import re
import socket
from pathlib import Path

import pytest

from .running import SERVED, WORKERS, RawClient, Start, ipv6, listens, new_client, wait_until

ONE_PROCESS = """\
INFO:     fastserve VERSION: served:app, 1 worker, LOOP, PARSER, BUILD, PYTHON
INFO:     Started server process [PID]
INFO:     Waiting for application startup.
INFO:     Application startup complete.
INFO:     Fastserve running on URL (Press CTRL+C to quit)
INFO:     Shutting down
INFO:     Waiting for application shutdown.
INFO:     Application shutdown complete.
INFO:     Finished server process [PID]
"""
PARENT = """\
INFO:     fastserve VERSION: served:app, 2 workers (as asked), LOOP, PARSER, BUILD, PYTHON
INFO:     Started parent process [PID]
INFO:     Fastserve running on URL (Press CTRL+C to quit)
INFO:     Received SIGTERM, exiting.
INFO:     Terminating child process [FIRST]
INFO:     Terminating child process [SECOND]
INFO:     Stopping parent process [PID]
"""
WORKER = """\
INFO:     Started server process [PID]
INFO:     Waiting for application startup.
INFO:     Application startup complete.
INFO:     Shutting down
INFO:     Waiting for application shutdown.
INFO:     Application shutdown complete.
INFO:     Finished server process [PID]
"""
ANYTHING = {
    "VERSION": r"\d\S+",
    "LOOP": "(?:uvloop|asyncio)",
    "PARSER": r"(?:own reader \+ )?httptools",
    "BUILD": "(?:pure Python|compiled)",
    "PYTHON": r"\w+ 3\.\d+\.\d+\S*",
}


def pattern(text: str, **names: object) -> str:
    """Return what matches this text, with the words in capitals replaced."""
    found = re.escape(text)
    for name, value in (ANYTHING | {name: re.escape(str(value)) for name, value in names.items()}).items():
        found = found.replace(name, value)
    return found


def test_one_process_says_where_it_is_from_start_to_end(start: Start) -> None:
    server = start(SERVED, "--port", "0").wait_ready()
    assert server.stop() == 0
    assert re.fullmatch(pattern(ONE_PROCESS, PID=server.pid, URL=server.url), server.log), server.log
    assert server.output == ""


def test_a_parent_process_and_its_workers_say_where_they_are(start: Start) -> None:
    server = start(SERVED, "--port", "0", "--workers", "2").wait_ready()
    first, second = sorted(worker.pid for worker in server.workers)
    assert server.stop() == 0
    of_workers = WORKER.replace("[PID]", "").splitlines()
    lines = server.log.splitlines()
    in_parent = [line for line in lines if re.sub(r"\[\d+\]", "", line) not in of_workers]
    expected = pattern(PARENT, PID=server.pid, URL=server.url, FIRST=first, SECOND=second)
    assert re.fullmatch(expected, "\n".join(in_parent) + "\n"), server.log
    in_workers = sorted(line for line in lines if line not in in_parent)
    assert in_workers == sorted((WORKER.replace("PID", str(first)) + WORKER.replace("PID", str(second))).splitlines())


@WORKERS
def test_the_port_that_port_0_stands_for_is_printed(start: Start, workers: str) -> None:
    server = start(SERVED, "--port", "0", "--workers", workers).wait_ready()
    assert re.fullmatch(r"http://127\.0\.0\.1:[1-9]\d*", server.url)
    with new_client(server) as client:
        assert client.get("/").text == "hello"


@WORKERS
def test_each_request_is_one_line_on_standard_output(start: Start, workers: str) -> None:
    server = start(SERVED, "--port", "0", "--workers", workers).wait_ready()
    with RawClient(server.address) as client:
        port = client.sock.getsockname()[1]
        for target in ("/", "/a/b%20c/%C3%B6?q=%20a&b", "/scope?x=1"):
            client.get(target).answer()
        client.send(b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n")
        client.send(b"POST /fail HTTP/1.0\r\n\r\n").rest()
    assert server.stop() == 0
    assert server.output.splitlines() == [
        f'INFO:     127.0.0.1:{port} - "GET / HTTP/1.1" 200 OK',
        f'INFO:     127.0.0.1:{port} - "GET /a/b%20c/%C3%B6?q=%20a&b HTTP/1.1" 404 Not Found',
        f'INFO:     127.0.0.1:{port} - "GET /scope?x=1 HTTP/1.1" 200 OK',
        f'INFO:     127.0.0.1:{port} - "HEAD / HTTP/1.1" 200 OK',
        f'INFO:     127.0.0.1:{port} - "POST /fail HTTP/1.0" 500 Internal Server Error',
    ]


def test_a_request_that_the_application_fails_on_leaves_its_traceback(start: Start) -> None:
    server = start(SERVED, "--port", "0").wait_ready()
    with new_client(server) as client:
        answer = client.get("/fail")
        assert (answer.status_code, answer.text) == (500, "Internal Server Error")
        assert client.get("/").status_code == 200
    assert server.stop() == 0
    assert server.log.count("ERROR:    Exception in ASGI application\nTraceback") == 1
    assert server.log.count("\nRuntimeError: the application failed on purpose\n") == 1


def test_a_request_that_is_no_http_is_one_line_without_a_traceback(start: Start) -> None:
    server = start(SERVED, "--port", "0").wait_ready()
    with RawClient(server.address) as client:
        assert client.send(b"\x16\x03\x01 hello\r\n\r\n").rest().startswith(b"HTTP/1.1 400 ")
    assert server.stop() == 0
    assert server.log.count("refused with 400") == 1
    assert "Traceback" not in server.log


# Starts that fail.

BROKEN = {
    "raises.py": "def divide():\n    return 1 / 0\n\n\ndivide()\n",
    "imports.py": "import no_such_library\n",
    "syntax.py": "def broken(:\n",
    "leaves.py": "import sys\nsys.exit('go away')\n",
    "empty.py": "",
    "apps.py": """
async def failed(scope, receive, send):
    assert scope["type"] == "lifespan"
    await receive()
    await send({"type": "lifespan.startup.failed", "message": "there is no database"})


async def failed_silently(scope, receive, send):
    await receive()
    await send({"type": "lifespan.startup.failed"})


async def raises(scope, receive, send):
    await receive()
    raise RuntimeError("there is no database")


async def has_no_lifespan(scope, receive, send):
    assert scope["type"] == "http"


def raising_factory():
    raise LookupError("there is no configuration")


def factory_with_a_parameter(name):
    pass


def factory_of_nothing():
    return None


def factory():
    return failed


number = 7
""",
}
# arguments -> what is said, and the last line of a traceback if there is one to be
FAILURES = {
    "no such module": (["missing:app"], 'there is no module "missing"', None),
    "no such package": (["missing.deep:app"], 'there is no module "missing"', None),
    "the module raises": (["raises:app"], '"raises" cannot be imported', "ZeroDivisionError: division by zero"),
    "the module needs another": (
        ["imports:app"],
        '"imports" cannot be imported',
        "ModuleNotFoundError: No module named 'no_such_library'",
    ),
    "a syntax error": (["syntax:app"], '"syntax" cannot be imported', "SyntaxError: "),
    "the module exits": (["leaves:app"], '"leaves" cannot be imported', "SystemExit: go away"),
    "no such attribute": (["empty:app"], 'module "empty" has no attribute "app"', None),
    "no attribute is named": (["empty"], '"empty" is not of the form "module:attribute"', None),
    "not an application": (["apps:number"], '"apps:number" is not callable: 7', None),
    "a factory, not said so": (["apps:factory_of_nothing"], '"apps:factory_of_nothing" is not callable: None', None),
    "a file": (["apps.py"], '"apps.py" is not of the form "module:attribute"; is it "apps:app"?', None),
    "the factory raises": (
        ["apps:raising_factory", "--factory"],
        'the factory "apps:raising_factory" failed',
        "LookupError: there is no configuration",
    ),
    "the factory wants more": (
        ["apps:factory_with_a_parameter", "--factory"],
        'the factory "apps:factory_with_a_parameter" failed',
        "missing 1 required positional argument: 'name'",
    ),
    "the factory makes nothing": (["apps:factory_of_nothing", "--factory"], "is not callable: None", None),
    "the start-up fails": (["apps:failed"], "Application startup failed: there is no database. Exiting.", None),
    "the start-up fails without a reason": (
        ["apps:failed_silently"],
        "Application startup failed: the application failed to start. Exiting.",
        None,
    ),
    "the start-up raises": (
        ["apps:raises", "--lifespan", "on"],
        "Application startup failed: the application did not complete 'lifespan.startup'",
        "RuntimeError: there is no database",
    ),
    "no start-up where there must be one": (
        ["apps:has_no_lifespan", "--lifespan", "on"],
        "Application startup failed: the application did not complete 'lifespan.startup'",
        None,
    ),
}


@pytest.fixture
def broken(folder: Path) -> Path:
    """The folder, with modules that are broken in many ways."""
    for name, source in BROKEN.items():
        (folder / name).write_text(source)
    return folder


@pytest.mark.parametrize(("arguments", "said", "trace"), FAILURES.values(), ids=FAILURES.keys())
def test_an_application_that_cannot_start_is_one_message_and_status_3(
    start: Start, broken: Path, arguments: list[str], said: str, trace: str | None
) -> None:
    server = start(*arguments, "--port", "0")
    assert server.wait_exit() == 3
    assert server.log.count(said) == 1
    if trace is None:
        assert "Traceback" not in server.log
    else:
        assert server.log.count(trace) == 1
    assert "Fastserve running on" not in server.log


SEVERAL = ["no such module", "the module raises", "the factory raises", "the start-up fails", "the start-up raises"]


@pytest.mark.parametrize(("arguments", "said", "trace"), [FAILURES[name] for name in SEVERAL], ids=SEVERAL)
def test_workers_that_cannot_start_end_the_server_with_status_3(
    start: Start, broken: Path, arguments: list[str], said: str, trace: str | None
) -> None:
    server = start(*arguments, "--port", "0", "--workers", "2")
    assert server.wait_exit() == 3
    assert said in server.log
    assert trace is None or trace in server.log


@pytest.mark.parametrize("arguments", [["raises:app"], ["apps:failed"]], ids=["import", "start-up"])
def test_several_workers_say_once_why_they_cannot_start(start: Start, broken: Path, arguments: list[str]) -> None:
    server = start(*arguments, "--port", "0", "--workers", "2")
    assert server.wait_exit() == 3
    reasons = re.findall("^ERROR: .*(?:cannot be imported|there is no database).*", server.log, re.MULTILINE)
    assert len(reasons) == 1, server.log


@pytest.mark.parametrize("module", ["raises", "imports", "syntax"])
def test_the_traceback_of_a_failed_import_has_no_frames_but_the_users(start: Start, broken: Path, module: str) -> None:
    server = start(f"{module}:app", "--port", "0")
    assert server.wait_exit() == 3
    files = re.findall(r'^  File "(.*?)"', server.log, re.MULTILINE)
    assert files
    assert set(files) == {str(broken / f"{module}.py")}


def test_an_application_that_fails_to_start_is_not_tried_again(start: Start, folder: Path) -> None:
    (folder / "counted.py").write_text("open('boots', 'a').write('x')\nraise RuntimeError\n")
    server = start("counted:app", "--port", "0", "--workers", "2")
    assert server.wait_exit() == 3
    assert (folder / "boots").read_text() in ("x", "xx")


@WORKERS
def test_a_port_in_use_is_one_message_and_status_3(start: Start, folder: Path, workers: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        server = start(SERVED, "--port", str(port), "--workers", workers)
        assert server.wait_exit() == 3
    assert server.log.count(f"ERROR:    cannot listen on 127.0.0.1:{port}: Address already in use\n") == 1
    assert "Traceback" not in server.log
    assert "Fastserve running on" not in server.log
    assert not (folder / "life.txt").exists(), "the application was started"


@WORKERS
def test_an_address_that_is_named_twice_is_told_before_the_application_is_started(
    start: Start, folder: Path, workers: str
) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{sock.getsockname()[1]}"
    server = start(SERVED, "--bind", address, "--bind", address, "--workers", workers)
    assert server.wait_exit() == 3
    assert f"ERROR:    cannot listen on {address}: it is given twice\n" in server.log
    assert not (folder / "life.txt").exists(), "the application was started"


@ipv6
def test_an_address_of_ipv6_may_have_brackets(start: Start) -> None:
    server = start(SERVED, "--host", "[::1]", "--port", "0").wait_ready()
    with new_client(server) as client:
        assert client.get("/").text == "hello"
    assert server.url.startswith("http://[::1]:")


# Options that are wrong.

USAGE = {
    "no application": ([], "no application is named; for example: fastserve main:app"),
    "two applications": ([SERVED, SERVED], "unexpected extra argument"),
    "no such option": ([SERVED, "--no-such-option"], "--no-such-option"),
    "a value that is missing": ([SERVED, "--port"], "--port"),
    "not a number": ([SERVED, "--port", "http"], "--port"),
    "a port too high": ([SERVED, "--port", "65536"], "--port: 65536 is more than 65535"),
    "a port below 0": ([SERVED, "--port=-1"], "--port: -1 is less than 0"),
    "no workers": ([SERVED, "--workers", "0"], "--workers: 0 is less than 1"),
    "not a number of workers": ([SERVED, "--workers", "many"], "--workers"),
    "a loop of no module": ([SERVED, "--loop", "absent:loop"], '--loop: there is no module "absent" in '),
    "a loop of no module, with workers": (
        [SERVED, "--loop", "absent:loop", "--workers", "2"],
        '--loop: there is no module "absent" in ',
    ),
    "a loop of no factory": ([SERVED, "--loop", "served:absent"], '--loop: module "served" has no attribute "absent"'),
    "no such loop": ([SERVED, "--loop", "trio"], "--loop"),
    "not an address": ([SERVED, "--bind", "here"], "--bind: 'here' is not"),
    "--bind and --port": ([SERVED, "--bind", "127.0.0.1:0", "--port", "1"], "--bind and --port exclude each other"),
    "not a header": ([SERVED, "--header", "nothing"], "--header: 'nothing' is not NAME:VALUE"),
    "no such log file": ([SERVED, "--log-config", "missing.json"], "--log-config: missing.json: No such file"),
    "no such configuration": ([SERVED, "--config", "missing.toml"], "--config: missing.toml: No such file"),
    "not a configuration": ([SERVED, "--config", "served.py"], "--config: served.py: "),
}


@pytest.mark.parametrize(("arguments", "said"), USAGE.values(), ids=USAGE.keys())
def test_a_wrong_option_is_one_line_and_status_2(start: Start, arguments: list[str], said: str) -> None:
    server = start(*arguments)
    assert server.wait_exit() == 2
    assert server.log.startswith("fastserve: error: ")
    assert said in server.log
    assert server.log.count("\n") == 1
    assert server.output == ""


@WORKERS
def test_a_loop_that_is_none_is_one_error(start: Start, workers: str) -> None:
    server = start(SERVED, "--port", "0", "--workers", workers, "--loop", "platform:system")
    assert server.wait_exit() == (2 if workers == "1" else 3)
    assert (
        server.log.count(f"ERROR:    --loop: platform:system makes '{platform.system()}', which is no event loop\n")
        == 1
    )
    assert "Traceback" not in server.log


@pytest.mark.parametrize("option", ["--help", "-h", "--version"])
def test_a_question_is_answered_on_standard_output(start: Start, option: str) -> None:
    server = start(option)
    assert server.wait_exit() == 0
    assert "fastserve" in server.output
    assert server.log == ""


def test_a_server_without_standard_streams_serves(start: Start, folder: Path) -> None:
    (folder / "closed.py").write_text(
        "import os, sys\nfor fd in (0, 1, 2):\n    os.close(fd)\n"
        "os.execv(sys.executable, [sys.executable, '-m', 'fastserve', *sys.argv[1:]])\n"
    )
    start(SERVED, "--bind", "unix:app.sock", "--workers", "2", runs=("closed.py",))
    path = str(folder / "app.sock")
    wait_until(lambda: listens(path))
    with RawClient(path) as client:
        assert client.get("/").answer().body == b"hello"

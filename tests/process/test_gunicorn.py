"""gunicorn with fastserve's worker class: real processes, the current gunicorn and the oldest one that is supported."""

from __future__ import annotations

import os
import re
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from tests.certificates import client_context, write_pair

from .gunicorns import CURRENT, OLDEST, Begin, RunningGunicorn, beginning, install
from .load import ClosedLoop
from .running import Gate, RawClient, is_alive, life, new_client, wait_until


@pytest.fixture(scope="session")
def oldest(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Where the oldest gunicorn is installed."""
    return str(install(OLDEST, tmp_path_factory.mktemp("gunicorn")))


@pytest.fixture(params=[CURRENT, OLDEST])
def gunicorn(request: pytest.FixtureRequest, folder: Path) -> Iterator[Begin]:
    """Start gunicorn, of each version."""
    path = request.getfixturevalue("oldest") if request.param == OLDEST else ""
    with beginning(folder, path) as begin:
        yield begin


@pytest.fixture
def current(folder: Path) -> Iterator[Begin]:
    """Start the current gunicorn."""
    with beginning(folder) as begin:
        yield begin


def get(server: RunningGunicorn, path: str) -> httpx.Response:
    with new_client(server) as client:
        return client.get(path)


def worker_of(server: RunningGunicorn) -> psutil.Process:
    (worker,) = [child for child in server.workers if child.pid in server.booted]
    return worker


# Serving and stopping.


@pytest.mark.parametrize("name", ["fastserve.gunicorn.FastserveWorker", "fastserve.workers.FastserveH11Worker"])
def test_gunicorn_serves_with_the_worker_class(gunicorn: Begin, folder: Path, name: str) -> None:
    server = gunicorn(worker=name).wait_workers()
    answer = get(server, "/")
    assert (answer.status_code, answer.text, answer.headers["server"]) == (200, "hello", "fastserve")
    assert server.stop() == 0
    pid = server.booted[0]
    assert life(folder) == [f"startup {pid}", f"shutdown {pid}"]


def test_sigterm_lets_a_request_finish_and_runs_the_end_of_the_lifespan(gunicorn: Begin, folder: Path) -> None:
    server = gunicorn().wait_workers()
    gate = Gate(folder, "slow")
    with RawClient(server.address) as client:
        client.get("/gate?slow")
        gate.wait_reached()
        server.send_signal(signal.SIGTERM)
        server.wait_log("Shutting down")
        gate.open()
        assert client.answer().body == b"through"
    assert server.wait_exit() == 0
    assert life(folder)[-1].startswith("shutdown")


def test_the_lifespan_ends_within_graceful_timeout_although_a_request_does_not(current: Begin, folder: Path) -> None:
    server = current("--graceful-timeout", "4").wait_workers()
    with RawClient(server.address) as client:
        client.get("/gate?slow")
        Gate(folder, "slow").wait_reached()
        assert server.stop() == 0
    assert [line.split()[0] for line in life(folder)] == ["startup", "cancelled", "shutdown"]
    assert "SIGKILL" not in server.log


@pytest.mark.parametrize("number", [signal.SIGQUIT, signal.SIGINT], ids=["SIGQUIT", "SIGINT"])
def test_a_quick_stop_takes_little_time_and_still_ends_the_lifespan(
    gunicorn: Begin, folder: Path, number: signal.Signals
) -> None:
    server = gunicorn("--graceful-timeout", "60").wait_workers()
    with RawClient(server.address) as client:
        client.get("/gate?slow")
        Gate(folder, "slow").wait_reached()
        began = time.monotonic()
        server.send_signal_to_group(number)
        assert server.wait_exit() == 0
        assert time.monotonic() - began < 5
    assert life(folder)[-1].startswith("shutdown")


def test_a_worker_ends_when_the_arbiter_is_killed(current: Begin) -> None:
    server = current().wait_workers()
    worker = worker_of(server)
    server.send_signal(signal.SIGKILL)
    wait_until(lambda: not is_alive(worker), within_s=10)


# Under load.


def test_reloading_under_load_fails_no_request(gunicorn: Begin) -> None:
    server = gunicorn("-w", "2").wait_workers(2)
    with ClosedLoop(server.address) as kept, ClosedLoop(server.address, connections=4, keeps=False) as new:
        for times in (1, 2):
            server.send_signal(signal.SIGHUP)
            server.wait_workers(2 + 2 * times)
            wait_until(lambda: {child.pid for child in server.workers} == set(server.booted[-2:]))
        answered = kept.answered
        wait_until(lambda: kept.answered > answered + 50)
    assert (kept.failed, new.failed, kept.refused + new.refused) == ({}, {}, 0)
    assert set(kept.pids) & set(server.booted[-2:])
    assert server.stop() == 0


def test_a_stop_under_load_answers_what_it_has_accepted(current: Begin) -> None:
    server = current("-w", "2").wait_workers(2)
    with ClosedLoop(server.address, method="POST") as load:
        wait_until(lambda: load.answered > 100)
        server.send_signal(signal.SIGTERM)
        assert server.wait_exit() == 0
        wait_until(lambda: load.refused > 0)
    # A connection may come between the last look into the queue and the end of the socket.
    assert load.failed.total() <= 2, load.failed


def test_max_requests_replaces_workers_and_fails_no_request(current: Begin) -> None:
    server = current("-w", "2", "--max-requests", "300", "--max-requests-jitter", "50").wait_workers(2)
    with ClosedLoop(server.address) as kept, ClosedLoop(server.address, connections=4, keeps=False) as new:
        server.wait_workers(6)
    assert (kept.failed, new.failed) == ({}, {})
    assert "Autorestarting worker after current request." in server.log
    assert server.stop() == 0


def test_a_killed_worker_is_replaced_and_loses_only_what_it_was_doing(current: Begin) -> None:
    server = current("-w", "2").wait_workers(2)
    with ClosedLoop(server.address, connections=16) as load:
        wait_until(lambda: load.answered > 100)
        os.kill(server.booted[0], signal.SIGKILL)
        server.wait_workers(3)
        answered = load.answered
        wait_until(lambda: load.answered > answered + 100)
    assert load.failed.total() <= 16
    assert server.stop() == 0


def test_with_reuse_port_each_worker_has_a_socket_of_its_own(gunicorn: Begin) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    server = gunicorn("-w", "2", "--reuse-port", bind=f"127.0.0.1:{port}").wait_workers(2)
    listening = [c for pid in server.booted for c in psutil.Process(pid).net_connections("tcp") if c.status == "LISTEN"]
    assert len(listening) == 2
    seen = set()
    with httpx.Client() as client:
        for _ in range(64):
            seen.add(client.get(f"http://127.0.0.1:{port}/pid", headers={"connection": "close"}).text)
    assert seen == {str(pid) for pid in server.booted}


def test_an_upgrade_of_gunicorn_takes_over_the_sockets(current: Begin) -> None:
    server = current("--pid", "gunicorn.pid").wait_workers()
    with ClosedLoop(server.address, connections=8) as load:
        server.send_signal(signal.SIGUSR2)
        server.wait_workers(2)
        (heir,) = [child for child in server.workers if child.pid not in server.booted]
        assert server.stop() == 0
        wait_until(lambda: server.booted[1] in load.pids)
    assert load.failed == {}
    heir.send_signal(signal.SIGTERM)
    wait_until(lambda: not is_alive(heir))


# Timeouts.


def test_a_blocked_worker_shows_its_stack_and_is_replaced(gunicorn: Begin, folder: Path) -> None:
    (folder / "conf.py").write_text("def worker_abort(worker):\n    open('aborted', 'w').write(str(worker.pid))\n")
    server = gunicorn("-c", "conf.py", "--timeout", "2").wait_workers()
    with RawClient(server.address) as client:
        client.get("/block?blocked")
        server.wait_log("WORKER TIMEOUT")
        server.wait_workers(2)
    assert 'served.py", line' in server.log
    assert "in block" in server.log
    assert (folder / "aborted").read_text() == str(server.booted[0])
    assert "SIGKILL" not in server.log
    assert life(folder).count(f"shutdown {server.booted[0]}") == 1


def test_a_worker_that_is_blocked_in_c_shows_its_stack_too(current: Begin, folder: Path) -> None:
    (folder / "stuck.py").write_text(
        "async def app(scope, receive, send):\n"
        "    if scope['type'] == 'http':\n"
        "        sum(range(10 ** 15))\n"  # where no signal is heard
    )
    server = current("--timeout", "2", app="stuck:app").wait_workers()
    with RawClient(server.address) as client:
        client.get("/")
        server.wait_log("was sent SIGKILL")
        server.wait_workers(2)
    assert 'stuck.py", line 3 in app' in server.log


def test_a_slow_start_of_the_application_is_no_timeout(current: Begin, folder: Path) -> None:
    (folder / "slow.py").write_text(
        "import asyncio, served\n"
        "async def app(scope, receive, send):\n"
        "    if scope['type'] == 'lifespan':\n"
        "        await asyncio.sleep(4)\n"
        "    await served.app(scope, receive, send)\n"
    )
    server = current("--timeout", "2", app="slow:app").wait_workers()
    assert get(server, "/").text == "hello"
    assert "WORKER TIMEOUT" not in server.log


# What cannot start.

FAILURES = [
    pytest.param("missing:app", "ModuleNotFoundError", 3, id="no module"),
    pytest.param("served:nothing", "Failed to find attribute 'nothing'", 4, id="no attribute"),
    pytest.param("failing:app", "Application startup failed: no database. Exiting.", 3, id="lifespan"),
]


@pytest.mark.parametrize(("app", "message", "status"), FAILURES)
def test_what_cannot_start_ends_gunicorn(gunicorn: Begin, folder: Path, app: str, message: str, status: int) -> None:
    (folder / "failing.py").write_text(
        "async def app(scope, receive, send):\n"
        "    await receive()\n"
        "    await send({'type': 'lifespan.startup.failed', 'message': 'no database'})\n"
    )
    server = gunicorn(app=app)
    assert server.wait_exit() == status
    assert message in server.log


REFUSED = [
    pytest.param("", ("--certfile", "cert.pem"), "cert.pem has no certificate in PEM form", id="no certificate"),
    pytest.param("'http2': True", (), "HTTP/2 is not served", id="not here"),
    pytest.param("'log_config': {}", (), "'log_config' cannot be given here: use logconfig", id="a log_config"),
    pytest.param("'workers': 2", (), "'workers' cannot be given here: use workers", id="gunicorn's to decide"),
    pytest.param("'no_such': 1", (), "unknown option 'no_such'", id="unknown option"),
    pytest.param("'lifespan': 'other'", (), "--lifespan: 'other' is not one of", id="bad value"),
]


@pytest.mark.parametrize(("options", "arguments", "message"), REFUSED)
def test_what_cannot_be_had_is_said_before_there_is_a_worker(
    current: Begin, folder: Path, options: str, arguments: tuple[str, ...], message: str
) -> None:
    (folder / "cert.pem").touch()
    (folder / "own.py").write_text(
        "from fastserve.gunicorn import FastserveWorker\n"
        f"class Own(FastserveWorker):\n    CONFIG_KWARGS = {{{options}}}\n"
    )
    server = current(*arguments, worker="own.Own")
    assert server.wait_exit() == 1
    assert message in server.log


def test_a_setting_without_effect_is_named(current: Begin) -> None:
    server = current("--threads", "4").wait_workers()
    assert "threads has no effect with FastserveWorker" in server.log


# Settings.


def test_options_of_fastserve_come_from_a_derived_class(gunicorn: Begin, folder: Path) -> None:
    (folder / "own.py").write_text(
        "from fastserve.gunicorn import FastserveWorker\n"
        "class Own(FastserveWorker):\n"
        "    CONFIG_KWARGS = {'root_path': '/api', 'lifespan': 'off', 'server_header': False, 'ready_path': '/ready',"
        " 'headers': [('x-a', 'b')]}\n"
    )
    server = gunicorn(worker="own.Own").wait_workers()
    answer = get(server, "/ready")
    assert (answer.text, answer.headers.get("server"), answer.headers["x-a"]) == ("ready\n", None, "b")
    assert life(folder) == []


def test_keepalive_closes_idle_connections(current: Begin) -> None:
    server = current("--keep-alive", "1").wait_workers()
    with RawClient(server.address) as client:
        client.get("/")
        assert client.answer().status == 200
        began = time.monotonic()
        assert client.rest() == b""
        assert 0.5 < time.monotonic() - began < 5


LIMITS = [
    pytest.param(
        "--limit-request-line", "100", b"GET /%s HTTP/1.1\r\nHost: a\r\n\r\n" % (b"x" * 200), b"414", id="line"
    ),
    pytest.param(
        "--limit-request-fields", "3", b"GET / HTTP/1.1\r\nHost: a\r\n%s\r\n" % (b"a: b\r\n" * 3), b"431", id="fields"
    ),
    pytest.param(
        "--limit-request-field_size",
        "20",
        b"GET / HTTP/1.1\r\nHost: a\r\nb: %s\r\n\r\n" % (b"c" * 2001),
        b"431",
        id="size",
    ),
]


@pytest.mark.parametrize(("flag", "value", "request_bytes", "status"), LIMITS)
def test_the_limits_of_requests_are_gunicorns(
    current: Begin, flag: str, value: str, request_bytes: bytes, status: bytes
) -> None:
    server = current(flag, value).wait_workers()
    with RawClient(server.address) as client:
        assert client.send(request_bytes).rest().startswith(b"HTTP/1.1 " + status)


def test_the_access_log_is_gunicorns(gunicorn: Begin) -> None:
    server = gunicorn(
        "--access-logfile", "-", "--access-logformat", "%(h)s %(r)s %(s)s %(B)s %({x-a}i)s"
    ).wait_workers()
    with new_client(server) as client:
        client.get("/?q=1", headers={"x-a": "b", "x-forwarded-for": "192.0.2.7"})
    wait_until(lambda: "192.0.2.7 GET /?q=1 HTTP/1.1 200 5 b\n" in server.output)


LOGGING = """
import logging, sys
from served import app as served
{replaced}
async def app(scope, receive, send):
    if scope["type"] == "http":
        logging.getLogger("uvicorn.error").warning("said for uvicorn")
    await served(scope, receive, send)
"""


def test_what_is_logged_for_uvicorn_goes_where_gunicorn_logs(gunicorn: Begin, folder: Path) -> None:
    (folder / "logging_app.py").write_text(LOGGING.format(replaced=""))
    server = gunicorn("--error-logfile", "-", app="logging_app:app").wait_workers()
    assert get(server, "/").text == "hello"
    wait_until(lambda: re.search(r"\[[0-9]+\] \[WARNING\] said for uvicorn\n", server.log) is not None)


def test_messages_go_on_to_the_root_where_gunicorns_do(current: Begin, folder: Path) -> None:
    (folder / "conf.py").write_text(
        "logconfig_dict = {'version': 1, 'disable_existing_loggers': False,\n"
        "  'formatters': {'root': {'format': 'ROOT %(name)s %(message)s'}},\n"
        "  'handlers': {'root': {'class': 'logging.StreamHandler', 'formatter': 'root'}},\n"
        "  'root': {'handlers': ['root'], 'level': 'INFO'},\n"
        "  'loggers': {'gunicorn.error': {'handlers': [], 'propagate': True, 'level': 'INFO'}}}\n"
    )
    (folder / "logging_app.py").write_text(LOGGING.format(replaced=""))
    server = current("-c", "conf.py", app="logging_app:app").wait_workers()
    assert get(server, "/").text == "hello"
    server.wait_log("ROOT uvicorn.error said for uvicorn\n")
    assert re.search(r"^ROOT fastserve Started server process \[[0-9]+\]$", server.log, re.M)


@pytest.mark.parametrize("options", [(), ("--preload",)], ids=["loaded in the worker", "preloaded"])
def test_what_an_application_does_to_uvicorns_logger_holds_and_no_line_comes_twice(
    current: Begin, folder: Path, options: tuple[str, ...]
) -> None:
    replaced = (
        "handler = logging.StreamHandler(sys.stdout)\n"
        "handler.setFormatter(logging.Formatter('own: %(message)s'))\n"
        "logging.getLogger('uvicorn.error').handlers = [handler]\n"
    )
    (folder / "logging_app.py").write_text(LOGGING.format(replaced=replaced))
    server = current(*options, app="logging_app:app").wait_workers()
    assert get(server, "/").text == "hello"
    wait_until(lambda: "own: said for uvicorn\n" in server.output)
    server.send_signal(signal.SIGTERM)
    assert server.wait_exit() == 0
    assert server.output.count("own: Started server process") == 1
    assert "Started server process" not in server.log
    assert "said for uvicorn" not in server.log


def test_the_access_log_has_what_filters_of_uvicorns_logger_let_through(current: Begin, folder: Path) -> None:
    filters = "logging.getLogger('uvicorn.access').addFilter(lambda record: record.args[2] != '/pid')"
    (folder / "logging_app.py").write_text(LOGGING.format(replaced=filters))
    options = ("--access-logfile", "-", "--access-logformat", "%(r)s %(s)s")
    server = current(*options, app="logging_app:app").wait_workers()
    for path in ("/pid", "/", "/pid?a"):
        get(server, path)
    wait_until(lambda: "GET /pid?a HTTP/1.1 200\n" in server.output)
    assert server.output == "GET / HTTP/1.1 200\nGET /pid?a HTTP/1.1 200\n"


def test_hooks_see_requests_and_the_life_of_a_worker(gunicorn: Begin, folder: Path) -> None:
    (folder / "conf.py").write_text(
        "def note(text):\n    open('hooks', 'a').write(text + '\\n')\n"
        "def post_worker_init(worker):\n    note('init')\n"
        "def pre_request(worker, req):\n    note(f'pre {req.method} {req.path}')\n"
        "def post_request(worker, req, environ, resp):\n"
        "    note(f'post {req.uri} {environ[\"REMOTE_ADDR\"]} {resp.status} {worker.nr}')\n"
        "def worker_int(worker):\n    note('int')\n"
        "def worker_exit(server, worker):\n    note('exit')\n"
    )
    server = gunicorn("-c", "conf.py").wait_workers()
    with RawClient(server.address) as client:
        client.send(b"GET / HTTP/1.1\r\n\r\n")
        assert client.answer().status == 400
    assert get(server, "/?a").text == "hello"
    wait_until(lambda: "post" in (folder / "hooks").read_text())  # which is called when the response is sent
    server.send_signal(signal.SIGINT)
    assert server.wait_exit() == 0
    assert (folder / "hooks").read_text().split("\n") == [
        "init",
        "pre GET /",
        "post /?a 127.0.0.1 200 OK 1",
        "int",
        "exit",
        "",
    ]


@pytest.mark.parametrize(
    ("hook", "said"),
    [
        ("pre_request(worker, request)", "accelerated 0 of 1 routes: the hook pre_request is called for each request"),
        ("post_worker_init(worker)", "accelerated 1 of 1 routes"),
    ],
)
def test_a_hook_that_hinders_acceleration_is_told(current: Begin, folder: Path, hook: str, said: str) -> None:
    (folder / "conf.py").write_text(f"def {hook}: pass\n")
    (folder / "fast.py").write_text(
        "from fastapi import FastAPI\napp = FastAPI(openapi_url=None)\n"
        "@app.get('/')\nasync def read():\n    return 'hello'\n"
    )
    server = current("-c", "conf.py", app="fast:app").wait_workers()
    assert get(server, "/").json() == "hello"
    assert server.log.count("accelerated ") == server.log.count(said) == 1


def test_sigusr1_reopens_the_logs(current: Begin, folder: Path) -> None:
    server = current("--access-logfile", "access.log").wait_workers()
    get(server, "/")
    wait_until(lambda: '"GET / HTTP/1.1" 200' in (folder / "access.log").read_text())
    (folder / "access.log").rename(folder / "old.log")
    server.send_signal(signal.SIGUSR1)
    wait_until((folder / "access.log").exists)
    wait_until(lambda: get(server, "/pid").is_success and "GET /pid" in (folder / "access.log").read_text())


def test_a_unix_socket_is_trusted_to_forward(current: Begin, folder: Path) -> None:
    current(bind="unix:sock").wait_workers()
    with RawClient(str(folder / "sock")) as client:
        client.send(b"GET /scope HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 192.0.2.7\r\n\r\n")
        assert b'"client": ["192.0.2.7", 0]' in client.answer().body


def test_proxy_headers_are_read_as_gunicorn_is_told(gunicorn: Begin, folder: Path) -> None:
    (folder / "conf.py").write_text("proxy_protocol = True\nproxy_allow_ips = '127.0.0.0/30'\n")
    server = gunicorn("-c", "conf.py").wait_workers()
    with RawClient(server.address) as client:
        client.send(b"PROXY TCP4 192.0.2.7 192.0.2.1 4711 443\r\n").get("/scope")
        assert b'"client": ["192.0.2.7", 4711], "server": ["192.0.2.1", 443]' in client.answer().body


def test_tls_has_gunicorns_certificates_and_hook(gunicorn: Begin, folder: Path) -> None:
    (folder / "conf.py").write_text(
        "import ssl\n"
        "def ssl_context(config, default_ssl_context_factory):\n"
        "    context = default_ssl_context_factory()\n"
        "    context.maximum_version = ssl.TLSVersion.TLSv1_2\n"
        "    return context\n"
    )
    pair = write_pair(folder, "127.0.0.1")
    files = ("--certfile", pair["ssl_certfile"], "--keyfile", pair["ssl_keyfile"])
    server = gunicorn("-c", "conf.py", *files).wait_workers()
    with (
        socket.create_connection(server.address) as plain,
        client_context().wrap_socket(plain, server_hostname="127.0.0.1") as sock,
    ):
        sock.sendall(b"GET /scope HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        assert sock.version() == "TLSv1.2"
        assert b'"scheme": "https"' in b"".join(iter(lambda: sock.recv(65536), b""))


# Development.


def test_a_change_reloads_the_application_although_a_stream_is_open(current: Begin, folder: Path) -> None:
    (folder / "dev.py").write_text("from served import app\n")
    server = current("--reload", "--reload-engine", "poll", app="dev:app").wait_workers()
    with RawClient(server.address) as client:
        client.get("/gate?open")
        Gate(folder, "open").wait_reached()
        touch(folder / "dev.py", "from served import app  # changed\n")
        server.wait_workers(2)
    touch(folder / "dev.py", "from served import app (\n")
    server.wait_log("Waiting for a change.")
    server.wait_workers(3)
    answer = get(server, "/")
    assert (answer.status_code, "SyntaxError" in answer.text) == (500, True)
    touch(folder / "dev.py", "from served import app\n")
    server.wait_workers(4)
    assert get(server, "/").text == "hello"


def touch(file: Path, text: str) -> None:
    """Change a file so that a look at its time tells."""
    before = file.stat().st_mtime
    file.write_text(text)
    os.utime(file, (before + 10, before + 10))

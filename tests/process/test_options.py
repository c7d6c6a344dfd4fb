"""Options, end to end: that each does what it says, and where they can come from."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import httpx
import pytest
import yaml

from tests.certificates import client_context, flags, write_pair

from .running import SERVED, WORKERS, RawClient, RunningServer, Start, new_client, starting_servers, wait_until


def get(server: RunningServer, target: str = "/") -> httpx.Response:
    with new_client(server) as client:
        return client.get(target)


# Where options come from.


def test_the_environment_can_hold_every_option(start: Start, folder: Path) -> None:
    environment = {
        "FASTSERVE_BIND": "127.0.0.1:0\nunix:app.sock",
        "FASTSERVE_WORKERS": "2",
        "FASTSERVE_HEADER": "x-one: 1\nx-two: two words",
        "FASTSERVE_ROOT_PATH": "/api",
        "FASTSERVE_ACCESS_LOG": "false",
        "FASTSERVE_LOG_LEVEL": "debug",
    }
    server = start(SERVED, environment=environment).wait_ready()
    assert len(server.workers) == 2
    answer = get(server, "/scope")
    assert (answer.headers["x-one"], answer.headers["x-two"]) == ("1", "two words")
    with RawClient(str(folder / "app.sock")) as client:
        assert client.get("/").answer().status == 404  # /api/ is not /
    assert server.stop() == 0
    assert server.output == ""


def test_a_project_file_can_hold_every_option_and_the_application(start: Start, folder: Path) -> None:
    (folder / "pyproject.toml").write_text(
        '[project]\nname = "other"\n\n[tool.fastserve]\napp = "served:app"\nport = 0\nworkers = "auto"\n'
        'header = ["x-one: 1", "x-two: two words"]\naccess-log = false\ntimeout-keep-alive = 1.5\n'
        "limit-unread = 1_000\n"
    )
    server = start().wait_ready()
    assert server.workers
    answer = get(server)
    assert (answer.text, answer.headers["x-one"], answer.headers["x-two"]) == ("hello", "1", "two words")
    assert server.stop() == 0
    assert server.output == ""


def test_another_file_can_be_named(start: Start, folder: Path) -> None:
    (folder / "pyproject.toml").write_text("[tool.fastserve]\nport = 1\n")
    (folder / "production.toml").write_text('app = "served:app"\nport = 0\nheader = ["x-from: production"]\n')
    server = start("--config", "production.toml").wait_ready()
    assert get(server).headers["x-from"] == "production"


FILE, ENVIRONMENT, COMMAND = 'root-path = "/file"', {"FASTSERVE_ROOT_PATH": "/environment"}, ["--root-path", "/command"]


@pytest.mark.parametrize(
    ("file", "environment", "command", "decides"),
    [
        pytest.param("", {}, [], "", id="none"),
        pytest.param(FILE, {}, [], "/file", id="file"),
        pytest.param(FILE, ENVIRONMENT, [], "/environment", id="environment over file"),
        pytest.param(FILE, ENVIRONMENT, COMMAND, "/command", id="command line over all"),
        pytest.param("", ENVIRONMENT, COMMAND, "/command", id="command line over environment"),
    ],
)
def test_the_first_that_has_an_option_decides(
    start: Start, folder: Path, file: str, environment: Mapping[str, str], command: list[str], decides: str
) -> None:
    (folder / "pyproject.toml").write_text(f"[tool.fastserve]\n{file}\n")
    (folder / "shows.py").write_text(
        "async def app(scope, receive, send):\n"
        "    await send({'type': 'http.response.start', 'status': 200})\n"
        "    await send({'type': 'http.response.body', 'body': scope['root_path'].encode()})\n"
    )
    server = start("shows:app", "--port", "0", *command, environment=environment).wait_log("Fastserve running")
    assert get(server).text == decides


WRONG = {
    "an unknown option": ("[tool.fastserve]\nports = 1\n", {}, "pyproject.toml: unknown option 'ports'"),
    "a wrong value": ("[tool.fastserve]\nport = 'http'\n", {}, "pyproject.toml: --port: "),
    "not TOML": ("[tool.fastserve\n", {}, "pyproject.toml: "),
    "not a table": ("[tool]\nfastserve = 3\n", {}, "pyproject.toml"),
    "a tool that is not a table": ("tool = 3\n", {}, "pyproject.toml"),
    "a wrong value in the environment": ("", {"FASTSERVE_PORT": "http"}, "FASTSERVE_PORT: 'http'"),
}


@pytest.mark.parametrize(("file", "environment", "said"), WRONG.values(), ids=WRONG.keys())
def test_a_wrong_option_is_said_with_its_place_and_status_2(
    start: Start, folder: Path, file: str, environment: Mapping[str, str], said: str
) -> None:
    (folder / "pyproject.toml").write_text(file)
    server = start(SERVED, environment=environment)
    status = server.wait_exit()
    assert (status, server.log.count("\n")) == (2, 1), server.log
    assert server.log.startswith("fastserve: error: ")
    assert said in server.log


def test_a_project_file_without_the_table_is_nothing_to_us(start: Start, folder: Path) -> None:
    (folder / "pyproject.toml").write_text("[tool.other]\nport = 'http'\n")
    assert get(start(SERVED, "--port", "0").wait_ready()).text == "hello"


# What options do.


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("http", ["httptools", "h11"])
def test_any_event_loop_goes_with_any_parser(start: Start, loop: str, http: str) -> None:
    server = start(SERVED, "--port", "0", "--loop", loop, "--http", http).wait_ready()
    assert f", {loop}, {http}, " in server.log
    assert get(server).text == "hello"
    assert server.stop() == 0
    assert "Traceback" not in server.log


def test_fields_can_be_added_and_left_out(start: Start) -> None:
    options = ["--header", "x-a: 1", "--header", "x-b: 2", "--no-server-header", "--no-date-header"]
    answer = get(start(SERVED, "--port", "0", *options).wait_ready())
    assert (answer.headers["x-a"], answer.headers["x-b"]) == ("1", "2")
    assert "server" not in answer.headers
    assert "date" not in answer.headers


@pytest.mark.parametrize("root_path", ["/api/", "api"])
def test_the_root_path_is_put_in_front_of_the_path(start: Start, folder: Path, root_path: str) -> None:
    (folder / "shows.py").write_text(
        "async def app(scope, receive, send):\n"
        "    await send({'type': 'http.response.start', 'status': 200})\n"
        "    seen = f\"{scope['root_path']} {scope['path']} {scope['raw_path'].decode()}\"\n"
        "    await send({'type': 'http.response.body', 'body': seen.encode()})\n"
    )
    server = start("shows:app", "--port", "0", "--root-path", root_path).wait_log("Fastserve running")
    assert get(server, "/a%20b").text == "/api /api/a b /api/a%20b"


def test_the_schema_of_fastapi_names_the_root_path(start: Start, folder: Path) -> None:
    (folder / "described.py").write_text("from fastapi import FastAPI\n\napp = FastAPI()\n")
    server = start("described:app", "--port", "0", "--root-path", "api").wait_ready()
    assert get(server, "/openapi.json").json()["servers"] == [{"url": "/api"}]
    assert "'/api/openapi.json'" in get(server, "/docs").text


def test_an_application_can_be_in_another_folder(start: Start, folder: Path) -> None:
    (folder / "inner").mkdir()
    (folder / "served.py").rename(folder / "inner" / "elsewhere.py")
    assert get(start("elsewhere:app", "--app-dir", "inner", "--port", "0").wait_ready()).text == "hello"


@WORKERS
def test_a_factory_is_called_once_in_each_worker(start: Start, folder: Path, workers: str) -> None:
    (folder / "made.py").write_text(
        "from served import app\n\ndef make():\n    open('calls', 'a').write('x')\n    return app\n"
    )
    server = start("made:make", "--factory", "--port", "0", "--workers", workers).wait_ready()
    assert get(server).text == "hello"
    assert (folder / "calls").read_text() == "x" * int(workers)


def test_an_attribute_can_be_deep(start: Start, folder: Path) -> None:
    (folder / "deep.py").write_text("import served\n\nclass Site:\n    class Api:\n        app = served.app\n")
    assert get(start("deep:Site.Api.app", "--port", "0").wait_ready()).status_code == 200


def test_the_lifespan_can_be_left_out(start: Start, folder: Path) -> None:
    server = start(SERVED, "--port", "0", "--lifespan", "off").wait_log("Fastserve running on")
    assert get(server).text == "hello"
    assert server.stop() == 0
    assert not (folder / "life.txt").exists()
    assert "application" not in server.log


# Logging.


def test_the_access_log_can_be_left_out(start: Start) -> None:
    server = start(SERVED, "--port", "0", "--no-access-log").wait_ready()
    assert get(server).text == "hello"
    assert server.stop() == 0
    assert server.output == ""
    assert "Fastserve running on" in server.log


def test_a_level_leaves_out_what_is_below_it(start: Start) -> None:
    server = start(SERVED, "--bind", "unix:app.sock", "--log-level", "warning")
    wait_until((server.folder / "life.txt").exists)
    with RawClient(wait_connectable(server.folder / "app.sock")) as client:
        assert client.get("/fail").answer().status == 500
    assert server.stop() == 0
    assert server.output == ""
    assert server.log.startswith("ERROR:    Exception in ASGI application\n")
    assert "INFO" not in server.log


FRAMED = """
from fastapi import FastAPI

app = FastAPI()


@app.get("/")
async def show():
    return {"a": 1}
"""


@WORKERS
def test_trace_logs_what_the_application_is_told_and_says(start: Start, folder: Path, workers: str) -> None:
    (folder / "framed.py").write_text(FRAMED)
    server = start("framed:app", "--port", "0", "--log-level", "trace", "--workers", workers).wait_ready()
    assert get(server, "/").json() == {"a": 1}
    assert server.stop() == 0
    assert re.search(r"TRACE: {4}ASGI \[1\] Started scope=\{'type': 'lifespan'", server.log)
    assert server.log.count("Receive {'type': 'lifespan.startup'}") == int(workers)
    number = re.search(r"TRACE: {4}127\.0\.0\.1:[0-9]+ - ASGI \[([0-9]+)\] Started scope=\{'type': 'http'", server.log)
    assert number is not None
    for text in ("Send {'type': 'http.response.body', 'body': '<7 bytes>'}", "Completed"):
        assert f" - ASGI [{number[1]}] {text}\n" in server.log


@pytest.mark.parametrize("level", ["debug", "info"])
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_debug_logs_connections(start: Start, folder: Path, level: str, scheme: str) -> None:
    tls = flags(write_pair(folder)) if scheme == "https" else ()
    server = start(SERVED, "--port", "0", "--log-level", level, *tls).wait_ready()
    with httpx.Client(verify=client_context(), trust_env=False) as client:
        assert client.get(f"{scheme}://localhost:{server.address[1]}/").text == "hello"
    assert server.stop() == 0
    found = re.findall(r"^DEBUG: {4}127\.0\.0\.1:[0-9]+ - HTTP connection (made|lost)$", server.log, re.MULTILINE)
    assert found == (["made", "lost"] if level == "debug" else [])
    assert "TRACE" not in server.log


def wait_connectable(path: Path) -> str:
    def can_connect() -> bool:
        try:
            RawClient(str(path)).close()
        except OSError:
            return False
        return True

    wait_until(can_connect)
    return str(path)


def test_colours_can_be_forced(start: Start) -> None:
    server = start(SERVED, "--port", "0", "--use-colors")
    server.wait_log("\x1b[32mINFO\x1b[0m:")


LOG_CONFIG = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"own": {"format": "own %(levelname)s %(name)s %(message)s"}},
    "handlers": {"file": {"class": "logging.FileHandler", "filename": "server.log", "formatter": "own"}},
    "loggers": {
        "fastserve": {"handlers": ["file"], "level": "INFO", "propagate": False},
        "fastserve.access": {"handlers": ["file"], "level": "INFO", "propagate": False},
    },
}
LOG_INI = """\
[loggers]
keys=root,server,access
[handlers]
keys=file
[formatters]
keys=own
[logger_root]
handlers=
[logger_server]
qualname=fastserve
level=INFO
handlers=file
propagate=0
[logger_access]
qualname=fastserve.access
level=INFO
handlers=file
propagate=0
[handler_file]
class=FileHandler
args=("server.log",)
formatter=own
[formatter_own]
format=own %(levelname)s %(name)s %(message)s
"""
LOG_FILES = {"log.json": json.dumps(LOG_CONFIG), "log.yaml": yaml.safe_dump(LOG_CONFIG), "log.ini": LOG_INI}


@pytest.mark.parametrize(("name", "content"), LOG_FILES.items(), ids=LOG_FILES.keys())
def test_a_file_can_configure_logging(start: Start, folder: Path, name: str, content: str) -> None:
    (folder / name).write_text(content)
    server = start(SERVED, "--bind", "unix:app.sock", "--log-config", name)
    with RawClient(wait_connectable(folder / "app.sock")) as client:
        assert client.get("/?a=%20").answer().status == 200
    assert server.stop() == 0
    lines = (folder / "server.log").read_text().splitlines()
    assert "own INFO fastserve Fastserve running on unix socket app.sock (Press CTRL+C to quit)" in lines
    assert 'own INFO fastserve.access unix - "GET /?a=%20 HTTP/1.1" 200' in lines
    assert (server.log, server.output) == ("", "")


@pytest.mark.parametrize("content", ["{", '{"version": 7}', "[]"], ids=["not JSON", "not a version", "not a table"])
def test_a_file_that_cannot_configure_logging_is_one_line_and_status_2(
    start: Start, folder: Path, content: str
) -> None:
    (folder / "log.json").write_text(content)
    server = start(SERVED, "--log-config", "log.json")
    assert server.wait_exit() == 2
    assert server.log.startswith("fastserve: error: --log-config: log.json: ")
    assert server.log.count("\n") == 1


@WORKERS
def test_python_has_nothing_to_warn_about(start: Start, workers: str) -> None:
    server = start(SERVED, "--port", "0", "--workers", workers, environment={"PYTHONWARNINGS": "error"}).wait_ready()
    with new_client(server) as client:
        assert client.post("/echo", content=b"x" * 100_000).status_code == 200
        assert client.get("/parts?20").status_code == 200
    assert server.stop() == 0
    assert {line.split(":")[0] for line in server.log.splitlines()} == {"INFO"}


# The demonstration.


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    pytest.importorskip("fastapi")
    with starting_servers(tmp_path_factory.mktemp("demo")) as start:
        server = start("demo", "--port", "0", "--workers", "2").wait_ready()
        with new_client(server) as client:
            yield client
        assert server.stop() == 0
        assert "Traceback" not in server.log


def test_the_demonstration_leads_to_its_documentation(demo: httpx.Client) -> None:
    assert demo.get("/").headers["location"] == "/docs"
    assert "swagger" in demo.get("/docs").text.lower()
    assert set(demo.get("/openapi.json").json()["paths"]) >= {"/json", "/orders", "/items/{item_id}"}


def test_the_demonstration_answers_json(demo: httpx.Client) -> None:
    assert demo.get("/json").json() == {"message": "Hello, World!"}
    assert demo.get("/items/7", params={"q": "ä"}).json() == {"item_id": 7, "q": "ä"}
    assert demo.get("/items/seven").status_code == 422


def test_the_demonstration_takes_orders(demo: httpx.Client) -> None:
    answer = demo.post("/orders", json={"item": "tea", "price": 2.5, "quantity": 4})
    assert (answer.status_code, answer.json()) == (201, {"item": "tea", "total": 10.0})
    assert demo.post("/orders", json={"item": "tea", "price": -1}).status_code == 422
    assert demo.post("/orders", content=b"not json").status_code == 422


def test_the_demonstration_tells_which_worker_answers(demo: httpx.Client) -> None:
    assert demo.get("/worker").json()["pid"] != os.getpid()


def test_the_demonstration_streams(demo: httpx.Client) -> None:
    assert demo.get("/bytes/100001").content == bytes(100_001)
    with demo.stream("GET", "/countdown", params={"seconds": 1}) as answer:
        lines = answer.iter_lines()
        assert [next(lines), next(lines)] == ["1", "0"]

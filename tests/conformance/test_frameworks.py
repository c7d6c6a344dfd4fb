"""Applications of four frameworks, served by a real process, and used with the clients that people use.

Each framework has the same site here, in a module of its own. What a framework does not have, it does not have here.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
import requests

from tests.process.running import RunningServer, new_client, starting_servers, wait_until

HERE = Path(__file__).parent
MIB = 2**20


@pytest.fixture(scope="module", params=["fastapi", "starlette", "django", "quart"])
def framework(request: pytest.FixtureRequest) -> str:
    pytest.importorskip(request.param)
    return str(request.param)


@pytest.fixture(scope="module")
def server(framework: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp(framework)
    shutil.copy(HERE / f"{framework}_site.py", folder / "site_app.py")
    with starting_servers(folder) as start:
        server = start("site_app:app", "--port", "0", "--workers", "2").wait_ready()
        yield server
        assert server.stop() == 0
        assert server.log.count("Exception in ASGI application") <= 1  # /error
        assert "Child process" not in server.log


@pytest.fixture
def client(server: RunningServer) -> Iterator[httpx.Client]:
    with new_client(server) as client:
        yield client


@pytest.fixture
def session() -> Iterator[requests.Session]:
    with requests.Session() as session:
        session.trust_env = False
        yield session


def only(*frameworks: str) -> pytest.MarkDecorator:
    """Run a test for these frameworks: the others have nothing like what it is about."""
    return pytest.mark.parametrize("framework", frameworks, indirect=True, scope="module")


def needs_forms(framework: str) -> None:
    if framework in ("fastapi", "starlette") and importlib.util.find_spec("python_multipart") is None:
        pytest.skip(f"{framework} reads forms with python-multipart, which is not installed")


def test_the_lifespan_is_run_where_there_is_one(server: RunningServer, framework: str) -> None:
    assert server.log.count("ASGI 'lifespan' protocol appears unsupported.") == (2 if framework == "django" else 0)


def test_json_is_answered(client: httpx.Client) -> None:
    answer = client.get("/json")
    assert answer.headers["content-type"].startswith("application/json")
    assert answer.json() == {"hello": "wörld", "numbers": [1, 2.5, None]}


def test_json_is_answered_to_requests(server: RunningServer, session: requests.Session) -> None:
    for _ in range(3):
        assert session.get(f"{server.url}/json").json()["hello"] == "wörld"


@only("starlette", "django", "quart")
def test_head_is_get_without_the_body(client: httpx.Client, framework: str) -> None:
    answer = client.head("/json")
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["content-length"] == client.get("/json").headers["content-length"]


def test_parameters_of_path_and_query_arrive(client: httpx.Client) -> None:
    assert client.get("/items/7", params={"q": "a&b ü"}).json() == {"number": 7, "q": "a&b ü"}
    assert client.get("/items/seven").status_code in (404, 422)


def test_a_json_body_arrives(server: RunningServer, session: requests.Session) -> None:
    note = {"title": "ä", "words": ["word"] * 100_000}
    answer = session.post(f"{server.url}/notes", json=note)
    assert (answer.status_code, answer.json()) == (201, {"title": "ä", "words": 100_000})


def test_a_chunked_body_is_read_as_it_arrives(client: httpx.Client) -> None:
    answer = client.put("/raw", content=(bytes(10_000) for _ in range(100)))
    assert answer.json() == {"size": MIB - 48_576}


def test_a_form_arrives(client: httpx.Client, framework: str) -> None:
    needs_forms(framework)
    answer = client.post("/form", data={"name": "Ann Ä", "choice": ["1", "2"]})
    assert answer.json() == {"name": "Ann Ä", "choice": ["1", "2"]}


@pytest.mark.parametrize("size", [10, 3 * MIB], ids="{} bytes".format)
def test_an_uploaded_file_arrives(server: RunningServer, session: requests.Session, framework: str, size: int) -> None:
    needs_forms(framework)
    content = bytes(size - 3) + b"end"
    answer = session.post(f"{server.url}/upload", data={"name": "Ann"}, files={"document": ("some.bin", content)})
    assert answer.json() == {"name": "Ann", "filename": "some.bin", "size": size, "end": "end"}


def test_a_stream_arrives_part_by_part(client: httpx.Client) -> None:
    with client.stream("GET", "/stream", headers={"accept-encoding": "identity"}) as answer:
        assert answer.headers["transfer-encoding"] == "chunked"
        assert list(answer.iter_lines()) == ["0", "1", "2", "3", "4"]


def test_a_stream_ends_when_the_client_leaves(server: RunningServer, client: httpx.Client) -> None:
    with client.stream("GET", "/endless?name=left") as answer:
        next(answer.iter_raw())
    wait_until((server.folder / "left").exists)


@only("fastapi", "starlette", "quart")
def test_a_file_is_sent(server: RunningServer, client: httpx.Client, framework: str) -> None:
    assert client.get("/file").content == (server.folder / "site_app.py").read_bytes()


def test_a_redirect_is_followed(server: RunningServer, session: requests.Session) -> None:
    answer = session.get(f"{server.url}/redirect")
    assert [step.status_code for step in answer.history] == [302]
    assert answer.url == f"{server.url}/json"


def test_what_does_not_exist_is_404(client: httpx.Client) -> None:
    assert client.get("/nowhere").status_code == 404


def test_a_status_and_fields_of_the_application_arrive(client: httpx.Client) -> None:
    answer = client.get("/teapot")
    assert (answer.status_code, answer.headers["x-reason"]) == (418, "short and stout")


def test_an_exception_is_500_and_the_next_request_is_answered(client: httpx.Client) -> None:
    assert client.get("/error").status_code == 500
    assert client.get("/json").status_code == 200


@only("fastapi", "starlette", "quart")
def test_a_background_task_runs_after_the_answer(server: RunningServer, client: httpx.Client, framework: str) -> None:
    assert client.get("/background?name=done").json() == {"later": "done"}
    wait_until((server.folder / "done").exists)


def test_cookies_are_kept_by_a_session(server: RunningServer, session: requests.Session) -> None:
    assert session.get(f"{server.url}/user").json() == {"user": "nobody"}
    assert session.post(f"{server.url}/login").cookies.get_dict() == {"user": "ann", "theme": "dark"}
    assert session.get(f"{server.url}/user").json() == {"user": "ann"}


@only("fastapi", "starlette", "quart")
def test_the_lifespan_state_is_seen_by_requests(client: httpx.Client, framework: str) -> None:
    seen = client.get("/state").json()
    assert seen["started"] == "by the lifespan"
    assert seen["pid"] != os.getpid()


def test_many_requests_at_once_get_their_own_answers(server: RunningServer) -> None:
    def ask(number: int) -> bool:
        with new_client(server) as client:
            return all(
                client.get(f"/items/{number}?q={turn}").json() == {"number": number, "q": str(turn)}
                for turn in range(5)
            )

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(ask, range(24)))


# Middleware.


def test_middleware_of_the_application_is_run(client: httpx.Client) -> None:
    assert client.get("/json").headers["x-middleware"] == "was here"
    assert client.get("/stream").headers["x-middleware"] == "was here"


@only("fastapi", "starlette", "django")
def test_compression_is_the_applications(client: httpx.Client, framework: str) -> None:
    plain = client.get("/large", headers={"accept-encoding": "identity"})
    packed = client.get("/large", headers={"accept-encoding": "gzip"})
    assert "content-encoding" not in plain.headers
    assert packed.headers["content-encoding"] == "gzip"
    assert int(packed.headers["content-length"]) < int(plain.headers["content-length"])
    assert packed.text == plain.text


@only("fastapi", "starlette")
def test_cross_origin_requests_are_the_applications(client: httpx.Client, framework: str) -> None:
    asked = {"origin": "https://friend.test", "access-control-request-method": "PUT"}
    answer = client.options("/raw", headers=asked)
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, "https://friend.test")
    assert client.options("/raw", headers=asked | {"origin": "https://foe.test"}).status_code == 400
    assert client.get("/json", headers=asked).headers["access-control-allow-origin"] == "https://friend.test"

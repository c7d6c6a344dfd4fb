"""What applications of frameworks are offered, from outside: clients that leave, and files through middleware."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from .running import RunningServer, Start, life, new_client, wait_until

APP = """
import asyncio, os
from fastapi import BackgroundTasks, Depends, FastAPI, Request, Response
from fastapi.middleware.gzip import GZipMiddleware
from fastapi.responses import FileResponse, StreamingResponse
from fastapi.staticfiles import StaticFiles
from starlette.background import BackgroundTask

app = FastAPI()

def note(what):
    with open("life.txt", "a") as file:
        file.write(what + "\\n")

@app.get("/offered")
async def offered(request: Request):
    return [request.scope["asgi"]["spec_version"], "http.response.pathsend" in request.scope["extensions"]]

@app.get("/events")
async def events():
    async def parts():
        try:
            yield "data: hello\\n\\n"
            await asyncio.Event().wait()
        finally:
            note("closed")
    return StreamingResponse(parts(), background=BackgroundTask(note, "background"))

@app.get("/flood")
async def flood():
    async def parts():
        while True:
            yield bytes(65536)
    return StreamingResponse(parts(), background=BackgroundTask(note, "background"))

async def session():
    try:
        yield
    except BaseException:
        note("rolled back")
        raise
    note("committed")

@app.get("/slow", dependencies=[Depends(session)])
async def slow(request: Request, tasks: BackgroundTasks):
    note("begun")
    while not await request.is_disconnected():
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.05)
    tasks.add_task(note, "background")
    return {"hello": "nobody"}

@app.get("/relative")
async def relative():
    return FileResponse("static/style.css")

@app.get("/temporary")
async def temporary():
    return FileResponse("temporary", background=BackgroundTask(os.unlink, "temporary"))

app.mount("/static", StaticFiles(directory="static"))
zipped = GZipMiddleware(app)
within = FastAPI()
within.mount("/in", app)
within.add_middleware(GZipMiddleware)
changed = FastAPI()
changed.mount("/in", app)

@changed.middleware("http")
async def change(request: Request, call_next):
    response = await call_next(request)
    body = b"".join([part async for part in response.body_iterator])
    return Response(body.upper(), response.status_code)

async def raw(scope, receive, send):
    if scope["type"] == "http":
        offered = [scope["asgi"]["spec_version"], "http.response.pathsend" in scope["extensions"]]
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": str(offered).lower().replace("'", '"').encode()})
"""
RAW = "async def raw" + APP.partition("async def raw")[2]
CSS = "body { color: black }\n" * 400


@pytest.fixture
def site(folder: Path) -> Path:
    (folder / "site_app.py").write_text(APP)
    (folder / "raw_app.py").write_text(RAW)
    (folder / "static").mkdir()
    (folder / "static" / "style.css").write_text(CSS)
    return folder


def begin(server: RunningServer, path: str) -> socket.socket:
    sock = socket.create_connection(server.address)
    sock.settimeout(30)
    sock.sendall(f"GET {path} HTTP/1.1\r\nHost: test\r\n\r\n".encode())
    return sock


def leave(sock: socket.socket, *, resets: bool) -> None:
    if resets:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    sock.close()


modes = pytest.mark.parametrize("accelerate", ["auto", "off"])
ways = pytest.mark.parametrize("resets", [False, True], ids=["closes", "resets"])


@modes
@ways
@pytest.mark.parametrize(("path", "happens"), [("/events", ["closed", "background"]), ("/flood", ["background"])])
def test_a_stream_ends_with_its_client_and_what_follows_it_happens(
    site: Path, start: Start, accelerate: str, resets: bool, path: str, happens: list[str]
) -> None:
    server = start("site_app:app", "--port", "0", "--accelerate", accelerate).wait_ready()
    client = begin(server, path)
    assert client.recv(15) == b"HTTP/1.1 200 OK"
    leave(client, resets=resets)
    wait_until(lambda: life(site) == happens)
    assert server.stop() == 0
    assert "Cancelling" not in server.log
    assert "Traceback" not in server.log


@modes
@ways
def test_an_answer_to_nobody_ends_as_any_other(site: Path, start: Start, accelerate: str, resets: bool) -> None:
    server = start("site_app:app", "--port", "0", "--accelerate", accelerate).wait_ready()
    client = begin(server, "/slow")
    wait_until(lambda: life(site) == ["begun"])
    leave(client, resets=resets)
    wait_until(lambda: sorted(life(site)) == ["background", "begun", "committed"])
    assert server.stop() == 0
    assert "Traceback" not in server.log


@pytest.mark.parametrize("pathsend", ["auto", "off"])
def test_a_temporary_file_is_removed_also_when_its_client_leaves(site: Path, start: Start, pathsend: str) -> None:
    with open(site / "temporary", "wb") as file:
        os.truncate(file.fileno(), 2**30)
    server = start("site_app:app", "--port", "0", "--pathsend", pathsend).wait_ready()
    client = begin(server, "/temporary")
    assert client.recv(15) == b"HTTP/1.1 200 OK"
    leave(client, resets=True)
    wait_until(lambda: not (site / "temporary").exists())
    assert server.stop() == 0
    assert "Traceback" not in server.log


OFFERS: dict[str, tuple[list[str], list[object]]] = {
    "raw": (["raw_app:raw"], ["2.4", True]),
    "raw, as others": (["raw_app:raw", "--http-spec-version", "2.3", "--pathsend", "off"], ["2.3", False]),
    "app": (["site_app:app"], ["2.3", True]),
    "app, unaccelerated": (["site_app:app", "--accelerate", "off"], ["2.3", True]),
    "app, no lifespan": (["site_app:app", "--lifespan", "off", "--accelerate", "off"], ["2.3", True]),
    "app, as it is new": (["site_app:zipped", "--http-spec-version", "2.4", "--pathsend", "on"], ["2.4", True]),
    "zipped": (["site_app:zipped"], ["2.3", False]),
    "beside a framework": (["site_app:raw"], ["2.3", False]),
}


@pytest.mark.parametrize("name", OFFERS)
def test_what_an_application_is_offered(site: Path, start: Start, name: str) -> None:
    arguments, offered = OFFERS[name]
    server = start(*arguments, "--port", "0").wait_log("running on")
    with new_client(server) as client:
        found = client.get("/offered").json()
    assert ([each.lower() if isinstance(each, str) else each for each in found]) == offered
    assert server.stop() == 0


def test_files_go_through_middleware_as_other_bodies_do(site: Path, start: Start) -> None:
    zipped = start("site_app:within", "--port", "0").wait_ready()
    with new_client(zipped) as client:
        answer = client.get("/in/static/style.css", headers={"accept-encoding": "gzip"})
        assert (answer.text, answer.headers["content-encoding"]) == (CSS, "gzip")
    changed = start("site_app:changed", "--port", "0").wait_ready()
    with new_client(changed) as client:
        assert client.get("/in/static/style.css").text == CSS.upper()


@pytest.mark.parametrize("pathsend", ["on", "off"])
def test_a_relative_path_is_one_from_the_working_directory(site: Path, start: Start, pathsend: str) -> None:
    server = start("site_app:app", "--port", "0", "--pathsend", pathsend).wait_ready()
    with new_client(server) as client:
        assert client.get("/relative").text == CSS

"""Projects whose documents start them with uvicorn, and how each of them does it.

The commands are those of the documents named; {port} stands where they have a number. The applications are our own,
and small.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

JSON = {"content-type": "application/json"}


@dataclass(frozen=True, slots=True)
class Ask:
    """A request. varies: the body is not compared, for this reason."""

    target: str
    method: str = "GET"
    fields: Mapping[str, str] = field(default_factory=dict)
    body: str | bytes = b""
    varies: str = ""


@dataclass(frozen=True, slots=True)
class Talk:
    """A WebSocket: what is sent when it is open, and how many messages come then."""

    target: str
    sends: Sequence[str]
    receives: int
    subprotocols: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Project:
    """One project.

    command: with uvicorn. renamed: with fastserve, where more than the name of the command changes. source: where the
    command is from. files: the application. prepares: commands that make it. imports: a module of the project that says
    `import uvicorn`; for fastserve that line says `import fastserve as uvicorn`. reloads: a file that is changed while
    the server runs, with what replaces what in it. stops_with: the exit statuses of both after SIGTERM. lasts_s: how
    much longer than with uvicorn that may take.
    """

    name: str
    requires: Sequence[str]
    command: str
    source: str
    asks: Sequence[Ask]
    renamed: str = ""
    talks: Sequence[Talk] = ()
    files: Mapping[str, str] = field(default_factory=dict)
    prepares: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    imports: str = ""
    reloads: tuple[str, str, str] | None = None
    stops_with: tuple[Sequence[int], Sequence[int]] = ((0, -15), (0,))
    lasts_s: float = 2.0

    def with_fastserve(self) -> str:
        """Return the command with the name of the server changed."""
        return self.renamed or (self.command if self.imports else self.command.replace("uvicorn", "fastserve"))


def _graphql(query: str) -> str:
    return json.dumps({"query": query})


def _rpc(number: int, method: str, params: Mapping[str, object]) -> str:
    return json.dumps({"jsonrpc": "2.0", "id": number, "method": method, "params": params})


ARIADNE = """
from ariadne import QueryType, SubscriptionType, make_executable_schema
from ariadne.asgi import GraphQL
from ariadne.asgi.handlers import GraphQLWSHandler

query, subscription = QueryType(), SubscriptionType()


@query.field("twice")
def twice(*_, number):
    return 2 * number


@subscription.source("count")
async def counting(*_, to):
    for number in range(to):
        yield number


@subscription.field("count")
def counted(number, *_, to):
    return number


schema = make_executable_schema(
    "type Query { twice(number: Int!): Int! } type Subscription { count(to: Int!): Int! }", query, subscription
)
app = GraphQL(schema, debug=True, websocket_handler=GraphQLWSHandler())
"""

CHAINLIT = {
    "my_cl_app.py": """
import chainlit as cl


@cl.on_chat_start
async def greet():
    await cl.Message(content="Hello").send()
""",
    "main.py": """
from chainlit.utils import mount_chainlit
from fastapi import FastAPI

app = FastAPI()


@app.get("/app")
def read():
    return {"message": "hello from the application around it"}


mount_chainlit(app=app, target="my_cl_app.py", path="/chainlit")
""",
}

CONNEXION = {
    "run.py": """
from connexion import AsyncApp


def post_greeting(name: str, greeting: str):
    return f"{greeting} {name}", 200


app = AsyncApp(__name__)
app.add_api("openapi.yaml")
""",
    "openapi.yaml": """
openapi: 3.0.0
info: {title: Greetings, version: "1"}
paths:
  /greeting/{name}:
    post:
      operationId: run.post_greeting
      responses:
        200:
          description: a greeting
          content: {text/plain: {schema: {type: string}}}
      parameters:
        - {name: name, in: path, required: true, schema: {type: string}}
        - {name: greeting, in: query, required: true, schema: {type: string, maxLength: 8}}
""",
}

DATASETTE = """
import sqlite3

with sqlite3.connect("fruit.db") as database:
    database.execute("create table fruit (name text, price real)")
    database.executemany("insert into fruit values (?, ?)", [("apple", 1.5), ("pear", 2), ("quince", 3.25)])
"""

FASTAPI = """
from fastapi import FastAPI, WebSocket
from pydantic import BaseModel

app = FastAPI()


class Order(BaseModel):
    item: str
    price: float


@app.get("/items/{number}")
def item(number: int, q: str | None = None):
    return {"number": number, "q": q}


@app.post("/orders", status_code=201)
async def order(order: Order):
    return order


@app.websocket("/ws")
async def echo(websocket: WebSocket):
    await websocket.accept()
    while True:
        await websocket.send_text(await websocket.receive_text())
"""

FASTMCP = """
from fastmcp import FastMCP

mcp = FastMCP("Sums")


@mcp.tool
def add(a: int, b: int) -> int:
    return a + b


app = mcp.http_app(stateless_http=True)
"""

GRADIO = """
import gradio as gr
from fastapi import FastAPI

app = FastAPI()


@app.get("/")
def root():
    return {"message": "the application around it"}


def greet(name):
    return f"Hello, {name}!"


app = gr.mount_gradio_app(app, gr.Interface(greet, "textbox", "textbox", api_name="greet"), path="/gradio")
"""

LITESTAR = """
from litestar import Litestar, WebSocket, get, post, websocket_listener


@get("/", sync_to_thread=False)
def hello() -> dict[str, str]:
    return {"hello": "world"}


@post("/echo")
async def echo(data: dict[str, int]) -> dict[str, int]:
    return data


@websocket_listener("/ws")
async def shout(data: str) -> str:
    return data.upper()


app = Litestar([hello, echo, shout])
"""

MARIMO = {
    "pages.py": """
import marimo

app = marimo.App()


@app.cell
def __():
    2 + 3
    return


if __name__ == "__main__":
    app.run()
""",
    "main.py": """
import marimo
import uvicorn
from fastapi import FastAPI

app = FastAPI()


@app.get("/ping")
async def ping():
    return {"message": "pong"}


app.mount("/", marimo.create_asgi_app().with_app(path="", root="./pages.py").build())

if __name__ == "__main__":
    uvicorn.run(app, host="localhost", port=int(__import__("sys").argv[1]))
""",
}

NICEGUI = {
    "main.py": """
import frontend
from fastapi import FastAPI

app = FastAPI()


@app.get("/")
def root():
    return {"Hello": "World"}


frontend.init(app)
""",
    "frontend.py": """
from nicegui import ui


def init(app):
    @ui.page("/")
    def page():
        ui.label("Hello from the page")

    ui.run_with(app, mount_path="/gui", storage_secret="a secret of this test")
""",
}

SHINY = """
from shiny import App, render, ui

app_ui = ui.page_fluid(ui.input_slider("n", "n", 0, 100, 20), ui.output_text_verbatim("twice"))


def server(input, output, session):
    @render.text
    def twice():
        return f"twice is {input.n() * 2}"


app = App(app_ui, server)
"""

SOCKETIO = """
import sys

import socketio
import uvicorn

sio = socketio.AsyncServer(async_mode="asgi")
app = socketio.ASGIApp(sio, static_files={"/": "app.html"})


@sio.on("question")
async def answer(sid, data):
    await sio.emit("answer", {"data": data["data"]}, room=sid)


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]))
"""

SOLARA = """
import solara

clicks = solara.reactive(0)


@solara.component
def Page():
    solara.Button(label=f"Clicked: {clicks.value}", on_click=lambda: clicks.set(clicks.value + 1))
"""

MCP_FIELDS = {**JSON, "accept": "application/json, text/event-stream"}
GREET = json.dumps({"data": ["Ada"]})

PROJECTS = [
    Project(
        "Ariadne",
        ["ariadne", "starlette"],
        "uvicorn example:app",
        "README",
        [
            Ask("/", "POST", JSON, _graphql("{ twice(number: 21) }")),
            Ask("/", "POST", JSON, _graphql("{ nothing }")),
            Ask("/", "GET"),
            Ask("/", "PUT"),
        ],
        talks=[
            Talk(
                "/",
                [
                    json.dumps({"type": "connection_init"}),
                    json.dumps({"type": "start", "id": "1", "payload": {"query": "subscription { count(to: 3) }"}}),
                ],
                5,
                ["graphql-ws"],
            )
        ],
        files={"example.py": ARIADNE},
    ),
    Project(
        "Chainlit",
        ["chainlit"],
        "uvicorn main:app --host 0.0.0.0 --port {port}",
        "documentation, FastAPI",
        [
            Ask("/app"),
            Ask("/chainlit/project/translations?language=en-US"),
            Ask("/chainlit/"),
            Ask("/chainlit/auth/config"),
            Ask("/nothing"),
        ],
        talks=[Talk("/chainlit/ws/socket.io/?EIO=4&transport=websocket", [], 1)],
        files=CHAINLIT,
    ),
    Project(
        "Connexion",
        ["connexion[swagger-ui,uvicorn]"],
        "uvicorn run:app",
        "README",
        [
            Ask("/greeting/Ada?greeting=Hello", "POST"),
            Ask("/greeting/Ada?greeting=much-too-long", "POST"),
            Ask("/openapi.json"),
            Ask("/ui/"),
            Ask("/nothing"),
        ],
        files=CONNEXION,
    ),
    Project(
        "Connexion with gunicorn",
        ["connexion[swagger-ui,uvicorn]", "gunicorn", "uvicorn-worker"],
        "gunicorn -k uvicorn_worker.UvicornWorker run:app --bind 127.0.0.1:{port}",
        "README",
        [Ask("/greeting/Ada?greeting=Hello", "POST"), Ask("/openapi.json"), Ask("/nothing")],
        renamed="gunicorn -k fastserve.workers.FastserveWorker run:app --bind 127.0.0.1:{port}",
        files=CONNEXION,
    ),
    Project(
        "Datasette",
        ["datasette", "setuptools"],
        "datasette serve fruit.db --port {port}",
        "README",
        [
            Ask("/fruit/fruit.json?_shape=objects", varies="it tells how long the query took"),
            Ask("/fruit/fruit.csv"),
            Ask("/fruit/fruit?_sort=price"),
            Ask("/fruit.json?sql=select+1", varies="it tells how long the query took"),
            Ask("/-/static/app.css"),
            Ask("/nothing"),
        ],
        files={"make.py": DATASETTE},
        prepares=["python make.py"],
        imports="datasette.cli",
    ),
    Project(
        "Django",
        ["django"],
        "python -m uvicorn myproject.asgi:application --reload",
        "documentation, Uvicorn",
        [Ask("/"), Ask("/admin/login/"), Ask("/static/admin/css/base.css"), Ask("/nothing"), Ask("/", "POST")],
        prepares=["django-admin startproject myproject ."],
        reloads=("myproject/urls.py", "'admin/'", "'other/'"),
    ),
    Project(
        "Django with gunicorn",
        ["django", "gunicorn", "uvicorn-worker"],
        "python -m gunicorn myproject.asgi:application -k uvicorn_worker.UvicornWorker --bind 127.0.0.1:{port}",
        "documentation, Uvicorn",
        [Ask("/"), Ask("/admin/login/"), Ask("/nothing"), Ask("/", "POST")],
        renamed="python -m gunicorn myproject.asgi:application -k fastserve.workers.FastserveWorker"
        " --bind 127.0.0.1:{port}",
        prepares=["django-admin startproject myproject ."],
    ),
    Project(
        "FastAPI CLI",
        ["fastapi[standard]"],
        "fastapi run --workers 2 --host 127.0.0.1 --port {port}",
        "documentation, Server Workers",
        [
            Ask("/items/3?q=tea"),
            Ask("/items/x"),
            Ask("/orders", "POST", JSON, '{"item": "tea", "price": 2.5}'),
            Ask("/docs"),
            Ask("/openapi.json"),
        ],
        talks=[Talk("/ws", ["one", "two"], 2)],
        files={"main.py": FASTAPI},
        imports="fastapi_cli.cli",
    ),
    Project(
        "FastAPI behind a proxy",
        ["fastapi"],
        "uvicorn main:app --proxy-headers --forwarded-allow-ips=* --root-path /api --host 0.0.0.0 --port {port}",
        "documentation, Containers and Behind a Proxy",
        [
            Ask("/items/3"),
            Ask("/docs", "GET", {"x-forwarded-for": "203.0.113.7", "x-forwarded-proto": "https"}),
            Ask("/items/3/", "GET", {"x-forwarded-proto": "https", "host": "example.org"}),
            Ask("/openapi.json"),
        ],
        talks=[Talk("/ws", ["one"], 1)],
        files={"main.py": FASTAPI},
    ),
    Project(
        "FastMCP",
        ["fastmcp"],
        "uvicorn app:app --host 0.0.0.0 --port {port}",
        "documentation, HTTP Deployment",
        [
            Ask(
                "/mcp",
                "POST",
                MCP_FIELDS,
                _rpc(
                    1,
                    "initialize",
                    {
                        "protocolVersion": "2025-06-18",
                        "capabilities": {},
                        "clientInfo": {"name": "test", "version": "1"},
                    },
                ),
            ),
            Ask("/mcp", "POST", MCP_FIELDS, _rpc(2, "tools/list", {})),
            Ask("/mcp", "POST", MCP_FIELDS, _rpc(3, "tools/call", {"name": "add", "arguments": {"a": 2, "b": 3}})),
            Ask("/mcp", "POST", JSON, "{"),
        ],
        files={"app.py": FASTMCP},
    ),
    Project(
        "Gradio",
        ["gradio"],
        "uvicorn run:app",
        "demo/custom_path",
        [
            Ask("/"),
            Ask("/gradio/config", varies="names made at random"),
            Ask("/gradio/gradio_api/info"),
            Ask("/gradio/gradio_api/call/greet", "POST", JSON, GREET, varies="a random name"),
            Ask("/gradio/", varies="names made at random"),
        ],
        files={"run.py": GRADIO},
    ),
    Project(
        "inboard",
        ["inboard[fastapi]", "gunicorn"],
        "python -m inboard.start",
        "README, WORKER_CLASS",
        [
            Ask("/", "GET", {"authorization": "Basic dGVzdF91c2VyOnIzVXZfczNjcjN0"}),
            Ask("/health"),
            Ask("/docs"),
            Ask("/nothing"),
        ],
        renamed="WORKER_CLASS=fastserve.workers.FastserveWorker python -m inboard.start",
        environment={
            "APP_MODULE": "inboard.app.main_fastapi:app",
            "PROCESS_MANAGER": "gunicorn",
            "WEB_CONCURRENCY": "2",
            "HOST": "127.0.0.1",
            "PORT": "{port}",
        },
        # It runs gunicorn as a child, and does not pass the signal on.
        stops_with=((-15,), (-15,)),
    ),
    Project(
        "Litestar",
        ["litestar"],
        "uvicorn app:app",
        "documentation, Manually with ASGI server",
        [
            Ask("/"),
            Ask("/echo", "POST", JSON, '{"a": 1}'),
            Ask("/echo", "POST", JSON, "{"),
            Ask("/schema/openapi.json"),
        ],
        talks=[Talk("/ws", ["one", "two"], 2)],
        files={"app.py": LITESTAR},
    ),
    Project(
        "marimo",
        ["marimo", "fastapi"],
        "python main.py {port}",
        "documentation, Programmatically",
        [Ask("/ping"), Ask("/", varies="a token made at random"), Ask("/health"), Ask("/nothing")],
        files=MARIMO,
        imports="main",
    ),
    Project(
        "NiceGUI",
        ["nicegui"],
        "uvicorn main:app --workers 1 --log-level info --port {port}",
        "examples/fastapi, start.sh",
        [Ask("/"), Ask("/gui/", varies="names made at random"), Ask("/nothing")],
        talks=[Talk("/gui/_nicegui_ws/socket.io/?EIO=4&transport=websocket", [], 1)],
        files=NICEGUI,
    ),
    Project(
        "Prefect",
        ["prefect"],
        "python -m uvicorn --app-dir . --factory prefect.server.api.server:create_app --host 127.0.0.1 --port {port}"
        " --log-level error --lifespan on",
        "what its own SubprocessASGIServer runs",
        [
            Ask("/api/health"),
            Ask("/api/admin/version"),
            Ask("/api/flows/filter", "POST", JSON, '{"limit": 5}'),
            Ask("/api/flows/filter", "POST", JSON, '{"limit": "x"}'),
            Ask("/docs"),
        ],
        environment={"PREFECT_HOME": "{folder}/home", "PREFECT_SERVER_ANALYTICS_ENABLED": "false"},
        # Its threads and what it has left to atexit are waited for; uvicorn dies by the signal and leaves them undone.
        lasts_s=6.0,
    ),
    Project(
        "python-socketio",
        ["python-socketio"],
        "python app.py {port}",
        "examples/server/asgi/app.py",
        [Ask("/"), Ask("/socket.io/?EIO=4&transport=polling", varies="a random name"), Ask("/nothing")],
        talks=[
            Talk("/socket.io/?EIO=4&transport=websocket", ["40", '42["question",{"data":"why"}]'], 3),
        ],
        files={"app.py": SOCKETIO, "app.html": "<!doctype html><title>Socket.IO</title>"},
        imports="app",
    ),
    Project(
        "Shiny",
        ["shiny"],
        "uvicorn app:app --host 0.0.0.0 --port {port}",
        "usual for images; its own is `shiny run`",
        [Ask("/"), Ask("/nothing")],
        talks=[Talk("/websocket/", ['{"method":"init","data":{"n:shiny.number":20}}'], 3)],
        files={"app.py": SHINY},
    ),
    Project(
        "Solara",
        ["solara", "solara-server[starlette]"],
        "uvicorn --workers 4 --host 0.0.0.0 --port {port} solara.server.starlette:app",
        "documentation, Self hosted",
        [
            Ask("/", varies="a cookie and names made at random"),
            Ask("/resourcez", varies="it tells of memory and threads"),
            Ask("/static/nothing"),
        ],
        environment={
            "SOLARA_APP": "sol.py",
            "SOLARA_TELEMETRY_MIXPANEL_ENABLE": "False",
            "SOLARA_ASSETS_PROXY": "False",
        },
        files={"sol.py": SOLARA},
    ),
    Project(
        "TiTiler",
        ["titiler.application"],
        "uvicorn titiler.application.main:app --reload",
        "README",
        [
            Ask("/healthz"),
            Ask("/tileMatrixSets/WebMercatorQuad"),
            Ask("/cog/info"),
            Ask("/api"),
            Ask("/colorMaps/viridis?format=png"),
            Ask("/docs", "GET", {"accept-encoding": "gzip"}),
        ],
    ),
    Project(
        "TiTiler with workers",
        ["titiler.application"],
        "uvicorn titiler.application.main:app --host 0.0.0.0 --port {port} --workers 2",
        "its image, with two workers",
        [Ask("/healthz"), Ask("/tileMatrixSets"), Ask("/nothing")],
    ),
]

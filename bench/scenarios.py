"""What is measured."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from bench.apps import MIB
from bench.load import BROWSER, Burst, Herd, Load, Wrk
from bench.servers import Mode, Server

_FASTAPI = "bench.api:app"
_WITH_ACCELERATOR = ("fastserve", "fastserve-unaccelerated", "uvicorn", "granian", "hypercorn", "gunicorn")
_PYTHON_PEERS = ("fastserve", "uvicorn", "granian", "hypercorn", "gunicorn")

THROUGHPUT = ("requests_per_s", "cpu_us", "mean_us", "p99_us", "memory_bytes", "errors")
"""The figures of a server under steady load, by their names in Sample."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One thing that servers are compared in. app: what those for Python serve, as MODULE:ATTRIBUTE.

    figures: what is shown, by its name in Sample. is_fresh: servers are started anew for each round.
    """

    name: str
    title: str
    app: str
    load: Load
    mode: Mode = Mode.QUIET
    servers: tuple[str, ...] = _PYTHON_PEERS
    figures: tuple[str, ...] = THROUGHPUT
    is_fresh: bool = False

    def takes(self, server: Server) -> bool:
        """Tell whether this server can take part."""
        return server.is_installed() and (server.scenarios is None or self.name in server.scenarios)


def _json(
    name: str, title: str, load: Load, mode: Mode = Mode.QUIET, servers: tuple[str, ...] = _PYTHON_PEERS
) -> Scenario:
    return Scenario(name=name, title=title, app="bench.apps:plain", load=load, mode=mode, servers=servers)


def _bodies(name: str, title: str, app: str, load: Load) -> Scenario:
    return Scenario(name=name, title=title, app=f"bench.apps:{app}", load=load)


_ITEM = b'{"name": "A thing", "price": 12.5, "description": "What it is good for", "tags": ["a", "b"]}'
_JSON_TYPE = "Content-Type: application/json"
_NODE_SERVERS = ("express", "nestjs", "hono", "hono-bun")


@dataclass(frozen=True, slots=True)
class _Route:
    """One kind of route of bench/api.py, as real applications have them."""

    name: str
    title: str
    load: Load
    app: str = _FASTAPI
    others: tuple[str, ...] = ()


_ROUTES = (
    _Route("json", "plain JSON", Wrk(), others=_NODE_SERVERS),
    _Route("path-query", "path and query parameters", Wrk(path="/items/42?q=some+words&limit=20&exact=true")),
    _Route(
        "body", "validated body, response model", Wrk(path="/items", method="POST", fields=(_JSON_TYPE,), body=_ITEM)
    ),
    _Route("header", "dependency that reads a field", Wrk(path="/me", fields=("Authorization: Bearer abcdef",))),
    _Route("list", "20 response models through a synchronous dependency", Wrk(path="/users")),
    _Route("sync", "synchronous endpoint", Wrk(path="/sync")),
    _Route(
        "cors", "plain JSON behind CORSMiddleware", Wrk(fields=("Origin: https://example.com",)), "bench.api:with_cors"
    ),
)
ROUTES = tuple(f"fastapi-{route.name}" for route in _ROUTES)
"""The scenarios of the routes, without an access log."""
ROUTES_DEFAULTS = tuple(f"{name}-defaults" for name in ROUTES)
"""The same, each server with its defaults."""
SUMMARIES = {"routes": ROUTES, "routes-defaults": ROUTES_DEFAULTS}
"""Tables that compare several scenarios."""


def _routes() -> Iterator[Scenario]:
    for route, name, name_defaults in zip(_ROUTES, ROUTES, ROUTES_DEFAULTS, strict=True):
        title = f"FastAPI: {route.title}"
        servers = (*_WITH_ACCELERATOR, *route.others)
        yield Scenario(name=name, title=title, app=route.app, load=route.load, servers=servers)
        yield Scenario(
            name=name_defaults,
            title=f"{title}, each server with its defaults",
            app=route.app,
            load=route.load,
            mode=Mode.DEFAULTS,
            servers=("fastserve", "uvicorn"),
        )


SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        _json("json", "Constant JSON", Wrk(), servers=("fastserve", "fastserve-pure", *_PYTHON_PEERS[1:], "baseline")),
        _json(
            "json-browser",
            "Constant JSON, with a browser's fields",
            Wrk(fields=BROWSER),
            servers=(*_PYTHON_PEERS, "baseline"),
        ),
        _json("json-access-log", "Constant JSON, with an access log", Wrk(), Mode.ACCESS_LOG),
        _json("json-defaults", "Constant JSON, each server with its defaults", Wrk(), Mode.DEFAULTS),
        _json("connections", "A new connection for each request", Wrk(connections=64, fields=("Connection: close",))),
        _bodies("body-out", "1 MiB of response body", "large", Wrk(connections=32)),
        _bodies("upload", "1 MiB of request body", "upload", Wrk(connections=32, method="POST", body=b"x" * MIB)),
        _bodies("stream", "A response of 200 small parts", "stream", Wrk(connections=64)),
        *_routes(),
        Scenario(
            name="burst",
            title="256 new connections at once to a busy FastAPI: time to the first response",
            app=_FASTAPI,
            load=Burst(),
            servers=(*_PYTHON_PEERS, *_NODE_SERVERS),
            figures=("mean_us", "p99_us", "errors"),
        ),
        Scenario(
            name="herd",
            title="10,000 resting connections",
            app="bench.apps:plain",
            load=Herd(),
            mode=Mode.PATIENT,
            figures=("connection_bytes", "memory_bytes", "errors"),
            is_fresh=True,  # Memory that the first herd left behind would be used again by the next one.
        ),
    )
}

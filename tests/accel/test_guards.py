"""When the accelerator keeps its hands off: versions, patches, telemetry, applications it does not know, changes."""

import asyncio
import functools
import logging
from typing import Annotated, Any

import fastapi
import pytest
import starlette.routing
from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.routing import APIRoute
from starlette.applications import Starlette

import fastserve
from fastserve.accel import accelerate, explain, patches, read_routes, versions
from fastserve.errors import AccelerationError
from tests.accel.comparing import Sent, both, by_accelerator, exchange


def _app(**options: Any) -> FastAPI:
    app = FastAPI(openapi_url=None, **options)

    async def dependency() -> str:
        return "dependency"

    @app.get("/")
    async def read() -> Any:
        return by_accelerator()

    @app.get("/dependent")
    async def read_dependent(value: Annotated[str, Depends(dependency)]) -> Any:
        return by_accelerator()

    return app


def _is_accelerated(app: Any, path: str = "/") -> bool:
    return asyncio.run(exchange(app, Sent(path=path))).body == b"true"


def test_an_accelerated_application_is_accelerated_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "fastserve"):
        assert _is_accelerated(fastserve.accelerate(_app()))
    assert caplog.messages == [f"accelerated 2 of 2 routes (fastapi {fastapi.__version__})"]


def test_the_plan_is_made_when_the_lifespan_has_started() -> None:
    app = _app()
    accelerated = accelerate(app)
    told: list[Any] = []

    async def live() -> None:
        events = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]

        async def receive() -> Any:
            return events.pop(0)

        async def send(message: Any) -> None:
            told.append((message["type"], type(accelerated).explain(accelerated)))  # type: ignore[attr-defined]

        await accelerated({"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}, receive, send)

    asyncio.run(live())
    assert [name for name, _ in told] == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert _is_accelerated(accelerated)


def test_off_returns_the_application_itself() -> None:
    app = _app()
    assert accelerate(app, mode="off") is app


def test_an_unknown_mode_is_refused() -> None:
    with pytest.raises(ValueError, match="'fast' is not one of auto, off, strict"):
        accelerate(_app(), mode="fast")


def test_another_application_is_returned_as_it_is() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise NotImplementedError

    assert accelerate(app) is app
    assert explain(app) == []
    with pytest.raises(AccelerationError, match="not an application of FastAPI or Starlette"):
        accelerate(app, mode="strict")


def test_what_is_accelerated_is_not_accelerated_twice() -> None:
    accelerated = accelerate(_app())
    assert accelerate(accelerated) is accelerated
    assert explain(accelerated) == explain(_app())


def test_attributes_are_those_of_the_application() -> None:
    app = _app()
    accelerated: Any = accelerate(app)
    assert accelerated.dependency_overrides is app.dependency_overrides
    accelerated.dependency_overrides = {}
    accelerated.note = 1
    assert app.note == 1  # type: ignore[attr-defined]
    del accelerated.note
    assert not hasattr(app, "note")


UNVERIFIED = [
    ("fastapi", "0.165.1"),
    ("fastapi", "0.160.0"),
    ("starlette", "1.10.0rc1"),
    ("starlette", "1.6.0"),
    ("pydantic", "2.11.10"),
    ("pydantic", "3.0.0a1"),
    ("anyio", "5.0"),
    ("anyio", "unknown"),
]


@pytest.mark.parametrize(("package", "version"), UNVERIFIED, ids=" ".join)
def test_versions_that_were_not_verified_are_left_alone(
    package: str, version: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    of_others = versions._version
    monkeypatch.setattr(versions, "_version", lambda name: version if name == package else of_others(name))
    app = _app()
    with caplog.at_level(logging.INFO, "fastserve"):
        assert accelerate(app) is app
    [said] = caplog.messages
    assert said.startswith(f"accelerated 0 of {len(app.routes)} routes: {package} {version} is not a version")
    assert all("is not a version that this was verified with" in str(report.reason) for report in explain(app))
    with pytest.raises(AccelerationError, match=package):
        accelerate(app, mode="strict")


@pytest.mark.parametrize(
    ("package", "version"), [("pydantic", "2.12.0"), ("pydantic", "2.99.1b2"), ("anyio", "4.16.3.post1")], ids=" ".join
)
def test_releases_of_what_is_called_as_the_framework_calls_it_do_not_matter(
    package: str, version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    of_others = versions._version
    monkeypatch.setattr(versions, "_version", lambda name: version if name == package else of_others(name))
    assert accelerate(_app(), mode="strict") is not None


def test_strict_names_the_routes_that_cannot_be_accelerated() -> None:
    app = _app()
    app.mount("/mounted", FastAPI())
    with pytest.raises(AccelerationError, match="/mounted: what is mounted is an application of its own"):
        asyncio.run(accelerate(app, mode="strict")(Sent().make_scope(), None, None))  # type: ignore[arg-type]


def test_strict_gives_the_routes_as_the_reason_why_the_application_does_not_start() -> None:
    app = _app()
    app.mount("/mounted", FastAPI())
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "lifespan.startup"}

    async def send(message: Any) -> None:
        sent.append(message)

    with pytest.raises(AccelerationError):
        asyncio.run(accelerate(app, mode="strict")({"type": "lifespan", "state": {}}, receive, send))  # type: ignore[arg-type]
    [message] = sent
    assert message["type"] == "lifespan.startup.failed"
    assert message["message"].startswith("routes that cannot be accelerated:\n")
    assert "/mounted: what is mounted is an application of its own" in message["message"]
    assert "Traceback" not in message["message"]


def test_the_routes_can_be_read_before_the_first_request(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "fastserve")
    app = _app()
    read_routes(accelerate(app))
    assert caplog.messages == ["accelerated 2 of 2 routes (fastapi 0.165.0)"]
    app.mount("/mounted", FastAPI())
    with pytest.raises(AccelerationError, match="/mounted: "):
        read_routes(accelerate(app, mode="strict"))
    read_routes(app)  # one that is not accelerated


ALWAYS = {part.path for part in patches.always("fastapi")}
PATCHED = [part.path for part in patches.parts("fastapi")]


@pytest.mark.parametrize("path", PATCHED)
def test_whatever_is_patched_before_or_after_the_plan_is_made_is_noticed(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    [part] = [part for part in patches.parts("fastapi") if part.path == path]
    late = accelerate(_app())
    assert _is_accelerated(late)
    if isinstance(part.found, type):
        monkeypatch.setattr(part.holder, part.name, type(part.name, (part.found,), {}))
    else:
        monkeypatch.setattr(part.holder, part.name, _wrapped(part.found))
    assert not _is_accelerated(late, "/dependent")
    assert _is_accelerated(late) == (path not in ALWAYS)
    assert [report.reason for report in explain(_app())] == [f"{_first_patched()} has been replaced"] * 2
    monkeypatch.undo()
    assert _is_accelerated(late)
    assert _is_accelerated(late, "/dependent")


def _first_patched() -> str:
    found = patches.patched(patches.parts("fastapi"))
    assert found is not None
    return found


def _wrapped(function: Any) -> Any:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapper


def test_a_route_whose_handler_is_replaced_is_left_to_the_framework() -> None:
    app = _app()
    accelerated = accelerate(app)
    assert _is_accelerated(accelerated)
    [route] = [route for route in app.routes if getattr(route, "path", "") == "/"]
    assert isinstance(route, APIRoute)
    original = route.app
    route.app = _wrapped(original)
    assert not _is_accelerated(accelerated)
    route.app = original
    assert _is_accelerated(accelerated)


def test_a_callable_that_is_replaced_in_the_dependant_is_left_to_the_framework() -> None:
    app = _app()
    accelerated = accelerate(app)
    assert _is_accelerated(accelerated)
    [route] = [route for route in app.routes if getattr(route, "path", "") == "/"]
    assert isinstance(route, APIRoute)

    async def other() -> str:
        return "other"

    route.dependant.call = other
    assert asyncio.run(exchange(accelerated, Sent())).body == b'"other"'


@pytest.mark.parametrize(
    ("change", "path"),
    [
        (lambda app: app.add_api_route("/new", _late), "/new"),
        (lambda app: app.router.routes.insert(0, APIRoute("/", _late)), "/"),
        (lambda app: app.include_router(_late_router()), "/late"),
    ],
    ids=["added", "put-first", "included"],
)
def test_routes_that_come_later_are_found_and_accelerated(change: Any, path: str) -> None:
    def make(seen: list[Any]) -> FastAPI:
        app = FastAPI(openapi_url=None)

        @app.get("/")
        async def read() -> str:
            return "first"

        @app.post("/change")
        async def do_change() -> None:
            change(app)

        return app

    found = both(make, Sent(path=path), Sent("POST", "/change"), Sent(path=path))
    assert found[0].body != found[2].body == b'"late"'


async def _late() -> str:
    return "late"


def _late_router() -> APIRouter:
    router = APIRouter()
    router.add_api_route("/late", _late)
    return router


def test_an_application_that_changes_all_the_time_is_left_to_the_framework() -> None:
    app = FastAPI(openapi_url=None)
    accelerated = accelerate(app)
    for number in range(60):
        app.add_api_route(f"/{number}", _late)
        assert asyncio.run(exchange(accelerated, Sent(path=f"/{number}"))).body == b'"late"'


class OwnCall(FastAPI):
    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        scope["own"] = True
        await super().__call__(scope, receive, send)


class OwnHandler(APIRoute):
    def get_route_handler(self) -> Any:
        original = super().get_route_handler()

        async def handler(request: Request) -> Any:
            response = await original(request)
            response.headers["x-own"] = "yes"
            return response

        return handler


class OwnRouter(APIRouter):
    async def app(self, scope: Any, receive: Any, send: Any) -> None:
        scope["router"] = "own"
        await super().app(scope, receive, send)


def test_an_application_with_a_call_of_its_own_is_left_alone() -> None:
    def make(seen: list[Any]) -> FastAPI:
        app = OwnCall(openapi_url=None)

        @app.get("/")
        async def read(request: Request) -> Any:
            return request.scope["own"]

        return app

    both(make, Sent())
    assert [report.reason for report in explain(make([]))] == ["OwnCall has a __call__ of its own"]


def test_a_subclass_that_overrides_nothing_of_interest_is_accelerated() -> None:
    class Same(FastAPI):
        pass

    app = Same(openapi_url=None)
    app.add_api_route("/", _late)
    assert [report.accelerated for report in explain(app)] == [True]


def test_a_route_with_a_handler_of_its_own_is_left_to_the_framework() -> None:
    def make(seen: list[Any]) -> FastAPI:
        app = FastAPI(openapi_url=None)
        app.router.route_class = OwnHandler
        app.add_api_route("/", _late)
        return app

    [done] = both(make, Sent())
    assert (b"x-own", b"yes") in done.messages[0]["headers"]
    assert [report.reason for report in explain(make([]))] == ["its handler is wrapped or replaced"]


def test_a_router_of_another_kind_is_left_alone() -> None:
    app = FastAPI(openapi_url=None)
    app.router = OwnRouter()
    app.add_api_route("/", _late)
    assert [report.reason for report in explain(app)] == ["OwnRouter is not the framework's own router"]


def test_telemetry_is_not_lost() -> None:
    from opentelemetry.trace import NoOpTracerProvider

    app = _app(telemetry={"tracer_provider": NoOpTracerProvider()})
    assert [report.reason for report in explain(app)] == ["telemetry is on"] * 2
    assert not _is_accelerated(accelerate(app))


def test_telemetry_that_is_set_up_late_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    import opentelemetry.trace

    accelerated = accelerate(_app())
    assert _is_accelerated(accelerated)
    monkeypatch.setattr(opentelemetry.trace, "_TRACER_PROVIDER", opentelemetry.trace.NoOpTracerProvider())
    assert not _is_accelerated(accelerated)


def test_overrides_concern_routes_with_dependencies_only() -> None:
    app = _app()
    accelerated = accelerate(app)
    app.dependency_overrides[_late] = _late
    assert _is_accelerated(accelerated)
    assert not _is_accelerated(accelerated, "/dependent")
    app.dependency_overrides.clear()
    assert _is_accelerated(accelerated, "/dependent")


def test_starlette_has_reports_too() -> None:
    app = Starlette(routes=[starlette.routing.Route("/", _late), starlette.routing.WebSocketRoute("/ws", _late)])
    assert [(report.path, report.reason) for report in explain(app)] == [
        ("/", None),
        ("/ws", "it is a WebSocket route"),
    ]


def test_limits_on_bodies_and_forms_are_kept() -> None:
    def make(seen: list[Any]) -> FastAPI:
        app = FastAPI(openapi_url=None, max_body_size=10)

        @app.post("/")
        async def post(value: list[int]) -> Any:
            return value

        @app.post("/smaller", max_body_size=3)
        async def post_smaller(value: list[int]) -> Any:
            return value

        return app

    json = ((b"content-type", b"application/json"),)
    found = both(
        make,
        Sent("POST", headers=json, body=(b"[1,2]",)),
        Sent("POST", headers=json, body=(b"[1,2,3,", b"4,5,6,7]")),
        Sent("POST", "/smaller", headers=json, body=(b"[1,2]",)),
    )
    assert [done.status for done in found] == [200, 413, 413]

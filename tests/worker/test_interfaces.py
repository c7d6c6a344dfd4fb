"""Which interface an application has."""

from __future__ import annotations

import functools
import importlib.util
from typing import Any

import pytest

from fastserve.errors import AppLoadError
from fastserve.worker.interfaces import Asgi2, adapt, detect


async def asgi3(scope: Any, receive: Any, send: Any) -> None: ...


def asgi3_by_hand(scope: Any, receive: Any, send: Any) -> Any:
    return asgi3(scope, receive, send)


def asgi2(scope: Any) -> Any: ...


def wsgi(environ: Any, start_response: Any) -> Any: ...


def wsgi_of_any_names(e: Any, s: Any, /) -> Any: ...


def two_or_three(scope: Any, receive: Any, send: Any = None) -> Any: ...


def needs_a_keyword(scope: Any, receive: Any, *, send: Any) -> Any: ...


async def asgi3_of_two(scope: Any, receive: Any) -> None: ...


def open_to_all(*args: Any, **options: Any) -> Any: ...


class Asgi3Object:
    async def __call__(self, scope: Any, receive: Any, send: Any) -> None: ...


class Asgi3Class:
    def __init__(self, scope: Any, receive: Any, send: Any) -> None: ...

    def __await__(self) -> Any: ...


class Asgi2Class:
    def __init__(self, scope: Any) -> None: ...

    async def __call__(self, receive: Any, send: Any) -> None: ...


class WsgiObject:
    def __call__(self, environ: Any, start_response: Any) -> Any: ...


class WsgiOfAnyNames:
    def __call__(self, e: Any, s: Any) -> Any: ...

    def serve(self, request: Any, respond: Any) -> Any: ...


class WsgiClassOfAnyNames:
    def __init__(self, e: Any, s: Any) -> None: ...


def with_one_more(settings: Any, e: Any, s: Any) -> Any: ...


@functools.wraps(wsgi_of_any_names)
def decorated(*args: Any, **options: Any) -> Any: ...


class WsgiClass:
    def __init__(self, env: Any, start: Any, debug: bool = False) -> None: ...


@pytest.mark.parametrize(
    ("app", "interface"),
    [
        (asgi3, "asgi3"),
        (asgi3_by_hand, "asgi3"),
        (functools.partial(asgi3), "asgi3"),
        (Asgi3Object(), "asgi3"),
        (Asgi3Class, "asgi3"),
        (open_to_all, "asgi3"),
        (asgi2, "asgi2"),
        (Asgi2Class, "asgi2"),
        (wsgi, "wsgi"),
        (WsgiObject(), "wsgi"),
        (WsgiClass, "wsgi"),
        (wsgi_of_any_names, "wsgi"),
        (WsgiOfAnyNames(), "wsgi"),
        (WsgiOfAnyNames().serve, "wsgi"),
        (WsgiClassOfAnyNames, "wsgi"),
        (functools.partial(with_one_more, {}), "wsgi"),
        (decorated, "wsgi"),
        (lambda e, s: [], "wsgi"),
        (two_or_three, "asgi3"),
        (needs_a_keyword, "asgi3"),
        (asgi3_of_two, "asgi3"),
    ],
    ids=lambda value: value if isinstance(value, str) else getattr(value, "__name__", type(value).__name__),
)
def test_the_interface_is_detected(app: Any, interface: str) -> None:
    assert detect(app) == interface


@pytest.mark.parametrize("interface", ["auto", "asgi3"])
def test_an_asgi3_application_is_called_as_it_is(interface: str) -> None:
    assert adapt(asgi3, "main:app", interface) is asgi3


def test_what_is_said_counts_more_than_what_is_seen() -> None:
    app: Any = asgi2
    assert adapt(app, "main:app", "asgi3") is app
    assert isinstance(adapt(open_to_all, "main:app", "asgi2"), Asgi2)


async def test_an_asgi2_application_is_called_in_two_steps() -> None:
    called: list[Any] = []

    class App:
        def __init__(self, scope: Any) -> None:
            called.append(scope)

        async def __call__(self, receive: Any, send: Any) -> None:
            called.extend((receive, send))

    receive, send = object(), object()
    await adapt(App, "main:app", "auto")({"asgi": {"version": "3.0"}}, receive, send)  # type: ignore[arg-type]
    assert called == [{"asgi": {"version": "2.0"}}, receive, send]


@pytest.mark.parametrize("interface", ["auto", "wsgi"])
def test_a_wsgi_application_says_what_it_needs(interface: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(AppLoadError) as raised:
        adapt(wsgi, "main:app", interface)
    assert str(raised.value) == (
        '"main:app" is a WSGI application, and serving those takes a2wsgi; install it with:'
        " pip install 'fastserve[wsgi]'"
    )

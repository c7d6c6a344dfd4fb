"""Values found by Hypothesis: whatever is sent and whatever is returned, the bytes are the same accelerated and not."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import FastAPI
from hypothesis import given, settings
from hypothesis import strategies as st

import fastserve
from tests.equality.apps import bodies, parameters
from tests.equality.comparing import differences
from tests.equality.driving import Build, Request, Trace, request_outcome

settings.register_profile("equality", max_examples=50, derandomize=True, deadline=None, database=None)
settings.register_profile("equality-long", max_examples=2_000, deadline=None, database=None)
PROFILE = settings.get_profile("equality-long" if os.environ.get("EQUALITY_ALL") else "equality")

JSON = ((b"content-type", b"application/json"),)


class Pair:
    """An application, plain and accelerated, in one event loop. Requests go to both."""

    def __init__(self, build: Build) -> None:
        self._build = build
        self._runner = asyncio.Runner()
        self._runner.run(self._start())

    async def _start(self) -> None:
        self._traces = Trace(), Trace()
        self._plain = self._build(self._traces[0])
        self._accelerated: Any = fastserve.accelerate(self._build(self._traces[1]))

    def difference(self, request: Request) -> str:
        """Return what differs in the two outcomes of a request; nothing if they are equal."""
        one = self._runner.run(request_outcome(self._plain, request, self._traces[0], {}))
        other = self._runner.run(request_outcome(self._accelerated, request, self._traces[1], {}))
        return "\n".join(str(each) for each in differences([one], [other]))

    def close(self) -> None:
        """Close the event loop."""
        self._runner.close()


def _pair(build: Build) -> Iterator[Pair]:
    pair = Pair(build)
    yield pair
    pair.close()


@pytest.fixture(scope="module")
def with_bodies() -> Iterator[Pair]:
    yield from _pair(bodies.build)


@pytest.fixture(scope="module")
def with_parameters() -> Iterator[Pair]:
    yield from _pair(parameters.build)


RESULT: list[Any] = [None]
"""What the endpoints of `returning` return."""


def returning(trace: Trace) -> FastAPI:
    app = FastAPI()

    @app.get("/async")
    async def coroutine() -> Any:
        return RESULT[0]

    @app.get("/sync")
    def function() -> Any:
        return RESULT[0]

    @app.get("/model", response_model=None)
    async def model() -> Any:
        return RESULT[0]

    @app.get("/typed")
    async def typed() -> dict[str, bodies.Item] | list[float] | str | None:
        return RESULT[0]  # type: ignore[no-any-return]

    return app


@pytest.fixture(scope="module")
def with_results() -> Iterator[Pair]:
    yield from _pair(returning)


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=2**52)
    | st.floats()
    | st.text()
    | st.text(st.characters(codec=None), max_size=5)  # with surrogates
)
VALUES = st.recursive(
    SCALARS | st.binary(max_size=3) | st.decimals() | st.datetimes() | st.dates() | st.timedeltas() | st.uuids(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner)
        | st.dictionaries(SCALARS, inner, max_size=3)
        | st.sets(SCALARS, max_size=1)
    ),
    max_leaves=6,
)
JSON_VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
)
ITEMS = st.fixed_dictionaries(
    {"name": JSON_VALUES, "price": JSON_VALUES},
    optional={
        "tax": JSON_VALUES,
        "tags": st.lists(st.text()) | JSON_VALUES,
        "parts": st.lists(st.fixed_dictionaries({"name": st.text()}, optional={"weight": JSON_VALUES})),
        "size": st.sampled_from(["small", "large", "other"]),
        "made": st.datetimes().map(str) | JSON_VALUES,
        "by": st.uuids().map(str) | JSON_VALUES,
        "exact": st.decimals().map(str) | JSON_VALUES,
        "extra": st.dictionaries(st.text(), JSON_VALUES),
    },
)


@PROFILE
@given(result=VALUES)
@pytest.mark.parametrize("path", ["/async", "/sync", "/model", "/typed"])
def test_any_result_is_answered_with_the_same_bytes(with_results: Pair, path: str, result: object) -> None:
    RESULT[0] = result
    assert not with_results.difference(Request(label=path, path=path))


@PROFILE
@given(value=JSON_VALUES | ITEMS, ascii=st.booleans())
@pytest.mark.parametrize("path", ["/anything", "/item", "/checked", "/owner", "/numbers", "/strict"])
def test_any_json_body_is_understood_the_same(with_bodies: Pair, path: str, value: object, *, ascii: bool) -> None:
    body = json.dumps(value, ensure_ascii=ascii).encode(errors="surrogatepass")
    assert not with_bodies.difference(Request(label=path, method="POST", path=path, headers=JSON, body=(body,)))


@PROFILE
@given(data=st.binary(max_size=20) | st.text('{}[]",:0123456789.eE+-truefalsn \\u\n', max_size=20).map(str.encode))
@pytest.mark.parametrize("path", ["/anything", "/item"])
def test_any_bytes_are_understood_the_same(with_bodies: Pair, path: str, data: bytes) -> None:
    assert not with_bodies.difference(Request(label=path, method="POST", path=path, headers=JSON, body=(data,)))


QUERIES = st.lists(
    st.tuples(
        st.sampled_from([b"q", b"words", b"n", b"unique", b"pair", b"limit", b"tags", b""]), st.binary(max_size=6)
    ),
    max_size=5,
).map(lambda pairs: b"&".join(name + b"=" + value for name, value in pairs))


@PROFILE
@given(query=QUERIES | st.binary(max_size=30))
@pytest.mark.parametrize("path", ["/plain/7", "/lists", "/page"])
def test_any_query_is_understood_the_same(with_parameters: Pair, path: str, query: bytes) -> None:
    assert not with_parameters.difference(Request(label=path, path=path, query=query))


@PROFILE
@given(path=st.text(max_size=12), base=st.sampled_from(["", "/plain/", "/before/", "/files/", "/two/", "/convertors/"]))
def test_any_path_leads_to_the_same(with_parameters: Pair, path: str, base: str) -> None:
    assert not with_parameters.difference(Request(label=path, path=base + path, raw_path=b"/"))


@PROFILE
@given(
    value=st.binary(max_size=20), name=st.sampled_from([b"cookie", b"x-token", b"x-number", b"accept", b"user-agent"])
)
@pytest.mark.parametrize("path", ["/headers", "/fields", "/cookie", "/cookies"])
def test_any_field_is_understood_the_same(with_parameters: Pair, path: str, name: bytes, value: bytes) -> None:
    fields = ((name, b"session=" + value if name == b"cookie" else value), (b"x-token", b"t"))
    assert not with_parameters.difference(Request(label=path, path=path, headers=fields))

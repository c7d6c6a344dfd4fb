"""KNOWN DIFFERENCES of the accelerator, one minimal test each. When one is mended, its mark goes and the test stays."""

from __future__ import annotations

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

import fastserve
from tests.equality.apps import wiring
from tests.equality.comparing import found, report
from tests.equality.driving import Build, Trace
from tests.equality.driving import Request as Asked


def compare(build: Build, *asked: Asked) -> None:
    """Fail with what differs."""
    differing = found(build, fastserve.accelerate, asked)
    if differing:
        pytest.fail(report(differing), pytrace=False)


def test_header_fields_given_as_a_tuple_are_a_list_afterwards() -> None:
    compare(wiring.build, Asked(label="plain", path="/plain", scope={"headers": ((b"host", b"example.org"),)}))


def test_the_error_page_of_debug_mode_is_the_same() -> None:
    async def fail(request: Request) -> Response:
        raise ValueError("fail")

    def build(trace: Trace) -> Starlette:
        return Starlette(routes=[Route("/", fail)], debug=True)

    compare(build, Asked(label="fail"))


def test_an_application_that_never_stops_changing_is_answered_by_its_latest_routes() -> None:
    changes = [Asked(label="add", method="POST", path="/add") for _ in range(60)]
    last = Asked(label="shadow", method="POST", path="/shadow")
    plain = Asked(label="plain", path="/plain")
    compare(wiring.late, plain, *changes, last, plain)

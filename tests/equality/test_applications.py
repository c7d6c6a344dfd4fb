"""Applications of our own behave the same accelerated and not, whatever is asked of them."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

import pytest
from fastapi import routing

import fastserve
from fastserve.accel import explain
from tests.equality.apps import bodies, dependencies, parameters, responses, starlette_apps, wiring
from tests.equality.comparing import found, report
from tests.equality.driving import Build, Request, Trace
from tests.equality.generating import ELSEWHERE, generated

BUILDS: dict[str, tuple[Build, Sequence[Request]]] = {
    "parameters": (parameters.build, ()),
    "bodies": (bodies.build, ()),
    "lenient bodies": (bodies.lenient, ()),
    "responses": (responses.build, ()),
    "another response class": (responses.spelled, ()),
    "dependencies": (dependencies.build, dependencies.REQUESTS),
    "wiring": (wiring.build, wiring.REQUESTS),
    "handlers": (wiring.handled, wiring.REQUESTS),
    "failing handlers": (wiring.failing_handlers, wiring.REQUESTS),
    "cors": (wiring.cors, wiring.REQUESTS),
    "cors of all": (wiring.cors_of_all, wiring.REQUESTS),
    "cors by pattern": (wiring.cors_by_pattern, wiring.REQUESTS),
    "gzip": (wiring.gzip, wiring.REQUESTS),
    "hosts": (wiring.hosts, wiring.REQUESTS),
    "https": (wiring.https, wiring.REQUESTS),
    "watched": (wiring.watched, wiring.REQUESTS),
    "stacked": (wiring.stacked, wiring.REQUESTS),
    "base": (wiring.base, wiring.REQUESTS),
    "mounted": (wiring.mounted, wiring.REQUESTS),
    "own classes": (wiring.own_classes, wiring.REQUESTS),
    "late": (wiring.late, wiring.LATE),
    "starlette": (starlette_apps.build, starlette_apps.REQUESTS),
    "bare starlette": (starlette_apps.bare, starlette_apps.REQUESTS),
}

if find_spec("python_multipart"):
    from tests.equality.apps import forms

    BUILDS["forms"] = (forms.build, ())


MOST = sys.maxsize if os.environ.get("EQUALITY_ALL") else 450
"""How many requests one application is asked. With EQUALITY_ALL there is no limit (make equality)."""


def asked(build: Build, further: Sequence[Request], most: int = MOST) -> list[Request]:
    """Return requests to an application: those that its OpenAPI document leads to, and further ones.

    When they are too many, these are some of all kinds, the same every time.
    """
    app: Any = build(Trace())
    with warnings.catch_warnings(action="ignore"):  # what the document cannot say
        every = generated(app.openapi()) if hasattr(app, "openapi") else list(ELSEWHERE)
    chosen = every[:: max(1, -(-len(every) // most))]
    return [*chosen, *further] if len(further) < most else [*chosen, *further[:: -(-len(further) // most)]]


def compare(name: str, *, lifespan: bool, most: int = MOST) -> None:
    """Fail with what differs between an application and itself accelerated."""
    make, further = BUILDS[name]

    def build(trace: Trace) -> Any:
        """Return a new application, of which FastAPI remembers nothing: it goes by ids, which others may have had."""
        routing._endpoint_context_cache.clear()
        return make(trace)

    differing = found(build, fastserve.accelerate, asked(build, further, most), lifespan=lifespan)
    if differing:
        pytest.fail(report(differing), pytrace=False)


@pytest.mark.parametrize("name", BUILDS)
def test_an_application_behaves_the_same_accelerated(name: str) -> None:
    compare(name, lifespan=True)


@pytest.mark.parametrize("name", BUILDS)
def test_an_application_without_lifespan_behaves_the_same_accelerated(name: str) -> None:
    compare(name, lifespan=False, most=MOST // 3)


LEFT_ALONE = {"https"}
"""Applications to which no request reaches an endpoint."""


@pytest.mark.parametrize("name", sorted(BUILDS.keys() - LEFT_ALONE))
def test_an_application_is_accelerated_at_all(name: str) -> None:
    reports = explain(BUILDS[name][0](Trace()))
    assert sum(each.accelerated for each in reports) > len(reports) / 3, [each for each in reports if each.reason]

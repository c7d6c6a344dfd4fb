"""An accelerated application keeps nothing of its requests; and that the check would find what is kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import fastserve
from tests.equality import leaks


def test_nothing_is_kept_of_requests() -> None:
    assert leaks.check(leaks.build, fastserve.accelerate, requests=8_000) == []


def keeping(keep: Callable[[Any], object]) -> Callable[[Any], Any]:
    """Return an accelerator that keeps something of each request."""
    kept: list[object] = []

    def accelerate(app: Any) -> Any:
        async def wrong(scope: Any, receive: Any, send: Any) -> None:
            kept.append(keep(scope))
            await app(scope, receive, send)

        return wrong

    return accelerate


@pytest.mark.parametrize(
    ("keep", "what"),
    [
        (dict, "objects"),
        (lambda scope: bytes(1000), "memory blocks"),
        (lambda scope: scope["method"] and leaks.Item, "references to Item"),
    ],
    ids=["scopes", "bytes", "references"],
)
def test_what_is_kept_of_requests_is_found(keep: Callable[[Any], object], what: str) -> None:
    found = leaks.check(leaks.build, keeping(keep), requests=4_000)
    assert any(what in line for line in found), found

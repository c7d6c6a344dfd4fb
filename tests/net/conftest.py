"""What the tests of sockets share: they run with both kinds of transports."""

from __future__ import annotations

import importlib.util
import sys

import pytest


@pytest.fixture(params=["loop", "native"])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Have one kind of transports used."""
    name: str = request.param
    if name == "loop":
        monkeypatch.setitem(sys.modules, "fastserve.net.epoll", None)  # so that its import fails
    elif importlib.util.find_spec("fastserve.net.epoll") is None:
        pytest.skip("the native transport is not built")
    return name

"""What the tests of sockets share: they run with both kinds of transports."""

from __future__ import annotations

import pytest

from fastserve.net import transports


@pytest.fixture(params=["loop", "native"])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Have one kind of transports used."""
    name: str = request.param
    if name == "loop":
        monkeypatch.setattr(transports, "new_native", None)
    elif transports.new_native is None:
        pytest.skip("the native transport is not built")
    return name

"""What the tests of docs/deploy have in common."""

from __future__ import annotations

from pathlib import Path

import pytest

from .commands import Reader


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, own_logging: None) -> Reader:
    """Read command lines."""
    return Reader(monkeypatch, tmp_path)

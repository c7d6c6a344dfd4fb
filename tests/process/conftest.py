"""What the process tests have in common: a folder with an application, and servers that end with the test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from .running import Start, prepare, starting_servers


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the application `served:app`."""
    return prepare(tmp_path)


@pytest.fixture
def start(folder: Path) -> Iterator[Start]:
    """Start servers in that folder."""
    with starting_servers(folder) as start:
        yield start

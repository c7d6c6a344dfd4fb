"""What the tests of the wire have in common: each one that takes `parser` runs for every parser library."""

from __future__ import annotations

import pytest

from fastserve.wire.http1.fields import FieldsParser
from fastserve.wire.http1.parsers import fields_parser
from fastserve.wire.http1.protocol import Http1

from .peer import PARSERS, Peer, new_wire


@pytest.fixture(params=PARSERS)
def parser(request: pytest.FixtureRequest) -> str:
    """The name of a parser library, as `--http` takes it."""
    return str(request.param)


@pytest.fixture
def adapter(parser: str) -> FieldsParser:
    """The adapter of that library."""
    return fields_parser(parser)


@pytest.fixture
def wire(parser: str) -> Http1:
    """A new wire that reads with that library."""
    return new_wire(parser)


@pytest.fixture
def peer(wire: Http1) -> Peer:
    """The other end of the wire."""
    return Peer(wire)

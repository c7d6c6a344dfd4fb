"""Choosing the parser library for field sections."""

from __future__ import annotations

from fastserve.wire.http1.fields import FieldsParser
from fastserve.wire.http1.with_h11 import H11Fields
from fastserve.wire.http1.with_httptools import HttptoolsFields


def fields_parser(name: str) -> FieldsParser:
    """Return the adapter for a value of `--http`."""
    return H11Fields() if name == "h11" else HttptoolsFields()

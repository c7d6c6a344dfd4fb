"""Choosing what reads request heads."""

from __future__ import annotations

from fastserve.settings import RequestLimits
from fastserve.wire.http1 import head
from fastserve.wire.http1.fields import FieldsParser
from fastserve.wire.http1.head import HeadReader
from fastserve.wire.http1.with_h11 import H11Fields
from fastserve.wire.http1.with_httptools import HttptoolsFields

# Uncompiled, it takes longer than the libraries.
_HEAD_READER_IS_FAST = not head.__file__.endswith(".py")


def fields_parser(name: str) -> FieldsParser:
    """Return the adapter for a value of `--http`."""
    return H11Fields() if name == "h11" else HttptoolsFields()


def head_reader(name: str, limits: RequestLimits) -> HeadReader | None:
    """Return what reads plain heads before the adapter is asked, for a value of `--http`; None when nothing is to."""
    return HeadReader(limits) if name == "auto" and _HEAD_READER_IS_FAST else None


def describe_parser(name: str) -> str:
    """Return what reads request heads, for people."""
    own = "own reader + " if name == "auto" and _HEAD_READER_IS_FAST else ""
    return own + fields_parser(name).name

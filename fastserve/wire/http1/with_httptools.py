"""Field sections read by httptools (llhttp, the parser of Node.js)."""

from __future__ import annotations

import re

import httptools

from fastserve.errors import FieldsRefused
from fastserve.wire.events import Field
from fastserve.wire.http1.fields import are_clean_lines

# The request line is read once for all libraries, so llhttp gets a constant one.
_REQUEST_LINE = b"POST / HTTP/1.1\r\n"

_trailing_space = re.compile(rb"[ \t]+\r\n")


class HttptoolsFields:
    """The adapter of httptools.

    Each section gets a parser of its own: a parser that has seen a body announced, an Upgrade or `Connection: close`
    would take the next section for something else, and a new one costs a quarter of a microsecond.
    """

    name = "httptools"
    __slots__ = ("_fields",)

    def __init__(self) -> None:
        self._fields: list[Field] = []

    def parse(self, block: bytes) -> list[Field]:
        """See FieldsParser."""
        fields: list[Field] = []
        self._fields = fields
        if b"\t" in block:
            block = _trim_lines(block)
        try:
            httptools.HttpRequestParser(self).feed_data(_REQUEST_LINE + block)
        except httptools.HttpParserUpgrade:
            pass  # It stops behind the section, where we end anyway.
        except httptools.HttpParserError as error:
            raise FieldsRefused(str(error)) from None
        return fields

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take one field line (httptools callback)."""
        self._fields.append((name.lower(), value.rstrip(b" \t")))


def _trim_lines(block: bytes) -> bytes:
    """Return the section without white space at the ends of lines: llhttp refuses a tab behind `chunked`."""
    if not are_clean_lines(block):
        raise FieldsRefused("invalid octet or line end")  # A line of white space alone would become the end.
    return _trailing_space.sub(b"\r\n", block)

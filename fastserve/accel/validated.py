"""Results that are validated already."""

from __future__ import annotations

from typing import Any


class Validated(tuple[Any, Any]):
    """A result, and what the response model has made of it."""

    __slots__ = ()

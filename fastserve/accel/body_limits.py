"""The limits on bodies of FastAPI, as far as the installed version has them: from 0.164 on."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

try:
    _limits: Any = importlib.import_module("fastapi._body_limit")
except ImportError:
    _limits = None

LAYERS: tuple[type, ...] = () if _limits is None else (_limits.AppBodyLimitMiddleware,)
"""The layer of an application that keeps them, if there is one."""

_find: Callable[[Exception], Exception | None] | None = getattr(_limits, "get_body_limit_error", None)


def limit_of(error: Exception) -> Exception | None:
    """Return the exception that tells the client of a limit, if that is what went wrong; None otherwise."""
    return None if _find is None else _find(error)

"""Results that are plain JSON already: which ones are, and their bytes.

FastAPI passes a result through `jsonable_encoder` and then `json.dumps`. For what is plain in the sense of this module,
both together give exactly what orjson gives.
"""

from __future__ import annotations

from typing import Any

import orjson

# Deeper than this is left to the framework, which may find a cycle.
MAX_DEPTH = 32
_MAX_DEPTH = MAX_DEPTH
# orjson takes 64 bits; json any number.
_INT_MIN = -(2**63)
_INT_MAX = 2**63 - 1
# Python and orjson write floats with the same digits, and outside of these bounds with different exponents.
_FLOAT_MIN = 1e-4
_FLOAT_MAX = 1e16


def encode(value: Any) -> bytes | None:
    """Return the JSON of a value, or None when it is not plain."""
    if not is_plain(value, 0):
        return None
    try:
        return orjson.dumps(value)
    except orjson.JSONEncodeError:  # a surrogate in a string
        return None


def is_plain(value: Any, depth: int) -> bool:
    """Tell whether a value, at this depth, consists of what both encoders write alike. No subclass of anything is."""
    kind = type(value)
    if kind is str or value is None or kind is bool:
        return True
    if kind is int:
        return bool(_INT_MIN <= value <= _INT_MAX)
    if kind is float:
        return bool(value == 0.0 or _FLOAT_MIN <= value < _FLOAT_MAX or -_FLOAT_MAX < value <= -_FLOAT_MIN)
    if depth >= _MAX_DEPTH:
        return False
    if kind is dict:
        return _is_plain_dict(value, depth + 1)
    if kind is list or kind is tuple:
        return _is_plain_list(value, depth + 1)
    return False


def _is_plain_dict(items: Any, depth: int) -> bool:
    for key, value in items.items():
        # FastAPI leaves out what SQLAlchemy adds to objects: every key that begins like this.
        if type(key) is not str or key.startswith("_sa") or not is_plain(value, depth):
            return False
    return True


def _is_plain_list(items: Any, depth: int) -> bool:
    for value in items:  # noqa: SIM110 - a generator expression cannot be compiled
        if not is_plain(value, depth):
            return False
    return True

"""Looking up what answers a request, by method and path."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeAlias

Params: TypeAlias = tuple[tuple[str, int, Callable[[str], Any] | None], ...]
Branch: TypeAlias = tuple[Any, Params]
"""A route as a part of a combined expression: its target, and the names, groups and conversions of its parameters."""
Compiled: TypeAlias = tuple[dict[str, Any], Callable[[str], "re.Match[str] | None"], dict[int, Branch]]
"""Paths without parameters, what matches all others, and the branches of that by the number of their last group."""


class Lookup:
    """Finds the target of a request.

    Every method has a table of paths without parameters, and an expression for the others. The number of the last group
    that matched tells which branch it was.
    """

    __slots__ = ("_by_method",)

    def __init__(self, by_method: dict[str, Compiled]) -> None:
        self._by_method = by_method

    def find(self, method: str, path: str) -> tuple[Any, dict[str, Any]] | None:
        """Return the target of a request and the parameters in its path, or None."""
        compiled = self._by_method.get(method)
        if compiled is None:
            return None
        target = compiled[0].get(path)
        if target is not None:
            return target, {}
        match = compiled[1](path)
        # $ also matches in front of a line feed at the end, which the table does not know.
        if match is None or match.lastindex is None or "\n" in path:
            return None
        branch = compiled[2][match.lastindex]
        if branch[0] is None:
            return None
        params = {}
        try:
            for name, group, convert in branch[1]:
                params[name] = match[group] if convert is None else convert(match[group])
        except ValueError:  # an integer of thousands of digits
            return None
        return branch[0], params

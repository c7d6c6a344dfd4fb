"""Which route answers a request: the framework's rules, looked up instead of tried.

The framework tries its routes in their order, and takes the first one of which path and method match. Here paths
without parameters are in a table, and all others of one method in one regular expression. Where there is no answer to
be had, or none that is certain, there is None, and the framework does what it does: 404, 405, redirects.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from starlette.convertors import (
    FloatConvertor,
    IntegerConvertor,
    PathConvertor,
    StringConvertor,
    UUIDConvertor,
)

from fastserve.accel.lookup import Branch, Compiled, Lookup

_KNOWN_CONVERTORS = (StringConvertor, PathConvertor, IntegerConvertor, FloatConvertor, UUIDConvertor)
_AS_IT_IS = (StringConvertor, PathConvertor)
_NAMED = re.compile(r"\(\?P<[a-zA-Z_][a-zA-Z0-9_]*>")


class Candidate(NamedTuple):
    """One of the routes that the framework would try.

    regex: None when nothing is known about what the route matches. methods: None for all. target: what answers; None
    leaves that to the framework.
    """

    regex: re.Pattern[str] | None
    methods: frozenset[str] | None
    convertors: dict[str, Any]
    target: Any

    def literal(self) -> str | None:
        """Return the only path that matches, or None when there may be several."""
        if self.regex is None or self.convertors:
            return None
        path = re.sub(r"\\(.)", r"\1", self.regex.pattern[1:-1], flags=re.DOTALL)
        return path if self.regex.pattern == f"^{re.escape(path)}$" and self.regex.flags == re.UNICODE else None

    def is_known(self) -> bool:
        """Tell whether it is certain what matches, and what becomes of parameters."""
        if self.regex is None or self.regex.flags != re.UNICODE:
            return False
        if any(type(each) not in _KNOWN_CONVERTORS for each in self.convertors.values()):
            return False
        return set(self.regex.groupindex) == set(self.convertors) or self.target is None


class Matcher:
    """Finds the target of a request: see Lookup."""

    __slots__ = ("_by_method", "lookup")

    def __init__(self, candidates: Sequence[Candidate]) -> None:
        named = {method for each in candidates for method in each.methods or ()}
        self._by_method = {method: _compile(_of_method(candidates, method)) for method in named}
        self.lookup = Lookup(self._by_method)


def _of_method(candidates: Iterable[Candidate], method: str) -> list[Candidate]:
    """Return the routes that take a method, up to the first of which it is not known what it matches."""
    found = []
    for each in candidates:
        if not each.is_known():
            break
        if not each.methods or method in each.methods:
            found.append(each)
    return found


def _compile(candidates: list[Candidate]) -> Compiled:
    table: dict[str, Any] = {}
    literals: set[str] = set()
    others: list[Candidate] = []
    for each in candidates:
        path = each.literal()
        if path is None:
            others.append(each)
        elif path not in literals:
            literals.add(path)
            if not any(other.regex is not None and other.regex.match(path) for other in others):
                # What the framework answers needs a mark too: a later route must not be taken for it.
                table[path] = each.target
    return {path: target for path, target in table.items() if target is not None}, *_combine(others, table)


def _combine(
    candidates: Iterable[Candidate], table: dict[str, Any]
) -> tuple[Callable[[str], re.Match[str] | None], dict[int, Branch]]:
    parts: list[str] = []
    branches: dict[int, Branch] = {}
    group = 0
    left = [re.escape(path) for path, target in table.items() if target is None]
    if left:
        parts.append(f"(?:{'|'.join(left)})$()")
        group = 1
        branches[group] = (None, ())
    for each in candidates:
        assert each.regex is not None
        pattern = _NAMED.sub("(", each.regex.pattern.removeprefix("^"))
        params = tuple(
            (name, group + index, None if type(each.convertors[name]) in _AS_IT_IS else each.convertors[name].convert)
            for name, index in each.regex.groupindex.items()
            if name in each.convertors
        )
        group += each.regex.groups + 1
        parts.append(f"(?:{pattern})()")
        branches[group] = (each.target, params)
    expression = re.compile("|".join(parts) or r"(?!)")
    return expression.match, branches

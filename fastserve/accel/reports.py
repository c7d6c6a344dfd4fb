"""What there is to say about a route."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class RouteReport:
    """A route, and whether it is accelerated.

    path: as the application declares it. methods: sorted; none when the route takes any, or is none of HTTP. reason:
    why the route is not accelerated; None when it is.
    """

    path: str
    methods: tuple[str, ...]
    reason: str | None

    @property
    def accelerated(self) -> bool:
        """Tell whether requests for the route can be answered without the framework's own code."""
        return self.reason is None

    @classmethod
    def of(cls, route: Any, reason: str | None) -> RouteReport:
        """Return the report on a route of a framework."""
        path = getattr(route, "path", None) or getattr(route, "host", None) or getattr(route, "prefix", "")
        return cls(str(path), tuple(sorted(getattr(route, "methods", None) or ())), reason)

"""Compare what was observed of an application, plain and accelerated."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields

from tests.equality.driving import Accelerator, Build, Outcome, Request, outcomes


@dataclass(frozen=True, slots=True)
class Difference:
    """Something that could be told apart: for which request, what of the outcome, and both values of it."""

    label: str
    what: str
    plain: object
    accelerated: object

    def __str__(self) -> str:
        return f"{self.label}: {self.what}\n    plain:       {self.plain}\n    accelerated: {self.accelerated}"


def plain(app: object) -> object:
    """Return an application as it is: the accelerator to compare with."""
    return app


def differences(one: Sequence[Outcome], other: Sequence[Outcome]) -> Iterator[Difference]:
    """Yield each part of each outcome that is not the same in both."""
    assert [each.label for each in one] == [each.label for each in other]
    for first, second in zip(one, other, strict=True):
        for part in fields(Outcome):
            left, right = getattr(first, part.name), getattr(second, part.name)
            if left != right or repr(left) != repr(right):  # repr: 1 is not True, and nan is nan
                yield Difference(first.label, part.name, *_apart(left, right))


def _apart(left: object, right: object) -> tuple[object, object]:
    """Return two values without what both have in common, where they are sequences or mappings."""
    if isinstance(left, dict) and isinstance(right, dict):
        keys = [key for key in left | right if repr(left.get(key)) != repr(right.get(key))]
        if keys:
            return {key: left.get(key, "absent") for key in keys}, {key: right.get(key, "absent") for key in keys}
    if isinstance(left, list) and isinstance(right, list):
        same = 0
        while same < min(len(left), len(right)) and repr(left[same]) == repr(right[same]):
            same += 1
        return left[same : same + 3], right[same : same + 3]
    return left, right


def found(
    build: Build, accelerator: Accelerator, requests: Iterable[Request], *, lifespan: bool = True
) -> list[Difference]:
    """Drive an application plain and accelerated, with the same requests, and return what differs."""
    asked = list(requests)
    return list(
        differences(
            outcomes(build, plain, asked, lifespan=lifespan), outcomes(build, accelerator, asked, lifespan=lifespan)
        )
    )


def report(differing: Sequence[Difference], *, most: int = 10) -> str:
    """Return the first differences as text."""
    more = f"\n… and {len(differing) - most} more" if len(differing) > most else ""
    return f"{len(differing)} differences\n" + "\n".join(str(each)[:3000] for each in differing[:most]) + more

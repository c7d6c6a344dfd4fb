"""Reads a Dockerfile, and finds what a good one does not do: the rules that matter of those that linters have."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import cast

KEYWORDS = frozenset(
    ["ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "HEALTHCHECK", "RUN", "STOPSIGNAL", "USER", "WORKDIR"]
)  # What our files use; anything else is to be looked at first.


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction. value: what stands after the keyword, on one line."""

    keyword: str
    value: str

    @property
    def words(self) -> list[str]:
        """The value as a shell splits it."""
        return shlex.split(self.value)

    @property
    def flags(self) -> dict[str, str]:
        """The options in front, as in COPY --from=build."""
        found = re.match(r"(?:--\S+\s+)*", self.value)
        flags = found[0].split() if found is not None else []
        return dict(each.removeprefix("--").split("=", 1) for each in flags)

    @property
    def arguments(self) -> list[str] | None:
        """The list that CMD, ENTRYPOINT and HEALTHCHECK CMD run without a shell, or None when they need one."""
        text = re.sub(r"^(--\S+\s+)*CMD\s+", "", self.value) if self.keyword == "HEALTHCHECK" else self.value
        try:
            found = json.loads(text)
        except ValueError:
            return None
        return cast(list[str], found) if isinstance(found, list) else None


@dataclass(slots=True)
class Stage:
    """What one FROM begins. base: an image, or the name of another stage."""

    base: str
    name: str | None
    instructions: list[Instruction] = field(default_factory=list)

    def all(self, keyword: str) -> list[Instruction]:
        """Return its instructions of this kind."""
        return [each for each in self.instructions if each.keyword == keyword]

    def last(self, keyword: str) -> Instruction | None:
        """Return the one that holds in the end, or None when there is none."""
        return next(reversed(self.all(keyword)), None)


def stages(text: str) -> list[Stage]:
    """Return the stages of a Dockerfile, the last of which makes the image.

    Raises:
        ValueError: an instruction is not one that we use, or stands before FROM.
    """
    found: list[Stage] = []
    for instruction in _instructions(text):
        if instruction.keyword == "FROM":
            base, *rest = instruction.words
            found.append(Stage(base, rest[1] if rest and rest[0].upper() == "AS" else None))
        elif not found:
            raise ValueError(f"{instruction.keyword} before FROM")
        else:
            found[-1].instructions.append(instruction)
    return found


def _instructions(text: str) -> Iterator[Instruction]:
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    for line in re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines():
        keyword, _, value = line.strip().partition(" ")
        if keyword.upper() not in KEYWORDS:
            raise ValueError(f"{keyword} is not known here")
        yield Instruction(keyword.upper(), value.strip())


def environment(stage: Stage, before: dict[str, str]) -> dict[str, str]:
    """Return the environment at the end of a stage that began with this one."""
    found = dict(before)
    for instruction in stage.all("ENV"):
        found |= assigned(instruction, found)
    return found


def assigned(instruction: Instruction, before: dict[str, str]) -> dict[str, str]:
    """Return what an ENV sets; in its values, variables of before are expanded."""
    pairs = (word.split("=", 1) for word in instruction.words)
    return {name: re.sub(r"\$\{?(\w+)\}?", lambda m: before.get(m[1], ""), value) for name, value in pairs}


def complaints(text: str) -> list[str]:
    """Return what is wrong with a Dockerfile of a server, in sentences."""
    found = stages(text)
    names = [stage.name for stage in found]
    every = [each for stage in found for rule in _RULES for each in rule(stage)]
    unpinned = [stage.base for stage in found if stage.base not in names and not _is_pinned(stage.base)]
    return [
        *(f"FROM {base}: no version is named" for base in unpinned),
        *every,
        *(each for rule in _RULES_OF_THE_IMAGE for each in rule(found[-1])),
    ]


def _is_pinned(base: str) -> bool:
    return base.partition(":")[2] not in ("", "latest")


def _of_apt(stage: Stage) -> Iterator[str]:
    for value in [each.value for each in stage.all("RUN") if "apt-get install" in each.value]:
        if "--no-install-recommends" not in value:
            yield "apt-get install without --no-install-recommends"
        if "apt-get update" not in value:
            yield "apt-get install without apt-get update in the same layer may find an old list"
        if "rm -rf /var/lib/apt/lists/*" not in value:
            yield "the lists of apt-get stay in the layer"


def _of_other_commands(stage: Stage) -> Iterator[str]:
    for value in [each.value for each in stage.all("RUN") if "apt-get" not in each.value]:
        if re.search(r"\bpip\b.* install ", value) and "--no-cache-dir" not in value:
            yield "pip keeps its cache in the layer"
        if re.search(r"\b(sudo|curl|wget)\b", value):
            yield f"RUN {value}: what comes from elsewhere is not checked"


def _of_folders(stage: Stage) -> Iterator[str]:
    for instruction in stage.all("COPY"):
        if not instruction.words[-1].startswith("/") and stage.last("WORKDIR") is None:
            yield f"COPY {instruction.value}: relative to no WORKDIR"
    for instruction in stage.all("WORKDIR"):
        if not instruction.value.startswith("/"):
            yield f"WORKDIR {instruction.value} is relative"


def _of_the_user(stage: Stage) -> Iterator[str]:
    user = stage.last("USER")
    if user is None or user.value.split(":")[0] in ("root", "0"):
        yield "it runs as root"
    elif not user.value.split(":")[0].isdigit():
        yield f"USER {user.value}: Kubernetes cannot see from a name that it is not root"


def _of_its_commands(stage: Stage) -> Iterator[str]:
    for keyword in ("CMD", "ENTRYPOINT", "HEALTHCHECK"):
        if len(stage.all(keyword)) > 1:
            yield f"only the last {keyword} holds"
        if any(each.arguments is None for each in stage.all(keyword)):
            yield f"{keyword} is run by a shell, which does not pass on signals"
    if stage.last("CMD") is None and stage.last("ENTRYPOINT") is None:
        yield "nothing is run"


def _of_its_life(stage: Stage) -> Iterator[str]:
    if stage.last("HEALTHCHECK") is None:
        yield "no health check"
    stop = stage.last("STOPSIGNAL")
    if stop is None or stop.value != "SIGTERM":
        yield "it is not said that SIGTERM stops it"


def _of_compilers(stage: Stage) -> Iterator[str]:
    if any(re.search(r"apt-get install.*\b(gcc|g\+\+|build-essential)\b", each.value) for each in stage.all("RUN")):
        yield "a compiler is in the image"


_RULES = (_of_apt, _of_other_commands, _of_folders)
_RULES_OF_THE_IMAGE = (_of_the_user, _of_its_commands, _of_its_life, _of_compilers)

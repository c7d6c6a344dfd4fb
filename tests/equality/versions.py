"""The frameworks' versions whose test suites prove equality, and what of them is fetched."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

PINS = Path(__file__).with_name("pins")


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """The test suite of one version of a framework, as its source distribution on PyPI carries it.

    sha256: of the source distribution. others: what is special about the other packages of its environment.
    ignored: files of the suite that are not run, with a reason beside each.
    """

    framework: str
    version: str
    sha256: str
    others: str = ""
    ignored: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """What the suite is called in tables and folders."""
        return f"{self.source}-{self.others}" if self.others else self.source

    @property
    def source(self) -> str:
        """What its source distribution is called."""
        return f"{self.framework}-{self.version}"

    @property
    def pins(self) -> Path:
        """The file that names the exact version of every package in the environment of the suite."""
        return PINS / f"{self.name}.txt"


OLDEST = "oldest"
"""Of every other package the oldest version that the accelerator takes; without, about the newest."""

_FASTAPI = {
    "0.165.0": "dd94d4128319c1e1d50535ab023ab698f850a4d2822f0e181747b46f4ff3c0ab",
    "0.164.0": "3db1b4b146924d284b33bd6b9ca244c8bd0560d5e3526591447fd3abe4383989",
    "0.163.2": "e605c4c9b94be78b43aa8239a62ccf7b6684346cdc9e053633feab0ab21b87c7",
    "0.162.7": "b7503029c8ef2d2d5fea9049294cf8d0f2805c6621f4677ede269fce19f01efb",
    "0.161.1": "4076b88434452e20289379068e976c4a04c65ffc8e6be31510106e150a422f0f",
}

_STARLETTE = {
    "1.10.0": "b8399098d4c1e3522734f7235dc79b1fc967f96cf139c81e0fa30479e0685f9b",
    "1.9.0": "3d931de246ed870e35ce605974440816ef895e592f255d1396cfdf191d4c4318",
    "1.8.0": "1565dc0b35d5737a271ed1e0e04e949f4e81198799f216d2667b0a0fb9cf9522",
    "1.7.0": "c79f74ea63cff761804fbbfb182f1e0b440c2d07b164d24700c5a1bab5d6ff5d",
}

_NEWEST = next(iter(_FASTAPI))
_OLDEST_STARLETTE = list(_STARLETTE)[-1]
BETWEEN = tuple(f"starlette-{version}" for version in list(_STARLETTE)[1:-1])
"""Of Starlette a version between the newest and the oldest, of other packages about the newest."""

SUITES = (
    *(
        Suite(framework="fastapi", version=version, sha256=sha256, others=others)
        for version, sha256 in _FASTAPI.items()
        for others in ("", OLDEST, *(BETWEEN if version == _NEWEST else ()))
    ),
    *(
        Suite(
            framework="starlette",
            version=version,
            sha256=sha256,
            others=OLDEST if version == _OLDEST_STARLETTE else "",
        )
        for version, sha256 in _STARLETTE.items()
    ),
)
"""Newest first for each framework.

Each version of FastAPI runs with the newest and the oldest Starlette, and each Starlette with the newest FastAPI.
"""


def suites(framework: str | None, version: str | None) -> list[Suite]:
    """Return the suites of this framework and version; None stands for all."""
    return [suite for suite in SUITES if framework in (None, suite.framework) and version in (None, suite.version)]

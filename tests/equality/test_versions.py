"""What the accelerator claims to be verified with is what the suites prove, and what the tests run with."""

from __future__ import annotations

import re
from itertools import product

import pytest

from fastserve.accel.versions import RANGES, VERIFIED, _numbers, _unverified
from tests.equality.versions import SUITES, Suite, suites

NAMES = [suite.name for suite in SUITES]


def pinned(suite: Suite) -> dict[str, str]:
    """Return the version of each package in the environment of a suite."""
    pairs = (line.partition("==") for line in suite.pins.read_text().splitlines())
    return {name.lower(): version for name, _, version in pairs}


@pytest.mark.parametrize("framework", ["fastapi", "starlette"])
def test_every_verified_version_has_a_suite(framework: str) -> None:
    assert set(VERIFIED[framework]) <= {suite.version for suite in suites(framework, None)}


def test_every_version_has_a_suite_with_the_newest_and_fastapi_with_the_oldest_starlette_too() -> None:
    tried = {(suite.version, pinned(suite)["starlette"]) for suite in suites("fastapi", None)}
    newest, *_, oldest = sorted(VERIFIED["starlette"], key=_numbers, reverse=True)
    assert set(product(VERIFIED["fastapi"], (newest, oldest))) <= tried
    assert set(product((max(VERIFIED["fastapi"], key=_numbers),), VERIFIED["starlette"])) <= tried


@pytest.mark.parametrize("package", RANGES)
def test_the_first_version_of_another_package_is_in_a_suite_and_a_newer_one(package: str) -> None:
    tried = sorted(_numbers(pinned(suite)[package]) for suite in SUITES if package in pinned(suite))
    first, too_new = RANGES[package]
    assert first == tried[0] < tried[-1] < too_new


@pytest.mark.parametrize("suite", SUITES, ids=NAMES)
def test_the_packages_of_a_suite_are_pinned(suite: Suite) -> None:
    assert pinned(suite)[suite.framework] == suite.version
    assert all(pinned(suite).values())
    assert re.fullmatch("[0-9a-f]{64}", suite.sha256)


@pytest.mark.parametrize("package", [*VERIFIED, *RANGES])
def test_the_tests_run_with_verified_versions(package: str) -> None:
    assert _unverified(package) is None, "the tests of the accelerator would prove nothing"

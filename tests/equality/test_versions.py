"""What the accelerator claims to be verified with is what the suites prove, and what the tests run with."""

from __future__ import annotations

import re
from importlib.metadata import version

import pytest

from fastserve.accel.versions import VERIFIED
from tests.equality.versions import SUITES, Suite, suites

NAMES = [suite.name for suite in SUITES]


def pinned(suite: Suite) -> dict[str, str]:
    """Return the version of each package in the environment of a suite."""
    pairs = (line.partition("==") for line in suite.pins.read_text().splitlines())
    return {name.lower(): version for name, _, version in pairs}


@pytest.mark.parametrize("framework", ["fastapi", "starlette"])
def test_every_verified_version_has_a_suite(framework: str) -> None:
    assert set(VERIFIED[framework]) <= {suite.version for suite in suites(framework, None)}


@pytest.mark.parametrize("package", ["anyio", "pydantic"])
def test_every_verified_version_of_another_package_is_in_a_suite(package: str) -> None:
    assert set(VERIFIED[package]) <= {pinned(suite).get(package) for suite in SUITES}


@pytest.mark.parametrize("suite", SUITES, ids=NAMES)
def test_the_packages_of_a_suite_are_pinned(suite: Suite) -> None:
    assert pinned(suite)[suite.framework] == suite.version
    assert all(pinned(suite).values())
    assert re.fullmatch("[0-9a-f]{64}", suite.sha256)


@pytest.mark.parametrize("package", VERIFIED)
def test_the_tests_run_with_verified_versions(package: str) -> None:
    assert version(package) in VERIFIED[package], "the tests of the accelerator would prove nothing"

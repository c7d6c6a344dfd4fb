"""Autobahn|Testsuite, all sections but those of limits, speed and compression, which `make autobahn` adds."""

from __future__ import annotations

from pathlib import Path

import pytest

from .autobahn import LIGHT, try_server, wstest

# What the RFC leaves open: a frame behind the close frame, and two codes of no meaning.
INFORMATIONAL = ["7.1.6", "7.13.1", "7.13.2"]
CASES = 247


@pytest.mark.parametrize(
    ("options", "pure"),
    [
        pytest.param(("--loop", "uvloop"), False, id="as built, uvloop"),
        pytest.param(("--loop", "asyncio"), True, id="pure, asyncio"),
    ],
)
def test_every_case_is_ok_and_strict(options: tuple[str, ...], pure: bool, tmp_path: Path) -> None:
    program = wstest()
    if program is None:
        pytest.skip("Autobahn|Testsuite is not here: make autobahn, which needs Python 2.7")
    outcome = try_server(program, LIGHT, tmp_path, options=options, pure=pure)
    assert outcome.wrong() == []
    assert outcome.those("INFORMATIONAL") == INFORMATIONAL
    assert len(outcome.behaviors) == CASES

"""Formats of the access log, before there is anything to log."""

from __future__ import annotations

import pytest

from fastserve.accessformats import NAMED, Directive, parse_access_format
from fastserve.errors import SettingsError
from fastserve.settings import LogSettings


@pytest.mark.parametrize("text", ["%x", "%{X-Y}x", "%h 100%", "%{X", "%>x", "%{min}T", "%(h)", "%(h)z"])
def test_a_directive_that_is_not_known_is_refused(text: str) -> None:
    with pytest.raises(
        SettingsError, match=r"^--access-log-format: no known directive at '%.*'; a percent sign is %%$"
    ):
        parse_access_format(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("%(h)s %(x)s", "unknown atom '%(x)s'"),
        ("%(levelname)s", "unknown atom '%(levelname)s'"),
        ("%({raw_uri}e)s", "unknown atom '%({raw_uri}e)s': there are no variables of WSGI"),
        ("%(m)d", "'%(m)d' is for a number, which this is not"),
        ("%({x}i).3f", "'%({x}i).3f' is for a number, which this is not"),
    ],
)
def test_an_atom_that_cannot_be_is_named(text: str, message: str) -> None:
    with pytest.raises(SettingsError) as raised:
        parse_access_format(text)
    assert str(raised.value) == f"--access-log-format: {message}"


@pytest.mark.parametrize("text", ["", "plain", "Combined", "100%%"])
def test_a_format_without_a_directive_is_refused(text: str) -> None:
    with pytest.raises(SettingsError) as raised:
        LogSettings(access_log_format=text)
    assert str(raised.value) == (
        f"--access-log-format: {text!r} is neither json, common, combined, nor a format with a directive"
    )


@pytest.mark.parametrize("name", NAMED)
def test_a_format_with_a_name_is_the_same_as_written_out(name: str) -> None:
    assert parse_access_format(name) == parse_access_format(NAMED[name])


def test_what_is_not_a_directive_is_kept() -> None:
    assert parse_access_format("a%%%h %{X-Y}i") == ["a", "%", Directive("h"), " ", Directive("i", "X-Y")]

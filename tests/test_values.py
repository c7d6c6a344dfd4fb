"""What is given for an option, by whom it may be, and the value that it comes to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fastserve.errors import SettingsError
from fastserve.settings import TlsSettings
from fastserve.values import convert, declarations, number, value_of

DECLARED = declarations()

TAKEN: list[tuple[str, object, object]] = [
    ("port", "80", 80),
    ("port", 80, 80),
    ("timeout_keep_alive", "1.5", 1.5),
    ("timeout_keep_alive", 2, 2.0),
    ("workers", "auto", "auto"),
    ("workers", "2", 2),
    ("limit_memory", "64M", 2**26),
    ("limit_memory", 2**26, 2**26),
    ("access_log", "Off", False),
    ("access_log", 1, True),
    ("access_log", "", False),
    ("host", "::1", "::1"),
    ("root_path", Path("/api"), "/api"),
    ("root_path", 7, "7"),
    ("forwarded_allow_ips", ["10.0.0.1", "::1"], "10.0.0.1,::1"),
    ("proxy_allow_ips", ("unix", "::1"), "unix,::1"),
    ("ssl_keyfile_password", "sesame", "sesame"),
    ("ssl_keyfile_password", b"sesame", b"sesame"),
    ("ssl_keyfile_password", bytearray(b"sesame"), b"sesame"),
    ("log_level", "INFO", "info"),
    ("http", "h11", "h11"),
    ("http", "zttp", "auto"),
    ("header", "a: b", ("a: b",)),
    ("header", [("a", b"b"), "c: d"], ("a: b", "c: d")),
    ("reload_dir", Path("src"), ("src",)),
    ("reload_dir", (), ()),
]


@pytest.mark.parametrize(("name", "given", "value"), TAKEN, ids=[f"{name} {given!r}" for name, given, _ in TAKEN])
def test_text_and_objects_come_to_the_value_of_the_option(name: str, given: object, value: object) -> None:
    taken = value_of(DECLARED[name], given)
    assert (taken, type(taken)) == (value, type(value))
    assert value_of(DECLARED[name], taken) == taken


REFUSED: list[tuple[str, Any, str]] = [
    ("port", "1.5", "'1.5' is not a whole number"),
    ("port", 1.0, "1.0 is not a whole number"),
    ("port", False, "False is not a whole number"),
    ("port", {}, "{} is not a whole number"),
    ("timeout_keep_alive", "1s", "'1s' is not a number"),
    ("timeout_keep_alive", True, "True is not a number"),
    ("workers", "many", "'many' is neither a number nor 'auto'"),
    ("limit_memory", "1T", "'1T' is not a size such as 65536, 512K or 1.5G"),
    ("limit_memory", 1.5, "1.5 is not a size such as 65536, 512K or 1.5G"),
    ("reload", "maybe", "'maybe' is not one of true, t, yes, y, on, 1, false, f, no, n, off, 0"),
    ("reload", 1.0, "1.0 is not one of true, "),
    ("host", b"::1", "b'::1' is not text"),
    ("host", ["::1", "::2"], "['::1', '::2'] is not text"),
    ("ssl_keyfile_password", ["sesame"], "what is given is not text"),
    ("gc", "none", "'none' is not one of server, default"),
    ("gc", 1, "1 is not one of server, default"),
    ("loop", dict, "dict cannot be plugged in"),
    ("ws", "no.such:Class", "'no.such:Class' is not one of auto, none; fastserve implements WebSocket itself"),
    ("header", [("a",)], "('a',) is not a name and a value"),
]


@pytest.mark.parametrize(("name", "given", "reason"), REFUSED, ids=[f"{name} {given!r}" for name, given, _ in REFUSED])
def test_what_can_be_no_value_is_refused_with_the_flag(name: str, given: Any, reason: str) -> None:
    with pytest.raises(SettingsError) as raised:
        value_of(DECLARED[name], given)
    assert str(raised.value).startswith(f"{DECLARED[name].option.flag}: {reason}")


@pytest.mark.parametrize("given", [{"a": "sesame"}, ["sesame"], ("sesame",), type("sesame", (), {})])
def test_a_secret_is_never_shown(given: Any) -> None:
    with pytest.raises(SettingsError) as raised:
        value_of(DECLARED["ssl_keyfile_password"], given)
    assert "sesame" not in str(raised.value)
    assert "sesame" not in repr(TlsSettings(certfile="a", keyfile_password="sesame"))


def test_where_there_may_be_several_one_is_converted_at_a_time() -> None:
    assert convert(DECLARED["header"], ("a", "b")) == "a: b"
    assert convert(DECLARED["reload_dir"], "src") == "src"


def test_a_number_may_be_text_and_no_switch() -> None:
    assert (number("1.5"), number(2)) == (1.5, 2.0)
    for bad in (True, "x", None, 10**400):
        with pytest.raises(ValueError, match="is not a number"):
            number(bad)

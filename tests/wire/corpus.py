"""The corpus of raw requests: tests/corpus/http1/{valid,invalid}/NAME.http, each with its expectation in NAME.toml.

A .http file is what one client sends on one connection, to the byte. The expectation of a valid one lists its messages;
what a list leaves out has the value that it nearly always has (see _DEFAULTS). The expectation of an invalid one is the
status of the refusal, and how many messages before it are accepted. Text stands for the bytes of its code points.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent.parent / "corpus" / "http1"

_DEFAULTS = {"query": "", "version": "1.1", "body": "", "keep_alive": True, "expects_continue": False}


@dataclass(frozen=True, slots=True)
class ExpectedMessage:
    """One request of a valid file."""

    method: str
    raw_path: bytes
    query: bytes
    version: str
    fields: tuple[tuple[bytes, bytes], ...]
    body: bytes
    keep_alive: bool
    expects_continue: bool


@dataclass(frozen=True, slots=True)
class ValidCase:
    """A valid file. unread: how many bytes stand behind the last request that the connection carries."""

    name: str
    data: bytes
    messages: tuple[ExpectedMessage, ...]
    unread: int


@dataclass(frozen=True, slots=True)
class InvalidCase:
    """An invalid file. accepted: messages before the bad one. eof: it is only bad because nothing follows."""

    name: str
    data: bytes
    status: int
    accepted: int
    eof: bool


def valid_cases() -> list[ValidCase]:
    """Return all valid files."""
    return [_valid_case(path) for path in sorted((FOLDER / "valid").glob("*.http"))]


def invalid_cases() -> list[InvalidCase]:
    """Return all invalid files."""
    return [_invalid_case(path) for path in sorted((FOLDER / "invalid").glob("*.http"))]


def all_octets() -> dict[str, bytes]:
    """Return the bytes of every file, by name."""
    return {path.stem: path.read_bytes() for path in sorted(FOLDER.glob("*/*.http"))}


def _valid_case(path: Path) -> ValidCase:
    expected = _read_expectation(path, {"about", "message", "unread"})
    messages = tuple(_expected_message(each) for each in expected["message"])
    return ValidCase(path.stem, path.read_bytes(), messages, expected.get("unread", 0))


def _invalid_case(path: Path) -> InvalidCase:
    expected = _read_expectation(path, {"about", "status", "accepted", "eof"})
    return InvalidCase(
        path.stem, path.read_bytes(), expected["status"], expected.get("accepted", 0), expected.get("eof", False)
    )


def _read_expectation(path: Path, keys: set[str]) -> dict[str, Any]:
    expected = tomllib.loads(path.with_suffix(".toml").read_text("utf-8"))
    assert expected["about"], path
    assert expected.keys() <= keys, path
    return expected


def _expected_message(given: Mapping[str, Any]) -> ExpectedMessage:
    full = {**_DEFAULTS, **given}
    return ExpectedMessage(
        method=full.pop("method"),
        raw_path=_octets(full.pop("raw_path")),
        query=_octets(full.pop("query")),
        fields=tuple((_octets(name), _octets(value)) for name, value in full.pop("fields")),
        body=_octets(full.pop("body")),
        **full,
    )


def _octets(text: str) -> bytes:
    return text.encode("latin-1")

"""Fuzz the head reader with libFuzzer (atheris): `python -m tests.fuzz.head [libFuzzer options]`, or `make fuzz`.

An input is a sequence of requests, with the limits that hold and where it is cut. tests/wire/heads.py says what must
hold; an input for which it does not ends the run and is saved. Run from the sources (FASTSERVE_PURE=1), the fuzzer sees
which lines and comparisons an input reaches, and collects in build/fuzz/head those that reach new ones. `-runs=0` then
runs all that was collected, which says the same of the compiled build.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["fastserve.wire", "fastserve.errors"]):
    from fastserve.wire.http1 import fields, head, parsers, protocol, request  # noqa: F401

from fastserve.settings import RequestLimits
from fastserve.worker.build import build
from tests.wire.corpus import all_octets
from tests.wire.heads import check
from tests.wire.peer import cut

_FOLDER = Path("build/fuzz")
COLLECTED = _FOLDER / "head"
_LONGEST = 2048
_TOLD_EVERY = 20_000
_LIMITS = (
    RequestLimits(),
    RequestLimits(line_bytes=64, head_bytes=64, fields=2),
    RequestLimits(line_bytes=80, head_bytes=128, fields=4),
)
# Comparisons in C are invisible to the fuzzer, so it is told what to insert.
_WORDS = (
    *(b"GET /", b"POST /a?b", b"HEAD /", b"OPTIONS * ", b"http://", b"#", b"?", b"%41", b"//"),
    *(b" HTTP/1.1\r\n", b" HTTP/1.0\r\n", b" HTTP/1.2\r\n"),
    *(b"Host: a\r\n", b"Host", b"Content-Length: 3\r\n", b"Content-Length", b"Expect: 100-continue\r\n"),
    *(b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding", b"chunked", b"identity", b"Upgrade: h2c\r\n"),
    *(b"Connection: close\r\n", b"Connection: keep-alive\r\n", b"keep-alive", b"close"),
    *(b"\r\n", b"\r\n\r\n", b"\r\n ", b"\n", b"\r", b"\0", b"\x0b", b"\x7f", b"\xe9", b"\t", b", ", b": ", b" :"),
    *(b"3\r\nabc\r\n", b"0\r\n\r\n"),
)


class Count:
    """How many inputs there were, which is told now and then: libFuzzer ends the process its own way."""

    def __init__(self) -> None:
        self._inputs = 0
        self._with_heads_taken = 0
        self._began = time.monotonic()

    def add(self, heads_taken: int) -> None:
        """Count an input."""
        self._inputs += 1
        self._with_heads_taken += heads_taken > 0
        if self._inputs % _TOLD_EVERY == 0:
            print(  # noqa: T201 - it is a program
                f"{self._inputs:,} inputs in {time.monotonic() - self._began:,.0f} s, {build()}; the reader took heads"
                f" of {self._with_heads_taken:,}, and was right",
                file=sys.stderr,
            )


_count = Count()


def try_one(data: bytes) -> None:
    """Check one input: its first octet chooses the limits, its second where it is cut, the rest is what is sent."""
    choice, place = (data[0], data[1]) if len(data) > 1 else (0, 0)
    sent = bytes(data[2:])
    cuts = [cut(sent, [place]), cut(sent, range(0, len(sent), place % 16 + 1))]
    _count.add(check(sent, _LIMITS[choice % len(_LIMITS)], cuts=cuts))


def main() -> None:
    """Fuzz, beginning with the corpus of requests and with what earlier runs have collected."""
    seeds = _FOLDER / "seeds"
    for folder in (COLLECTED, seeds):
        folder.mkdir(parents=True, exist_ok=True)
    for name, data in all_octets().items():
        if len(data) < _LONGEST:
            (seeds / name).write_bytes(b"\0\x0a" + data)
    words = _FOLDER / "words"
    words.write_text("".join(f'"{_quoted(word)}"\n' for word in _WORDS))
    options = [f"-max_len={_LONGEST}", f"-dict={words}", *sys.argv[1:], str(COLLECTED), str(seeds)]
    atheris.Setup([sys.argv[0], *options], try_one)
    atheris.Fuzz()


def _quoted(word: bytes) -> str:
    return "".join(f"\\x{octet:02x}" for octet in word)


if __name__ == "__main__":
    main()

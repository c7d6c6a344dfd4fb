"""Standard streams that are missing, closed, full, or read by nobody."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import pytest

from fastserve.streams import flush_streams, is_terminal, open_missing_streams


@pytest.fixture
def pipe() -> Iterator[tuple[int, TextIO]]:
    """Both ends of a pipe. The test closes the first one."""
    reader, writer = os.pipe()
    stream = os.fdopen(writer, "w", encoding="utf-8")
    yield reader, stream
    stream.close()


def test_what_is_held_back_is_written(pipe: tuple[int, TextIO], monkeypatch: pytest.MonkeyPatch) -> None:
    reader, stream = pipe
    monkeypatch.setattr(sys, "stdout", stream)
    stream.write("held")
    flush_streams()
    assert os.read(reader, 100) == b"held"
    os.close(reader)


def test_what_nobody_reads_is_dropped_once_and_for_all(
    pipe: tuple[int, TextIO], monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, stream = pipe
    monkeypatch.setattr(sys, "stdout", stream)
    stream.write("held")
    os.close(reader)
    flush_streams()
    stream.flush()  # Nothing is left that could fail.
    with pytest.raises(BrokenPipeError):  # The stream leads where it did.
        os.write(stream.fileno(), b"more")


@pytest.mark.parametrize("stream", [None, object(), io.StringIO()], ids=["none", "no stream", "no file"])
def test_whatever_stands_for_a_stream_does_no_harm(stream: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setattr(sys, "stderr", stream)
    flush_streams()


def test_a_stream_that_is_closed_does_no_harm(pipe: tuple[int, TextIO], monkeypatch: pytest.MonkeyPatch) -> None:
    reader, stream = pipe
    monkeypatch.setattr(sys, "stdout", stream)
    stream.close()
    flush_streams()
    assert not is_terminal(stream)
    os.close(reader)


def test_only_a_terminal_is_one(tmp_path: Path) -> None:
    leader, follower = os.openpty()
    with open(leader, "rb"), open(follower, "w") as terminal, open(tmp_path / "file", "w") as file:
        assert is_terminal(terminal)
        assert not is_terminal(file)
    assert not is_terminal(None)


MISSING = """
import os, sys
from fastserve.streams import open_missing_streams
file = os.open("file", os.O_WRONLY | os.O_CREAT)  # It gets the number of standard output.
open_missing_streams()
print("to nobody", flush=True)
print("caf\\udce9", file=sys.stderr, flush=True)
open("numbers", "w").write(f"{file} {sys.stdout.fileno()}")
"""


def test_a_missing_stream_leads_nowhere_and_into_no_other_file(tmp_path: Path) -> None:
    command = ("sh", "-c", 'exec "$@" >&- 2>&-', "sh", sys.executable, "-c", MISSING)
    path = str(Path(__file__).parents[1])
    subprocess.run(command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": path}, stdin=subprocess.DEVNULL, check=True)
    assert (tmp_path / "file").read_bytes() == b""
    number, stdout = (tmp_path / "numbers").read_text().split()
    assert number == "1"
    assert stdout != "1"


def test_streams_that_are_there_stay() -> None:
    before = sys.stdin, sys.stdout, sys.stderr
    open_missing_streams()
    assert (sys.stdin, sys.stdout, sys.stderr) == before

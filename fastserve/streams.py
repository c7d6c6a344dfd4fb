"""The standard streams, which may be missing, and whose readers may have gone."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TextIO


def open_missing_streams() -> None:
    """Give a process that was started without standard streams, or has closed them, some that lead nowhere."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        stream = getattr(sys, name)
        if stream is None or getattr(stream, "closed", False):
            # It takes the lowest number, which is the missing one unless a file of the program has it.
            fd = os.open(os.devnull, os.O_RDWR)
            setattr(sys, name, open(fd, mode, encoding="utf-8", errors="backslashreplace", closefd=False))  # noqa: SIM115


def is_terminal(stream: TextIO | None) -> bool:
    """Tell whether a stream leads to a terminal; one that is missing or closed does not."""
    try:
        return stream is not None and stream.isatty()
    except ValueError:
        return False


def flush_streams() -> None:
    """Write what is held back for standard output and error.

    What cannot be written is dropped: a process that is forked would have it too, and the end of either would fail.
    """
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            try:
                stream.flush()
            except Exception:  # A program may have put anything in its place.
                _drop_unwritten(stream)


def _drop_unwritten(stream: TextIO) -> None:
    with contextlib.suppress(Exception), open(os.devnull, "wb") as nowhere:
        fd = stream.fileno()
        kept = os.dup(fd)
        try:
            os.dup2(nowhere.fileno(), fd)
            stream.flush()
        finally:
            os.dup2(kept, fd)
            os.close(kept)

"""The parent's view of a worker: what it takes from the other end of the channel."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from fastserve.supervisor.process import WorkerProcess
from fastserve.worker.owner import Parent
from fastserve.worker.scoreboard import Record, Scoreboard


@pytest.fixture
def record() -> Record:
    return Scoreboard(1).reserve(0, 0.0)


@pytest.fixture
def ends(record: Record) -> Iterator[tuple[WorkerProcess, socket.socket]]:
    """The parent's view, and the end of the worker."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with ours, theirs:
        yield WorkerProcess(0, os.getpid(), ours, record), theirs


def test_any_text_arrives_as_it_was_said(ends: tuple[WorkerProcess, socket.socket], record: Record) -> None:
    process, theirs = ends
    parent = Parent(theirs, os.getppid(), record)
    parent.worker_failed("caf\N{LATIN SMALL LETTER E WITH ACUTE}.txt\nand caf\udce9.txt, which is not UTF-8")
    parent.worker_is_ready()
    assert process.messages() == [
        ("failed", "caf\N{LATIN SMALL LETTER E WITH ACUTE}.txt\nand caf\udce9.txt, which is not UTF-8"),
        ("ready", ""),
    ]


def test_a_line_that_comes_in_parts_is_one_message(ends: tuple[WorkerProcess, socket.socket]) -> None:
    process, theirs = ends
    theirs.send(b'["worn", "it has ser')
    assert process.messages() == []
    theirs.send(b'ved"]\n["ready')
    assert process.messages() == [("worn", "it has served")]


@pytest.mark.parametrize("line", [b"", b"\xff", b'["failed", "Trace["asked", ""]', b"7", b'["ready"]', b"[[", b"null"])
def test_a_line_that_is_no_message_is_left_out(line: bytes, ends: tuple[WorkerProcess, socket.socket]) -> None:
    process, theirs = ends
    theirs.send(line + b'\n["ready", ""]\n')
    assert process.messages() == [("ready", "")]

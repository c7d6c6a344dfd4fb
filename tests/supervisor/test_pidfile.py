"""The file that holds the process id of the server."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fastserve.errors import StartupError
from fastserve.supervisor.pidfile import PidFile


@pytest.fixture
def other() -> Iterator[subprocess.Popen[bytes]]:
    """Another process, which runs until the test ends it."""
    process = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
    yield process
    process.kill()
    process.wait()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "fastserve.pid"


def test_the_file_names_this_process_and_is_gone_at_the_end(path: Path) -> None:
    with PidFile(str(path)):
        assert path.read_text() == f"{os.getpid()}\n"
    assert not path.exists()


@pytest.mark.parametrize(
    "content",
    ["", "\n", "x", "0", "-1", "99999999999999999999", "\N{LATIN SMALL LETTER O WITH DIAERESIS}", "{own}\n"],
)
def test_a_file_that_names_no_other_process_is_overwritten(content: str, path: Path) -> None:
    path.write_text(content.format(own=os.getpid()), encoding="latin-1")
    with PidFile(str(path)):
        assert path.read_text() == f"{os.getpid()}\n"


def test_a_file_that_names_a_process_that_has_ended_is_overwritten(path: Path, other: subprocess.Popen[bytes]) -> None:
    other.send_signal(signal.SIGKILL)
    other.wait()
    path.write_text(f"{other.pid}\n")
    with PidFile(str(path)):
        assert path.read_text() == f"{os.getpid()}\n"


def test_a_file_that_names_a_process_that_is_running_is_refused_and_left_alone(
    path: Path, other: subprocess.Popen[bytes]
) -> None:
    path.write_text(f"{other.pid}\n")
    with pytest.raises(StartupError, match=f"^{path} names process {other.pid}, which is running$"):
        PidFile(str(path)).__enter__()
    assert path.read_text() == f"{other.pid}\n"


def test_a_process_of_someone_else_is_running_too(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def kill(pid: int, number: int) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "kill", kill)
    path.write_text("1\n")
    with pytest.raises(StartupError, match="names process 1, which is running"):
        PidFile(str(path)).__enter__()


def test_a_file_that_cannot_be_written_is_an_error_that_names_it(tmp_path: Path) -> None:
    path = tmp_path / "absent" / "fastserve.pid"
    with pytest.raises(StartupError, match=f"^cannot write {path}: No such file or directory$"):
        PidFile(str(path)).__enter__()


def test_the_file_of_the_predecessor_is_left_alone_until_it_is_taken_over(
    path: Path, other: subprocess.Popen[bytes]
) -> None:
    path.write_text(f"{other.pid}\n")
    with PidFile(str(path), predecessor=other.pid) as file:
        assert path.read_text() == f"{other.pid}\n"
        file.take_over()
        assert path.read_text() == f"{os.getpid()}\n"
    assert not path.exists()


def test_a_file_that_says_so_already_is_not_written_again(path: Path) -> None:
    with PidFile(str(path)) as file:
        os.utime(path, ns=(0, 0))
        file.take_over()
        assert path.stat().st_mtime_ns == 0


def test_a_file_that_cannot_be_written_any_more_does_not_end_the_server(
    tmp_path: Path, said: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    path = folder / "fastserve.pid"
    with PidFile(str(path)) as file:
        path.unlink()
        folder.rmdir()
        file.take_over()
    assert said.messages == [f"cannot write {path}: No such file or directory. The server goes on without it."]


def test_the_file_of_a_predecessor_that_goes_on_stays(path: Path, other: subprocess.Popen[bytes]) -> None:
    path.write_text(f"{other.pid}\n")
    with PidFile(str(path), predecessor=other.pid):
        pass
    assert path.read_text() == f"{other.pid}\n"


def test_the_file_of_a_successor_stays(path: Path, other: subprocess.Popen[bytes]) -> None:
    with PidFile(str(path)):
        path.write_text(f"{other.pid}\n")
    assert path.read_text() == f"{other.pid}\n"


def test_a_file_that_someone_has_removed_is_not_missed(path: Path) -> None:
    with PidFile(str(path)):
        path.unlink()
    assert not path.exists()

"""Which files are watched, and what is told when they change."""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fastserve.settings import ReloadSettings
from fastserve.supervisor import watcher
from fastserve.supervisor.reload import Watcher
from fastserve.supervisor.watcher import Watched, watched

_PATIENCE_S = 15.0


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty directory that is the current one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("x")


def names(what: Watched, folder: Path) -> set[str]:
    """Return which files are watched, relative to the folder."""
    return {str(path.relative_to(folder)) for path in what.files()}


FILES = (
    "main.py", "web/views.py", "web/page.html", "data.txt", ".hidden.py", "main.pyc", "~main.py", ".git/hook.py",
    "__pycache__/main.py", "node_modules/a.py", "venv/pyvenv.cfg", "venv/lib/a.py", ".env",
)  # fmt: skip
CASES = {
    "by default": ((), (), (), {"main.py", "web/views.py"}),
    "one directory": (("web",), (), (), {"web/views.py"}),
    "a directory in another": ((".", "web"), (), (), {"main.py", "web/views.py"}),
    "a pattern more": ((), ("*.html",), (), {"main.py", "web/views.py", "web/page.html"}),
    "a directory as a pattern": ((), ("web",), (), {"web/views.py"}),
    "a hidden file by its name": ((), (".env",), (), {"main.py", "web/views.py", ".env"}),
    "a pattern less": ((), (), ("v*.py",), {"main.py"}),
    "a directory less": ((), (), ("web",), {"main.py"}),
    "no Python": ((), ("*.txt",), ("*.py",), {"data.txt"}),
}


@pytest.mark.parametrize(("directories", "includes", "excludes", "expected"), CASES.values(), ids=CASES.keys())
def test_files_are_watched_as_the_options_say(
    directories: tuple[str, ...], includes: tuple[str, ...], excludes: tuple[str, ...], expected: set[str], here: Path
) -> None:
    touch(here, *FILES)
    what = watched(directories, includes, excludes, 0.1)
    assert names(what, here) == expected
    assert {name for name in FILES if what.has(here / name) and "venv" not in name} == {
        name for name in expected if any(str(here / name).startswith(each) for each in what.directories)
    }


def test_another_process_is_told_the_same(here: Path) -> None:
    what = watched(("a",), ("*.html",), ("b*",), 0.5)
    assert Watched.from_json(what.to_json()) == what


def test_a_directory_in_a_hidden_one_can_be_watched(here: Path) -> None:
    touch(here, ".hidden/main.py")
    assert names(watched((".hidden",), (), (), 0.1), here) == {".hidden/main.py"}


def test_looking_tells_of_what_has_changed_come_and_gone(here: Path) -> None:
    touch(here, "changes.py", "goes.py", "stays.py")
    told: list[str] = []

    def change(turns: list[int]) -> Callable[[], bool]:
        def goes_on() -> bool:
            turns.append(1)
            if len(turns) == 1:
                (here / "changes.py").write_text("more")
                (here / "goes.py").unlink()
                touch(here, "comes.py")
            return len(turns) < 3

        return goes_on

    watcher.poll(watched((), (), (), 0.01), time.time_ns(), told.extend, goes_on=change([]))
    assert told == [str(here / name) for name in ("changes.py", "comes.py", "goes.py")]


def test_what_was_written_before_the_first_look_is_told_of(here: Path) -> None:
    touch(here, "early.py")
    told: list[str] = []
    what, goes_on = watched((), (), (), 0.01), iter((False,)).__next__
    watcher.poll(what, (here / "early.py").stat().st_mtime_ns - 1, told.extend, goes_on=goes_on)
    assert told == [str(here / "early.py")]


@pytest.fixture(params=["WatchFiles", "StatReload"])
def running(request: pytest.FixtureRequest, here: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Watcher]:
    """A watcher of the current directory, by each of the two ways."""
    if request.param == "StatReload":
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    touch(here, "main.py", "data.txt")
    found = Watcher(ReloadSettings(reload=True, delay_s=0.05))
    assert (found.name, found.directories) == (request.param, [str(here)])
    yield found
    found.close()


def changes(of: Watcher, change: Callable[[], object]) -> list[str]:
    """Make changes until they are told of: it takes a moment until files are watched."""
    ends_at = time.monotonic() + _PATIENCE_S
    while time.monotonic() < ends_at:
        change()
        if select.select([of], [], [], 0.3)[0]:
            return of.changes()
    raise TimeoutError("no change was told of")


def test_a_change_is_told_of_by_its_path_from_here(running: Watcher, here: Path) -> None:
    assert changes(running, lambda: (here / "main.py").write_text(str(time.monotonic()))) == ["main.py"]


def test_a_file_that_is_not_watched_is_not_told_of(running: Watcher, here: Path) -> None:
    changes(running, lambda: (here / "main.py").write_text(str(time.monotonic())))
    (here / "data.txt").write_text("changed")
    while select.select([running], [], [], 0.5)[0]:
        assert "data.txt" not in running.changes()


def test_a_directory_that_is_not_there_is_named(here: Path, caplog: pytest.LogCaptureFixture) -> None:
    (here / "there").mkdir()
    watching = Watcher(ReloadSettings(reload=True, directories=("there", "missing")))
    try:
        assert watching.directories == [str(here / "there")]
        assert caplog.messages == ["--reload-dir: missing: there is no such directory, so it is not watched"]
    finally:
        watching.close()


def test_a_watcher_that_ends_is_noticed(running: Watcher) -> None:
    os.kill(running._process.pid, signal.SIGKILL)
    with pytest.raises(EOFError):
        changes(running, lambda: None)

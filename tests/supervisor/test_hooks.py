"""The functions of --hooks: where they come from, and what happens when they fail."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import pytest

from fastserve.errors import StartupError
from fastserve.supervisor.hooks import Hooks, load_hooks

HOOKS = """
    calls = []

    def pre_fork(worker_id):
        calls.append(("pre_fork", worker_id))

    def worker_exit(worker_id, pid, status):
        calls.append(("worker_exit", worker_id, pid, status))

    worker_ready = "not a function"

    def other():
        calls.append("other")
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder from which modules are imported; they are forgotten at the end."""
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    modules = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - modules:
        del sys.modules[name]


@pytest.mark.parametrize("where", ["module", "file", "relative file"])
def test_hooks_are_those_of_a_module_or_a_file(
    where: str, folder: Path, monkeypatch: pytest.MonkeyPatch, said: pytest.LogCaptureFixture
) -> None:
    # The list of calls is shared by way of builtins: a file is not to be found in sys.modules.
    shared: list[object] = []
    monkeypatch.setattr("builtins.shared_calls", shared, raising=False)
    (folder / "mine.py").write_text(dedent(HOOKS).replace("calls = []", "calls = shared_calls"))
    monkeypatch.chdir(folder)
    hooks = load_hooks({"module": "mine", "file": str(folder / "mine.py"), "relative file": "mine.py"}[where])
    hooks.call("pre_fork", 3)
    hooks.call("worker_exit", 3, 4711, -9)
    hooks.call("worker_ready", 3, 4711)
    hooks.call("post_fork", 3)
    assert shared == [("pre_fork", 3), ("worker_exit", 3, 4711, -9)]
    assert said.messages == []


def test_without_hooks_nothing_is_called(said: pytest.LogCaptureFixture) -> None:
    load_hooks(None).call("pre_fork", 0)
    assert said.messages == []


@pytest.mark.parametrize(
    ("where", "content", "message"),
    [
        ("absent", None, 'cannot load the hooks: there is no module "absent" in '),
        ("absent.py", None, "cannot load the hooks: there is no file absent.py"),
        ("mine", "x = 1", "mine has none of the hooks pre_fork, post_fork, worker_ready, worker_exit"),
        ("mine.py", "x = 1", "mine.py has none of the hooks "),
        ("mine", "1 / 0", 'cannot load the hooks: "mine" cannot be imported'),
        ("mine.py", "1 / 0", "cannot load the hooks: mine.py: ZeroDivisionError("),
        ("mine.py", "def", "cannot load the hooks: mine.py: SyntaxError("),
        ("mine", "raise SystemExit(1)", 'cannot load the hooks: "mine" cannot be imported'),
        ("mine.py", "raise SystemExit(1)", "cannot load the hooks: mine.py: SystemExit(1)"),
        ("mine.py", "import absent", "cannot load the hooks: mine.py: ModuleNotFoundError("),
    ],
)
def test_hooks_that_cannot_be_loaded_are_an_error_that_says_why(
    where: str, content: str | None, message: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    if content is not None:
        (folder / "mine.py").write_text(content)
    with pytest.raises(StartupError) as raised:
        load_hooks(where)
    assert str(raised.value).startswith(message)


def test_a_module_that_fails_is_shown_with_its_traceback(folder: Path) -> None:
    (folder / "mine.py").write_text("\n1 / 0\n")
    with pytest.raises(StartupError) as raised:
        load_hooks("mine")
    assert f'File "{folder}/mine.py", line 2, in <module>' in str(raised.value)
    assert str(raised.value).endswith("ZeroDivisionError: division by zero")


def test_a_hook_that_raises_is_logged_and_changes_nothing(said: pytest.LogCaptureFixture) -> None:
    calls: list[int] = []

    def fail(worker_id: int) -> None:
        raise ValueError("no metrics")

    hooks = Hooks({"pre_fork": fail, "post_fork": calls.append})
    hooks.call("pre_fork", 0)
    hooks.call("post_fork", 1)
    (record,) = said.records
    assert (record.levelname, record.getMessage(), calls) == ("ERROR", "The hook pre_fork failed", [1])
    assert record.exc_info is not None
    assert repr(record.exc_info[1]) == "ValueError('no metrics')"


def test_a_hook_that_takes_other_arguments_is_logged(said: pytest.LogCaptureFixture) -> None:
    Hooks({"worker_exit": lambda worker_id: None}).call("worker_exit", 0, 4711, 0)
    assert said.messages == ["The hook worker_exit failed"]

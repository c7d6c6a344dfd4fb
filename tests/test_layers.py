"""The layers of the package (docs/architecture.md), enforced: the sources are read, not imported."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

PROJECT = Path(__file__).parent.parent
PACKAGE = PROJECT / "fastserve"

LAYERS: list[tuple[str, ...]] = [
    ("cli", "__main__", "gunicorn", "workers", "demo", "config", "server", "testing", "environment", "peers", "values"),
    ("supervisor",),
    ("worker",),
    ("accel",),
    ("asgi",),
    ("net",),
    ("wire",),
    (
        "settings",
        "errors",
        "logs",
        "logging",
        "accessformats",
        "addresses",
        "version",
        "sources",
        "streams",
        "__init__",
    ),
]
"""From top to bottom. A module may import from its own layer and from those below."""

PURE = ("fastserve.wire", "fastserve.supervisor.fleet")
"""Modules, and packages of such, that know no world: neither they nor what they import of ours do."""

WORLD = {
    "asyncio",
    "socket",
    "os",
    "signal",
    "time",
    "_asyncio",
    "_socket",
    "_signal",
    "posix",
    "select",
    "selectors",
    "ssl",
    "socketserver",
    "subprocess",
    "multiprocessing",
    "threading",
    "concurrent",
    "uvloop",
    "anyio",
    "fcntl",
    "psutil",
}

ALLOWED: dict[tuple[str, str], str] = {
    ("fastserve", "imports fastserve.accel"): "when a program asks for it",
    ("fastserve.supervisor.master", "calls sys.exit"): "the end of a worker, after the fork",
    ("fastserve", "imports fastserve.cli"): "when a program asks for it",
    ("fastserve", "imports fastserve.config"): "when a program asks for it",
    ("fastserve", "imports fastserve.server"): "when a program asks for it",
    ("fastserve.config", "calls SystemExit"): "how uvicorn.Config tells programs of a failure",
    ("fastserve.server", "calls SystemExit"): "how uvicorn.Server tells programs of a failure",
    ("fastserve.server", "calls sys.exit"): "how uvicorn.run ends programs",
    ("fastserve.server", "calls os._exit"): "the end of a worker, which must not go on in the program",
    ("fastserve.gunicorn", "calls sys.exit"): "how gunicorn is told that a worker cannot start",
    ("fastserve.gunicorn", "calls SystemExit"): "ends what blocks an event loop, out of a signal handler",
}
"""What breaks a rule, and why it may."""


class Source(NamedTuple):
    """A module and its text. is_package: it is the __init__ of one."""

    name: str
    text: str
    is_package: bool = False


class Violation(NamedTuple):
    """A module and what it does that it must not do."""

    module: str
    what: str


@cache
def nodes(text: str) -> list[ast.AST]:
    """Return all nodes of a source."""
    return list(ast.walk(ast.parse(text)))


@cache
def sources() -> list[Source]:
    """Return all modules of the package."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PROJECT).with_suffix("").parts
        is_package = parts[-1] == "__init__"
        found.append(Source(".".join(parts[:-1] if is_package else parts), path.read_text(), is_package))
    return found


def layer(module: str) -> int:
    """Return the number of a module's layer, 0 for the top."""
    parts = module.split(".")
    name = parts[1] if len(parts) > 1 else "__init__"
    return next(number for number, names in enumerate(LAYERS) if name in names)


def imports(source: Source, modules: set[str]) -> Iterator[str]:
    """Yield the modules that a module imports, wherever in it: with their whole names, ours as exactly as possible."""
    for node in nodes(source.text):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                package = source.name.split(".")[: None if source.is_package else -1]
                package = package[: len(package) - node.level + 1]
                base = ".".join([*package, base] if base else package)
            for alias in node.names:
                yield f"{base}.{alias.name}" if f"{base}.{alias.name}" in modules else base


def called(source: Source) -> Iterator[str]:
    """Yield what a module calls or raises, as it is written there: print, sys.exit, SystemExit."""
    for node in nodes(source.text):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func)
        elif isinstance(node, ast.Raise) and node.exc is not None:
            yield ast.unparse(node.exc)


def upward(all_sources: list[Source]) -> Iterator[Violation]:
    """Yield every import of a module from a layer above."""
    modules = {source.name for source in all_sources}
    for source in all_sources:
        for name in imports(source, modules):
            if name.split(".")[0] == "fastserve" and layer(name) < layer(source.name):
                yield Violation(source.name, f"imports {name}")


def impure(all_sources: list[Source]) -> Iterator[Violation]:
    """Yield every import by which a pure module, or something of ours that it imports, reaches the world."""
    modules = {source.name for source in all_sources}
    imported = {source.name: set(imports(source, modules)) for source in all_sources}
    pure = {name for name in modules if any(name == each or name.startswith(f"{each}.") for each in PURE)}
    reached, left = set(pure), list(pure)
    while left:
        for name in imported[left.pop()] & modules - reached:
            reached.add(name)
            left.append(name)
    for module in sorted(reached):
        for name in sorted(imported[module]):
            if name.split(".")[0] in WORLD:
                yield Violation(module, f"imports {name}")


SAYING = {"print", "click.echo", "click.secho", "echo", "sys.stdout.write", "sys.stderr.write"}
LEAVING = {"sys.exit", "exit", "quit", "os._exit", "SystemExit"}


def talkative(all_sources: list[Source]) -> Iterator[Violation]:
    """Yield every place outside the command line that prints or ends the process."""
    for source in all_sources:
        if source.name != "fastserve.cli":
            for name in called(source):
                if name.partition("(")[0] in SAYING | LEAVING:
                    yield Violation(source.name, f"calls {name.partition('(')[0]}")


def allowed(violation: Violation) -> bool:
    return (violation.module, violation.what) in ALLOWED


@pytest.mark.parametrize("rule", [upward, impure, talkative])
def test_the_package_keeps_the_rule(rule: Callable[[list[Source]], Iterator[Violation]]) -> None:
    assert [violation for violation in rule(sources()) if not allowed(violation)] == []


def test_every_exception_is_still_needed() -> None:
    found = {violation for rule in (upward, impure, talkative) for violation in rule(sources())}
    assert set(ALLOWED) <= found


def test_every_module_has_a_layer() -> None:
    found = [source.name for source in sources()]
    assert "fastserve.net.connection" in found
    assert "fastserve" in found
    assert all(isinstance(layer(name), int) for name in found)


# That the rules find what they should.


def with_source(name: str, text: str, *, is_package: bool = False) -> list[Source]:
    """Return the modules of the package and one more."""
    return [*sources(), Source(name, text, is_package)]


@pytest.mark.parametrize(
    ("module", "text", "imported"),
    [
        ("fastserve.net.new", "import fastserve.asgi.exchange", "fastserve.asgi.exchange"),
        ("fastserve.net.new", "from fastserve.asgi.exchange import Exchange", "fastserve.asgi.exchange"),
        ("fastserve.net.new", "from fastserve.asgi import exchange", "fastserve.asgi.exchange"),
        ("fastserve.net.new", "from fastserve import cli", "fastserve.cli"),
        ("fastserve.net.new", "from ..asgi.exchange import Exchange", "fastserve.asgi.exchange"),
        ("fastserve.net.new", "from .. import worker", "fastserve.worker"),
        ("fastserve.net.new", "def f():\n    import fastserve.worker.server", "fastserve.worker.server"),
        ("fastserve.net.new", "if TYPE_CHECKING:\n    from fastserve.asgi import scope", "fastserve.asgi.scope"),
        ("fastserve.settings.new", "import fastserve.wire.events", "fastserve.wire.events"),
        ("fastserve.wire.new", "from fastserve.net.deadlines import TICK_S", "fastserve.net.deadlines"),
        ("fastserve.worker.new", "import fastserve.supervisor.fleet", "fastserve.supervisor.fleet"),
        ("fastserve.supervisor.new", "from fastserve.cli import main", "fastserve.cli"),
    ],
)
def test_an_import_that_points_up_is_found(module: str, text: str, imported: str) -> None:
    found = set(upward(with_source(module, text))) - set(upward(sources()))
    assert found == {Violation(module, f"imports {imported}")}


def test_a_relative_import_in_a_package_is_found() -> None:
    found = set(upward(with_source("fastserve.wire.new", "from ...asgi import scope", is_package=False)))
    assert not [violation for violation in found if violation.module == "fastserve.wire.new"]  # beyond the top
    found = set(upward(with_source("fastserve.wire.new", "from ...asgi import scope", is_package=True)))
    assert Violation("fastserve.wire.new", "imports fastserve.asgi.scope") in found


@pytest.mark.parametrize(
    "text",
    [
        "import fastserve.net.state\nfrom fastserve.settings import Settings\nfrom .connection import Connection",
        "import asyncio, fastapi",
        "x = 'import fastserve.cli'  # from fastserve import cli",
    ],
    ids=["down", "others", "text"],
)
def test_an_import_that_points_down_or_out_is_none(text: str) -> None:
    assert set(upward(with_source("fastserve.net.new", text))) == set(upward(sources()))


@pytest.mark.parametrize("module", ["fastserve.wire.http1.new", "fastserve.supervisor.fleet"])
@pytest.mark.parametrize(
    ("text", "imported"),
    [
        ("import time", "time"),
        ("import os.path", "os.path"),
        ("from asyncio import Future", "asyncio"),
        ("def f():\n    from socket import socket", "socket"),
        ("import signal as s", "signal"),
        ("import threading", "threading"),
    ],
)
def test_the_world_in_a_pure_module_is_found(module: str, text: str, imported: str) -> None:
    others = [source for source in sources() if source.name != module]
    assert set(impure([*others, Source(module, text)])) == {Violation(module, f"imports {imported}")}


def test_the_world_behind_a_pure_module_is_found() -> None:
    others = [source for source in sources() if source.name != "fastserve.errors"]
    assert set(impure([*others, Source("fastserve.errors", "import time")])) == {
        Violation("fastserve.errors", "imports time")
    }


def test_the_world_in_another_module_is_none() -> None:
    assert set(impure(with_source("fastserve.net.new", "import asyncio, socket, os, signal, time"))) == set()


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("print('x')", "print"),
        ("def f():\n    print('x', file=sys.stderr)", "print"),
        ("click.echo('x')", "click.echo"),
        ("sys.stderr.write('x')", "sys.stderr.write"),
        ("sys.exit(1)", "sys.exit"),
        ("raise SystemExit(1)", "SystemExit"),
        ("raise SystemExit", "SystemExit"),
        ("os._exit(1)", "os._exit"),
        ("exit()", "exit"),
    ],
)
def test_printing_and_leaving_are_found(text: str, what: str) -> None:
    found = set(talkative(with_source("fastserve.worker.new", text))) - set(talkative(sources()))
    assert found == {Violation("fastserve.worker.new", f"calls {what}")}


@pytest.mark.parametrize("text", ["pprint(x)", "self.exit()", "'print(1)'", "except_(SystemExit)", "raise ValueError"])
def test_what_only_looks_like_printing_and_leaving_is_none(text: str) -> None:
    assert set(talkative(with_source("fastserve.worker.new", text))) == set(talkative(sources()))


def test_the_command_line_may_print_and_leave() -> None:
    assert set(talkative([Source("fastserve.cli", "print('x')\nsys.exit(1)")])) == set()


# No file of the project knows the machine that it was written on.

MACHINE_PATH = re.compile(r"(?<![\w.~])/(?:home/\w|Users/\w|root/|work/|tmp/v/)|[A-Z]:\\Users\\")
TEXT = {
    ".py",
    ".pyx",
    ".pxd",
    ".md",
    ".toml",
    ".cfg",
    ".ini",
    ".txt",
    ".yml",
    ".yaml",
    ".json",
    ".lua",
    ".sh",
    ".http",
    "",
}


def project_files() -> Iterator[Path]:
    """Yield the text files of the project, without what is generated."""
    for folder in (
        PROJECT,
        *(PROJECT / name for name in ("fastserve", "tests", "docs", "bench", "changes", ".ci", ".github")),
    ):
        for path in folder.glob("*") if folder == PROJECT else folder.rglob("*"):
            hidden = any(part in ("__pycache__", "_build", "results", "node_modules") for part in path.parts)
            if path.is_file() and path.suffix in TEXT and not hidden and path.name not in (".coverage", ".git"):
                yield path


def machine_paths(text: str) -> list[str]:
    """Return the lines of a text that name a path of some machine."""
    return [line.strip() for line in text.splitlines() if MACHINE_PATH.search(line)]


def test_no_file_names_a_path_of_some_machine() -> None:
    files = list(project_files())
    assert PACKAGE / "cli.py" in files
    found = {}
    for path in files:
        lines = machine_paths(path.read_text(errors="replace")) if path != Path(__file__) else []
        if lines:
            found[str(path.relative_to(PROJECT))] = lines
    assert found == {}


@pytest.mark.parametrize(
    "text",
    ["/home/x/project", "x = '/Users/x/a.py'", "cd /root/app", "see /work/main", "/tmp/v/p313/bin", r"C:\Users\x"],
)
def test_a_path_of_some_machine_is_found(text: str) -> None:
    assert machine_paths(f"first\n{text}\nlast") == [text]


@pytest.mark.parametrize(
    "text",
    ["/tmp/app.sock", "/run/app.sock", "/srv", "docs/work/x", "https://example.org/home", "~/work", "/worker", "/root"],
)
def test_another_path_is_none(text: str) -> None:
    assert machine_paths(text) == []

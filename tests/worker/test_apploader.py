"""Importing the application, from modules that each test writes."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import a2wsgi
import pytest

from fastserve.asgi.types import ASGIApp
from fastserve.errors import AppLoadError
from fastserve.settings import AppSettings
from fastserve.worker.apploader import import_from_string, import_module, load_app

APP = """
async def app(scope, receive, send):
    pass
"""

Load = Callable[..., ASGIApp]


@pytest.fixture(autouse=True)
def _own_imports(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Forget the modules and the path of a test."""
    before = set(sys.modules)
    monkeypatch.setattr(sys, "path", sys.path[:])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield
    for name in set(sys.modules) - before:
        del sys.modules[name]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Return what writes files, given by their paths, and loads the application that a name stands for."""

    def load(name: str | None, files: dict[str, str], **settings: Any) -> ASGIApp:
        for path, text in files.items():
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).write_text(dedent(text))
        return load_app(AppSettings(app=name, **{"app_dir": str(tmp_path), **settings}))

    return load


def refusal(load: Load, name: str | None, files: dict[str, str], **settings: Any) -> AppLoadError:
    """Load an application that cannot be loaded, and return the error."""
    with pytest.raises(AppLoadError) as raised:
        load(name, files, **settings)
    assert raised.value.exit_code == 3
    assert raised.value.__cause__ is None
    assert raised.value.__suppress_context__ or raised.value.__context__ is None
    return raised.value


def files_in(trace: str) -> list[str]:
    """Return the names of the files in a formatted traceback."""
    return [os.path.basename(line.split('"')[1]) for line in trace.splitlines() if line.startswith('  File "')]


# Names that stand for something.


@pytest.mark.parametrize(
    ("name", "path", "text"),
    [
        ("mine:app", "mine.py", APP),
        ("pkg.sub.web:app", "pkg/sub/web.py", APP),
        ("pkg2:app", "pkg2/__init__.py", APP),
        (
            "nested:Site.inner.app",
            "nested.py",
            "class Site:\n    class inner:\n        async def app(scope, receive, send): ...",
        ),
        ("lazy:app", "lazy.py", "def __getattr__(name):\n    async def app(scope, receive, send): ...\n    return app"),
    ],
    ids=["module", "package", "__init__", "nested", "module __getattr__"],
)
def test_a_module_and_an_attribute_stand_for_an_application(name: str, path: str, text: str, load: Load) -> None:
    assert getattr(load(name, {path: text}), "__name__", None) == "app"


@pytest.mark.parametrize(
    "text",
    [
        "class App:\n    async def __call__(self, scope, receive, send): ...\napp = App()",
        "class app:\n    def __init__(self, scope): ...\n    async def __call__(self, receive, send): ...",
        "import functools\nasync def base(x, scope, receive, send): ...\napp = functools.partial(base, 1)",
        "def app(*args): ...",
    ],
    ids=["instance", "class", "partial", "any arguments"],
)
def test_whatever_is_callable_may_be_an_application(text: str, load: Load) -> None:
    assert callable(load("shapes:app", {"shapes.py": text}))


def test_a_factory_is_called(load: Load) -> None:
    files = {"made.py": "def make():\n    async def app(scope, receive, send): ...\n    return app"}
    assert getattr(load("made:make", files, factory=True), "__name__", None) == "app"


def test_a_factory_may_return_what_looks_like_a_factory(load: Load) -> None:
    files = {"made.py": "def make():\n    return lambda: None"}
    assert callable(load("made:make", files, factory=True))


# Where they are looked for.


def test_the_directory_comes_first_on_the_path_as_an_absolute_one(
    load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path.parent)
    load("mine:app", {"mine.py": APP}, app_dir=tmp_path.name)
    assert sys.path[0] == str(tmp_path)


def test_without_a_directory_it_is_the_current_one(load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    load("mine:app", {"mine.py": APP}, app_dir="")
    assert sys.path[0] == str(tmp_path)


def test_a_directory_that_is_on_the_path_is_not_put_there_again(load: Load, tmp_path: Path) -> None:
    load("mine:app", {"mine.py": APP})
    load("mine:app", {})
    assert sys.path.count(str(tmp_path)) == 1


def test_a_directory_that_is_further_back_on_the_path_comes_first_all_the_same(load: Load, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "twice.py").write_text("app = None")
    sys.path[:0] = [str(tmp_path / "other"), str(tmp_path)]
    assert getattr(load("twice:app", {"twice.py": APP}), "__name__", None) == "app"
    assert sys.path[0] == str(tmp_path)


# Names that stand for nothing.


def test_without_a_name_there_is_nothing_to_load(load: Load) -> None:
    assert str(refusal(load, None, {})) == "no application is named"


@pytest.mark.parametrize("name", ["main", "main:", ":app", "", ":"])
def test_a_name_of_another_form_is_explained(name: str, load: Load) -> None:
    error = refusal(load, name, {"main.py": APP})
    hint = '; is it "main:app"?' if name.startswith("main") else ', for example "main:app"'
    assert str(error) == f'"{name}" is not of the form "module:attribute"{hint}'
    assert error.trace == ""


@pytest.mark.parametrize(
    ("name", "missing"),
    [
        ("absent:app", "absent"),
        ("absent.web:app", "absent"),
        ("pkg.absent:app", "pkg.absent"),
        ("flat.web:app", "flat.web"),
    ],
    ids=["module", "package", "module of a package", "module of a module"],
)
def test_a_module_that_is_not_there_is_named_with_the_place(
    name: str, missing: str, load: Load, tmp_path: Path
) -> None:
    error = refusal(load, name, {"pkg/__init__.py": "", "flat.py": ""})
    assert str(error) == f'there is no module "{missing}" in {tmp_path} or elsewhere on sys.path'
    assert error.trace == ""


def test_the_place_is_the_current_directory_where_the_path_does_not_say_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", *sys.path])  # as for `python -c`
    with pytest.raises(AppLoadError, match=f'^there is no module "absent" in {tmp_path} or elsewhere'):
        import_module("absent")


def test_a_module_that_is_missing_inside_the_module_is_shown_where_it_is_imported(load: Load) -> None:
    error = refusal(load, "outer:app", {"outer.py": "import inner", "inner.py": "import absent_library"})
    assert str(error) == '"outer" cannot be imported'
    assert files_in(error.trace) == ["outer.py", "inner.py"]
    assert error.trace.endswith("ModuleNotFoundError: No module named 'absent_library'\n")


def test_a_module_of_a_similar_name_that_is_missing_inside_is_not_taken_for_the_module(load: Load) -> None:
    error = refusal(load, "main:app", {"main.py": "import main_settings"})
    assert str(error) == '"main" cannot be imported'
    assert "No module named 'main_settings'" in error.trace


def test_a_syntax_error_is_shown_with_its_line_and_none_of_our_frames(load: Load, tmp_path: Path) -> None:
    error = refusal(load, "broken:app", {"broken.py": "x = 1\napp = (\n"})
    assert str(error) == '"broken" cannot be imported'
    assert files_in(error.trace) == ["broken.py"]
    assert f'File "{tmp_path / "broken.py"}", line 2\n    app = (\n' in error.trace
    assert "SyntaxError: '(' was never closed" in error.trace
    assert "importlib" not in error.trace
    assert "apploader" not in error.trace


def test_an_exception_of_the_module_is_shown_in_the_users_frames_only(load: Load) -> None:
    text = """
        def fail():
            raise RuntimeError("no configuration")

        fail()
    """
    error = refusal(load, "failing:app", {"failing.py": text})
    assert files_in(error.trace) == ["failing.py", "failing.py"]
    assert error.trace.startswith("Traceback (most recent call last):\n")
    assert error.trace.endswith("RuntimeError: no configuration\n")


@pytest.mark.parametrize("how", ["raise ValueError('second') from error", "raise ValueError('second')"])
def test_the_exceptions_before_it_are_shown_too_without_our_frames(how: str, load: Load) -> None:
    text = f"""
        import importlib
        try:
            importlib.import_module("absent_library")
        except ImportError as error:
            {how}
    """
    error = refusal(load, "chained:app", {"chained.py": text})
    assert set(files_in(error.trace)) == {"chained.py"}
    assert "No module named 'absent_library'" in error.trace
    assert error.trace.endswith("ValueError: second\n")


@pytest.mark.parametrize("leaving", ["sys.exit('no')", "sys.exit(0)", "raise SystemExit"])
def test_a_module_that_leaves_cannot_be_imported(leaving: str, load: Load) -> None:
    error = refusal(load, "leaving:app", {"leaving.py": f"import sys\n{leaving}"})
    assert str(error) == '"leaving" cannot be imported'
    assert "SystemExit" in error.trace


async def test_a_module_that_runs_an_event_loop_inside_of_one_is_told_of_the_guard(load: Load) -> None:
    text = """
        import asyncio
        async def main(): pass
        coroutine = main()
        try:
            asyncio.run(coroutine)
        finally:
            coroutine.close()
    """
    error = refusal(load, "looping:app", {"looping.py": text})
    assert str(error) == ('"looping" runs an event loop while it is loaded; put that under: if __name__ == "__main__"')
    assert "asyncio.run(coroutine)" in error.trace


def test_a_keyboard_interrupt_is_not_an_error_of_the_module(load: Load) -> None:
    with pytest.raises(KeyboardInterrupt):
        load("interrupted:app", {"interrupted.py": "raise KeyboardInterrupt"})


@pytest.mark.parametrize("attributes", ["absent", "app.absent", "absent.app"])
def test_an_attribute_that_is_not_there_is_named(attributes: str, load: Load) -> None:
    error = refusal(load, f"mine:{attributes}", {"mine.py": APP})
    assert str(error) == f'module "mine" has no attribute "{attributes}"; is it "mine:app"?'
    assert error.trace == ""


APPLICATIONS = {
    "a function": "async def api(scope, receive, send): ...",
    "an object": "class Api:\n    async def __call__(self, scope, receive, send): ...\napi = Api()",
}


@pytest.mark.parametrize("text", APPLICATIONS.values(), ids=APPLICATIONS.keys())
def test_an_application_of_another_name_is_named(text: str, load: Load) -> None:
    error = refusal(load, "mine:app", {"mine.py": text})
    assert str(error) == 'module "mine" has no attribute "app"; is it "mine:api"?'


NO_APPLICATIONS = {
    "a value": "api = 5",
    "a class": "class Api:\n    async def __call__(self, scope, receive, send): ...",
    "a coroutine function": "async def job(name): ...",
    "a function": "def view(request, template, context): ...",
}


@pytest.mark.parametrize("text", NO_APPLICATIONS.values(), ids=NO_APPLICATIONS.keys())
def test_nothing_is_named_that_is_no_application(text: str, load: Load) -> None:
    assert str(refusal(load, "mine:app", {"mine.py": text})) == 'module "mine" has no attribute "app"'


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("main.py", "main:app"),
        ("main.py:api", "main:api"),
        ("web/main.py:app", "web.main:app"),
        ("./web/main:x", "web.main:x"),
        ("main.api", "main:api"),
        ("web.main", "web.main:app"),
        ("web.main.api", "web.main:api"),
    ],
)
def test_the_module_that_is_meant_is_named(name: str, meant: str, load: Load) -> None:
    error = refusal(load, name, {"main.py": APP, "web/main.py": APP})
    assert str(error).endswith(f'; is it "{meant}"?')


@pytest.mark.parametrize(
    "name",
    ["absent", "absent.py", "absent.main", "main.absent.py", "web", "web..main", ".", "./absent:app", "main.a.b"],
)
def test_no_module_is_named_that_there_is_not(name: str, load: Load) -> None:
    error = refusal(load, name, {"main.py": "raise RuntimeError('imported')", "web/main.py": APP})
    assert "is it" not in str(error)


def test_a_wsgi_application_is_made_one_of_asgi(load: Load) -> None:
    app = load("main:app", {"main.py": "def app(environ, start_response): ..."})
    assert isinstance(app, a2wsgi.WSGIMiddleware)


# Things that are no applications.


@pytest.mark.parametrize(("text", "shown"), [("app = 5", "5"), ("app = None", "None"), ("app = 'x'", "'x'")])
def test_what_is_not_callable_is_shown(text: str, shown: str, load: Load) -> None:
    assert str(refusal(load, "value:app", {"value.py": text})) == f'"value:app" is not callable: {shown}'


def test_what_takes_no_arguments_is_a_factory(load: Load, caplog: pytest.LogCaptureFixture) -> None:
    files = {"made.py": "async def app(scope, receive, send): ...\ndef make():\n    return app"}
    assert getattr(load("made:make", files), "__name__", None) == "app"
    assert [record.getMessage() for record in caplog.records] == [
        "ASGI app factory detected. Using it, but please consider setting the --factory flag explicitly."
    ]


def test_a_coroutine_function_without_parameters_is_no_application(load: Load) -> None:
    error = refusal(load, "mine:hello", {"mine.py": "async def hello(): ..."})
    assert str(error) == 'the factory "mine:hello" is a coroutine function; it must be a plain one'


@pytest.mark.parametrize("failing", ["raise ValueError('x')", "raise SystemExit('x')", "import absent_library"])
def test_a_factory_that_fails_is_shown_in_the_users_frames_only(failing: str, load: Load) -> None:
    error = refusal(load, "factory:make", {"factory.py": f"def make():\n    {failing}"}, factory=True)
    assert str(error) == 'the factory "factory:make" failed'
    assert files_in(error.trace) == ["factory.py"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def make(): ...", '"factory:make" is not callable: None'),
        ("make = 5", 'the factory "factory:make" failed'),
        ("def make(x): ...", 'the factory "factory:make" failed'),
        ("async def make(): ...", 'the factory "factory:make" is a coroutine function; it must be a plain one'),
    ],
    ids=["returns nothing", "not callable", "wants arguments", "coroutine"],
)
def test_what_is_no_factory_is_refused(text: str, message: str, load: Load) -> None:
    assert str(refusal(load, "factory:make", {"factory.py": text}, factory=True)) == message


def test_a_name_can_be_imported_without_settings() -> None:
    assert import_from_string("os:path.join") is os.path.join

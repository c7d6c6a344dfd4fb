"""The command line: where options come from, what is refused, and how the command ends."""

from __future__ import annotations

import errno
import importlib.util
import io
import json
import logging
import os
import runpy
import sys
import threading
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fastserve import cli
from fastserve.errors import BindError, SettingsError
from fastserve.settings import Option, Settings, declared_options, group_title, option_groups, option_name
from fastserve.version import VERSION

pytestmark = pytest.mark.usefixtures("own_logging")


class Serving:
    """What stands in for serving. settings: what it was called with. end: what it does then, by default return 0."""

    def __init__(self) -> None:
        self.settings: Settings | None = None
        self.end: Callable[[], int] = lambda: 0

    def __call__(self, settings: Settings) -> int:
        self.settings = settings
        return self.end()


@pytest.fixture(autouse=True)
def serving(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Serving:
    """Run the command in an empty directory and an environment without options, and serve nothing."""
    for name in os.environ:
        if name.startswith("FASTSERVE_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    serving = Serving()
    monkeypatch.setattr(cli, "serve", serving)
    return serving


def served(serving: Serving, *argv: str) -> Settings:
    """Run the command, which must serve, and return the settings."""
    assert cli.main(argv) == 0
    assert serving.settings is not None
    return serving.settings


def complaint(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    """Run the command, which must complain in one line and return 2, and return what it says."""
    assert cli.main(argv) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("fastserve: error: ")
    assert printed.err.count("\n") == 1
    return printed.err.removeprefix("fastserve: error: ").rstrip("\n")


def toml(value: object) -> str:
    """Return a value as TOML has it, which is JSON for those that are used here."""
    return json.dumps(value)


def fail(error: BaseException) -> Callable[[], int]:
    """Return what raises this."""

    def raise_it() -> int:
        raise error

    return raise_it


# One option of each kind: a value for the command line, the environment and a file, and what they and the default mean.

KINDS: dict[str, tuple[str, str, list[str], str, Any, list[Any]]] = {
    "text": ("bind", "host", ["--host", "::1"], "::2", "::3", ["::1", "::2", "::3", "127.0.0.1"]),
    "empty text": ("app", "root_path", ["--root-path", ""], "/b", "/c", ["", "/b", "/c", ""]),
    "integer": ("bind", "port", ["--port", "1"], "2", 3, [1, 2, 3, 8000]),
    "integer or none": ("connections", "concurrency", ["--limit-concurrency", "1"], "2", 3, [1, 2, 3, None]),
    "number": ("timeouts", "keep_alive_s", ["--timeout-keep-alive", "1.5"], "2", 3.5, [1.5, 2.0, 3.5, 75.0]),
    "choice": ("http", "http", ["--http=h11"], "httptools", "h11", ["h11", "httptools", "h11", "auto"]),
    "size": ("requests", "body_bytes", ["--limit-request-body", "64K"], "1.5m", "2 GiB", [65536, 1572864, 2**31, 0]),
    "size in bytes": ("connections", "unread_bytes", ["--limit-unread", "1"], "2", 3, [1, 2, 3, 65536]),
    "size or none": ("recycling", "memory_bytes", ["--limit-memory=512M"], "2g", "1GB", [2**29, 2**31, 2**30, None]),
    "number or auto": ("processes", "workers", ["--workers", "auto"], "2", "auto", ["auto", 2, "auto", 1]),
    "switch": ("app", "factory", ["--factory"], "0", True, [True, False, True, False]),
    "switch that is on": ("logs", "access_log", ["--no-access-log"], "yes", False, [False, True, False, True]),
    "switch that is on, said": ("logs", "access_log", ["--access-log"], "no", False, [True, False, False, True]),
    "switch or none": ("logs", "use_colors", ["--no-use-colors"], "true", False, [False, True, False, None]),
    "file": (
        "logs",
        "log_config",
        ["--log-config", "a.json"],
        "b.json",
        "c.json",
        ["a.json", "b.json", "c.json", None],
    ),
    "several": (
        "http",
        "header",
        ["--header", "a: 1", "--header", "b: 2"],
        "c: 3\nd: 4",
        ["e: 5", "f: 6"],
        [("a: 1", "b: 2"), ("c: 3", "d: 4"), ("e: 5", "f: 6"), ()],
    ),
    "application": ("app", "app", ["a:app"], "b:app", "c:app", ["a:app", "b:app", "c:app", None]),
}
PLACES = ["command line", "environment", "file", "default"]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("kind", KINDS)
def test_the_first_place_that_has_an_option_decides(
    kind: str, place: str, serving: Serving, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    group, name, line, environment, file, expected = KINDS[kind]
    for logs in ("a.json", "b.json", "c.json"):
        (tmp_path / logs).write_text('{"version": 1, "disable_existing_loggers": false}')
    declared = {field: option_name(option) for _, each in option_groups() for field, option in declared_options(each)}
    key = declared.get(name, "app")
    rank = PLACES.index(place)
    if rank <= 2:
        (tmp_path / "pyproject.toml").write_text(f"[tool.fastserve]\n{key.replace('_', '-')} = {toml(file)}\n")
    if rank <= 1:
        monkeypatch.setenv(f"FASTSERVE_{key.upper()}", environment)
    argv = line if rank == 0 else []
    if kind == "application" and rank == 3:
        assert cli.main(argv) == 2
    else:
        settings = served(serving, *argv, *([] if kind == "application" else ["main:app"]))
        assert getattr(getattr(settings, group), name) == expected[rank]


# Every option, whatever its kind.

DECLARED = [(group, name, declared) for _, group in option_groups() for name, declared in declared_options(group)]
EACH_OPTION = pytest.mark.parametrize(
    ("group", "name", "declared"), DECLARED, ids=[declared.flag for _, _, declared in DECLARED]
)
SAMPLES = {
    "--bind": ("unix:/a", "fd://3"),
    "--header": ("a: b", "c: d"),
    "--log-config": "log.json",
    "--app-dir": ".",
    "--affinity": "0,2-3",
    "--forwarded-allow-ips": "10.0.0.0/8,unix",
    "--forwarded-fields": "for,host",
    "--proxy-allow-ips": "10.0.0.1",
    "--access-log-exclude": ("/health", "/ready"),
    "--access-log-format": "%h %s",
    "--access-log-sample": 0.5,
    "--env-file": "mine.env",
    "--loop": "rloop:new_event_loop",
    "--reload-dir": ("a", "b"),
    "--reload-include": ("*.html", "*.css"),
    "--reload-exclude": ("a", "b*"),
    "--ssl-version": 5,
    "--ssl-cert-reqs": 2,
}


def sample(group: type[Any], name: str, declared: Option) -> Any:
    """Return a value for an option that is not its default."""
    if declared.flag in SAMPLES:
        return SAMPLES[declared.flag]
    default = getattr(group(), name)
    if declared.choices:
        return next(choice for choice in declared.choices if choice != default)
    annotation = typing.get_type_hints(group)[name]
    kinds = typing.get_args(annotation) or (annotation,)
    if bool in kinds:
        return not default
    if int in kinds:
        return int(default or declared.minimum or 0) + 7
    return float(default or declared.minimum or 0) + 7.5 if float in kinds else "/sample"


@EACH_OPTION
@pytest.mark.parametrize("place", ["command line", "environment", "file", "other file"])
def test_every_option_can_be_given_everywhere(
    place: str,
    group: type[Any],
    name: str,
    declared: Option,
    serving: Serving,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    (tmp_path / "log.json").write_text('{"version": 1, "disable_existing_loggers": false}')
    (tmp_path / "mine.env").touch()
    value, key = sample(group, name, declared), option_name(declared)
    argv = ["main:app"]
    if place == "command line":
        if isinstance(value, bool) and declared.metavar is None:
            argv += [declared.flag if value else declared.off or ""]
        else:
            for each in value if isinstance(value, tuple) else (value,):
                argv += [declared.flag, str(each)]
    elif place == "environment":
        monkeypatch.setenv(f"FASTSERVE_{key.upper()}", "\n".join(value) if isinstance(value, tuple) else str(value))
    elif place == "file":
        (tmp_path / "pyproject.toml").write_text(f"[tool.fastserve]\n{key} = {toml(value)}\n")
    else:
        (tmp_path / "mine.toml").write_text(f"{key.replace('_', '-')} = {toml(value)}\n")
        argv += ["--config", "mine.toml"]
    settings = served(serving, *argv)
    assert settings == Settings.from_options({"app": "main:app", key: value})
    assert settings != Settings.from_options({"app": "main:app"})


@pytest.mark.parametrize(
    ("line", "name", "meant"),
    [
        ('forwarded-allow-ips = ["127.0.0.1", "10.0.0.0/8"]', "forwarded_allow_ips", "127.0.0.1,10.0.0.0/8"),
        ('proxy-allow-ips = ["127.0.0.1"]', "proxy_allow_ips", "127.0.0.1"),
        ('header = [["a", "b"], "c: d"]', "header", ("a: b", "c: d")),
    ],
    ids=lambda value: value if isinstance(value, str) and "=" in value else "",
)
def test_a_file_may_have_a_list_where_there_may_be_several(
    line: str, name: str, meant: Any, serving: Serving, tmp_path: Path
) -> None:
    (tmp_path / "mine.toml").write_text(line)
    settings = served(serving, "main:app", "--config", "mine.toml")
    assert settings == Settings.from_options({"app": "main:app", name: meant})


@EACH_OPTION
def test_help_lists_every_option(
    group: type[Any], name: str, declared: Option, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert cli.main(["--help"]) == 0
    printed = capsys.readouterr().out
    assert f"  {declared.flag} " in printed
    assert declared.off is None or f" / {declared.off}" in printed
    assert "".join(declared.help.split()) in "".join(printed.split())  # Lines are also broken at hyphens.


def test_help_says_how_the_command_is_used_under_the_headings_of_the_groups(
    capsys: pytest.CaptureFixture[str], serving: Serving
) -> None:
    assert cli.main(["--help"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("Usage: fastserve [OPTIONS] [APP]\n\n  Serve the ASGI application APP.\n")
    headings = [line[:-1] for line in printed.splitlines() if line.endswith(":") and not line.startswith(" ")]
    assert headings == ["General", *(group_title(group) for _, group in option_groups())]
    for text in ("--config FILE", "--version", "--help", "--port INTEGER", "--limit-memory BYTES", "powers of 1024"):
        assert text in printed
    for text in ("[default: 8000]", "[auto|on|off]", "as FASTSERVE_PORT"):
        assert text in printed
    assert serving.settings is None


def test_version_says_what_it_runs_on(capsys: pytest.CaptureFixture[str], serving: Serving) -> None:
    assert cli.main(["--version"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith(f"fastserve {VERSION} (CPython {sys.version_info[0]}.{sys.version_info[1]}.")
    assert ", uvloop " in printed
    assert "httptools " in printed
    assert printed.endswith((", pure Python)\n", ", compiled)\n"))
    assert serving.settings is None


@pytest.mark.parametrize("name", ["FASTSERVE_VERSION", "FASTSERVE_HELP"])
@pytest.mark.parametrize("value", ["1", VERSION])
def test_a_variable_that_only_looks_like_an_option_does_not_hinder(
    name: str, value: str, serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)  # as images of containers set NGINX_VERSION
    assert served(serving, "main:app") == Settings.from_options({"app": "main:app"})


# What is refused: one line, and 2.


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "no application is named; for example: fastserve main:app"),
        (["a:app", "b:app"], "Got unexpected extra argument (b:app)"),
        (["a:app", "--prot", "1"], "No such option '--prot'. Did you mean '--port'?"),
        (["a:app", "--port"], "Option '--port' requires an argument."),
        (["a:app", "--port", "x"], "--port: 'x' is not a whole number"),
        (["a:app", "--port", "65536"], "--port: 65536 is more than 65535"),
        (["a:app", "--port", "-1"], "--port: -1 is less than 0"),
        (["a:app", "--workers", "many"], "--workers: 'many' is neither a number nor 'auto'"),
        (["a:app", "--workers", "0"], "--workers: 0 is less than 1"),
        (["a:app", "--timeout-keep-alive", "x"], "--timeout-keep-alive: 'x' is not a number"),
        (["a:app", "--timeout-request-head", "0"], "--timeout-request-head: 0.0 is less than 0.1"),
        (["a:app", "--limit-memory", "much"], "--limit-memory: 'much' is not a size such as 65536, 512K or 1.5G"),
        (["a:app", "--limit-unread", "1.5"], "--limit-unread: '1.5' is not a size such as 65536, 512K or 1.5G"),
        (["a:app", "--limit-memory", "512K"], "--limit-memory: 524288 is less than 1048576"),
        (["a:app", "--limit-request-body", "-1"], "--limit-request-body: -1 is less than 0"),
        (["a:app", "--affinity", "x"], "--affinity: 'x' is not auto, off or a list such as 0,2,4-7"),
        (["a:app", "--ready-path", "x"], "--ready-path: 'x' does not begin with a slash"),
        (["a:app", "--ready-path", "/x", "--status-path", "/x"], "--ready-path and --status-path are both '/x'"),
        (
            ["a:app", "--http", "x"],
            "--http: 'x' is not one of auto, httptools, h11; fastserve reads requests itself, and no protocol class can"
            " be plugged in",
        ),
        (
            ["a:app", "--interface", "rsgi"],
            "--interface: 'rsgi' is not one of auto, asgi3, asgi2, wsgi; 'auto' finds out what APP is; RSGI, which is"
            " granian's own, is not served",
        ),
        (["a:app", "--app-dir", "x"], "--app-dir: x: there is no such directory"),
        (["routes"], "no application is named; for example: fastserve routes main:app"),
        (["routes", "a:app", "--app-dir", "x"], "--app-dir: x: there is no such directory"),
        (["routes", "a:app", "--port", "1"], "No such option '--port'."),
        (["a:app", "--reload", "--reload-dir", "x"], "--reload-dir: x: there is no such directory"),
        (["a:app", "--bind", "x"], "--bind: 'x' is not HOST:PORT, [IPV6]:PORT, unix:PATH or fd://N"),
        (["a:app", "--host", "[::1"], "--host: '[::1' is not a name or an address"),
        (["a:app", "--bind", "unix:/a", "--port", "1"], "--bind and --port exclude each other"),
        (["a:app", "--header", "x"], "--header: 'x' is not NAME:VALUE"),
        (["a:app", "--factory", "--no-factory"], "No such option '--no-factory'. Did you mean '--factory'?"),
        (["a:app", "--config", "absent.toml"], "--config: absent.toml: No such file or directory"),
        (["a:app", "--config", "."], "--config: .: Is a directory"),
        (["a:app", "--log-config", "absent.json"], "--log-config: absent.json: No such file or directory"),
    ],
)
def test_bad_options_are_one_line(argv: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    said = complaint(capsys, *argv)
    assert said == message or ("No such option" in message and said.startswith("No such option"))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("FASTSERVE_PORT", "x", "FASTSERVE_PORT: 'x' is not a whole number"),
        ("FASTSERVE_WORKERS", "x", "FASTSERVE_WORKERS: 'x' is neither a number nor 'auto'"),
        ("FASTSERVE_LOG_LEVEL", "x", "FASTSERVE_LOG_LEVEL: 'x' is not one of critical, error, "),
        (
            "FASTSERVE_ACCESS_LOG",
            "x",
            "FASTSERVE_ACCESS_LOG: 'x' is not one of true, t, yes, y, on, 1, false, f, no, n, off, 0",
        ),
        ("FASTSERVE_LIMIT_MEMORY", "1T", "FASTSERVE_LIMIT_MEMORY: '1T' is not a size "),
        ("FASTSERVE_BACKLOG", "0", "FASTSERVE_BACKLOG: 0 is less than 1"),
        ("FASTSERVE_CONFIG", "absent.toml", "FASTSERVE_CONFIG: absent.toml: No such file or directory"),
        ("FASTSERVE_CONFIG", "conf.py", "FASTSERVE_CONFIG: conf.py: gunicorn's configuration is Python"),
        ("FASTSERVE_BIND", "x", "FASTSERVE_BIND: 'x' is not HOST:PORT"),
        ("FASTSERVE_AFFINITY", "x", "FASTSERVE_AFFINITY: 'x' is not auto"),
        ("FASTSERVE_STATUS_PATH", "x", "FASTSERVE_STATUS_PATH: 'x' does not begin with a slash"),
        ("FASTSERVE_ACCESS_LOG_FORMAT", "x", "FASTSERVE_ACCESS_LOG_FORMAT: 'x' is neither json"),
        ("FASTSERVE_APP_DIR", "absent", "FASTSERVE_APP_DIR: absent: there is no such directory"),
        ("FASTSERVE_ENV_FILE", "absent", "FASTSERVE_ENV_FILE: absent: there is no such file"),
        ("FASTSERVE_LOG_CONFIG", "absent.json", "FASTSERVE_LOG_CONFIG: absent.json: No such file or directory"),
    ],
)
def test_a_bad_variable_is_named(
    name: str, value: str, message: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    assert complaint(capsys, "main:app").startswith(message)


def test_options_that_exclude_each_other_are_named_by_where_they_are_from(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FASTSERVE_BIND", "unix:/a")
    assert complaint(capsys, "main:app", "--port", "1") == "FASTSERVE_BIND and --port exclude each other"


def test_a_bad_variable_is_named_where_an_option_is_checked_late(
    serving: Serving, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FASTSERVE_LOOP", "a:b")
    serving.end = fail(SettingsError("there is no module a", "--loop"))
    assert complaint(capsys, "main:app") == "FASTSERVE_LOOP: there is no module a"


def test_routes_name_a_bad_variable_too(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTSERVE_APP_DIR", "absent")
    assert complaint(capsys, "routes", "a:app") == "FASTSERVE_APP_DIR: absent: there is no such directory"


def test_a_project_file_that_cannot_be_read_is_not_taken_for_an_option(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "pyproject.toml").mkdir()
    assert complaint(capsys, "main:app") == "pyproject.toml: Is a directory"


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("prot = 1", "pyproject.toml: unknown option 'prot'; did you mean 'port'?"),
        (
            "limit-max-request = 1",
            "pyproject.toml: unknown option 'limit-max-request'; did you mean 'limit-max-requests'?",
        ),
        ("max_requests = 1", "pyproject.toml: unknown option 'max_requests'; did you mean 'limit-max-requests'?"),
        (
            "threads = 1",
            "pyproject.toml: threads: an ASGI application runs in one thread of each worker: use --workers",
        ),
        ("xyzzy = 1", "pyproject.toml: unknown option 'xyzzy'"),
        ("time_out = 1", "pyproject.toml: unknown option 'time_out'"),
        ("[tool.fastserve.port]", "pyproject.toml: --port: {} is not a whole number"),
        ("[tool.fastserve.nested]", "pyproject.toml: unknown option 'nested'"),
        ('port = "x"', "pyproject.toml: --port: 'x' is not a whole number"),
        ("port = 1.5", "pyproject.toml: --port: 1.5 is not a whole number"),
        ("port = [1, 2]", "pyproject.toml: --port: [1, 2] is not a whole number"),
        ("port = true", "pyproject.toml: --port: True is not a whole number"),
        ("host = true", "pyproject.toml: --host: True is not text"),
        ('host = ["a", "b"]', "pyproject.toml: --host: ['a', 'b'] is not text"),
        ('ws = ["auto"]', "pyproject.toml: --ws: ['auto'] is not one of "),
        ("http = {}", "pyproject.toml: --http: {} is not one of "),
        ('ssl-keyfile-password = ["secret"]', "pyproject.toml: --ssl-keyfile-password: what is given is not text"),
        ("app = true", "pyproject.toml: app: True is not text"),
        ('log-level = "x"', "pyproject.toml: --log-level: 'x' is not one of "),
        ('access-log = "x"', "pyproject.toml: --access-log: 'x' is not one of "),
        ('limit-memory = "x"', "pyproject.toml: --limit-memory: 'x' is not a size such as "),
        ("limit-memory = 1.5", "pyproject.toml: --limit-memory: 1.5 is not a size such as "),
        ("limit-memory = true", "pyproject.toml: --limit-memory: True is not a size such as "),
        ("header = 1", "pyproject.toml: --header: '1' is not NAME:VALUE"),
        ("bind = ['x']", "pyproject.toml: --bind: 'x' is not "),
        ("backlog = 0", "pyproject.toml: --backlog: 0 is less than 1"),
        ('forwarded-allow-ips = "x"', "pyproject.toml: --forwarded-allow-ips: 'x' is not an address"),
        ("fd = 3\nuds = 'x'", "pyproject.toml: --uds and pyproject.toml: --fd exclude each other"),
        ('version = "1.0"', "pyproject.toml: unknown option 'version'"),
        ('config = "other.toml"', "pyproject.toml: unknown option 'config'"),
    ],
)
def test_a_bad_key_in_a_file_is_named_with_the_file(
    table: str, message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "pyproject.toml").write_text(f"[tool.fastserve]\n{table}\n")
    assert complaint(capsys, "main:app").startswith(message)


@pytest.mark.parametrize(
    "content",
    [
        b"[tool.fastserve",
        b"port = ",
        b"\xff\xfe",
        b"tool = 3",
        b"[tool]\nfastserve = 3",
        b"[[tool.fastserve]]\nport = 1",
    ],
    ids=["not TOML", "no value", "not UTF-8", "tool is no table", "fastserve is no table", "several tables"],
)
def test_a_file_that_cannot_be_used_is_one_line_that_names_it(
    content: bytes, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "pyproject.toml").write_bytes(content)
    assert "pyproject.toml: " in complaint(capsys, "main:app")


# Configuration files.


def test_a_project_file_without_our_table_changes_nothing(serving: Serving, tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[project]\nname = 'x'\n[tool.other]\nport = 1\n")
    assert served(serving, "main:app") == Settings.from_options({"app": "main:app"})


def test_the_project_file_of_another_directory_is_not_looked_for(
    serving: Serving, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool.fastserve]\nport = 1\n")
    (tmp_path / "inner").mkdir()
    monkeypatch.chdir(tmp_path / "inner")
    assert served(serving, "main:app").bind.port == 8000


def test_a_file_that_is_named_is_read_instead_of_the_project_file(serving: Serving, tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool.fastserve]\nport = 1\nbacklog = 5\n")
    (tmp_path / "mine.toml").write_text("port = 2\n")
    settings = served(serving, "main:app", "--config", "mine.toml")
    assert (settings.bind.port, settings.bind.backlog) == (2, 2048)


def test_a_project_file_elsewhere_can_be_named(serving: Serving, tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "pyproject.toml").write_text("[tool.fastserve]\nport = 2\n")
    assert served(serving, "--config", "inner/pyproject.toml", "main:app").bind.port == 2


def test_the_environment_can_name_the_file(serving: Serving, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.toml").write_text('app = "file:app"\nport = 2\n')
    monkeypatch.setenv("FASTSERVE_CONFIG", "mine.toml")
    settings = served(serving)
    assert (settings.app.app, settings.bind.port) == ("file:app", 2)


@pytest.mark.parametrize("key", ["timeout-keep-alive", "timeout_keep_alive"])
def test_a_key_may_be_written_as_the_flag_or_as_the_name(key: str, serving: Serving, tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(f"[tool.fastserve]\n{key} = 5\n")
    assert served(serving, "main:app").timeouts.keep_alive_s == 5.0


# The application.


@pytest.mark.skipif(importlib.util.find_spec("fastapi") is None, reason="the demonstration needs FastAPI")
def test_demo_stands_for_the_demonstration(serving: Serving) -> None:
    assert served(serving, "demo").app.app == "fastserve.demo:app"


def test_the_demonstration_without_fastapi_says_what_to_install(
    serving: Serving, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert cli.main(["demo"]) == 3
    assert caplog.messages == ["the demonstration needs FastAPI; install it with: pip install 'fastserve[demo]'"]
    assert serving.settings is None


# The routes.

ROUTES = """
from starlette.applications import Starlette
from starlette.routing import Route
import os

def make():
    return Starlette(routes=[Route(os.environ.get("MINE", "/"), lambda request: None)])
"""


def test_routes_are_those_of_the_application_that_would_be_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("starlette")
    pytest.importorskip("dotenv")
    monkeypatch.setattr(sys, "path", sys.path[:])
    monkeypatch.setenv("MINE", "")
    monkeypatch.delenv("MINE")
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "routes_of_file.py").write_text(ROUTES)
    (tmp_path / "my.env").write_text("MINE=/mine\n")
    (tmp_path / "pyproject.toml").write_text(
        "[tool.fastserve]\napp = 'routes_of_file:make'\napp-dir = 'inner'\nfactory = true\nworkers = 2\n"
        "env-file = 'my.env'\n"
    )
    assert cli.main(["routes"]) == 0
    assert capsys.readouterr().out.startswith("GET,HEAD /mine: ")
    monkeypatch.setenv("FASTSERVE_APP", "routes_of_file:absent")
    assert cli.main(["routes"]) == 3


@pytest.mark.skipif(importlib.util.find_spec("fastapi") is None, reason="the demonstration needs FastAPI")
def test_routes_knows_the_demonstration(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["routes", "demo"]) == 0
    assert "POST /orders: " in capsys.readouterr().out


# How it ends.


@pytest.mark.parametrize("argv", [["--help"], ["--version"], ["routes", "--help"]], ids=" ".join)
def test_output_that_cannot_be_written_is_one_line_and_1(
    argv: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(sys, "stdout", Full())
    assert cli.main(argv) == 1
    assert capsys.readouterr().err == "fastserve: error: cannot write: No space left on device\n"


@pytest.mark.parametrize("status", [0, 3])
def test_the_status_is_that_of_the_server(status: int, serving: Serving) -> None:
    serving.end = lambda: status
    assert cli.main(["main:app"]) == status


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (BindError("the port is taken"), 3),
        (SettingsError("no uvloop"), 2),
        (KeyboardInterrupt(), 130),
        (SystemExit(5), 5),
        (SystemExit(0), 0),
        (SystemExit(), 0),
    ],
    ids=["cannot start", "bad settings", "interrupted", "worker", "worker that is done", "no status"],
)
def test_the_status_tells_what_happened(error: BaseException, status: int, serving: Serving) -> None:
    serving.end = fail(error)
    assert cli.main(["main:app"]) == status


def test_what_cannot_start_is_in_the_log(serving: Serving, capsys: pytest.CaptureFixture[str]) -> None:
    serving.end = fail(BindError("cannot listen on 127.0.0.1:80: Permission denied"))
    assert cli.main(["main:app"]) == 3
    assert capsys.readouterr().err == "ERROR:    cannot listen on 127.0.0.1:80: Permission denied\n"


def test_bad_settings_that_are_found_later_are_one_line_too(
    serving: Serving, capsys: pytest.CaptureFixture[str]
) -> None:
    serving.end = fail(SettingsError("--loop: uvloop is not installed"))
    assert complaint(capsys, "main:app") == "--loop: uvloop is not installed"


def test_an_error_of_ours_is_not_hidden(serving: Serving) -> None:
    serving.end = fail(ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        cli.main(["main:app"])


def test_an_option_that_has_no_effect_is_warned_of(serving: Serving, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["main:app", "--timeout-worker", "5"]) == 0
    text = "WARNING:  --timeout-worker has no effect in one process without a supervisor.\n"
    assert capsys.readouterr().err == text


def test_logging_is_configured_before_anything_is_served(serving: Serving, capsys: pytest.CaptureFixture[str]) -> None:
    def end() -> int:
        logging.getLogger("fastserve").debug("x")
        return 0

    serving.end = end
    cli.main(["main:app", "--log-level", "debug", "--no-use-colors"])
    assert capsys.readouterr().err == "DEBUG:    x\n"


def test_the_arguments_are_those_of_the_process(serving: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["fastserve", "main:app", "--port", "1"])
    assert cli.main() == 0
    assert serving.settings is not None
    assert (serving.settings.app.app, serving.settings.bind.port) == ("main:app", 1)


class PlayedTimer:
    """A timer that the test fires."""

    def __init__(self, seconds: float, function: Callable[..., object], args: tuple[object, ...]) -> None:
        self.seconds = seconds
        self.daemon = False
        self.is_started = False
        self._function = function
        self._args = args
        timers.append(self)

    def start(self) -> None:
        self.is_started = True

    def fire(self) -> None:
        self._function(*self._args)


timers: list[PlayedTimer] = []


@pytest.fixture
def timer(monkeypatch: pytest.MonkeyPatch) -> list[PlayedTimer]:
    """Return the timers that are made, which pass no time."""
    timers.clear()
    monkeypatch.setattr(threading, "Timer", PlayedTimer)
    return timers


def test_the_process_ends_with_the_status(
    timer: list[PlayedTimer], serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["fastserve", "main:app"])
    serving.end = lambda: 3
    with pytest.raises(SystemExit) as left:
        cli.run()
    assert left.value.code == 3
    assert [(each.seconds, each.daemon, each.is_started) for each in timer] == [(5.0, True, True)]


def test_threads_that_do_not_end_are_named_and_left_behind(
    timer: list[PlayedTimer], serving: Serving, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    left: list[int] = []
    monkeypatch.setattr(sys, "argv", ["fastserve", "main:app"])
    monkeypatch.setattr(os, "_exit", left.append)
    may_end = threading.Event()
    stuck = threading.Thread(target=may_end.wait, name="stuck")
    patient = threading.Thread(target=may_end.wait, name="patient", daemon=True)
    stuck.start()
    patient.start()
    try:
        with pytest.raises(SystemExit):
            cli.run()
        timer[0].fire()
    finally:
        may_end.set()
        stuck.join()
        patient.join()
    said = capsys.readouterr().err
    assert left == [0]
    assert said.startswith("WARNING:  Exiting without waiting for threads that do not end: ")
    assert "stuck" in said
    assert "patient" not in said


def test_the_package_can_be_run_as_a_module(monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[str] = []
    monkeypatch.setattr(cli, "run", lambda: runs.append("run"))
    runpy.run_module("fastserve", run_name="__main__")
    runpy.run_module("fastserve.__main__", run_name="imported")
    assert runs == ["run"]

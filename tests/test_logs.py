"""What the loggers print, and where."""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fastserve.errors import SettingsError
from fastserve.logs import (
    LOGGING_CONFIG,
    TRACE,
    AccessFormatter,
    LevelFormatter,
    configure_logging,
    log_colored,
    reopen_log_files,
)
from fastserve.settings import LogSettings

pytestmark = pytest.mark.usefixtures("own_logging")

server = logging.getLogger("fastserve")
access = logging.getLogger("fastserve.access")
REQUEST = ('%s - "%s %s HTTP/%s" %d', "127.0.0.1:47350", "GET", "/api/a/b/c%20d/%C3%B6?q=%20a", "1.1")


def access_record(status: int, level: int = logging.INFO) -> logging.LogRecord:
    return logging.LogRecord("fastserve.access", level, "", 0, REQUEST[0], (*REQUEST[1:], status), None)


# Lines.


@pytest.mark.parametrize(
    ("level", "line"),
    [
        (TRACE, "TRACE:    x"),
        (logging.DEBUG, "DEBUG:    x"),
        (logging.INFO, "INFO:     x"),
        (logging.WARNING, "WARNING:  x"),
        (logging.ERROR, "ERROR:    x"),
        (logging.CRITICAL, "CRITICAL: x"),
        (35, "Level 35: x"),
    ],
)
def test_a_line_of_the_server_begins_with_its_level_in_ten_columns(
    level: int, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logging(LogSettings(log_level="trace"))
    server.log(level, "%s", "x")
    assert capsys.readouterr() == ("", f"{line}\n")


def test_a_name_of_a_level_that_is_longer_is_not_cut(capsys: pytest.CaptureFixture[str]) -> None:
    logging.addLevelName(36, "EXTRAORDINARY")
    configure_logging(LogSettings())
    server.log(36, "x")
    assert capsys.readouterr().err == "EXTRAORDINARY: x\n"


def test_a_traceback_follows_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(LogSettings())
    server.error("It failed", exc_info=ValueError("x"))
    assert capsys.readouterr().err == "ERROR:    It failed\nValueError: x\n"


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (200, "200 OK"),
        (404, "404 Not Found"),
        (101, "101 Switching Protocols"),
        (444, "444 No Response"),
        (499, "499 Client Closed Request"),
        (299, "299"),
        (999, "999"),
    ],
)
def test_a_line_of_the_access_log_is_that_of_uvicorn(
    status: int, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logging(LogSettings())
    access.info(*REQUEST, status)
    line = f'INFO:     127.0.0.1:47350 - "GET /api/a/b/c%20d/%C3%B6?q=%20a HTTP/1.1" {text}\n'
    assert capsys.readouterr() == (line, "")


def test_formatting_leaves_the_record_as_it_was() -> None:
    record = access_record(200)
    before = dict(vars(record))
    AccessFormatter("%(levelprefix)s %(request_line)s", use_colors=True).format(record)
    assert {name: value for name, value in vars(record).items() if name != "message"} == before


def test_every_field_can_be_used_in_a_format() -> None:
    formatter = AccessFormatter("%(client_addr)s|%(request_line)s|%(status_code)s|%(levelname)s", use_colors=False)
    assert formatter.format(access_record(204)) == (
        "127.0.0.1:47350|GET /api/a/b/c%20d/%C3%B6?q=%20a HTTP/1.1|204 No Content|INFO"
    )


def test_a_time_can_be_used_in_a_format() -> None:
    formatter = LevelFormatter("%(asctime)s %(levelprefix)s %(message)s", "%Y", use_colors=False)
    record = logging.LogRecord("fastserve", logging.INFO, "", 0, "x", (), None)
    assert re.fullmatch(r"\d{4} INFO:     x", formatter.format(record))


# Colours.


@pytest.mark.parametrize(
    ("level", "color"),
    [
        (TRACE, 34),
        (logging.DEBUG, 36),
        (logging.INFO, 32),
        (logging.WARNING, 33),
        (logging.ERROR, 31),
        (logging.CRITICAL, 91),
    ],
)
def test_the_name_of_a_level_is_coloured_when_that_is_asked_for(
    level: int, color: int, capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logging(LogSettings(log_level="trace", use_colors=True))
    server.log(level, "x")
    name = logging.getLevelName(level)
    assert capsys.readouterr().err == f"\x1b[{color}m{name}\x1b[0m:{' ' * (9 - len(name))}x\n"


@pytest.mark.parametrize(("status", "color"), [(101, 97), (200, 32), (302, 33), (404, 31), (500, 91)])
def test_the_status_is_coloured_by_its_class(status: int, color: int, capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(LogSettings(use_colors=True))
    access.info(*REQUEST, status)
    line = capsys.readouterr().out
    assert "\x1b[1mGET /api/a/b/c%20d/%C3%B6?q=%20a HTTP/1.1\x1b[0m" in line
    assert f"\x1b[{color}m{status} " in line


def test_a_status_of_no_class_has_no_colour(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(LogSettings(use_colors=True))
    access.info(*REQUEST, 999)
    assert capsys.readouterr().out.endswith('" 999\x1b[0m\n')


@pytest.mark.parametrize(
    ("use_colors", "line"),
    [
        (True, "\x1b[32mINFO\x1b[0m:     Process [\x1b[36m\x1b[1m7\x1b[0m] using \x1b[36m\x1b[1mx\x1b[0m\n"),
        (False, "INFO:     Process [7] using x\n"),
    ],
)
def test_what_a_message_names_is_coloured(use_colors: bool, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(LogSettings(use_colors=use_colors))
    log_colored(server, "Process [%d] using %s", 7, "x", fg="cyan", bold=True)
    assert capsys.readouterr().err == line


@pytest.mark.parametrize("out", [False, True], ids=["file", "terminal"])
@pytest.mark.parametrize("err", [False, True], ids=["file", "terminal"])
@pytest.mark.parametrize("use_colors", [None, True, False])
def test_without_being_asked_only_a_terminal_gets_colours(
    out: bool,
    err: bool,
    use_colors: bool | None,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: out)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: err)
    configure_logging(LogSettings(use_colors=use_colors))
    server.info("x")
    access.info(*REQUEST, 200)
    printed = capsys.readouterr()
    assert ("\x1b" in printed.err) == (err if use_colors is None else use_colors)
    assert ("\x1b" in printed.out) == (out if use_colors is None else use_colors)


# Levels.


@pytest.mark.parametrize(
    ("name", "least"),
    [
        ("trace", TRACE),
        ("debug", logging.DEBUG),
        ("info", logging.INFO),
        ("warning", logging.WARNING),
        ("error", logging.ERROR),
        ("critical", logging.CRITICAL),
    ],
)
def test_what_is_below_the_level_is_not_logged(name: str, least: int, capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(LogSettings(log_level=name))
    for level in (TRACE, logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL):
        server.log(level, "x")
        access.log(level, *REQUEST, 200)
        printed = capsys.readouterr()
        assert bool(printed.err) is bool(printed.out) is (level >= least)


def test_nothing_is_logged_twice(capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    configure_logging(LogSettings())
    configure_logging(LogSettings())
    server.warning("x")
    access.info(*REQUEST, 200)
    printed = capsys.readouterr()
    assert (printed.err.count("\n"), printed.out.count("\n"), caplog.records) == (1, 1, [])


def test_loggers_of_others_go_on(capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    other = logging.getLogger("of.the.application")
    configure_logging(LogSettings())
    other.warning("x")
    assert not other.disabled
    assert caplog.messages == ["x"]


def test_the_configuration_that_programs_can_copy_is_not_changed() -> None:
    before = json.dumps(LOGGING_CONFIG)
    configure_logging(LogSettings(use_colors=True, log_level="debug"))
    assert json.dumps(LOGGING_CONFIG) == before


# Configuration files.

FORMAT = "mine %(levelname)s %(message)s"
DICT: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"mine": {"format": FORMAT}},
    "handlers": {"mine": {"class": "logging.StreamHandler", "formatter": "mine", "stream": "ext://sys.stdout"}},
    "loggers": {"fastserve": {"handlers": ["mine"], "propagate": False}},
}
YAML = f"""
version: 1
disable_existing_loggers: false
formatters:
  mine: {{format: '{FORMAT}'}}
handlers:
  mine: {{class: logging.StreamHandler, formatter: mine, stream: 'ext://sys.stdout'}}
loggers:
  fastserve: {{handlers: [mine], propagate: false}}
"""
INI = f"""
[loggers]
keys=root,fastserve
[handlers]
keys=mine
[formatters]
keys=mine
[logger_root]
handlers=
[logger_fastserve]
qualname=fastserve
handlers=mine
propagate=0
[handler_mine]
class=StreamHandler
formatter=mine
args=(sys.stdout,)
[formatter_mine]
format={FORMAT}
"""


@pytest.mark.parametrize(
    ("name", "text"),
    [("log.json", json.dumps(DICT)), ("log.yaml", YAML), ("log.yml", YAML), ("log.ini", INI), ("logging.conf", INI)],
)
def test_logging_is_configured_from_a_file(
    name: str, text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = logging.getLogger("of.the.application")
    (tmp_path / name).write_text(text)
    configure_logging(LogSettings(log_config=str(tmp_path / name), log_level="warning"))
    server.info("too low")
    server.warning("x")
    assert capsys.readouterr() == ("mine WARNING x\n", "")
    assert not other.disabled


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("log.json", None),
        ("log.yaml", None),
        ("log.ini", None),
        ("log.json", "{"),
        ("log.json", "[]"),
        ("log.json", "3"),
        ("log.json", "{}"),
        ("log.json", '{"version": 1, "handlers": {"a": {"class": "absent.Handler"}}}'),
        ("log.json", '{"version": 1, "loggers": {"a": {"handlers": ["absent"]}}}'),
        ("log.yaml", "a: ["),
        ("log.yaml", "\t- x"),
        ("log.yaml", ""),
        ("log.yaml", "- x"),
        ("log.ini", ""),
        ("log.ini", "[formatters]\nkeys=a\n"),
        ("log.ini", "no section"),
    ],
    ids=[
        "no JSON file",
        "no YAML file",
        "no INI file",
        "not JSON",
        "list",
        "number",
        "no version",
        "no class",
        "no handler",
        "not YAML",
        "tab in YAML",
        "empty YAML",
        "list in YAML",
        "empty INI",
        "no section",
        "not INI",
    ],
)
def test_a_file_that_cannot_be_used_is_one_error_that_names_it(name: str, text: str | None, tmp_path: Path) -> None:
    path = tmp_path / name
    if text is not None:
        path.write_text(text)
    with pytest.raises(SettingsError) as raised:
        configure_logging(LogSettings(log_config=str(path)))
    assert str(raised.value).startswith(f"--log-config: {path}: ")
    assert not str(raised.value).endswith(": ")


@pytest.mark.parametrize(
    ("handler", "reason"),
    [
        ({"class": "absent.Handler"}, "Cannot resolve 'absent.Handler': No module named 'absent'"),
        (
            {"class": "logging.FileHandler", "filename": "/absent/log"},
            "[Errno 2] No such file or directory: '/absent/log'",
        ),
        ({"class": "logging.StreamHandler", "formatter": "mine"}, "Unable to set formatter 'mine'"),
    ],
    ids=["no module", "no folder", "no formatter"],
)
def test_the_reason_why_a_handler_cannot_be_is_given(handler: dict[str, str], reason: str, tmp_path: Path) -> None:
    path = tmp_path / "log.json"
    path.write_text(json.dumps({"version": 1, "handlers": {"a": handler}}))
    with pytest.raises(SettingsError) as raised:
        configure_logging(LogSettings(log_config=str(path)))
    assert str(raised.value) == f"--log-config: {path}: Unable to configure handler 'a': {reason}"


@pytest.mark.parametrize("name", ["log.json", "log.yaml", "log.ini"])
def test_a_file_that_is_not_text_is_an_error_that_names_it(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SettingsError, match=r"^--log-config: "):
        configure_logging(LogSettings(log_config=str(tmp_path / name)))


def test_without_pyyaml_a_yaml_file_is_an_error_that_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "yaml", None)
    (tmp_path / "log.yaml").write_text(YAML)
    with pytest.raises(SettingsError) as raised:
        configure_logging(LogSettings(log_config=str(tmp_path / "log.yaml")))
    assert str(raised.value) == "--log-config: a YAML file needs PyYAML; install it with: pip install pyyaml"


# Files that someone moves.


@pytest.fixture
def files() -> Iterator[list[logging.FileHandler]]:
    """Handlers, which a test adds to, and which are closed at its end."""
    handlers: list[logging.FileHandler] = []
    yield handlers
    for handler in handlers:
        for logger in (logging.root, server, access, logging.getLogger("of.the.application")):
            logger.removeHandler(handler)
        handler.close()


@pytest.mark.parametrize("name", [None, "fastserve", "fastserve.access", "of.the.application"])
def test_a_file_that_was_moved_is_opened_anew(
    name: str | None, tmp_path: Path, files: list[logging.FileHandler]
) -> None:
    log, moved = tmp_path / "log", tmp_path / "moved"
    files.append(logging.FileHandler(log))
    logger = logging.getLogger(name)
    logger.addHandler(files[0])
    logger.error("before")
    log.rename(moved)
    logger.error("between")
    reopen_log_files()
    logger.error("after")
    assert (moved.read_text(), log.read_text()) == ("before\nbetween\n", "after\n")


def test_a_file_that_was_not_moved_is_not_emptied(tmp_path: Path, files: list[logging.FileHandler]) -> None:
    files.append(logging.FileHandler(tmp_path / "log"))
    access.propagate = False
    for logger in (server, access):  # one handler for both
        logger.addHandler(files[0])
    server.error("before")
    reopen_log_files()
    access.error("after")
    assert (tmp_path / "log").read_text() == "before\nafter\n"


def test_a_file_that_cannot_be_opened_anew_stays_open_and_hinders_no_other(
    tmp_path: Path, files: list[logging.FileHandler]
) -> None:
    (tmp_path / "logs").mkdir()
    closed, other = tmp_path / "logs" / "log", tmp_path / "other"
    files += [logging.FileHandler(closed), logging.FileHandler(other)]
    server.addHandler(files[0])
    access.addHandler(files[1])
    access.propagate = False
    closed.parent.rename(tmp_path / "old logs")
    other.rename(tmp_path / "moved")
    reopen_log_files()
    server.error("after")
    access.error("after")
    said = f"Cannot open {closed}: No such file or directory\nafter\n"
    assert ((tmp_path / "old logs" / "log").read_text(), other.read_text()) == (said, "after\n")


def test_a_file_that_cannot_be_closed_is_left_behind(tmp_path: Path, files: list[logging.FileHandler]) -> None:
    files.append(logging.FileHandler(tmp_path / "log"))
    server.addHandler(files[0])
    server.error("before")

    class Full:
        """A stream that fails when it is closed, as a file on a full network file system does."""

        def flush(self) -> None:
            """Do nothing."""

        def close(self) -> None:
            raise OSError(28, "No space left on device")

    files[0].close()
    files[0].stream = Full()  # type: ignore[assignment]
    (tmp_path / "log").rename(tmp_path / "moved")
    reopen_log_files()
    server.error("after")
    assert (tmp_path / "log").read_text() == "after\n"


def test_what_is_no_file_is_left_alone(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(LogSettings())
    reopen_log_files()
    server.info("x")
    assert capsys.readouterr().err == "INFO:     x\n"


@pytest.mark.parametrize(("value", "is_colored"), [("1", False), ("", True)])
def test_a_terminal_gets_no_colours_where_the_environment_says_so(
    value: str, is_colored: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", value)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    configure_logging(LogSettings())
    server.info("x")
    assert ("\x1b" in capsys.readouterr().err) is is_colored
    configure_logging(LogSettings(use_colors=True))
    server.info("x")
    assert "\x1b" in capsys.readouterr().err

"""Configurations of logging, and applications, that were written for uvicorn's loggers."""

from __future__ import annotations

import asyncio
import configparser
import copy
import io
import json
import logging
import logging.config
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import uvicorn.config

from fastserve.asgi.accesslog import AccessLog, open_access_log
from fastserve.errors import SettingsError
from fastserve.logs import (
    LOGGING_CONFIG,
    LevelFormatter,
    LogConfig,
    adopt_uvicorn_loggers,
    configure_logging,
    configure_logging_by,
    is_direct,
)
from fastserve.settings import LogSettings

pytestmark = pytest.mark.usefixtures("own_logging")

SETTINGS = LogSettings(use_colors=False)
ARGUMENTS = ("127.0.0.1:1", "GET", "/a?b", "1.1", 200)
ACCESS = '%s - "%s %s HTTP/%s" %d'


def log_all() -> None:
    """Log as the server does, and as an application does that knows uvicorn."""
    logging.getLogger("fastserve").info("server")
    logging.getLogger("fastserve").debug("too low")
    logging.getLogger("fastserve.access").info(ACCESS, *ARGUMENTS)
    logging.getLogger("uvicorn.error").info("application")


EXPECTED_ERR = "INFO:     server\nINFO:     application\n"
EXPECTED_OUT = 'INFO:     127.0.0.1:1 - "GET /a?b HTTP/1.1" 200 OK\n'


def test_the_configuration_of_uvicorn_itself_gives_the_same_as_ours(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(SETTINGS)
    log_all()
    assert capsys.readouterr() == (EXPECTED_OUT, EXPECTED_ERR)
    configure_logging_by(copy.deepcopy(uvicorn.config.LOGGING_CONFIG), SETTINGS)
    log_all()
    assert capsys.readouterr() == (EXPECTED_OUT, EXPECTED_ERR)
    assert is_direct(logging.getLogger("fastserve.access"))
    assert type(logging.getLogger("fastserve").handlers[0].formatter) is LevelFormatter


def merged(**loggers: dict[str, Any]) -> dict[str, Any]:
    """Return a configuration with these loggers of uvicorn, whose handlers print their name and the message."""
    handlers = {
        name: {"class": "logging.StreamHandler", "stream": "ext://sys.stdout", "formatter": name} for name in "ab"
    }
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {name: {"format": f"{name} %(message)s"} for name in "ab"},
        "handlers": handlers,
        "loggers": {name.replace("_", "."): logger for name, logger in loggers.items()},
    }


MERGED = {
    "the outer one": ({"uvicorn": {"handlers": ["a"], "level": "INFO"}}, "a x\n"),
    "the inner one": ({"uvicorn_error": {"handlers": ["b"], "level": "INFO"}}, "b x\n"),
    "both": (
        {"uvicorn": {"handlers": ["a"], "level": "INFO"}, "uvicorn_error": {"handlers": ["b"]}},
        "b x\na x\n",
    ),
    "both, and the inner one stops": (
        {"uvicorn": {"handlers": ["a"]}, "uvicorn_error": {"handlers": ["b"], "level": "INFO", "propagate": False}},
        "b x\n",
    ),
    "the level of the inner one": (
        {"uvicorn": {"handlers": ["a"], "level": "INFO"}, "uvicorn_error": {"level": "ERROR"}},
        "",
    ),
    "ours is named too": (
        {"uvicorn": {"handlers": ["a"], "level": "INFO"}, "fastserve": {"handlers": ["b"], "level": "INFO"}},
        "b x\n",
    ),
}


@pytest.mark.parametrize(("loggers", "expected"), MERGED.values(), ids=MERGED.keys())
def test_what_is_said_of_two_loggers_of_uvicorn_holds_for_the_one_of_ours(
    loggers: dict[str, Any], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logging_by(merged(**loggers), SETTINGS)
    logging.getLogger("fastserve").propagate = False  # Not to pytest.
    logging.getLogger("fastserve").info("x")
    assert capsys.readouterr().out == expected


INI = """
[loggers]
keys=root, uvicorn.error, access
[handlers]
keys=console, access
[formatters]
keys=default, access
[logger_root]
level=INFO
handlers=console
[logger_uvicorn.error]
level=INFO
handlers=console
propagate=0
qualname=uvicorn.error
[logger_access]
level=INFO
handlers=access
propagate=0
qualname=uvicorn.access
[handler_console]
class=StreamHandler
formatter=default
args=(sys.stderr,)
[handler_access]
class=StreamHandler
formatter=access
args=(sys.stdout,)
[formatter_default]
format=%(levelprefix)s %(message)s
class=uvicorn.logging.DefaultFormatter
[formatter_access]
format=%(levelprefix)s %(client_addr)s - "%(request_line)s" %(status_code)s
class=uvicorn.logging.AccessFormatter
"""


def parsed() -> configparser.RawConfigParser:
    parser = configparser.ConfigParser()
    parser.read_string(INI)
    return parser


@pytest.mark.parametrize("kind", ["path", "text path", "parser", "file"])
def test_an_ini_file_of_uvicorn_is_taken(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "log.ini"
    path.write_text(INI)
    forms: dict[str, LogConfig] = {"path": path, "text path": str(path), "parser": parsed(), "file": io.StringIO(INI)}
    root = logging.getLogger()
    before = root.level, root.handlers[:]
    try:
        configure_logging_by(forms[kind], SETTINGS)
        log_all()
    finally:
        root.level, root.handlers[:] = before
    assert capsys.readouterr() == (EXPECTED_OUT, EXPECTED_ERR)


@pytest.mark.parametrize("suffix", [".json", ".yaml"])
def test_a_file_of_uvicorn_is_taken(suffix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / f"log{suffix}"
    path.write_text(json.dumps(uvicorn.config.LOGGING_CONFIG))  # which is YAML too
    configure_logging(LogSettings(log_config=str(path)))
    log_all()
    assert capsys.readouterr() == (EXPECTED_OUT, EXPECTED_ERR)


def test_the_level_of_the_configuration_holds_unless_another_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    config = merged(fastserve={"handlers": ["a"], "level": "DEBUG", "propagate": False})
    configure_logging_by(config, SETTINGS)
    logging.getLogger("fastserve").debug("shown")
    configure_logging_by(config, LogSettings(log_level="info"))
    logging.getLogger("fastserve").debug("not shown")
    assert capsys.readouterr().out == "a shown\n"


def test_the_configuration_that_is_given_is_not_changed() -> None:
    config = copy.deepcopy(uvicorn.config.LOGGING_CONFIG)
    configure_logging_by(config, SETTINGS)
    assert config == uvicorn.config.LOGGING_CONFIG
    before = copy.deepcopy(LOGGING_CONFIG)
    configure_logging_by(LOGGING_CONFIG, SETTINGS)
    assert before == LOGGING_CONFIG


def test_no_configuration_leaves_logging_as_it_is() -> None:
    handler = logging.NullHandler()
    logging.getLogger("fastserve").addHandler(handler)
    configure_logging_by(None, SETTINGS)
    assert logging.getLogger("fastserve").handlers == [handler]


def test_a_dictionary_that_cannot_be_used_is_named() -> None:
    with pytest.raises(SettingsError, match=r"^--log-config: a dictionary: "):
        configure_logging_by({"version": 7}, SETTINGS)


# What applications do to uvicorn's loggers.


def configured() -> AccessLog:
    """Configure logging as the command does, and open the access log.

    Not in a fixture: after that, pytest adds handlers of its own.
    """
    configure_logging(SETTINGS)
    loop = asyncio.new_event_loop()
    log = open_access_log(SETTINGS, loop)
    loop.close()
    assert log is not None
    return log


def adopted(log: AccessLog) -> None:
    """Adopt what has been done while the application started, and log two requests as the access log does then."""
    adopt_uvicorn_loggers()
    log.look_again()
    assert log._stream is None
    for path in ("/a", "/health"):
        logging.getLogger("fastserve.access").info(ACCESS, "1.2.3.4:5", "GET", path, "1.1", 200)


def test_a_filter_leaves_requests_out(capsys: pytest.CaptureFixture[str]) -> None:
    access_log = configured()
    logging.getLogger("uvicorn.access").addFilter(lambda record: "/health" not in record.getMessage())
    adopted(access_log)
    assert capsys.readouterr().out == 'INFO:     1.2.3.4:5 - "GET /a HTTP/1.1" 200 OK\n'


def test_another_format_of_the_handler_is_used(capsys: pytest.CaptureFixture[str]) -> None:
    access_log = configured()
    logging.getLogger("uvicorn.access").handlers[0].setFormatter(logging.Formatter("mine %(message)s"))
    adopted(access_log)
    assert capsys.readouterr().out.startswith('mine 1.2.3.4:5 - "GET /a HTTP/1.1" 200\n')


@pytest.mark.parametrize("how", ["level", "disabled"])
def test_silence_is_kept(how: str, capsys: pytest.CaptureFixture[str]) -> None:
    access_log = configured()
    if how == "level":
        logging.getLogger("uvicorn.access").setLevel(logging.WARNING)
    else:
        logging.getLogger("uvicorn.access").disabled = True
    adopted(access_log)
    assert capsys.readouterr().out == ""


def test_nothing_changes_when_nothing_was_done() -> None:
    access_log = configured()
    before = [(logger.handlers[:], logger.filters[:], logger.level) for logger in our_loggers()]
    adopt_uvicorn_loggers()
    access_log.look_again()
    assert access_log._stream is not None
    assert [(logger.handlers[:], logger.filters[:], logger.level) for logger in our_loggers()] == before


def our_loggers() -> list[logging.Logger]:
    return [logging.getLogger(name) for name in ("fastserve", "fastserve.access")]


# The handlers of uvicorn's loggers replaced: each line is written as often as uvicorn writes it, and by the same.


class Kept(logging.Handler):
    """A handler that keeps what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


UVICORNS = ("uvicorn", "uvicorn.error", "uvicorn.access")


def replace_handlers(kept: Kept) -> None:
    for name in UVICORNS:
        logger = logging.getLogger(name)
        logger.handlers = [kept]
        logger.propagate = False


def intercept_at_the_root(kept: Kept) -> None:
    logging.root.handlers = [kept]
    for name in UVICORNS:
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True


def intercept_every_logger(kept: Kept) -> None:
    logging.root.handlers = [kept]
    for name in (*UVICORNS, "fastserve", "fastserve.access"):
        logger = logging.getLogger(name)
        logger.handlers = []
        logger.propagate = True


def replace_the_outer_one(kept: Kept) -> None:
    logging.getLogger("uvicorn").handlers = [kept]
    logging.getLogger("uvicorn.access").handlers = []
    logging.getLogger("uvicorn.access").propagate = True


def configure_anew(kept: Kept) -> None:
    loggers = {name: {"handlers": ["kept"], "level": "INFO", "propagate": False} for name in UVICORNS}
    handlers = {"kept": {"()": lambda: kept}}
    config = {"version": 1, "disable_existing_loggers": False, "handlers": handlers, "loggers": loggers}
    logging.config.dictConfig(config)
    for name in ("fastserve", "fastserve.access"):  # As all that are not named, unless it says otherwise.
        logging.getLogger(name).disabled = True


@pytest.mark.parametrize("server", ["fastserve", "uvicorn"])
@pytest.mark.parametrize(
    "change",
    [replace_handlers, intercept_at_the_root, intercept_every_logger, replace_the_outer_one, configure_anew],
)
def test_each_line_is_written_once_by_the_handler_that_replaces_those_of_uvicorn(
    change: Callable[[Kept], None], server: str, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = Kept()
    if server == "fastserve":
        configured()
        others = [each for each in logging.getLogger("fastserve").handlers if each.formatter]
        change(kept)
        adopt_uvicorn_loggers()
        adopt_uvicorn_loggers()
        assert not set(others) & set(logging.getLogger("fastserve").handlers)
        names = ("fastserve", "fastserve.access")
    else:
        uvicorn.Config("main:app").configure_logging()
        change(kept)
        names = ("uvicorn.error", "uvicorn.access")
    logging.getLogger(names[0]).info("server")
    logging.getLogger(names[1]).info(ACCESS, *ARGUMENTS)
    assert kept.lines == ["server", ACCESS % ARGUMENTS]
    assert capsys.readouterr() == ("", "")


def test_a_handler_that_is_removed_while_the_application_starts_gets_no_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    access_log = configured()
    adopt_uvicorn_loggers()
    logging.getLogger("uvicorn.access").handlers.clear()
    adopted(access_log)
    assert capsys.readouterr() == ("", "")


def test_what_ours_are_configured_for_is_kept_when_uvicorns_are_changed(capsys: pytest.CaptureFixture[str]) -> None:
    own, theirs = Kept(), Kept()
    configured()
    logging.getLogger("fastserve.access").handlers = [own]
    logging.getLogger("uvicorn.access").handlers = [theirs]
    adopt_uvicorn_loggers()
    logging.getLogger("fastserve.access").info("x")
    assert (own.lines, theirs.lines) == (["x"], [])


def test_a_level_that_is_lowered_holds(capsys: pytest.CaptureFixture[str]) -> None:
    configured()
    logging.getLogger("uvicorn.error").setLevel(logging.DEBUG)
    adopt_uvicorn_loggers()
    logging.getLogger("fastserve").debug("x")
    assert capsys.readouterr().err == "DEBUG:    x\n"


def test_without_a_configuration_the_handlers_of_uvicorns_loggers_are_taken() -> None:
    kept = Kept()
    logging.getLogger("uvicorn.access").handlers = [kept]
    logging.getLogger("uvicorn.access").propagate = False
    configure_logging_by(None, SETTINGS)
    adopt_uvicorn_loggers()
    logging.getLogger("fastserve.access").warning("x")
    assert kept.lines == ["x"]
    assert logging.getLogger("fastserve.access").handlers == [kept]

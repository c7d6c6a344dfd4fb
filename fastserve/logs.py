"""The loggers of fastserve and what they print.

`fastserve` is for what the server has to say, on standard error; `fastserve.access` is for one line a request, on
standard output. The formats are those of uvicorn, which people and tools know.
"""

from __future__ import annotations

import copy
import json
import logging
import logging.config
import re
import sys
from http import HTTPStatus
from pathlib import Path
from typing import Any

import click

from fastserve.errors import SettingsError
from fastserve.settings import LogSettings

TRACE = 5
"""The level below DEBUG."""

_COLORS = {
    TRACE: "blue",
    logging.DEBUG: "cyan",
    logging.INFO: "green",
    logging.WARNING: "yellow",
    logging.ERROR: "red",
    logging.CRITICAL: "bright_red",
}
_STATUS_COLORS = {1: "bright_white", 2: "green", 3: "yellow", 4: "red", 5: "bright_red"}


class LevelFormatter(logging.Formatter):
    """Adds `levelprefix`: the name of the level and a colon, in nine columns, coloured on a terminal.

    use_colors: None decides by whether `stream` is a terminal.
    """

    stream = "stderr"

    def __init__(self, fmt: str | None = None, datefmt: str | None = None, use_colors: bool | None = None) -> None:
        super().__init__(fmt, datefmt)
        self.use_colors = use_colors if use_colors is not None else getattr(sys, self.stream).isatty()

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        """Format the record (see logging.Formatter)."""
        record = copy.copy(record)
        self.add_fields(record)
        return super().formatMessage(record)

    def add_fields(self, record: logging.LogRecord) -> None:
        """Give the record what the format names besides the usual fields."""
        padding = " " * (8 - len(record.levelname))
        record.levelprefix = f"{self.color(record.levelname, _COLORS.get(record.levelno))}:{padding}"

    def color(self, text: str, color: str | None, **style: bool) -> str:
        """Return the text in a colour, if colours are used."""
        return click.style(text, fg=color, **style) if self.use_colors else text


_ACCESS_ARGUMENTS = 5


class AccessFormatter(LevelFormatter):
    """Formats records of `fastserve.access`, whose arguments are address, method, target, HTTP version and status.

    Adds `client_addr`, `request_line` and `status_code` (with its phrase).
    """

    stream = "stdout"

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        """Format the record; one with another format of `--access-log-format` is a whole line already."""
        if isinstance(record.args, tuple) and len(record.args) == _ACCESS_ARGUMENTS:
            return super().formatMessage(record)
        return record.getMessage()

    def add_fields(self, record: logging.LogRecord) -> None:
        """See LevelFormatter."""
        super().add_fields(record)
        assert isinstance(record.args, tuple)
        address, method, target, version, status = record.args
        assert isinstance(status, int)
        record.client_addr = address
        record.request_line = self.color(f"{method} {target} HTTP/{version}", None, bold=True)
        record.status_code = self.color(f"{status} {phrase(status)}".rstrip(), _STATUS_COLORS.get(status // 100))


def phrase(status: int) -> str:
    """Return the reason phrase of a status, "" when it has none."""
    if status == 499:
        return "Client Closed Request"
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


LOGGING_CONFIG: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "default": {"()": "fastserve.logs.LevelFormatter", "fmt": "%(levelprefix)s %(message)s", "use_colors": None},
        "access": {
            "()": "fastserve.logs.AccessFormatter",
            "fmt": '%(levelprefix)s %(client_addr)s - "%(request_line)s" %(status_code)s',
            "use_colors": None,
        },
    },
    "handlers": {
        "default": {"formatter": "default", "class": "logging.StreamHandler", "stream": "ext://sys.stderr"},
        "access": {"formatter": "access", "class": "logging.StreamHandler", "stream": "ext://sys.stdout"},
    },
    "loggers": {
        "fastserve": {"handlers": ["default"], "level": "INFO", "propagate": False},
        "fastserve.access": {"handlers": ["access"], "level": "INFO", "propagate": False},
    },
}
"""What logging is configured with when there is no --log-config."""


def configure_logging(settings: LogSettings) -> None:
    """Configure the logging module.

    Raises:
        SettingsError: the file of --log-config cannot be used.
    """
    logging.addLevelName(TRACE, "TRACE")
    if settings.access_log_format not in (None, "json"):
        parse_access_format(settings.access_log_format)
    if settings.log_config is not None:
        _configure_from_file(settings.log_config)
    else:
        config = copy.deepcopy(LOGGING_CONFIG)
        for formatter in config["formatters"].values():
            formatter["use_colors"] = settings.use_colors
        logging.config.dictConfig(config)
    level = TRACE if settings.log_level == "trace" else settings.log_level.upper()
    logging.getLogger("fastserve").setLevel(level)
    logging.getLogger("fastserve.access").setLevel(level)


def _configure_from_file(path: str) -> None:
    try:
        if path.endswith(".json"):
            logging.config.dictConfig(json.loads(Path(path).read_text()))
        elif path.endswith((".yaml", ".yml")):
            logging.config.dictConfig(_read_yaml(path))
        else:
            logging.config.fileConfig(path, disable_existing_loggers=False)
    except OSError as error:
        raise SettingsError(f"--log-config: {path}: {error.strerror or error}") from None
    except SettingsError:
        raise
    except Exception as error:  # Whatever the classes that the file names may raise.
        raise SettingsError(f"--log-config: {path}: {' '.join(str(error).split())}") from None


def _read_yaml(path: str) -> Any:
    try:
        import yaml
    except ImportError:
        raise SettingsError("--log-config: a YAML file needs PyYAML; install it with: pip install pyyaml") from None
    return yaml.safe_load(Path(path).read_text())


def is_direct(logger: logging.Logger) -> bool:
    """Tell whether records of a logger go to one stream only, as LOGGING_CONFIG has it for the access log."""
    if logger.propagate or logger.filters or len(logger.handlers) != 1:
        return False
    handler = logger.handlers[0]
    if type(handler) is not logging.StreamHandler or handler.filters or handler.level > logging.INFO:
        return False
    expected = LOGGING_CONFIG["formatters"]["access"]["fmt"]
    return type(handler.formatter) is AccessFormatter and handler.formatter._fmt == expected


_DIRECTIVE = re.compile(r"%(?:>?([hlutrsbBDTmUqHP])|\{([^}]+)\}([io])|(%))")


def parse_access_format(text: str) -> list[tuple[str, str | None]]:
    """Return the parts of an Apache log format: (text, None), and (directive, argument), which is "" without one.

    Raises:
        SettingsError: it has a directive that is not known.
    """
    parts: list[tuple[str, str | None]] = []
    at = 0
    for match in _DIRECTIVE.finditer(text):
        parts.append((text[at : match.start()], None))
        simple, argument, directive, percent = match.groups()
        parts.append(("%", None) if percent else (simple or directive, argument or ""))
        at = match.end()
    parts.append((text[at:], None))
    for part, argument in parts:
        if argument is None and "%" in part and part != "%":
            raise SettingsError(f"--access-log-format: unknown directive at {part[part.index('%') :]!r}")
    return [(part, argument) for part, argument in parts if part]


def reopen_log_files() -> None:
    """Close and open again all files that are logged to, which someone may have moved (logrotate)."""
    loggers = [logging.root, *logging.root.manager.loggerDict.values()]
    handlers = {handler for logger in loggers if isinstance(logger, logging.Logger) for handler in logger.handlers}
    for handler in handlers:
        if isinstance(handler, logging.FileHandler):
            _reopen(handler)


def _reopen(handler: logging.FileHandler) -> None:
    try:
        before = handler.setStream(handler._open())
    except OSError as error:
        # The file that was moved is better than none.
        logging.getLogger("fastserve").error("Cannot open %s: %s", handler.baseFilename, error.strerror)
    else:
        if before is not None:
            before.close()

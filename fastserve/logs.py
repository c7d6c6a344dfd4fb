"""The loggers of fastserve and what they print.

`fastserve` is for what the server has to say, on standard error; `fastserve.access` is for one line a request, on
standard output. The formats are those of uvicorn, which people and tools know.
"""

from __future__ import annotations

import configparser
import contextlib
import copy
import json
import logging
import logging.config
import os
import re
import sys
from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple, TypeAlias

import click

from fastserve.errors import SettingsError
from fastserve.settings import LogSettings
from fastserve.streams import is_terminal, open_missing_streams

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

    A record that has a `color_message`, as those of uvicorn may, is given that message when colours are used.

    use_colors: None decides by whether `stream` is a terminal, and there is no NO_COLOR (https://no-color.org).
    """

    stream = "stderr"

    def __init__(
        self,
        fmt: str | None = None,
        datefmt: str | None = None,
        style: Literal["%", "{", "$"] = "%",
        use_colors: bool | None = None,
    ) -> None:
        super().__init__(fmt, datefmt, style)
        if use_colors is None:
            use_colors = is_terminal(getattr(sys, self.stream)) and not os.environ.get("NO_COLOR")
        self.use_colors = use_colors

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        """Format the record (see logging.Formatter)."""
        record = copy.copy(record)
        if self.use_colors and "color_message" in vars(record):
            record.msg = vars(record)["color_message"]
            record.message = record.getMessage()
        self.add_fields(record)
        return super().formatMessage(record)

    def add_fields(self, record: logging.LogRecord) -> None:
        """Give the record what the format names besides the usual fields."""
        padding = " " * (8 - len(record.levelname))
        record.levelprefix = f"{self.color(record.levelname, _COLORS.get(record.levelno))}:{padding}"

    def color(self, text: str, color: str | None, **style: bool) -> str:
        """Return the text in a colour, if colours are used."""
        return click.style(text, fg=color, **style) if self.use_colors else text


def log_colored(logger: logging.Logger, message: str, *arguments: object, **style: Any) -> None:
    """Log a message for information, with its arguments in this style of click where colours are used."""
    colored = _CONVERSION.sub(lambda match: click.style(match[0], **style), message)
    logger.info(message, *arguments, extra={"color_message": colored}, stacklevel=2)


_CONVERSION = re.compile("%[ds]")
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


_OTHER_PHRASES = {444: "No Response", 499: "Client Closed Request"}  # of nginx, for what has no response


def phrase(status: int) -> str:
    """Return the reason phrase of a status, "" when it has none."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return _OTHER_PHRASES.get(status, "")


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
        # Where applications that were written for uvicorn log, and what they change (see adopt_uvicorn_loggers).
        "uvicorn": {"handlers": ["default"], "level": "INFO", "propagate": False},
        "uvicorn.access": {"handlers": ["access"], "level": "INFO", "propagate": False},
    },
}
"""What logging is configured with when there is no --log-config."""

LogConfig: TypeAlias = dict[str, Any] | str | os.PathLike[str] | configparser.RawConfigParser | IO[Any] | None
"""How logging is configured: for dictConfig or fileConfig, or from such a file; None leaves it as it is."""


def configure_logging(settings: LogSettings) -> None:
    """Configure the logging module.

    Raises:
        SettingsError: the file of --log-config cannot be used.
    """
    configure_logging_by(settings.log_config if settings.log_config is not None else LOGGING_CONFIG, settings)


def configure_logging_by(config: LogConfig, settings: LogSettings) -> None:
    """Configure the logging module by this, and the level by the settings. There are standard streams from then on.

    Raises:
        SettingsError: the configuration, or the file that it is in, cannot be used.
    """
    open_missing_streams()
    logging.addLevelName(TRACE, "TRACE")
    if isinstance(config, dict):
        _configure_from_dict("a dictionary", config, settings.use_colors)
    elif config is not None:
        _configure_from_file(config)
    if settings.log_level is not None:
        level = TRACE if settings.log_level == "trace" else settings.log_level.upper()
        for name in ("fastserve", "fastserve.access", "uvicorn", "uvicorn.access"):
            logging.getLogger(name).setLevel(level)
    _seen.clear()
    if config is not None:
        _look_at_loggers()


def _configure_from_dict(where: str, config: dict[str, Any], use_colors: bool | None) -> None:
    config = from_uvicorn(config)
    for name in ("default", "access"):
        formatter = config.get("formatters", {}).get(name)
        if use_colors is not None and formatter is not None and "()" in formatter:
            formatter["use_colors"] = use_colors
    try:
        logging.config.dictConfig(config)
    except Exception as error:  # Whatever the classes that it names may raise.
        raise SettingsError(f"{where}: {_explain(error)}", "--log-config") from None


def _explain(error: BaseException) -> str:
    """Return what is wrong in one line, with the reasons."""
    said = " ".join(str(error).split())
    cause = error.__cause__
    while cause is not None:
        reason = " ".join(str(cause).split())
        if reason not in said:
            said = f"{said}: {reason}"
        cause = cause.__cause__
    return said


# Configurations that were written for uvicorn.

_CLASSES = {
    "uvicorn.logging.DefaultFormatter": "fastserve.logs.LevelFormatter",
    "uvicorn.logging.ColourizedFormatter": "fastserve.logs.LevelFormatter",
    "uvicorn.logging.AccessFormatter": "fastserve.logs.AccessFormatter",
}


def from_uvicorn(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration for dictConfig in which what is said of uvicorn's loggers holds for those of fastserve.

    Loggers of fastserve that it names itself stay as they are.
    """
    changed = copy.deepcopy(dict(config))
    for formatter in changed.get("formatters", {}).values():
        for key in ("()", "class"):
            if isinstance(formatter.get(key), str):
                formatter[key] = _CLASSES.get(formatter[key], formatter[key])
    loggers = changed.get("loggers", {})
    if "uvicorn.access" in loggers:
        loggers.setdefault("fastserve.access", copy.deepcopy(loggers["uvicorn.access"]))
    server = _merged(loggers.get("uvicorn"), loggers.get("uvicorn.error"))
    if server is not None and "fastserve" not in loggers:
        loggers["fastserve"] = server
    return changed


def _merged(outer: dict[str, Any] | None, inner: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return one logger that does what two do of which one is above the other."""
    if outer is None or inner is None:
        return copy.deepcopy(outer) if inner is None else copy.deepcopy(inner)
    propagates = inner.get("propagate", True)
    handlers = [*inner.get("handlers", []), *(outer.get("handlers", []) if propagates else [])]
    return {
        "handlers": list(dict.fromkeys(handlers)),
        "filters": inner.get("filters", []),
        "level": inner.get("level") or outer.get("level") or "NOTSET",
        "propagate": propagates and outer.get("propagate", True),
    }


def _parser_from_uvicorn(parser: configparser.RawConfigParser) -> None:
    """Change a configuration for fileConfig in the same way; sections are what dictionaries are there."""
    for section in parser.sections():
        name = parser.get(section, "class", fallback="")
        if section.startswith("formatter_") and name in _CLASSES:
            parser.set(section, "class", _CLASSES[name])
    keys = [key.strip() for key in parser.get("loggers", "keys", fallback="").split(",")]
    sections = {parser.get(f"logger_{key}", "qualname", fallback=key): f"logger_{key}" for key in keys if key}
    loggers = {name: _read_logger(parser, section) for name, section in sections.items()}
    wanted = {
        "fastserve": _merged(loggers.get("uvicorn"), loggers.get("uvicorn.error")),
        "fastserve.access": loggers.get("uvicorn.access"),
    }
    for name, logger in wanted.items():
        if logger is not None and name not in loggers:
            keys.append(name)
            parser[f"logger_{name}"] = {
                "qualname": name,
                "level": logger["level"],
                "handlers": ",".join(logger["handlers"]),
                "propagate": str(int(logger["propagate"])),
            }
    if parser.has_section("loggers"):
        parser.set("loggers", "keys", ",".join(keys))


def _read_logger(parser: configparser.RawConfigParser, section: str) -> dict[str, Any]:
    handlers = parser.get(section, "handlers", fallback="").split(",")
    return {
        "handlers": [handler.strip() for handler in handlers if handler.strip()],
        "level": parser.get(section, "level", fallback="NOTSET"),
        "propagate": parser.getboolean(section, "propagate", fallback=True),
    }


class _Effect(NamedTuple):
    """What becomes of the records of a logger. handlers: all that get them, also by loggers above."""

    handlers: list[logging.Handler]
    filters: list[Any]
    level: int
    disabled: bool

    @classmethod
    def of(cls, logger: logging.Logger) -> _Effect:
        """Return what becomes of records now."""
        handlers: list[logging.Handler] = []
        above: logging.Logger | None = logger
        while above is not None:
            handlers += above.handlers
            above = above.parent if above.propagate else None
        return cls(handlers, logger.filters[:], logger.getEffectiveLevel(), logger.disabled)


_COUNTERPARTS = {"uvicorn.access": "fastserve.access", "uvicorn.error": "fastserve"}
# How uvicorn's logger and ours were when last looked at. Like loggers, this is of the process.
_seen: dict[str, tuple[_Effect, _Effect]] = {}


def _look_at_loggers() -> None:
    for theirs, ours in _COUNTERPARTS.items():
        _seen[theirs] = _Effect.of(logging.getLogger(theirs)), _Effect.of(logging.getLogger(ours))


def log_with(server: logging.Logger, access: logging.Logger) -> None:
    """Log where these loggers do, also what applications log for uvicorn, as far as that is not decided already.

    What the application has done to uvicorn's, or does later, can be adopted as ever.
    """
    for ours, theirs, other in (("fastserve", "uvicorn.error", server), ("fastserve.access", "uvicorn.access", access)):
        own = logging.getLogger(ours)
        if not own.handlers and own.level == logging.NOTSET:  # Else it is in the configuration.
            _log_like(own, other)
        _log_like(logging.getLogger(theirs), other)
        given = _Effect(_Effect.of(other).handlers, [], other.getEffectiveLevel(), False)
        _seen[theirs] = given, _Effect.of(own)


def _log_like(logger: logging.Logger, other: logging.Logger) -> None:
    if not logger.handlers:
        if other.handlers and not other.propagate:
            logger.handlers = other.handlers[:]
            logger.propagate = False
        else:
            logger.parent = other  # Loggers above have a say in it.
    if logger.level == logging.NOTSET:
        logger.setLevel(other.level)


def adopt_uvicorn_loggers() -> None:
    """Let what the application has done to uvicorn's loggers since logging was configured hold for ours.

    That is what becomes of their records: handlers, filters, levels, silence. A change of ours themselves counts more.
    """
    for theirs, ours in _COUNTERPARTS.items():
        target = logging.getLogger(ours)
        untouched = _Effect(logging.root.handlers[:], [], logging.root.level, False)
        before, own_before = _seen.get(theirs, (untouched, _Effect.of(target)))
        _adopt(target, own_before, before, _Effect.of(logging.getLogger(theirs)))
    _look_at_loggers()


def _adopt(target: logging.Logger, own_before: _Effect, before: _Effect, now: _Effect) -> None:
    own = _Effect.of(target)
    for each in before.filters:
        if each not in now.filters:
            target.removeFilter(each)
    for each in now.filters:
        if each not in before.filters:
            target.addFilter(each)
    if now.level != before.level and own.level == own_before.level:
        target.setLevel(now.level)
    target.disabled = own.disabled or now.disabled
    if now.handlers != before.handlers and own.handlers == own_before.handlers:
        kept = [each for each in own.handlers if each not in before.handlers or each in now.handlers]
        added = [each for each in now.handlers if each not in before.handlers and each not in kept]
        target.handlers[:] = [*kept, *added]
        target.propagate = False  # What is above is among them.
        target.disabled = now.disabled  # As all others are by a dictConfig that names uvicorn's.


def _configure_from_file(config: str | os.PathLike[str] | configparser.RawConfigParser | IO[Any]) -> None:
    path = os.fspath(config) if isinstance(config, str | os.PathLike) else "a file"
    try:
        if path.endswith(".json"):
            _configure_from_dict(path, json.loads(Path(path).read_text()), None)
        elif path.endswith((".yaml", ".yml")):
            _configure_from_dict(path, _read_yaml(path), None)
        else:
            parser = _read_parser(config)
            _parser_from_uvicorn(parser)
            logging.config.fileConfig(parser, disable_existing_loggers=False)
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror or error}", "--log-config") from None
    except SettingsError:
        raise
    except Exception as error:  # Whatever the classes that the file names may raise.
        raise SettingsError(f"{path}: {_explain(error)}", "--log-config") from None


def _read_parser(
    config: str | os.PathLike[str] | configparser.RawConfigParser | IO[Any],
) -> configparser.RawConfigParser:
    if isinstance(config, configparser.RawConfigParser):
        return config
    parser = configparser.ConfigParser()
    text = Path(config).read_text() if isinstance(config, str | os.PathLike) else config.read()
    parser.read_string(text)
    return parser


def _read_yaml(path: str) -> Any:
    try:
        import yaml
    except ImportError:
        raise SettingsError("a YAML file needs PyYAML; install it with: pip install pyyaml", "--log-config") from None
    return yaml.safe_load(Path(path).read_text())


def is_direct(logger: logging.Logger) -> bool:
    """Tell whether records of a logger go to one stream only, as LOGGING_CONFIG has it for the access log."""
    if logger.propagate or logger.filters or len(logger.handlers) != 1 or not logger.isEnabledFor(logging.INFO):
        return False
    handler = logger.handlers[0]
    if type(handler) is not logging.StreamHandler or handler.filters or handler.level > logging.INFO:
        return False
    expected = LOGGING_CONFIG["formatters"]["access"]["fmt"]
    return type(handler.formatter) is AccessFormatter and handler.formatter._fmt == expected


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
            with contextlib.suppress(OSError):  # What could not be written is lost.
                before.close()

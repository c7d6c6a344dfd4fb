"""`Config`: the options of a server in a program, under the names that `uvicorn.Config` has for them."""

from __future__ import annotations

import asyncio
import difflib
import logging
import os
import socket
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from fastserve.asgi.types import ASGIApp
from fastserve.environment import fall_back, load_env_file, naming_places
from fastserve.errors import AppLoadError, BindError, CertificateError, SettingsError
from fastserve.logs import LOGGING_CONFIG, TRACE, LogConfig, configure_logging_by
from fastserve.net.certificates import open_certificates
from fastserve.net.connection import Connection
from fastserve.peers import ALIASES, FALLBACKS, FULFILLED, KEYWORDS, NONE_MEANS, NOT_GIVEN, PLURALS
from fastserve.settings import Settings, declared_options, option_groups, option_name
from fastserve.supervisor.listeners import bind_one
from fastserve.values import declarations, number, value_of
from fastserve.worker.apploader import check_app, load_app
from fastserve.worker.lifespan import Lifespan
from fastserve.worker.loops import loop_factory
from fastserve.worker.owner import announce

__all__ = ["LOGGING_CONFIG", "Config"]

_log = logging.getLogger("fastserve")

STARTUP_FAILURE = 3
"""The status with which a program ends whose server cannot start."""

_LEVELS = {
    TRACE: "trace",
    logging.DEBUG: "debug",
    logging.INFO: "info",
    logging.WARNING: "warning",
    logging.ERROR: "error",
    logging.CRITICAL: "critical",
}


_DECLARED = declarations()
# What is meant by the names that uvicorn has for arguments, where ours are others.
_MEANT = {
    **{plural: name for name, plural in PLURALS.items()},
    **{flag.removeprefix("--").replace("-", "_"): name for flag, name in ALIASES.items() if flag.startswith("--")},
}
_FULFILLED = {flag.removeprefix("--").replace("-", "_") for flag in FULFILLED}


class ConfigLifespan(Lifespan):
    """The lifespan of the application of a Config, which is loaded.

    Programs that drive a uvicorn.Server by hand give it one. A Server of ours makes its own in `startup`.
    """

    def __init__(self, config: Config) -> None:
        super().__init__(config.loaded_app, config.settings.app.lifespan)


class Config:
    """What a `Server` serves, and how.

    app: the application, or what names it as in "main:app". The keywords are the options of the command line in snake
    case (docs/settings.md), and those of `uvicorn.Config`; None is the default. Attributes of the same names may be
    changed until the server starts. log_config: as for `logging.config`, or None to leave logging as it is.
    callback_notify: awaited every `timeout_notify` seconds.

    Logging is configured, and `env_file` loaded, when this is made.

    Raises:
        TypeError: a keyword is unknown.
        SettingsError: a value is bad, or there is no such thing here.
    """

    app: ASGIApp | Callable[..., Any] | str
    host: str
    port: int
    workers: int
    reload: bool

    def __init__(
        self,
        app: ASGIApp | Callable[..., Any] | str,
        host: str = "127.0.0.1",
        port: int = 8000,
        *,
        log_config: LogConfig = LOGGING_CONFIG,
        timeout_notify: float = 30,
        callback_notify: Callable[[], Awaitable[None]] | None = None,
        app_dir: str | None = None,
        **options: Any,
    ) -> None:
        self.app = app
        self.log_config = log_config
        self.timeout_notify = _seconds("timeout_notify", timeout_notify)
        self.callback_notify = callback_notify
        self.loaded = False
        self.ssl: ssl.SSLContext | None = None
        self._names = _DECLARED.keys() - {"log_config"}
        for name in self._names:
            setattr(self, name, None)
        for keyword, value in {"host": host, "port": port, "app_dir": app_dir, **options}.items():
            self._take(keyword, value)
        self._set_defaults()
        self.configure_logging()
        env_file = vars(self)["env_file"]
        if env_file is not None:
            load_env_file(env_file, os.environ)
        with naming_places(self._fall_back()):
            self.settings  # noqa: B018  # So that what is wrong is said here.

    def __getattr__(self, name: str) -> Any:
        # Only what has another name is not found without this.
        if _attribute(name) == name:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return getattr(self, _attribute(name))

    def __setattr__(self, name: str, value: Any) -> None:
        object.__setattr__(self, _attribute(name), value)

    def _take(self, keyword: str, value: Any) -> None:
        """Take the value of a keyword.

        Raises:
            TypeError: there is no such keyword.
            SettingsError: uvicorn has it, and fastserve does not, or the value is bad.
        """
        if keyword in KEYWORDS:
            if value:
                raise SettingsError(f"{keyword}: {KEYWORDS[keyword]}")
            return
        if keyword in _FULFILLED:
            return
        name = name_meant(keyword)
        if name not in self._names:
            close = difflib.get_close_matches(keyword, [*self._names, *_MEANT, "log_config"], 1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise TypeError(f"Config has no keyword {keyword!r}{hint}")
        if name in NOT_GIVEN and value == NOT_GIVEN[name]:
            return
        if value is None:
            value = NONE_MEANS.get(name)
        elif name != "log_level" and not _DECLARED[name].is_multiple:
            value = value_of(_DECLARED[name], value)
        if value is not None or getattr(self, name) is None:
            setattr(self, name, value)

    def _set_defaults(self) -> None:
        """Give attributes for which there was no value that which holds, as `uvicorn.Config` has it."""
        self._given = {name: vars(self).get(name) for name in FALLBACKS}
        for _, group in option_groups():
            for name, declared in declared_options(group):
                attribute = option_name(declared)
                default = group.__dataclass_fields__[name].default
                if attribute != "log_config" and getattr(self, attribute) is None and attribute != "app_dir":
                    setattr(self, attribute, list(default) if isinstance(default, tuple) else default)

    def _fall_back(self) -> dict[str, str]:
        """Take the values that variables have where there are no others, and return these variables, by flag."""
        found = list(fall_back(self._given, os.environ))
        for each in found:
            _log.info("%s.", each.note)
        for name, value in self._given.items():
            if value is not None:
                setattr(self, name, value)
        return {each.flag: each.variable for each in found}

    # What it comes to.

    @property
    def settings(self) -> Settings:
        """The settings that the attributes come to.

        Raises:
            SettingsError: a value is bad.
        """
        values = {"app": self.app if isinstance(self.app, str) else None}
        for name in self._names:
            value = _as_text(name, getattr(self, name))
            if name == "log_level" and isinstance(value, int):
                value = None  # The loggers get it as it is.
            if value is not None:
                values[name] = value_of(_DECLARED[name], value)
            elif name == "app_dir":
                values[name] = None
        return Settings.from_options(values)

    @property
    def asgi_version(self) -> str:
        """The version of ASGI by which the application is called."""
        return "3.0"

    @property
    def is_ssl(self) -> bool:
        """Whether connections are encrypted."""
        return bool(vars(self).get("ssl_certfile") or vars(self).get("ssl_keyfile"))

    @property
    def should_reload(self) -> bool:
        """Whether the application is imported anew when a file changes."""
        return isinstance(self.app, str) and self.reload

    @property
    def reload_dirs_excludes(self) -> list[Path]:
        """The directories among what is not watched."""
        return [Path(each) for each in self.reload_excludes if Path(each).is_dir()]

    @property
    def http2(self) -> bool:
        """Whether HTTP/2 is served, which it is not."""
        return False

    @property
    def ssl_context_factory(self) -> None:
        """Nothing: certificates come from files."""

    @property
    def reset_contextvars(self) -> bool:
        """Whether requests have context variables of their own, which they always have."""
        return True

    @property
    def use_subprocess(self) -> bool:
        """Whether the application runs in other processes than this."""
        return self.reload or self.workers != 1

    @property
    def encoded_headers(self) -> list[tuple[bytes, bytes]]:
        """The fields of every response."""
        settings = self.settings
        fields = [(name.lower(), value) for name, value in settings.http.fields]
        is_named = any(name == b"server" for name, _ in fields)
        return fields if is_named or not settings.http.server_header else [(b"server", b"fastserve"), *fields]

    @property
    def http_protocol_class(self) -> type[Connection]:
        """What serves a connection."""
        return Connection

    @property
    def ws_protocol_class(self) -> type[Connection]:
        """What serves a connection that was upgraded, which is the same."""
        return Connection

    @property
    def lifespan_class(self) -> type[ConfigLifespan]:
        """What runs the lifespan of the application. Made of a Config, as in uvicorn."""
        return ConfigLifespan

    def get_loop_factory(self) -> Callable[[], asyncio.AbstractEventLoop]:
        """Return what makes the event loop."""
        return loop_factory(self.settings.processes.loop)

    def setup_event_loop(self) -> None:
        """Fail, as in uvicorn: the loop is made by `get_loop_factory`.

        Raises:
            AttributeError: always.
        """
        raise AttributeError("use get_loop_factory(), which returns what makes the event loop")

    # What it does.

    def configure_logging(self) -> None:
        """Configure the logging module as `log_config`, `log_level` and `use_colors` say."""
        level = vars(self)["log_level"]
        if isinstance(level, str):
            self.log_level = level.lower()
        configure_logging_by(self.log_config, self.settings.logs)
        if isinstance(level, int) and level not in _LEVELS:
            for name in ("fastserve", "fastserve.access", "uvicorn", "uvicorn.access"):
                logging.getLogger(name).setLevel(level)

    def load_app(self) -> ASGIApp:
        """Return the application.

        Raises:
            AppLoadError: it cannot be imported or made, or is not an ASGI application.
        """
        settings = self.settings
        if isinstance(self.app, str):
            return load_app(settings.app)
        return check_app(self.app, repr(self.app), factory=settings.app.factory, interface=settings.app.interface)

    def load(self) -> None:
        """Import the application, as `loaded_app`, and read the certificates, for `ssl`.

        Raises:
            SystemExit: that fails, which is logged.
        """
        try:
            self.loaded_app = self.load_app()
            certificates = open_certificates(self.settings.tls)
        except (AppLoadError, CertificateError) as error:
            _log.error("%s", error.explain())
            raise SystemExit(STARTUP_FAILURE) from None
        self.ssl = certificates.context if certificates is not None else None
        self.loaded = True

    def bind_socket(self) -> socket.socket:
        """Return a socket for the first address, which is bound and does not listen, and say where it is.

        Raises:
            SystemExit: the address cannot be bound, which is logged.
        """
        settings = self.settings
        try:
            sock, url = bind_one(settings.bind.addresses[0], settings.bind.backlog, settings.tls.scheme)
        except BindError as error:
            _log.error("%s", error)
            raise SystemExit(STARTUP_FAILURE) from None
        announce([url])
        sock.set_inheritable(True)
        return sock


def _attribute(name: str) -> str:
    """Return the name of the attribute for what a program knows by this name: an option, a keyword, or neither."""
    option = name_meant(name)
    return PLURALS.get(option, option)


def name_meant(keyword: str) -> str:
    """Return the name here of an option, for a keyword of uvicorn."""
    return _MEANT.get(keyword, keyword)


def as_option(keyword: str, value: Any) -> tuple[str, Any] | None:
    """Return an option and its value, by its name here, for a keyword of uvicorn; None for what is so in any case.

    Raises:
        SettingsError: there is no such thing.
    """
    if keyword in _FULFILLED or (keyword in KEYWORDS and not value):
        return None
    if keyword in KEYWORDS:
        raise SettingsError(f"{keyword}: {KEYWORDS[keyword]}")
    name = name_meant(keyword)
    if name not in _DECLARED:
        raise SettingsError(f"unknown option {keyword!r}")
    return name, value_of(_DECLARED[name], _as_text(name, value))


def _as_text(name: str, value: Any) -> Any:
    """Return a value that can be converted: the name of a level of logging, if it has one."""
    return _LEVELS.get(value, value) if name == "log_level" and isinstance(value, int) else value


def _seconds(keyword: str, value: Any) -> float:
    try:
        return number(value)
    except ValueError as error:
        raise SettingsError(f"{keyword}: {error}") from None

"""The access log: one line for each request.

Lines are formatted without the logging module and written once for each turn of the event loop, as long as nobody has
changed where the log goes: with the handler that fastserve has configured, on a stream. Any other configuration of the
logger `fastserve.access` gets its records as usual.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import string
import time
from collections.abc import Callable
from time import perf_counter
from typing import Any, TextIO, TypeAlias
from urllib.parse import quote

import orjson

from fastserve.accessformats import Directive, parse_access_format
from fastserve.addresses import describe_client
from fastserve.asgi.answered import Answered
from fastserve.logs import AccessFormatter, is_direct, phrase
from fastserve.settings import LogSettings

_log = logging.getLogger("fastserve.access")
_server_log = logging.getLogger("fastserve")

_CLIENT_CLOSED_REQUEST = 499  # as nginx logs it: there was no response, because the connection was gone
_SWITCHING_PROTOCOLS = 101
_FAILURE = 500  # from here on, requests are logged whatever the sample is

LineFormat: TypeAlias = Callable[[Answered], str]
Getter: TypeAlias = Callable[[Answered], object]


class AccessLog:
    """Logs requests.

    settings: which ones, and in which format. loop: in whose turns lines are written.
    """

    def __init__(self, settings: LogSettings, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._excluded = frozenset(path.encode() for path in settings.access_log_exclude)
        self._sample = settings.access_log_sample
        self._format_text = settings.access_log_format
        self._format = _line_format(settings.access_log_format)
        self._stream: TextIO | None = _direct_stream(settings.access_log_format)
        self._is_read = True
        self._lines: list[str] = []

    def look_again(self) -> None:
        """Look where lines go, if the application has changed the logger while it started."""
        self._stream = _direct_stream(self._format_text)
        self._is_read = True

    def observe(self, exchange: Answered) -> None:
        """Log a request that has been answered, or that never will be."""
        if not self._is_read or not self._is_wanted(exchange):
            return
        if self._stream is None:
            self._log_record(exchange)
            return
        if not self._lines:
            self._loop.call_soon(self.flush)
        self._lines.append(self._format(exchange))

    def _is_wanted(self, exchange: Answered) -> bool:
        excluded = self._excluded
        if excluded and (exchange.head.raw_path in excluded or _whole_path(exchange) in excluded):
            return False
        return self._sample >= 1 or exchange.status >= _FAILURE or random.random() < self._sample

    def observe_handshake(self, session: Answered) -> None:
        """Log a WebSocket that was accepted or refused, if that is what the format is for: see `observe_end`."""
        if self._format is _default_line and self._is_wanted(session):
            log_handshake(session)

    def observe_end(self, session: Answered) -> None:
        """Log a WebSocket whose call has returned. Only formats that have a duration wait for that."""
        if self._format is not _default_line:
            self.observe(session)

    def _log_record(self, exchange: Answered) -> None:
        if self._format is _default_line:
            log_access(exchange)
        else:
            _log.info("%s", self._format(exchange).rstrip("\n"))

    def flush(self) -> None:
        """Write what is to be written."""
        lines, self._lines = self._lines, []
        if lines and self._stream is not None:
            try:
                self._stream.write("".join(lines))
                self._stream.flush()
            except (OSError, ValueError):  # Nobody reads it any more, which is no reason to fail.
                self._is_read = False


def open_access_log(settings: LogSettings, loop: asyncio.AbstractEventLoop) -> AccessLog | None:
    """Return what logs requests; None when nobody would read it."""
    if settings.access_log and _log.isEnabledFor(logging.INFO) and _log.hasHandlers():
        return AccessLog(settings, loop)
    return None


def log_access(exchange: Answered) -> None:
    """Log a request through the logging module, with the arguments that formatters know from uvicorn."""
    _log.info(_RECORD, *_record_arguments(exchange))


def passes_filters(exchange: Answered, logger: logging.Logger) -> bool:
    """Tell whether the filters of a logger would let the record of a request through, when it is logged by others."""
    if not logger.filters:
        return True
    arguments = _record_arguments(exchange)
    return bool(logger.filter(logger.makeRecord(logger.name, logging.INFO, "", 0, _RECORD, arguments, None)))


_RECORD = '%s - "%s %s HTTP/%s" %d'


def _record_arguments(exchange: Answered) -> tuple[str, str, str, str, int]:
    head = exchange.head
    status = exchange.status or _CLIENT_CLOSED_REQUEST
    return _client(exchange), head.method, _target(exchange), head.http_version, status


def log_handshake(session: Answered) -> None:
    """Log a WebSocket where uvicorn does: with what the server has to say."""
    outcome = "[accepted]" if session.status == _SWITCHING_PROTOCOLS else session.status
    _server_log.info('%s - "WebSocket %s" %s', _client(session), _target(session), outcome)


def log_opened(session: Answered) -> None:
    """Log, where uvicorn has it, what has become of a handshake."""
    if session.status == _SWITCHING_PROTOCOLS:
        _server_log.info("connection open")
    else:
        _server_log.info("connection rejected (%s)", _with_phrase(session.status))


def log_closed(session: Answered) -> None:
    """Log, where uvicorn has it, that a WebSocket that was open is over."""
    if session.status == _SWITCHING_PROTOCOLS:
        _server_log.info("connection closed")


def _direct_stream(format_text: str | None) -> TextIO | None:
    """Return the stream that lines may be written to; None when they have to be records of the logging module."""
    if not is_direct(_log) or logging.getLogRecordFactory() is not logging.LogRecord:
        return None
    handler = _log.handlers[0]
    assert isinstance(handler, logging.StreamHandler)
    assert isinstance(handler.formatter, AccessFormatter)
    if format_text is None and handler.formatter.use_colors:
        return None
    stream: TextIO = handler.stream
    return stream


# Formats.


def _line_format(text: str | None) -> LineFormat:
    if text is None:
        return _default_line
    if text == "json":
        return _json_line
    parts = [part if isinstance(part, str) else _text_of(part) for part in parse_access_format(text)]

    def line(exchange: Answered) -> str:
        return "".join([part if isinstance(part, str) else part(exchange) for part in parts]) + "\n"

    return line


def _text_of(directive: Directive) -> LineFormat:
    """Return what gives the text that stands for a directive."""
    get = _GETTERS[directive.name](directive.argument)
    conversion = f"%{directive.conversion}"
    return lambda exchange: conversion % (get(exchange),)


def _default_line(exchange: Answered) -> str:
    head = exchange.head
    return (
        f'INFO:     {_client(exchange)} - "{head.method} {_target(exchange)} HTTP/{head.http_version}"'
        f" {_STATUSES.get(exchange.status) or exchange.status}\n"
    )


def _with_phrase(status: int) -> str:
    return f"{status} {phrase(status)}".rstrip()


_STATUSES = {status: _with_phrase(status) for status in range(100, 600)}
_STATUSES[0] = _with_phrase(_CLIENT_CLOSED_REQUEST)


def _json_line(exchange: Answered) -> str:
    head = exchange.head
    content = {
        "time": _iso_time(),
        "client": _client(exchange),
        "method": head.method,
        "path": head.raw_path.decode("ascii"),
        "query": head.query.decode("ascii"),
        "http_version": head.http_version,
        "status": exchange.status or _CLIENT_CLOSED_REQUEST,
        "bytes": exchange.sent_bytes,
        "duration_ms": round(_duration_s(exchange) * 1000, 3),
        "user_agent": _unicode(_field(head.fields, b"user-agent")),
        "request_id": _unicode(_field(exchange.fields, b"x-request-id") or _field(head.fields, b"x-request-id")),
        "pid": os.getpid(),
    }
    text = orjson.dumps(content).decode()
    return (text if text.isascii() and "\x7f" not in text else text.translate(_UNPRINTABLE)) + "\n"


# What acts on terminals, or ends lines, and JSON does not ask to be escaped.
_UNPRINTABLE = {code: f"\\u{code:04x}" for code in (*range(0x7F, 0xA0), 0x2028, 0x2029)}


def _client(exchange: Answered) -> str:
    try:
        return describe_client(exchange.scope["client"])  # which the application may have set
    except (LookupError, TypeError):
        return "-"


def _target(exchange: Answered) -> str:
    """Return path and query as received, with the root path in front, as uvicorn has it."""
    target = _with_query(_whole_path(exchange), exchange.head.query)
    text = target.decode("latin-1")
    # A target is printable ASCII, so nothing in it can act on a terminal (CVE-2020-7694 in uvicorn); but applications
    # may change the path, and a quote would end what the format has in quotes.
    return text if '"' not in text and text.isascii() and text.isprintable() else quote(target, _KEPT)


_KEPT = string.punctuation.replace('"', "")


def _whole_path(exchange: Answered) -> bytes:
    path = exchange.scope.get("raw_path")  # which the application may have changed
    return path if type(path) is bytes else exchange.head.raw_path


def _with_query(path: bytes, query: bytes) -> bytes:
    return path + b"?" + query if query else path


def _request_line(exchange: Answered) -> str:
    head = exchange.head
    return f"{head.method} {_printable(_with_query(head.raw_path, head.query))} HTTP/{head.http_version}"


def _server_port(exchange: Answered) -> object:
    try:
        return exchange.scope["server"][1] or "-"
    except (LookupError, TypeError):
        return "-"


def _duration_s(exchange: Answered) -> float:
    return perf_counter() - exchange.started_at


def _iso_time() -> str:
    now = time.time()
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now % 1 * 1000):03d}Z"


def _field(fields: Any, name: bytes) -> bytes | None:
    """Return the value of a field; None when there is none."""
    for other, value in fields:
        if other.lower() == name:
            return bytes(value)
    return None


def _unicode(value: bytes | None) -> str | None:
    """Return the text that a field most likely stands for."""
    if value is None:
        return None
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


def _printable(value: bytes) -> str:
    """Return text in which nothing ends a quoted string early or acts on a terminal, as Apache escapes it."""
    text = value.decode("latin-1")
    if text.isascii() and text.isprintable() and '"' not in text and "\\" not in text:
        return text
    return "".join(
        char if " " <= char <= "~" and char not in '"\\' else f"\\{char}" if char in '"\\' else f"\\x{ord(char):02x}"
        for char in text
    )


def _getter(get: Callable[[Answered], object]) -> Callable[[str], Getter]:
    return lambda _: get


def _field_getter(fields_of: Callable[[Answered], Any]) -> Callable[[str], Getter]:
    def for_name(name: str) -> Getter:
        key = name.lower().encode("latin-1", "replace")
        return lambda exchange: _printable(_field(fields_of(exchange), key) or b"") or "-"

    return for_name


# What stands for the directives of fastserve.accessformats.
_GETTERS: dict[str, Callable[[str], Getter]] = {
    "h": _getter(lambda exchange: _client(exchange).rpartition(":")[0] or _client(exchange)),
    "p": _getter(_server_port),
    "l": _getter(lambda exchange: "-"),
    "u": _getter(lambda exchange: "-"),
    "t": _getter(lambda exchange: time.strftime("[%d/%b/%Y:%H:%M:%S %z]")),
    "time": _getter(lambda exchange: time.strftime("%Y-%m-%d %H:%M:%S %z")),
    "r": _getter(_request_line),
    "m": _getter(lambda exchange: exchange.head.method),
    "scheme": _getter(lambda exchange: exchange.scope.get("scheme", "-")),
    "U": _getter(lambda exchange: _printable(exchange.head.raw_path)),
    "q": _getter(lambda exchange: _printable(_with_query(b"", exchange.head.query))),
    "query": _getter(lambda exchange: _printable(exchange.head.query)),
    "H": _getter(lambda exchange: f"HTTP/{exchange.head.http_version}"),
    "s": _getter(lambda exchange: exchange.status or _CLIENT_CLOSED_REQUEST),
    "b": _getter(lambda exchange: exchange.sent_bytes or "-"),
    "B": _getter(lambda exchange: exchange.sent_bytes),
    "T": _getter(lambda exchange: int(_duration_s(exchange))),
    "L": _getter(lambda exchange: f"{_duration_s(exchange):.6f}"),
    "M": _getter(lambda exchange: int(_duration_s(exchange) * 1e3)),
    "ms": _getter(lambda exchange: _duration_s(exchange) * 1e3),
    "D": _getter(lambda exchange: int(_duration_s(exchange) * 1e6)),
    "P": _getter(lambda exchange: os.getpid()),
    "pid": _getter(lambda exchange: f"<{os.getpid()}>"),
    "i": _field_getter(lambda exchange: exchange.head.fields),
    "o": _field_getter(lambda exchange: exchange.fields),
}

"""The line that each request leaves in the access log."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import os
import re
from collections.abc import Callable
from typing import Any

import pytest

from fastserve.asgi.accesslog import AccessLog, log_access, open_access_log
from fastserve.asgi.exchange import Exchange
from fastserve.errors import SettingsError
from fastserve.logs import configure_logging, parse_access_format
from fastserve.settings import LogSettings
from fastserve.wire.events import RequestHead
from tests.doubles import CLIENT, turns

NAME = "fastserve.access"


def exchange(*, status: int = 200, client: Any = CLIENT, query: bytes = b"", **more: Any) -> Exchange:
    """Return an exchange that has come so far."""
    head = RequestHead(
        **{"method": "GET", "raw_path": b"/", "http_version": "1.1", **more}, query=query, authority=None, fields=[]
    )
    unused: Any = None
    made = Exchange(head, {"client": client}, unused, unused)
    made.status = status
    return made


@pytest.mark.parametrize(
    ("made", "line"),
    [
        ({}, '192.0.2.7:40000 - "GET / HTTP/1.1" 200'),
        ({"raw_path": b"/a%0a%1b[2J", "query": b"q=%20"}, '192.0.2.7:40000 - "GET /a%0a%1b[2J?q=%20 HTTP/1.1" 200'),
        (
            {"method": "M-SEARCH", "raw_path": b"*", "http_version": "1.0"},
            '192.0.2.7:40000 - "M-SEARCH * HTTP/1.0" 200',
        ),
        ({"client": None, "status": 404}, 'unix - "GET / HTTP/1.1" 404'),
        ({"client": ("10.1.2.3", 0)}, '10.1.2.3:0 - "GET / HTTP/1.1" 200'),
        ({"status": 0}, '192.0.2.7:40000 - "GET / HTTP/1.1" 499'),
    ],
    ids=["plain", "as received", "odd", "unix", "client set by a middleware", "client gone"],
)
def test_a_request_is_one_line_with_the_target_as_received(
    made: dict[str, Any], line: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, NAME)
    log_access(exchange(**made))
    assert [(record.name, record.levelname, record.getMessage()) for record in caplog.records] == [(NAME, "INFO", line)]


def test_the_arguments_of_the_record_are_those_that_formatters_name(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, NAME)
    log_access(exchange(query=b"a=b"))
    assert caplog.records[0].args == ("192.0.2.7:40000", "GET", "/?a=b", "1.1", 200)


@pytest.mark.parametrize(
    ("wanted", "level", "is_handled", "logs"),
    [
        (True, logging.INFO, True, True),
        (True, logging.DEBUG, True, True),
        (False, logging.INFO, True, False),
        (True, logging.WARNING, True, False),
        (True, logging.INFO, False, False),
    ],
    ids=["info", "debug", "not wanted", "warning", "no handler"],
)
@pytest.mark.usefixtures("own_logging")
async def test_requests_are_logged_only_when_someone_reads_it(
    wanted: bool, level: int, is_handled: bool, logs: bool
) -> None:
    logger = logging.getLogger(NAME)
    logger.setLevel(level)
    logger.propagate = False
    logger.handlers[:] = [logging.NullHandler()] if is_handled else []
    log = open_access_log(LogSettings(access_log=wanted), asyncio.get_running_loop())
    assert (log is not None) is logs


# Where lines go.


@pytest.fixture
def out(own_logging: None, capsys: pytest.CaptureFixture[str]) -> Callable[[], str]:
    """Return what has been written to standard output, which fastserve logs requests to, since the last time."""
    return lambda: capsys.readouterr().out


def opened(change: Callable[[logging.Logger], object] = lambda logger: None, **settings: Any) -> AccessLog:
    """Return the log of a server, after someone has changed its logger."""
    configure_logging(LogSettings())  # In the test itself: before it, pytest has handlers of its own put there.
    change(logging.getLogger(NAME))
    log = open_access_log(LogSettings(**settings), asyncio.get_running_loop())
    assert log is not None
    return log


async def test_lines_are_written_together_in_the_next_turn(out: Callable[[], str]) -> None:
    log = opened()
    log.observe(exchange())
    log.observe(exchange(status=503, query=b"a=b"))
    assert out() == ""
    await turns(1)
    assert out() == (
        'INFO:     192.0.2.7:40000 - "GET / HTTP/1.1" 200 OK\n'
        'INFO:     192.0.2.7:40000 - "GET /?a=b HTTP/1.1" 503 Service Unavailable\n'
    )


@pytest.mark.parametrize("status", [0, 200, 299, 404, 499, 599, 777])
async def test_a_line_is_the_same_whether_logging_formats_it_or_not(out: Callable[[], str], status: int) -> None:
    log = opened()
    log.observe(exchange(status=status, client=None))
    log.flush()
    direct = out()
    log_access(exchange(status=status, client=None))
    assert direct == out() != ""


def on_another_stream(logger: logging.Logger) -> None:
    handler = logging.StreamHandler(io.StringIO())
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger.handlers[:] = [handler]


CHANGES: dict[str, Callable[[logging.Logger], object]] = {
    "another handler": on_another_stream,
    "a second handler": lambda logger: logger.addHandler(logging.NullHandler()),
    "a filter": lambda logger: logger.addFilter(lambda record: True),
    "a filter of the handler": lambda logger: logger.handlers[0].addFilter(lambda record: True),
    "a formatter": lambda logger: logger.handlers[0].setFormatter(logging.Formatter("%(message)s")),
    "propagation": lambda logger: setattr(logger, "propagate", True),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
async def test_a_logger_that_someone_has_changed_gets_records(
    out: Callable[[], str], caplog: pytest.LogCaptureFixture, change: Callable[[logging.Logger], object]
) -> None:
    log = opened(change)
    logging.getLogger(NAME).addHandler(caplog.handler)
    log.observe(exchange())
    assert caplog.records[0].args == ("192.0.2.7:40000", "GET", "/", "1.1", 200)


async def test_a_stream_that_is_closed_is_no_reason_to_fail(own_logging: None) -> None:
    stream = io.StringIO()
    log = opened(lambda logger: setattr(logger.handlers[0], "stream", stream))
    stream.close()
    log.observe(exchange())
    log.flush()


# Which requests.


async def test_paths_can_be_left_out(out: Callable[[], str]) -> None:
    log = opened(access_log_exclude=("/health", "/ready"))
    for path in (b"/health", b"/healthy", b"/ready"):
        log.observe(exchange(raw_path=path))
    log.flush()
    assert [line.split()[4] for line in out().splitlines()] == ["/healthy"]


async def test_a_sample_has_its_share_and_all_failures(out: Callable[[], str]) -> None:
    log = opened(access_log_sample=0.25)
    for _ in range(2000):
        log.observe(exchange())
    for _ in range(10):
        log.observe(exchange(status=500))
    log.flush()
    lines = out().splitlines()
    assert sum("500 Internal" in line for line in lines) == 10
    assert 300 < len(lines) - 10 < 700


# Other formats.


def full() -> Exchange:
    made = exchange(status=201, query=b"q=1", raw_path=b"/items")
    made.head.fields.append((b"user-agent", b'curl "8"\x1b'))
    made.fields = [(b"X-Request-Id", b"abc")]
    made.sent_bytes = 12
    return made


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('%h %l %u "%r" %>s %b', '192.0.2.7 - - "GET /items?q=1 HTTP/1.1" 201 12'),
        ("%m %U%q %H %s %B 100%%", "GET /items?q=1 HTTP/1.1 201 12 100%"),
        ("%{User-Agent}i %{x-request-id}o %{none}i", 'curl \\"8\\"\\x1b abc -'),
        ("plain", "plain"),
    ],
    ids=["common", "parts", "fields", "text"],
)
async def test_a_format_of_apache(out: Callable[[], str], text: str, line: str) -> None:
    log = opened(access_log_format=text)
    log.observe(full())
    log.flush()
    assert out() == line + "\n"


async def test_times_of_a_format(out: Callable[[], str]) -> None:
    log = opened(access_log_format="%t|%D|%T|%P")
    log.observe(full())
    log.flush()
    moment, micros, seconds, pid = out().strip().split("|")
    assert re.fullmatch(r"\[\d\d/\w{3}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}\]", moment)
    assert 0 <= int(micros) < 10_000_000
    assert (seconds, int(pid)) == ("0", os.getpid())


async def test_a_line_of_json(out: Callable[[], str]) -> None:
    log = opened(access_log_format="json")
    log.observe(full())
    log.flush()
    content = json.loads(out())
    assert content.pop("duration_ms") >= 0
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", content.pop("time"))
    assert content == {
        "client": "192.0.2.7:40000",
        "method": "GET",
        "path": "/items",
        "query": "q=1",
        "http_version": "1.1",
        "status": 201,
        "bytes": 12,
        "user_agent": 'curl \\"8\\"\\x1b',
        "request_id": "abc",
        "pid": os.getpid(),
    }


async def test_another_format_goes_to_a_changed_logger_as_a_message(
    out: Callable[[], str], caplog: pytest.LogCaptureFixture
) -> None:
    log = opened(lambda logger: logger.addHandler(caplog.handler), access_log_format="%m %s")
    log.observe(full())
    assert [record.getMessage() for record in caplog.records] == ["GET 201"]
    assert out() == "GET 201\n"


@pytest.mark.parametrize("text", ["%x", "%{X-Y}x", "100%", "%{X", "%>x"])
def test_a_directive_that_is_not_known_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match=r"^--access-log-format: unknown directive at '%"):
        parse_access_format(text)

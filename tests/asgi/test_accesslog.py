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

from fastserve.accessformats import ATOMS, DIRECTIVES, FIELDS, UNITS
from fastserve.asgi.accesslog import _GETTERS, AccessLog, log_access, open_access_log
from fastserve.asgi.exchange import Exchange
from fastserve.logs import configure_logging
from fastserve.settings import LogSettings
from fastserve.wire.events import RequestHead
from tests.doubles import CLIENT, turns

NAME = "fastserve.access"


def exchange(*, status: int = 200, client: Any = CLIENT, query: bytes = b"", scope: Any = (), **more: Any) -> Exchange:
    """Return an exchange that has come so far. scope: what else is in it."""
    head = RequestHead(
        **{"method": "GET", "raw_path": b"/", "http_version": "1.1", **more}, query=query, authority=None, fields=[]
    )
    unused: Any = None
    made = Exchange(head, {"client": client, **dict(scope)}, unused, unused)
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
        (
            {"raw_path": b"/x", "scope": {"raw_path": b"/api/x"}, "query": b"a=b"},
            '192.0.2.7:40000 - "GET /api/x?a=b HTTP/1.1" 200',
        ),
        ({"raw_path": b'/a"b', "query": b'x="200'}, '192.0.2.7:40000 - "GET /a%22b?x=%22200 HTTP/1.1" 200'),
        ({"scope": {"raw_path": b"/\n\x1b\xff %22"}}, '192.0.2.7:40000 - "GET /%0A%1B%FF%20%22 HTTP/1.1" 200'),
        ({"raw_path": b"/x", "scope": {"raw_path": None}}, '192.0.2.7:40000 - "GET /x HTTP/1.1" 200'),
    ],
    ids=[
        "plain",
        "as received",
        "odd",
        "unix",
        "client set by a middleware",
        "client gone",
        "root path",
        "quotes",
        "path set by a middleware",
        "path taken away",
    ],
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


async def test_a_client_that_the_application_has_taken_out_of_the_scope_is_a_dash(out: Callable[[], str]) -> None:
    log = opened()
    made = exchange()
    del made.scope["client"]
    log.observe(made)
    log.flush()
    assert out() == 'INFO:     - - "GET / HTTP/1.1" 200 OK\n'


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


async def test_a_stream_that_is_closed_is_no_reason_to_fail(
    own_logging: None, capsys: pytest.CaptureFixture[str]
) -> None:
    stream = io.StringIO()
    log = opened(lambda logger: setattr(logger.handlers[0], "stream", stream))
    stream.close()
    log.observe(exchange())
    log.flush()
    log.observe(exchange())
    log.flush()
    assert capsys.readouterr().err == "", "logging would tell of each request that cannot be written"
    stream = io.StringIO()
    logging.getLogger(NAME).handlers[0].setStream(stream)  # type: ignore[attr-defined]
    log.look_again()
    log.observe(exchange())
    log.flush()
    assert stream.getvalue()


# Which requests.


async def test_paths_can_be_left_out(out: Callable[[], str]) -> None:
    log = opened(access_log_exclude=("/health", "/ready"))
    for path in (b"/health", b"/healthy", b"/ready"):
        log.observe(exchange(raw_path=path))
    log.flush()
    assert [line.split()[4] for line in out().splitlines()] == ["/healthy"]


@pytest.mark.parametrize("path", ["/health", "/api/health"])
async def test_a_path_can_be_left_out_by_both_its_names(out: Callable[[], str], path: str) -> None:
    log = opened(access_log_exclude=(path,))
    log.observe(exchange(raw_path=b"/health", scope={"raw_path": b"/api/health"}))
    log.flush()
    assert out() == ""


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
    scope = {"server": ("127.0.0.1", 8000), "scheme": "https"}
    made = exchange(status=201, query=b"q=1", raw_path=b"/items", scope=scope)
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
        ("%p %{host}i", "8000 -"),
        ("common", '192.0.2.7 - - [TIME] "GET /items?q=1 HTTP/1.1" 201 12'),
        ("combined", '192.0.2.7 - - [TIME] "GET /items?q=1 HTTP/1.1" 201 12 "-" "curl \\"8\\"\\x1b"'),
        ('%(h)s %(l)s %(u)s "%(r)s" %(s)s %(b)s', '192.0.2.7 - - "GET /items?q=1 HTTP/1.1" 201 12'),
        ("%(m)s %(U)s %(q)s %(H)s %(B)d %(a)s %(f)s", 'GET /items q=1 HTTP/1.1 12 curl \\"8\\"\\x1b -'),
        ("%({User-Agent}i)s %({x-request-id}o)s%%", 'curl \\"8\\"\\x1b abc%'),
        (
            '%(addr)s "%(method)s %(path)s?%(query_string)s %(protocol)s" %(scheme)s %(status)d %(header{x})s',
            '192.0.2.7 "GET /items?q=1 HTTP/1.1" https 201 -',
        ),
        ("%(h)-12s|%(s)5d", "192.0.2.7   |  201"),
    ],
    ids=[
        "common",
        "parts",
        "fields",
        "server",
        "common by name",
        "combined by name",
        "gunicorn",
        "parts of gunicorn",
        "fields of gunicorn",
        "granian",
        "columns",
    ],
)
async def test_a_format_of_apache(out: Callable[[], str], text: str, line: str) -> None:
    log = opened(access_log_format=text)
    log.observe(full())
    log.flush()
    assert re.sub(r"\[[^]]+\]", "[TIME]", out()) == line + "\n"


@pytest.mark.parametrize(
    "text", ['%h "%r" %s', '%h "%U" %s', '%h "%q" %s', '%(h)s "%(q)s" %(s)s', '%(addr)s "%(path)s" %(status)d']
)
async def test_a_client_cannot_end_what_a_format_has_in_quotes(out: Callable[[], str], text: str) -> None:
    log = opened(access_log_format=text)
    log.observe(exchange(raw_path=b'/a"b\\', query=b'x="200'))
    log.flush()
    assert re.fullmatch(r'192\.0\.2\.7 "([^"\\]|\\.)*" 200\n', out())


def test_every_directive_has_what_stands_for_it() -> None:
    named = {*DIRECTIVES, *FIELDS, *(each.name for each in (*ATOMS.values(), *UNITS.values()))}
    assert named == _GETTERS.keys()


async def test_times_of_a_format(out: Callable[[], str]) -> None:
    log = opened(access_log_format="%t|%D|%T|%P|%(t)s|%(time)s|%(p)s")
    log.observe(full())
    log.flush()
    moment, micros, seconds, pid, same, granian, bracketed = out().strip().split("|")
    assert re.fullmatch(r"\[\d\d/\w{3}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}\]", moment)
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d [+-]\d{4}", granian)
    assert moment == same
    assert 0 <= int(micros) < 10_000_000
    assert (seconds, int(pid), bracketed) == ("0", os.getpid(), f"<{pid}>")


async def test_a_duration_in_all_units(out: Callable[[], str]) -> None:
    log = opened(access_log_format="%{s}T %{ms}T %{us}T %L %(T)s %(M)d %(D)s %(L)s %(dt_ms).3f")
    made = full()
    made.started_at -= 2.5
    log.observe(made)
    log.flush()
    seconds, ms, us, decimal, *others = out().split()
    assert (seconds, others[0]) == ("2", "2")
    for value in (float(ms) / 1e3, float(us) / 1e6, float(decimal), float(others[1]) / 1e3, float(others[2]) / 1e6):
        assert 2.499 <= value < 10
    assert re.fullmatch(r"\d+\.\d{6}", decimal)
    assert re.fullmatch(r"\d+\.\d{3}", others[-1])


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
        "user_agent": 'curl "8"\x1b',
        "request_id": "abc",
        "pid": os.getpid(),
    }


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ('a "quoted" \\ é back'.encode(), 'a "quoted" \\ é back'),
        (b"caf\xe9", "café"),
        (b"\xc2\x9b2J\x7f\xe2\x80\xa8", "\x9b2J\x7f\u2028"),
        (b"", ""),
    ],
    ids=["UTF-8", "Latin-1", "unprintable", "empty"],
)
async def test_a_field_in_json_is_escaped_once(out: Callable[[], str], value: bytes, text: str) -> None:
    log = opened(access_log_format="json")
    made = exchange()
    made.head.fields.append((b"user-agent", value))
    log.observe(made)
    log.flush()
    line = out()
    assert json.loads(line)["user_agent"] == text
    assert line[:-1].isprintable()


async def test_another_format_goes_to_a_changed_logger_as_a_message(
    out: Callable[[], str], caplog: pytest.LogCaptureFixture
) -> None:
    log = opened(lambda logger: logger.addHandler(caplog.handler), access_log_format="%m %s")
    log.observe(full())
    assert [record.getMessage() for record in caplog.records] == ["GET 201"]
    assert out() == "GET 201\n"

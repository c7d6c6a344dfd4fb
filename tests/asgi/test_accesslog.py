"""The line that each request leaves in the access log."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from fastserve.asgi.accesslog import access_logger, log_access
from fastserve.asgi.exchange import Exchange
from fastserve.wire.events import RequestHead
from tests.doubles import CLIENT

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
def test_requests_are_logged_only_when_someone_reads_it(wanted: bool, level: int, is_handled: bool, logs: bool) -> None:
    logger = logging.getLogger(NAME)
    logger.setLevel(level)
    logger.propagate = False
    logger.handlers[:] = [logging.NullHandler()] if is_handled else []
    assert access_logger(wanted=wanted) is (log_access if logs else None)

"""What is counted of requests."""

from __future__ import annotations

from typing import Any

import pytest

from fastserve.asgi import metrics as metrics_module
from fastserve.asgi.exchange import Exchange
from fastserve.asgi.metrics import LATENCY_BUCKETS, Metrics
from fastserve.wire.events import RequestHead

NOW = 1000.0


@pytest.fixture(autouse=True)
def _now(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stop the clock."""
    monkeypatch.setattr(metrics_module, "perf_counter", lambda: NOW)


def exchange(*, status: int = 200, sent_bytes: int = 0, took_s: float = 0.0) -> Exchange:
    """Return an exchange that has ended now."""
    head = RequestHead(method="GET", raw_path=b"/", query=b"", http_version="1.1", authority=None, fields=[])
    unused: Any = None
    made = Exchange(head, {}, unused, unused)
    made.status, made.sent_bytes, made.started_at = status, sent_bytes, NOW - took_s
    return made


def test_at_first_there_is_nothing() -> None:
    metrics = Metrics()
    assert (metrics.requests, metrics.sent_bytes, sum(metrics.status), sum(metrics.latency)) == (0, 0, 0, 0)
    assert len(metrics.latency) == LATENCY_BUCKETS


def test_requests_and_bytes_are_counted() -> None:
    metrics = Metrics()
    for size in (5, 0, 1_000_000):
        metrics.count(exchange(sent_bytes=size))
    assert (metrics.requests, metrics.sent_bytes) == (3, 1_000_005)


@pytest.mark.parametrize(("status", "digit"), [(200, 2), (204, 2), (301, 3), (499, 4), (503, 5), (999, 9), (0, 0)])
def test_responses_are_counted_by_the_first_digit_of_their_status(status: int, digit: int) -> None:
    metrics = Metrics()
    metrics.count(exchange(status=status))
    assert [number for number, count in enumerate(metrics.status) if count] == [digit]


@pytest.mark.parametrize(
    ("took_us", "bucket"),
    [(0, 0), (63, 0), (65, 1), (127, 1), (129, 2), (1_000, 4), (1_025, 5), (1_000_000, 14), (10**12, 23)],
)
def test_a_request_is_in_the_first_bucket_whose_bound_it_is_below(took_us: int, bucket: int) -> None:
    metrics = Metrics()
    metrics.count(exchange(took_s=(took_us + 0.5) / 1e6))
    assert [number for number, count in enumerate(metrics.latency) if count] == [bucket]
    assert bucket == LATENCY_BUCKETS - 1 or took_us < 2**bucket * 64

"""What is counted of the requests of a worker."""

from __future__ import annotations

from time import perf_counter

from fastserve.asgi.answered import Answered

LATENCY_BUCKETS = 24
"""Bucket i of the histogram counts requests that took less than 2**i * 64 microseconds; the last one, all others."""

_FIRST_BUCKET_US = 64.0
_LAST_BUCKET = LATENCY_BUCKETS - 1


class Metrics:
    """Counts since the worker was started.

    sent_bytes: of response bodies. status: responses by the first digit of their status; 0 for requests without one.
    latency: requests by how long they took, see LATENCY_BUCKETS.
    """

    __slots__ = ("latency", "requests", "sent_bytes", "status")

    def __init__(self) -> None:
        self.requests = 0
        self.sent_bytes = 0
        self.status = [0] * 10
        self.latency = [0] * LATENCY_BUCKETS

    def count(self, exchange: Answered) -> None:
        """Count a request that has ended."""
        self.requests += 1
        self.sent_bytes += exchange.sent_bytes
        self.status[exchange.status // 100] += 1
        now = perf_counter()
        took_us = (now - exchange.started_at) * 1e6
        bucket = 0
        bound_us = _FIRST_BUCKET_US
        while took_us >= bound_us and bucket < _LAST_BUCKET:
            bound_us *= 2
            bucket += 1
        self.latency[bucket] += 1

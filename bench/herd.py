"""`python -m bench.herd PORT --pid PID`: what connections cost that wait for their next request.

Opens them, a few hundred at a time and from several addresses of this machine, sends one request on each, and lets them
rest. What is measured is how much resident memory the server, with its children, has gained for each of them.

Prints one line of JSON, times in microseconds.
"""

from __future__ import annotations

import argparse
import json
import resource
import time

import psutil

from bench.client import Client, Session, figures

_WITHIN_S = 120.0
_WARM_REQUESTS = 500
_REST_S = 1.0
_PER_ADDRESS = 2000
_OTHER_FDS = 50


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.herd")
    parser.add_argument("port", type=int)
    parser.add_argument("--pid", type=int, required=True, help="of the server")
    parser.add_argument("--path", default="/")
    parser.add_argument("--connections", type=int, default=10_000)
    parser.add_argument("--at-once", type=int, default=256, help="how many are opened at the same time")
    options = parser.parse_args()
    allow_descriptors(options.connections + _OTHER_FDS)
    client = Client(options.port, options.path)
    _warm(client)
    before = resident_bytes(options.pid)
    spent: list[float] = []

    def rest(session: Session, spent_s: float) -> bool:
        spent.append(spent_s)
        return False

    began = time.perf_counter()
    for opened in range(options.connections):
        client.open(rest, source=f"127.0.0.{1 + opened // _PER_ADDRESS}")
        if client.waiting >= options.at_once:
            client.run(lambda: client.waiting < options.at_once // 2, _WITHIN_S)
    client.run(lambda: client.waiting == 0, _WITHIN_S)
    spent_s = time.perf_counter() - began
    errors = client.errors
    time.sleep(_REST_S)
    gained = resident_bytes(options.pid) - before
    client.run(lambda: True, _WITHIN_S)
    client.close()
    seen = figures(spent, spent_s, len(spent), errors)
    print(json.dumps({**seen, "connection_bytes": gained / options.connections}))


def _warm(client: Client) -> None:
    """Have the server do once what it does only once."""

    def again(session: Session, spent_s: float) -> bool:
        return session.answered < _WARM_REQUESTS

    client.open(again)
    client.run(lambda: client.waiting == 0, _WITHIN_S)


def allow_descriptors(count: int) -> None:
    """Let this process, and those that it starts, have so many open files.

    Raises:
        OSError: the system does not.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < count:
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, max(count, hard)))


def resident_bytes(pid: int) -> int:
    """Return the resident memory of a process and its children."""
    process = psutil.Process(pid)
    return sum(int(each.memory_info().rss) for each in [process, *process.children(recursive=True)])


if __name__ == "__main__":
    main()

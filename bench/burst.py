"""`python -m bench.burst PORT`: many connections at once to a busy server, and how long each waits for its answer.

Some connections keep the server busy all the time. Then the new ones come, all in the same moment; each sends requests
one after the other, like those that were there before, and closes after some. What is measured is the time from opening
a connection to its first whole response. A server that accepts one connection in each turn of its loop, between the
requests of all those that it has already accepted, lets the last ones wait very long.

Prints one line of JSON, times in microseconds.
"""

from __future__ import annotations

import argparse
import json
import time

from bench.client import Client, Session, figures

_WITHIN_S = 60.0


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.burst")
    parser.add_argument("port", type=int)
    parser.add_argument("--path", default="/")
    parser.add_argument("--busy", type=int, default=32, help="connections that are there all the time")
    parser.add_argument("--connections", type=int, default=256, help="that come at once")
    parser.add_argument("--requests", type=int, default=8, help="that each of them sends")
    parser.add_argument("--bursts", type=int, default=2)
    options = parser.parse_args()
    firsts: list[float] = []
    everything: list[float] = []
    client = Client(options.port, options.path)

    def stay(session: Session, spent_s: float) -> bool:
        everything.append(spent_s)
        return True

    def come_and_go(session: Session, spent_s: float) -> bool:
        everything.append(spent_s)
        if session.answered == 1:
            firsts.append(spent_s)
        if session.answered < options.requests:
            return True
        client.drop(session)
        return False

    began = time.perf_counter()
    for _ in range(options.busy):
        client.open(stay)
    for _ in range(options.bursts):
        calm_until = time.monotonic() + 0.3
        client.run(lambda calm=calm_until: time.monotonic() > calm, _WITHIN_S)  # type: ignore[misc]
        for _ in range(options.connections):
            client.open(come_and_go)
        client.run(lambda: client.waiting <= options.busy, _WITHIN_S)
    spent_s = time.perf_counter() - began
    client.close()
    print(json.dumps(figures(firsts, spent_s, len(everything), client.errors)))


if __name__ == "__main__":
    main()

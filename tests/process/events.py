"""What happens to servers, and how many requests are lost by it.

`python -m tests.process.events` makes each of these things happen to a server with two workers under load, and prints
the table of docs/reliability.md. The load is two closed loops: one that keeps its connections, one that makes a new one
for each request.
"""

from __future__ import annotations

import contextlib
import os
import platform
import re
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import click

from .load import ClosedLoop
from .running import Gate, RawClient, RunningServer, is_alive, prepare, starting_servers, wait_until

KEPT = 16
FRESH = 4

BREAKABLE = """\
import os

if os.path.exists("broken"):
    raise RuntimeError("a bad deploy")
if os.path.exists("crashing"):
    os._exit(9)
from served import app
"""


@dataclass(slots=True)
class Outcome:
    """What became of the requests. allowed: how many could not be kept. seen: what else is worth telling."""

    answered: int = 0
    failed: int = 0
    allowed: int = 0
    kinds: dict[str, int] = field(default_factory=dict)
    seen: str = ""


@dataclass(slots=True)
class Arena:
    """A server with two workers that something happens to, and the load on it."""

    server: RunningServer
    folder: Path
    loops: list[ClosedLoop]

    @property
    def pids(self) -> set[int]:
        """The processes of the workers."""
        return {worker.pid for worker in self.server.workers}

    @property
    def answered(self) -> int:
        """How many requests have been answered."""
        return sum(loop.answered for loop in self.loops)

    def wait_answers(self, count: int = 300) -> None:
        """Wait for so many more answers."""
        enough = self.answered + count
        wait_until(lambda: self.answered >= enough)

    def wait_replaced(self, gone: set[int]) -> None:
        """Wait until none of these workers is left, and as many others are."""
        wait_until(lambda: not gone & self.pids and len(self.pids) == len(gone), within_s=90)

    def wait_new(self, known: set[int]) -> set[int]:
        """Return the workers that are not known yet, as soon as there are any."""
        return wait_until(lambda: self.pids - known)

    def wait_workers(self, count: int) -> None:
        """Wait until there are so many."""
        wait_until(lambda: len(self.pids) == count)

    def wait_answer_of(self, pid: int) -> None:
        """Wait until this process has answered a request."""
        wait_until(lambda: any(loop.pids[pid] for loop in self.loops))

    def log_count(self, text: str) -> int:
        """Return how often this is in the log."""
        return self.server.log.count(text)


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happens. act: makes it happen; returns how many requests it may cost, and what else to tell.

    ends: whether the server ends by it: connections that are refused then are no failures.
    """

    name: str
    act: Callable[[Arena], tuple[int, str]]
    arguments: tuple[str, ...] = ()
    ends: bool = False


def happen(event: Event, folder: Path) -> Outcome:
    """Make it happen to a server in this folder."""
    prepare(folder)
    (folder / "breakable.py").write_text(BREAKABLE)
    with starting_servers(folder) as start:
        server = start("breakable:app", "--port", "0", "--workers", "2", "--no-access-log", *event.arguments)
        server.wait_ready()
        with _load(server) as loops:
            arena = Arena(server, folder, loops)
            arena.wait_answers()
            allowed, seen = event.act(arena)
            if not event.ends:
                arena.wait_answers()
        if not event.ends:
            assert server.stop() == 0, server.log
    kinds: dict[str, int] = {}
    for loop in loops:
        for kind, count in loop.failed.items():
            kinds[kind] = kinds.get(kind, 0) + count
        if loop.refused and not event.ends:
            kinds["refused"] = kinds.get("refused", 0) + loop.refused
    return Outcome(arena.answered, sum(kinds.values()), allowed, kinds, seen)


@contextlib.contextmanager
def _load(server: RunningServer) -> Iterator[list[ClosedLoop]]:
    with (
        ClosedLoop(server.address, connections=KEPT) as kept,
        ClosedLoop(server.address, connections=FRESH, keeps=False) as fresh,
    ):
        yield [kept, fresh]


# Planned: nothing may be lost.


def nothing(arena: Arena) -> tuple[int, str]:
    arena.wait_answers(1000)
    return 0, ""


def reload(arena: Arena) -> tuple[int, str]:
    for _ in range(3):
        before = arena.pids
        arena.server.send_signal(signal.SIGHUP)
        arena.wait_replaced(before)
    return 0, "three times, 6 workers replaced"


def reload_after_bad_deploy(arena: Arena) -> tuple[int, str]:
    before = arena.pids
    (arena.folder / "broken").touch()
    arena.server.send_signal(signal.SIGHUP)
    arena.server.wait_log("The reload is given up")
    assert arena.pids == before
    assert arena.log_count("RuntimeError: a bad deploy") == 1
    return 0, "the old workers go on, the traceback is logged once"


def recycle_by_requests(arena: Arena) -> tuple[int, str]:
    arena.server.wait_log("it has served 300 requests or more", times=4)
    return 0, f"{arena.log_count('it has served 300')} times"


def recycle_by_memory(arena: Arena) -> tuple[int, str]:
    gone = arena.pids
    with RawClient(arena.server.address) as client:
        client.get("/grow?96").answer()
    arena.server.wait_log("MiB of memory, more than 96 MiB")
    wait_until(lambda: len(gone & arena.pids) == 1 and len(arena.pids) == 2)
    return 0, "one worker replaced"


def recycle_by_lifetime(arena: Arena) -> tuple[int, str]:
    gone = arena.pids
    arena.wait_replaced(gone)
    return 0, "both workers replaced"


def resize(arena: Arena) -> tuple[int, str]:
    workers = 2
    for number, change in ((signal.SIGTTIN, 1), (signal.SIGTTIN, 1), *((signal.SIGTTOU, -1),) * 3):
        workers += change
        arena.server.send_signal(number)
        arena.wait_workers(workers)
        arena.wait_answers()
    return 0, "2, 3, 4, 3, 2, 1 workers"


def upgrade(arena: Arena) -> tuple[int, str]:
    before = arena.pids
    arena.server.send_signal(signal.SIGUSR2)
    assert arena.server.wait_exit() == 0
    arena.wait_answers(1000)
    after = {pid for loop in arena.loops for pid in loop.pids} - before
    assert len(after) == 2
    (heir,) = re.findall(r"started a new server, process \[(\d+)\]", arena.server.log)
    for loop in arena.loops:
        loop.__exit__()
    os.kill(int(heir), signal.SIGTERM)
    wait_until(lambda: arena.log_count("Stopping parent process") == 2)
    return 0, "another server on the same sockets"


def failing_upgrade(arena: Arena) -> tuple[int, str]:
    before = arena.pids
    (arena.folder / "broken").touch()
    arena.server.send_signal(signal.SIGUSR2)
    arena.server.wait_log("The new server did not become ready. This one goes on.")
    wait_until(lambda: arena.pids == before)
    return 0, "the old server goes on"


def stop(arena: Arena) -> tuple[int, str]:
    with RawClient(arena.server.address) as client:
        client.get("/gate?slow")
        Gate(arena.folder, "slow").wait_reached()
        arena.server.send_signal(signal.SIGTERM)
        arena.server.wait_log("Waiting for connections to close.")
        Gate(arena.folder, "slow").open()
        assert client.answer().body == b"through"
    assert arena.server.wait_exit() == 0
    return KEPT, "the slow request is answered; exit status 0"


def stop_after_a_delay(arena: Arena) -> tuple[int, str]:
    return _stop_after_a_delay(arena, arena.server.send_signal)


def stop_all_after_a_delay(arena: Arena) -> tuple[int, str]:
    return _stop_after_a_delay(arena, arena.server.send_signal_to_group)


def _stop_after_a_delay(arena: Arena, send_signal: Callable[[int], None]) -> tuple[int, str]:
    with RawClient(arena.server.address) as client:
        assert client.get("/ready").answer().status == 200
        told_at = time.monotonic()
        send_signal(signal.SIGTERM)
        wait_until(lambda: _status(arena, "/ready") == 503)
        noticed_s = time.monotonic() - told_at
        assert _status(arena, "/") == 200
        for loop in arena.loops:
            loop.__exit__()
        assert time.monotonic() - told_at < 1.5, "the load ends while the server still serves"
    assert arena.server.wait_exit() == 0
    assert time.monotonic() - told_at >= 1.5
    assert not arena.log_count("ERROR")
    return 0, f"not ready after {noticed_s * 1000:.0f} ms, serving for 1.5 s more"


def _status(arena: Arena, target: str) -> int:
    with RawClient(arena.server.address) as client:
        return client.get(target).answer().status


# Not planned: what was in flight is lost, and nothing else.


def kill_workers(arena: Arena) -> tuple[int, str]:
    slowest_s = 0.0
    known = arena.pids
    for victim in sorted(known):
        os.kill(victim, signal.SIGKILL)
        killed_at = time.monotonic()
        (successor,) = arena.wait_new(known)
        arena.wait_answer_of(successor)
        slowest_s = max(slowest_s, time.monotonic() - killed_at)
        known.add(successor)
    # At most all connections were with that worker.
    return 2 * (KEPT + FRESH), f"both workers, one after the other; a successor answers within {slowest_s:.2f} s"


def hang(arena: Arena) -> tuple[int, str]:
    gone = arena.pids
    with RawClient(arena.server.address) as client:
        client.get("/block?held")
        Gate(arena.folder, "held").wait_reached()
        arena.server.wait_log("has been blocked for")
        wait_until(lambda: len(arena.pids - gone) == 1)
    assert arena.log_count("in block") == 1, arena.server.log  # the stack, in the warning
    return KEPT + FRESH, "the stack is logged, the worker replaced"


def crash_loop(arena: Arena) -> tuple[int, str]:
    (arena.folder / "crashing").touch()
    os.kill(min(arena.pids), signal.SIGKILL)
    arena.server.wait_log("died: exit status 9", times=2)
    (arena.folder / "crashing").unlink()
    wait_until(lambda: len(arena.pids) == 2 and arena.log_count("Application startup complete.") == 3)
    return KEPT + FRESH, "the other worker serves, tries after 0, 1, 2 s"


def kill_parent(arena: Arena) -> tuple[int, str]:
    workers = arena.server.workers
    arena.server.send_signal(signal.SIGKILL)
    killed_at = time.monotonic()
    wait_until(lambda: not any(map(is_alive, workers)))
    took_s = time.monotonic() - killed_at
    # Who loses a connection to the first worker that ends may lose one to the second as well.
    return 2 * (KEPT + FRESH), f"no orphans after {took_s:.2f} s"


def stop_twice(arena: Arena) -> tuple[int, str]:
    with RawClient(arena.server.address) as client:
        client.get("/gate?slow")
        Gate(arena.folder, "slow").wait_reached()
        arena.server.send_signal(signal.SIGTERM)
        arena.server.wait_past("Waiting for connections to close.")
        arena.server.send_signal(signal.SIGTERM)
        told_at = time.monotonic()
        arena.server.wait_exit()
        took_s = time.monotonic() - told_at
    return KEPT + FRESH, f"gone after {took_s:.2f} s"


EVENTS = (
    Event("nothing", nothing),
    Event("SIGHUP", reload),
    Event("SIGHUP after a bad deploy", reload_after_bad_deploy),
    Event(
        "`--limit-max-requests`",
        recycle_by_requests,
        ("--limit-max-requests", "300", "--limit-max-requests-jitter", "100"),
    ),
    Event("`--limit-memory`", recycle_by_memory, ("--limit-memory", str(96 << 20))),
    Event("`--limit-lifetime`", recycle_by_lifetime, ("--limit-lifetime", "2")),
    Event("SIGTTIN, SIGTTOU", resize),
    Event("SIGUSR2", upgrade, ends=True),
    Event("SIGUSR2 after a bad deploy", failing_upgrade),
    Event("SIGTERM, a slow request in flight", stop, ends=True),
    Event(
        "SIGTERM, `--drain-delay 1.5`",
        stop_after_a_delay,
        ("--drain-delay", "1.5", "--ready-path", "/ready"),
        ends=True,
    ),
    Event(
        "SIGTERM to all processes, `--drain-delay 1.5`",
        stop_all_after_a_delay,
        ("--drain-delay", "1.5", "--ready-path", "/ready"),
        ends=True,
    ),
    Event("kill -9 of a worker", kill_workers),
    Event("a blocked event loop, `--timeout-worker 2`", hang, ("--timeout-worker", "2")),
    Event("a worker that crashes when it starts", crash_loop),
    Event("kill -9 of the supervisor", kill_parent, ends=True),
    Event("SIGTERM twice, a slow request in flight", stop_twice, ends=True),
)


def main() -> None:
    """Print the table."""
    click.echo(f"{platform.system()}, {os.cpu_count()} CPUs, CPython {platform.python_version()}.\n")
    click.echo("| event | answered | failed | how |\n|---|---:|---:|---|")
    for event in EVENTS:
        with tempfile.TemporaryDirectory() as folder:
            outcome = happen(event, Path(folder))
        kinds = "; ".join(f"{count} {kind}" for kind, count in outcome.kinds.items())
        told = ". ".join(filter(None, (outcome.seen, kinds)))
        click.echo(f"| {event.name} | {outcome.answered:,} | {outcome.failed} | {told} |")


if __name__ == "__main__":
    main()

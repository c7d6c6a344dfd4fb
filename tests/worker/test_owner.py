"""Who started a worker: what they are told, what their signals do, and what happens when they are gone."""

from __future__ import annotations

import asyncio
import faulthandler
import json
import os
import signal
import socket
from collections.abc import Iterator
from typing import Any, cast

import pytest

from fastserve.worker import owner as owner_module
from fastserve.worker.owner import GIVE_UP, Parent, Person, announce
from fastserve.worker.scoreboard import Record, Scoreboard
from fastserve.worker.server import Server
from tests.doubles import turns, until


@pytest.fixture(autouse=True)
def _info(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "fastserve")


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "fastserve"]


class PlayedServer:
    """A server that only takes note of how it is stopped. has_certificates: it speaks TLS."""

    def __init__(self, *, has_certificates: bool = False) -> None:
        self.stops: list[str] = []
        self.has_certificates = has_certificates
        self.renewals = 0

    def reload_certificates(self) -> bool:
        self.renewals += self.has_certificates
        return self.has_certificates

    @property
    def is_stopping(self) -> bool:
        return bool(self.stops)

    def stop(self) -> None:
        self.stops.append("stop")

    def stop_quickly(self) -> None:
        self.stops.append("quickly")

    def give_up_start(self) -> None:
        self.stops.append("give up")

    def interrupt(self) -> None:
        self.stops.append("interrupt")

    @property
    def typed(self) -> Server:
        """This, as what it stands for."""
        return cast(Server, self)


# A person.


def test_a_person_is_told_where_the_server_can_be_reached(caplog: pytest.LogCaptureFixture) -> None:
    Person(["http://127.0.0.1:8000", "unix:/run/app.sock"]).worker_is_ready()
    assert lines(caplog) == [
        "Fastserve running on http://127.0.0.1:8000 (Press CTRL+C to quit)",
        "Fastserve running on unix socket /run/app.sock (Press CTRL+C to quit)",
    ]


def test_without_addresses_there_is_nothing_to_announce(caplog: pytest.LogCaptureFixture) -> None:
    announce([])
    assert lines(caplog) == []


def test_a_person_finds_in_the_log_why_the_worker_could_not_start(caplog: pytest.LogCaptureFixture) -> None:
    Person([]).worker_failed("100 % full")
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [("ERROR", "100 % full")]


def test_a_person_hears_nothing_of_a_worn_worker(caplog: pytest.LogCaptureFixture) -> None:
    Person([]).worker_is_worn("it has served 3 requests or more")
    assert lines(caplog) == []


@pytest.mark.parametrize(
    ("numbers", "stops"),
    [
        ([signal.SIGTERM], ["stop"]),
        ([signal.SIGHUP], ["stop"]),
        ([signal.SIGINT], ["interrupt"]),
        ([signal.SIGQUIT], ["quickly"]),
        ([signal.SIGTERM, signal.SIGTERM], ["stop", "stop"]),
        ([signal.SIGTERM, signal.SIGINT, signal.SIGINT], ["stop", "interrupt", "interrupt"]),
    ],
    ids=lambda value: " ".join(getattr(each, "name", "") for each in value),
)
def test_a_person_stops_the_server_more_urgently_with_each_signal(
    numbers: list[signal.Signals], stops: list[str]
) -> None:
    seconds = iter(range(100))
    server, person = PlayedServer(), Person([], clock=lambda: float(next(seconds)))
    for number in numbers:
        assert number in person.signals
        person.tell(number, server.typed)
    assert server.stops == stops


@pytest.mark.parametrize(
    ("numbers", "stops"),
    [
        ([signal.SIGTERM, signal.SIGTERM], ["stop"]),
        ([signal.SIGTERM, signal.SIGHUP], ["stop"]),
        ([signal.SIGINT, signal.SIGINT], ["interrupt"]),
        ([signal.SIGTERM, signal.SIGINT], ["stop", "interrupt"]),
    ],
    ids=lambda value: " ".join(getattr(each, "name", "") for each in value),
)
def test_the_same_twice_within_half_a_second_is_one_signal(numbers: list[signal.Signals], stops: list[str]) -> None:
    now = [100.0]
    server, person = PlayedServer(), Person([], clock=lambda: now[0])
    for number in numbers:
        person.tell(number, server.typed)
        now[0] += 0.499
    assert server.stops == stops
    now[0] = 100.999
    person.tell(numbers[0], server.typed)
    assert server.stops == [*stops, stops[0]]


@pytest.mark.parametrize(
    ("has_terminal", "has_certificates", "stops", "renewals"),
    [(False, True, [], 1), (True, True, ["stop"], 0), (False, False, ["stop"], 0)],
    ids=["a service with TLS", "at a terminal", "a service without TLS"],
)
def test_sighup_renews_the_certificates_of_a_server_that_never_had_a_terminal(
    has_terminal: bool, has_certificates: bool, stops: list[str], renewals: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastserve.worker.owner._has_terminal", lambda: has_terminal)
    server = PlayedServer(has_certificates=has_certificates)
    Person([]).tell(signal.SIGHUP, server.typed)
    assert (server.stops, server.renewals) == (stops, renewals)


def test_a_sighup_that_is_ignored_stays_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signal, "getsignal", {signal.SIGHUP: signal.SIG_IGN}.get)
    assert Person([]).signals == (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)


async def test_a_person_is_not_watched() -> None:
    server = PlayedServer()
    Person([]).watch(asyncio.get_running_loop(), server.typed)
    await turns()
    assert server.stops == []


# A parent process, at the other end of a socket.


def new_record(*, is_told: bool = False) -> Record:
    """Return a record of a worker that the parent has told to stop, or not."""
    record = Scoreboard(1).reserve(0, 0.0)
    record.is_told = is_told
    return record


@pytest.fixture
def channel() -> Iterator[tuple[socket.socket, socket.socket]]:
    """The end of the parent, and that of the worker."""
    theirs, ours = socket.socketpair()
    theirs.setblocking(False)
    yield theirs, ours
    theirs.close()
    ours.close()


@pytest.fixture
def watchdog(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The watchdogs that were armed."""
    armed: list[Any] = []
    monkeypatch.setattr(faulthandler, "dump_traceback_later", lambda *when, **how: armed.append((when, how)))
    return armed


def test_the_parent_is_told_everything_in_lines_of_json(
    channel: tuple[socket.socket, socket.socket], caplog: pytest.LogCaptureFixture
) -> None:
    theirs, ours = channel
    parent = Parent(ours, os.getppid(), new_record())
    parent.worker_is_ready()
    parent.worker_is_worn("it has served 3 requests or more")
    parent.worker_failed("Error: \u00f6\nTraceback")
    assert [json.loads(line) for line in theirs.recv(10_000).splitlines()] == [
        ["ready", ""],
        ["worn", "it has served 3 requests or more"],
        ["failed", "Error: \u00f6\nTraceback"],
    ]
    assert lines(caplog) == []


def test_a_parent_that_has_ended_need_not_be_told(channel: tuple[socket.socket, socket.socket]) -> None:
    theirs, ours = channel
    theirs.close()
    parent = Parent(ours, os.getppid(), new_record())
    parent.worker_is_ready()
    parent.worker_failed("x")


@pytest.mark.parametrize(
    ("numbers", "stops"),
    [
        ([signal.SIGTERM], ["stop"]),
        ([signal.SIGTERM, signal.SIGTERM], ["stop"]),
        ([signal.SIGQUIT], ["quickly"]),
        ([signal.SIGTERM, signal.SIGQUIT], ["stop", "quickly"]),
        ([signal.SIGQUIT, signal.SIGQUIT, signal.SIGTERM], ["quickly", "quickly"]),
    ],
    ids=lambda value: " ".join(getattr(each, "name", "") for each in value),
)
def test_sigterm_of_a_parent_counts_once_and_sigquit_each_time(
    numbers: list[signal.Signals], stops: list[str], channel: tuple[socket.socket, socket.socket], watchdog: list[Any]
) -> None:
    server, parent = PlayedServer(), Parent(channel[1], os.getppid(), new_record())
    for number in numbers:
        assert number in parent.signals
        parent.tell(number, server.typed)
    assert (server.stops, watchdog) == (stops, [])


@pytest.mark.parametrize(
    ("numbers", "seconds", "is_told", "heard", "said"),
    [
        ([signal.SIGTERM], [0], True, [True], []),
        ([signal.SIGTERM], [0], False, [False], ["asked"]),
        ([signal.SIGTERM, signal.SIGTERM], [0, 1], False, [False, True], ["asked", "leaving"]),
        ([signal.SIGTERM, signal.SIGTERM], [0, 0.499], False, [False, False], ["asked"]),
        ([signal.SIGTERM, signal.SIGTERM], [0, 61], False, [False, False], ["asked", "asked"]),
        ([signal.SIGQUIT], [0], False, [True], []),
    ],
    ids=[
        "of the parent",
        "of someone else",
        "of someone else, twice",
        "of someone else, twice at once",
        "of someone else, and much later again",
        "quickly",
    ],
)
def test_when_to_stop_is_left_to_the_parent_at_first(
    numbers: list[signal.Signals],
    seconds: list[float],
    is_told: bool,
    heard: list[bool],
    said: list[str],
    channel: tuple[socket.socket, socket.socket],
) -> None:
    theirs, ours = channel
    times = iter(seconds)
    parent = Parent(ours, os.getppid(), new_record(is_told=is_told), clock=lambda: next(times))
    assert [parent.hear(number) for number in numbers] == heard
    ours.close()
    assert [json.loads(line)[0] for line in theirs.recv(10_000).splitlines()] == said


def test_nothing_is_left_to_a_parent_that_has_ended(channel: tuple[socket.socket, socket.socket]) -> None:
    assert Parent(channel[1], os.getpid(), new_record()).hear(signal.SIGTERM)  # a process that is not our parent


def test_every_signal_of_a_person_has_an_effect() -> None:
    assert Person([]).hear(signal.SIGTERM)


def test_sigint_is_left_to_the_parent(channel: tuple[socket.socket, socket.socket]) -> None:
    assert signal.SIGINT not in Parent(channel[1], os.getppid(), new_record()).signals


def test_a_signal_after_the_parent_has_ended_arms_a_watchdog_for_a_loop_that_is_blocked(
    channel: tuple[socket.socket, socket.socket], watchdog: list[Any]
) -> None:
    server = PlayedServer()
    Parent(channel[1], os.getpid(), new_record()).tell(signal.SIGTERM, server.typed)  # a process that is not our parent
    assert (server.stops, watchdog) == (["quickly"], [((3.0,), {"exit": True, "file": 2})])


@pytest.mark.usefixtures("loop_factory")
async def test_a_worker_gives_up_its_start_when_the_parent_says_so(
    channel: tuple[socket.socket, socket.socket],
) -> None:
    theirs, ours = channel
    server = PlayedServer()
    Parent(ours, os.getppid(), new_record()).watch(asyncio.get_running_loop(), server.typed)
    theirs.send(GIVE_UP)
    await until(lambda: server.stops)
    await turns()
    assert server.stops == ["give up"]
    asyncio.get_running_loop().remove_reader(ours)


@pytest.mark.usefixtures("loop_factory")
async def test_a_parent_that_has_ended_with_something_unread_has_ended(
    channel: tuple[socket.socket, socket.socket],
) -> None:
    theirs, ours = channel
    server, parent = PlayedServer(), Parent(ours, os.getppid(), new_record())
    parent.worker_is_worn("it is old")
    parent.watch(asyncio.get_running_loop(), server.typed)
    theirs.close()
    await until(lambda: server.stops)
    assert server.stops == ["quickly"]


@pytest.mark.usefixtures("loop_factory")
async def test_a_worker_stops_quickly_when_the_parent_has_ended_and_again_a_moment_later(
    channel: tuple[socket.socket, socket.socket], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owner_module, "_ORPHAN_S", 0.1)
    theirs, ours = channel
    ours.setblocking(False)
    server = PlayedServer()
    loop = asyncio.get_running_loop()
    Parent(ours, os.getppid(), new_record()).watch(loop, server.typed)
    await turns()
    assert server.stops == []
    theirs.close()
    await until(lambda: server.stops)
    at = loop.time()
    await until(lambda: len(server.stops) == 2)
    assert 0.05 < loop.time() - at < 1.0
    assert server.stops == ["quickly", "quickly"]
    assert lines(caplog) == ["The parent process has ended. Shutting down."]

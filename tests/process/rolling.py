"""Three instances behind HAProxy, and what becomes of requests when they are replaced.

`python -m tests.process.rolling` prints the table of docs/deploy/scaling.md. For the network, each instance is a
machine of its own: a namespace with an address that HAProxy reaches over a bridge, as in docs/deploy/haproxy.cfg.
Without the privileges for that, instances have addresses of the loopback interface. Clients send POST requests, which
HAProxy does not send again when a connection is lost, in closed loops: one keeps its connections, one does not.
"""

from __future__ import annotations

import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import click

from .load import ClosedLoop
from .proxies import free_port, haproxy
from .running import SERVED, RunningServer, Start, prepare, starting_servers, wait_until

NUMBERS = (1, 2, 3)
GRACEFUL = ("--ready-path", "/ready", "--drain-delay", "2")
_LISTED = {number: f"10.0.0.1{number}:8000" for number in NUMBERS}  # in docs/deploy/haproxy.cfg


@dataclass(frozen=True, slots=True)
class Network:
    """Where the instances and the proxy are. addresses: of the instances. under: commands that run something there."""

    addresses: dict[int, str]
    under: dict[int, list[str]]
    proxy_under: list[str]
    proxy: str


def can_make_namespaces() -> bool:
    """Tell whether network namespaces can be made and joined here."""
    if shutil.which("ip") is None:
        return False
    name = f"fastserve-{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True).returncode == 0
    if made:
        works = _ip("-n", name, "link", "add", "bridge", "type", "bridge", check=False)
        _ip("netns", "delete", name)
        return works
    return False


def _ip(*arguments: str, check: bool = True) -> bool:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True)
    assert not check or done.returncode == 0, done.stderr
    return done.returncode == 0


@contextmanager
def namespaces() -> Iterator[Network]:
    """Make a namespace for each instance and one for the proxy, with a bridge between them."""
    hub = f"fastserve-{os.getpid()}-hub"
    names = {number: f"fastserve-{os.getpid()}-{number}" for number in NUMBERS}
    with ExitStack() as stack:
        for name in (hub, *names.values()):
            _ip("netns", "add", name)
            stack.callback(_ip, "netns", "delete", name)
            _ip("-n", name, "link", "set", "lo", "up")
        _ip("-n", hub, "link", "add", "bridge", "type", "bridge")
        _ip("-n", hub, "address", "add", "10.0.0.1/24", "dev", "bridge")
        _ip("-n", hub, "link", "set", "bridge", "up")
        for number, name in names.items():
            end = f"instance{number}"
            _ip("-n", hub, "link", "add", end, "type", "veth", "peer", "name", "eth0", "netns", name)
            _ip("-n", hub, "link", "set", end, "master", "bridge", "up")
            _ip("-n", name, "address", "add", f"10.0.0.1{number}/24", "dev", "eth0")
            _ip("-n", name, "link", "set", "eth0", "up")
        run = ["ip", "netns", "exec"]
        yield Network(_LISTED, {number: [*run, name] for number, name in names.items()}, [*run, hub], "10.0.0.1")


@contextmanager
def loopback() -> Iterator[Network]:
    """Give each instance an address of the loopback interface."""
    port = free_port()
    addresses = {number: f"127.0.0.1{number}:{port}" for number in NUMBERS}
    yield Network(addresses, {number: [] for number in NUMBERS}, [], "127.0.0.1")


@dataclass(slots=True)
class Site:
    """Instances behind a proxy, under load."""

    network: Network
    start: Start
    options: tuple[str, ...]
    instances: dict[int, RunningServer] = field(default_factory=dict)
    loops: list[ClosedLoop] = field(default_factory=list)

    def begin(self, number: int) -> None:
        """Start an instance, as an orchestrator does: it waits until that is ready, and looks no further."""
        under = [*self.network.under[number], sys.executable]
        arguments = ("--bind", self.network.addresses[number], "--forwarded-allow-ips", self.network.proxy)
        server = self.start(SERVED, *arguments, "--workers", "2", "--no-access-log", *self.options, under=under)
        self.instances[number] = server.wait_ready()

    def wait_serving(self, number: int) -> None:
        """Wait until an instance gets requests."""
        pids = {worker.pid for worker in self.instances[number].process.children(recursive=True)}
        wait_until(lambda: any(pids & set(loop.pids) for loop in self.loops))

    @property
    def answered(self) -> int:
        """How many requests have been answered."""
        return sum(loop.answered for loop in self.loops)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of the requests."""

    answered: int
    failed: dict[str, int]


def roll(site: Site) -> None:
    """Replace one instance after the other."""
    for number in NUMBERS:
        site.instances[number].send_signal(signal.SIGTERM)
        assert site.instances[number].wait_exit() == 0
        site.begin(number)
        site.wait_serving(number)


def kill(site: Site) -> None:
    """Kill one instance with all of its processes, and start another in its place."""
    site.instances[1].send_signal_to_group(signal.SIGKILL)
    site.instances[1].wait_exit()
    site.begin(1)
    site.wait_serving(1)


def happen(
    event: Callable[[Site], None], network: Network, folder: Path, options: tuple[str, ...] = GRACEFUL
) -> Outcome:
    """Have something happen to three instances under load, and return what became of the requests."""
    prepare(folder)
    front = str(folder / "front")
    with starting_servers(folder) as start:
        site = Site(network, start, options)
        for number in NUMBERS:
            site.begin(number)
        changes = {_LISTED[number]: network.addresses[number] for number in NUMBERS}
        if "--ready-path" not in options:
            changes["    option httpchk GET /ready "] = "    #"
        with (
            haproxy(folder, "haproxy.cfg", changes, path=front, under=network.proxy_under),
            ClosedLoop(front, method="POST") as kept,
            ClosedLoop(front, connections=4, keeps=False, method="POST") as new,
        ):
            site.loops = [kept, new]
            wait_until(lambda: site.answered > 200)
            event(site)
    return Outcome(site.answered, dict(kept.failed + new.failed))


EVENTS: tuple[tuple[str, Callable[[Site], None], tuple[str, ...]], ...] = (
    ("rolling update, `--ready-path /ready --drain-delay 2`", roll, GRACEFUL),
    ("rolling update, without them", roll, ()),
    ("kill -9 of an instance", kill, GRACEFUL),
)


def main() -> None:
    """Print the table."""
    made = namespaces if can_make_namespaces() else loopback
    click.echo(f"{platform.system()}, {os.cpu_count()} CPUs, CPython {platform.python_version()}, {made.__name__}.\n")
    click.echo("| event | answered | failed | how |\n|---|---:|---:|---|")
    for name, event, options in EVENTS:
        with tempfile.TemporaryDirectory() as folder, made() as network:
            outcome = happen(event, network, Path(folder), options)
        kinds = "; ".join(f"{count} {kind}" for kind, count in outcome.failed.items())
        click.echo(f"| {name} | {outcome.answered:,} | {sum(outcome.failed.values())} | {kinds} |")


if __name__ == "__main__":
    main()

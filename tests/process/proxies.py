"""Real proxies in front of a server: nginx and HAProxy as Debian has them, with the configurations of docs/deploy."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from .running import PACKAGE_ROOT, RawClient, wait_until

CONFIGURATIONS = PACKAGE_ROOT / "docs" / "deploy"
_PATH = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"))

NGINX = shutil.which("nginx", path=_PATH)
HAPROXY = shutil.which("haproxy", path=_PATH)

needs_nginx = pytest.mark.skipif(NGINX is None, reason="nginx is not installed (apt-get install nginx-light)")
needs_haproxy = pytest.mark.skipif(HAPROXY is None, reason="HAProxy is not installed (apt-get install haproxy)")

_NGINX_AROUND = """\
daemon off;
{user}
pid {folder}/nginx.pid;
worker_processes 2;
error_log {folder}/nginx.log info;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/site.conf;
}}
"""


class RunningProxy:
    """A proxy in a process of its own. address: where it listens; text is the path of a Unix socket."""

    def __init__(self, command: Sequence[str], address: tuple[str, int] | str, log: Path) -> None:
        self.address = address
        self._log = log
        with log.open("ab") as file:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file, stderr=file)
        wait_until(self._listens)

    @property
    def place(self) -> tuple[str, int]:
        """Its address, of one that listens on a port."""
        assert not isinstance(self.address, str)
        return self.address

    @property
    def url(self) -> str:
        """Where clients reach it."""
        return "http://{}:{}".format(*self.place)

    @property
    def log(self) -> str:
        """What it has said."""
        return self._log.read_text()

    def _listens(self) -> bool:
        assert self._process.poll() is None, self.log
        try:
            RawClient(self.address).close()
        except OSError:
            return False
        return True

    def end(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait(10)


def free_port() -> int:
    """Return a port that is free now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def configuration(name: str, changes: Mapping[str, str]) -> str:
    """Return a configuration of the documentation with some of its text replaced, all of which must be there."""
    text = (CONFIGURATIONS / name).read_text()
    for old, new in changes.items():
        assert old in text, f"{old!r} is not in {name}"
        text = text.replace(old, new)
    return text


@contextmanager
def nginx(folder: Path, upstream: str, changes: Mapping[str, str] | None = None) -> Iterator[RunningProxy]:
    """Run nginx in front of an address, with its configuration in the documentation, changed where it says so."""
    assert NGINX is not None
    port = free_port()
    changes = {"127.0.0.1:8000": upstream, "listen 80;": f"listen 127.0.0.1:{port};", **(changes or {})}
    (folder / "site.conf").write_text(configuration("nginx.conf", changes))
    user = "user root;" if os.geteuid() == 0 else ""
    (folder / "nginx.conf").write_text(_NGINX_AROUND.format(folder=folder, user=user))
    log = folder / "nginx.log"
    command = [NGINX, "-c", str(folder / "nginx.conf"), "-p", str(folder), "-e", str(log)]
    yield from _running(RunningProxy(command, ("127.0.0.1", port), log))


@contextmanager
def haproxy(
    folder: Path, name: str, changes: Mapping[str, str], *, path: str | None = None, under: Sequence[str] = ()
) -> Iterator[RunningProxy]:
    """Run HAProxy with one of its configurations in the documentation, changed where this says so.

    path: of the Unix socket that it is to listen on, in place of a port. under: the command that runs it.
    """
    assert HAPROXY is not None
    address = path or ("127.0.0.1", free_port())
    place = f"unix@{path}" if path else "{}:{}".format(*address)
    (folder / "haproxy.cfg").write_text(configuration(name, {"bind :80": f"bind {place}", **changes}))
    command = [*under, HAPROXY, "-db", "-f", str(folder / "haproxy.cfg")]
    yield from _running(RunningProxy(command, address, folder / "haproxy.log"))


def _running(proxy: RunningProxy) -> Iterator[RunningProxy]:
    try:
        yield proxy
    finally:
        proxy.end()


def client_from(address: str, proxy: RunningProxy) -> httpx.Client:
    """Return a client of a proxy that has this address: any of 127.0.0.0/8 is this machine."""
    transport = httpx.HTTPTransport(local_address=address, trust_env=False)
    return httpx.Client(base_url=proxy.url, transport=transport, timeout=30)

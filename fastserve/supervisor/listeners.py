"""The listening sockets: one for each worker slot and TCP address, held by the supervisor for its whole life.

Workers inherit them and never bind. What waits in the queue of a socket when its worker dies is therefore still there
for its successor.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import stat
import sys
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from fastserve.addresses import BindAddress, TcpAddress, UnixAddress, authority, socket_authority
from fastserve.errors import BindError
from fastserve.settings import BindSettings
from fastserve.supervisor import steering

_log = logging.getLogger("fastserve")

_UNIX_MODE = 0o666  # what a web server of another user needs, and what uvicorn sets


@dataclass(slots=True)
class Group:
    """The sockets of one IP address and port, with SO_REUSEPORT. At first there is that of slot 0, which is only bound.

    sockets: by slot. order: the slots in the order in which the kernel counts their sockets.
    """

    family: int
    host: str
    port: int
    sockets: dict[int, socket.socket]
    order: list[int] = field(default_factory=list)

    def listen(self, backlog: int) -> None:
        """Let clients connect."""
        if not self.order:
            listen(self.sockets[0], backlog)
            # Only now: a second server that binds the same port must fail, and not join the group.
            self.sockets[0].setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            self.order.append(0)

    def add(self, slot: int, backlog: int) -> None:
        """Open the socket of one more slot."""
        if slot not in self.sockets:
            sock = _bind_tcp(self.family, self.host, self.port, socket.SO_REUSEPORT)
            self.sockets[slot] = sock
            listen(sock, backlog)
            self.order.append(slot)

    def remove(self, slot: int) -> None:
        """Close the socket of a slot. The kernel moves the last one of the group into its place."""
        self.sockets.pop(slot).close()
        if slot in self.order:  # It is not when it could not listen.
            self.order[self.order.index(slot)] = self.order[-1]
            self.order.pop()

    def steer(self, ready: Collection[int], cpus: Mapping[int, int] | None) -> None:
        """Let new connections go to slots that are ready, with `cpus` to the one on the CPU where they arrive."""
        if len(self.order) < 2:
            return  # There is no choice, and for the kernel no group.
        indexes = [index for index, slot in enumerate(self.order) if slot in ready]
        # While none is ready any will do: the connections wait in its queue.
        indexes = indexes or list(range(len(self.order)))
        if cpus is None:
            program = steering.random_program(indexes)
        else:
            by_index = {index: cpus[slot] for index, slot in enumerate(self.order) if slot in cpus}
            program = steering.cpu_program(indexes, by_index)
        steering.attach(next(iter(self.sockets.values())), program)

    def leave_to_kernel(self) -> None:
        """Let new connections go to any slot, as the kernel hashes them; another server may have steered them."""
        with contextlib.suppress(OSError):  # There is nothing attached, as a rule.
            steering.detach(next(iter(self.sockets.values())))

    def describe(self) -> dict[str, Any]:
        """Return a description from which another process, which inherits the sockets, makes the same group."""
        fds = {str(slot): sock.fileno() for slot, sock in self.sockets.items()}
        return {"family": self.family, "host": self.host, "port": self.port, "fds": fds, "order": self.order}

    @classmethod
    def from_description(cls, content: dict[str, Any]) -> Group:
        """Return the group that another process described."""
        sockets = {int(slot): _adopt(fd) for slot, fd in content["fds"].items()}
        return cls(content["family"], content["host"], content["port"], sockets, content["order"])


@dataclass(slots=True)
class Opened:
    """The sockets of one address of the options.

    url: where it can be reached, as if without TLS. shared: sockets of all slots. unix_file: path and inode of a Unix
    socket. is_owner: whether that file is ours to remove.
    """

    url: str
    groups: list[Group] = field(default_factory=list)
    shared: list[socket.socket] = field(default_factory=list)
    unix_file: tuple[str, int] | None = None
    is_owner: bool = True

    def sockets(self) -> Iterator[socket.socket]:
        """Yield all of them."""
        yield from self.shared
        for group in self.groups:
            yield from group.sockets.values()

    def close(self) -> None:
        """Close them, and remove the file of a Unix socket if it is ours."""
        for sock in self.sockets():
            sock.close()
        if self.unix_file is not None and self.is_owner:
            path, inode = self.unix_file
            with contextlib.suppress(OSError):
                if os.stat(path).st_ino == inode:
                    os.unlink(path)

    def describe(self) -> dict[str, Any]:
        """Return a description for another process, see Group."""
        groups = [group.describe() for group in self.groups]
        shared = [sock.fileno() for sock in self.shared]
        return {"url": self.url, "groups": groups, "shared": shared, "unix_file": self.unix_file}

    @classmethod
    def from_description(cls, content: dict[str, Any]) -> Opened:
        """Return what another process described."""
        groups = [Group.from_description(each) for each in content["groups"]]
        shared = [_adopt(fd) for fd in content["shared"]]
        unix_file = content["unix_file"]
        return cls(content["url"], groups, shared, tuple(unix_file) if unix_file else None, is_owner=False)


class ListeningSockets:
    """All sockets that connections come to.

    Slot i serves on `for_slot(i)`. On Linux each slot has a socket of its own for a TCP address, in one SO_REUSEPORT
    group, and the kernel spreads the connections over them; Unix and inherited sockets, and with `balance` "shared" all
    of them, are one for all slots. At first there is only slot 0, and TCP sockets are bound but do not listen.

    inherited: what another server described of its sockets; those are taken instead of new ones. Its Unix
    sockets stay its own until `take_over`. scheme: of the URLs.

    Raises:
        BindError: an address cannot be bound.
    """

    def __init__(
        self,
        settings: BindSettings,
        balance: str,
        inherited: Mapping[str, Any] | None = None,
        *,
        scheme: str = "http",
    ) -> None:
        self._scheme = scheme
        self._backlog = settings.backlog
        self._balance = balance
        self._steering: tuple[Collection[int], Mapping[int, int]] | None = None
        self._opened: dict[str, Opened] = {}
        self._bound: list[tuple[int, str, int]] = []
        taken = {key: Opened.from_description(content) for key, content in (inherited or {}).items()}
        try:
            for key, address in _with_keys(settings.addresses):
                self._opened[key] = taken.pop(key) if key in taken else self._open(address)
        except BaseException:
            self.close()
            raise
        finally:
            # Addresses that are not wanted any more: nobody would accept what comes there.
            for opened in taken.values():
                opened.close()

    def _open(self, address: BindAddress) -> Opened:
        if isinstance(address, TcpAddress):
            return self._open_tcp(address)
        if isinstance(address, UnixAddress):
            sock = _open_unix(address.path, self._backlog)
            file = (address.path, os.stat(address.path).st_ino)
            return Opened(f"unix:{address.path}", shared=[sock], unix_file=file)
        sock = _open_inherited(address.fd)
        return Opened(_url(sock), shared=[sock])

    def _open_tcp(self, address: TcpAddress) -> Opened:
        opened = Opened("")
        port = address.port
        try:
            for family, host in _resolve(address):
                sock = _bind_tcp(family, host, port)
                self._refuse_twice(sock)
                port = sock.getsockname()[1]  # with port 0, the same one for every address of the host
                if self._balance == "shared" or sys.platform != "linux":
                    opened.shared.append(sock)
                else:
                    opened.groups.append(Group(family, host, port, {0: sock}))
        except BindError:
            opened.close()
            raise
        opened.url = f"http://{authority(address.host or host, port)}"
        return opened

    def _refuse_twice(self, sock: socket.socket) -> None:
        """Fail on an address that another one takes too: the kernel does not before the second socket listens.

        Raises:
            BindError: it is one.
        """
        host, port = sock.getsockname()[:2]
        every = "::" if sock.family == socket.AF_INET6 else "0.0.0.0"
        for family, other, other_port in self._bound:
            if (family, other_port) == (sock.family, port) and (other == host or every in (other, host)):
                sock.close()
                where, also = authority(host, port), authority(other, port)
                overlap = "it includes {}" if host == every else "it is included in {}"
                reason = "it is given twice" if other == host else f"{overlap.format(also)}, which is given too"
                raise BindError(f"cannot listen on {where}: {reason}")
        self._bound.append((sock.family, host, port))

    @property
    def urls(self) -> list[str]:
        """Where the server can be reached."""
        return [_with_scheme(opened.url, self._scheme) for opened in self._opened.values()]

    def _groups(self) -> Iterator[Group]:
        for opened in self._opened.values():
            yield from opened.groups

    def listen(self) -> None:
        """Let clients connect.

        Raises:
            BindError: another server listens there.
        """
        for opened in self._opened.values():
            for sock in opened.shared:
                listen(sock, self._backlog)
            for group in opened.groups:
                group.listen(self._backlog)

    def add_slot(self, slot: int) -> None:
        """Open the sockets of one more slot.

        Raises:
            BindError: that is not possible.
        """
        for group in self._groups():
            group.add(slot, self._backlog)
        self._steer_again()

    def remove_slot(self, slot: int) -> None:
        """Close the sockets of a slot; what waits there is lost."""
        for group in self._groups():
            if slot in group.sockets:
                group.remove(slot)
        self._steer_again()

    @property
    def slots(self) -> set[int]:
        """The slots that have sockets of their own."""
        return {slot for group in self._groups() for slot in group.sockets}

    def for_slot(self, slot: int) -> list[socket.socket]:
        """Return the sockets that a worker of this slot serves on."""
        shared = [sock for opened in self._opened.values() for sock in opened.shared]
        return [*shared, *(group.sockets[slot] for group in self._groups())]

    def keep_only(self, slot: int) -> list[socket.socket]:
        """Close the sockets of all other slots, in a process that serves this one; return those that are left."""
        for group in self._groups():
            for other in group.sockets.keys() - {slot}:
                group.sockets.pop(other).close()
        return self.for_slot(slot)

    def steer(self, ready: Collection[int], cpus: Mapping[int, int]) -> None:
        """Let new connections go to slots that are ready. cpus: where the workers of the slots are pinned."""
        self._steering = ready, cpus
        if self._balance not in ("random", "cpu"):
            for group in self._groups():
                group.leave_to_kernel()
            return
        try:
            for group in self._groups():
                group.steer(ready, cpus if self._balance == "cpu" else None)
        except OSError as error:
            _log.warning("New connections cannot be steered to workers that are ready: %s.", error.strerror)
            self._balance = "kernel"

    def _steer_again(self) -> None:
        """Do so after the sockets of a group, or their order, have changed."""
        if self._steering is not None:
            self.steer(*self._steering)

    def describe(self) -> dict[str, Any]:
        """Return a description of all, by a key for each address, from which another process takes them."""
        return {address: opened.describe() for address, opened in self._opened.items()}

    def fds(self) -> list[int]:
        """Return the file descriptors of all."""
        return [sock.fileno() for opened in self._opened.values() for sock in opened.sockets()]

    def give_away(self) -> None:
        """Leave the files of Unix sockets to the server that has taken over."""
        for opened in self._opened.values():
            opened.is_owner = False

    def take_over(self) -> None:
        """Own the files of inherited Unix sockets from now on: the server they come from is about to leave them."""
        for opened in self._opened.values():
            opened.is_owner = True

    def close(self) -> None:
        """Close all, and remove the files of Unix sockets."""
        self._steering = None
        for opened in self._opened.values():
            opened.close()


def bind_one(address: BindAddress, backlog: int, scheme: str) -> tuple[socket.socket, str]:
    """Return a socket that is bound to an address, the first one of a host, and the URL where it can be reached.

    Raises:
        BindError: the address cannot be bound.
    """
    if isinstance(address, UnixAddress):
        return _open_unix(address.path, backlog), f"unix:{address.path}"
    if not isinstance(address, TcpAddress):
        sock = _open_inherited(address.fd)
        return sock, _with_scheme(_url(sock), scheme)
    family, host = next(_resolve(address))
    sock = _bind_tcp(family, host, address.port)
    return sock, f"{scheme}://{authority(address.host or host, sock.getsockname()[1])}"


def _with_keys(addresses: Iterable[BindAddress]) -> Iterator[tuple[str, BindAddress]]:
    """Yield the addresses, each with a key of its own: one with port 0 may be there several times."""
    counts: Counter[BindAddress] = Counter()
    for address in addresses:
        counts[address] += 1
        yield f"{address!r} {counts[address]}", address


def listen(sock: socket.socket, backlog: int) -> None:
    """Make a bound socket listen.

    Raises:
        BindError: it cannot.
    """
    try:
        sock.listen(backlog)
    except OSError as error:
        raise BindError(f"cannot listen on {socket_authority(sock.getsockname())}: {error.strerror}") from None


def _resolve(address: TcpAddress) -> Iterator[tuple[socket.AddressFamily, str]]:
    """Yield the addresses that a host stands for. Families that this machine has no address of are left out."""
    flags = socket.AI_PASSIVE | socket.AI_ADDRCONFIG
    try:
        found = socket.getaddrinfo(address.host or None, address.port, type=socket.SOCK_STREAM, flags=flags)
    except (OSError, UnicodeError) as error:
        raise BindError(f"cannot listen on {address.host}: {getattr(error, 'strerror', error)}") from None
    yield from dict.fromkeys((family, str(name[0])) for family, _, _, _, name in found)


def _bind_tcp(family: int, host: str, port: int, *options: int) -> socket.socket:
    try:
        sock = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise BindError(f"cannot listen on {authority(host, port)}: {error.strerror}") from None
    try:
        for option in (socket.SO_REUSEADDR, *options):
            sock.setsockopt(socket.SOL_SOCKET, option, 1)
        # Accepted connections inherit it, which spares a system call for each.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if family == socket.AF_INET6:
            # "::" and "0.0.0.0" can then be listened on side by side, and one does not imply the other.
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((host, port))
    except OSError as error:
        sock.close()
        raise BindError(f"cannot listen on {authority(host, port)}: {error.strerror}") from None
    return sock


def _open_unix(path: str, backlog: int) -> socket.socket:
    """Return a listening socket. It listens at once, which is how another server sees that it is in use."""
    _remove_stale(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.bind(path)
        os.chmod(path, _UNIX_MODE)
        sock.listen(backlog)
    except OSError as error:
        sock.close()
        raise BindError(f"cannot listen on unix:{path}: {error.strerror or error}") from None
    return sock


def _remove_stale(path: str) -> None:
    """Remove the socket of a server that has ended without doing so.

    Raises:
        BindError: a server still listens there, or it is no socket.
    """
    try:
        mode = os.stat(path).st_mode
        if not stat.S_ISSOCK(mode):
            what = "a directory" if stat.S_ISDIR(mode) else "a file"
            raise BindError(f"cannot listen on unix:{path}: it is {what}, and no socket")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.setblocking(False)  # The queue of one that hangs may be full.
            probe.connect(path)
    except ConnectionRefusedError:
        with contextlib.suppress(OSError):  # Then, too.
            os.unlink(path)
    except OSError:
        return
    else:
        raise BindError(f"cannot listen on unix:{path}: another server does")


def _open_inherited(fd: int) -> socket.socket:
    try:
        sock = _adopt(fd)
    except OSError as error:
        raise BindError(f"cannot listen on fd://{fd}: {error.strerror}") from None
    if sock.type != socket.SOCK_STREAM:
        reason = "it is not a stream socket"
    elif _is_connected(sock):
        reason = "it is connected"
    else:
        return sock
    sock.detach()  # It is not ours to close.
    raise BindError(f"cannot listen on fd://{fd}: {reason}")


def _adopt(fd: int) -> socket.socket:
    """Return a socket that this process was started with; programs that it starts do not get it."""
    sock = socket.socket(fileno=fd)
    sock.set_inheritable(False)
    return sock


def _is_connected(sock: socket.socket) -> bool:
    try:
        sock.getpeername()
    except OSError:
        return False
    return True


def _url(sock: socket.socket) -> str:
    name = socket_authority(sock.getsockname())
    return name if name.startswith("unix:") else f"http://{name}"


def _with_scheme(url: str, scheme: str) -> str:
    return url.replace("http:", f"{scheme}:", 1)

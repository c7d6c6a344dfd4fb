"""Addresses as options name them: to listen on, and of peers."""

from __future__ import annotations

import contextlib
import ipaddress
from dataclasses import dataclass
from typing import TypeAlias

from fastserve.errors import SettingsError


@dataclass(frozen=True, slots=True)
class TcpAddress:
    """host: a name or an address; "" is every address. port: 0 is any free one."""

    host: str
    port: int


@dataclass(frozen=True, slots=True)
class UnixAddress:
    """A Unix socket."""

    path: str


@dataclass(frozen=True, slots=True)
class InheritedAddress:
    """A socket that the process was started with."""

    fd: int


BindAddress: TypeAlias = TcpAddress | UnixAddress | InheritedAddress


def parse_bind(text: str) -> BindAddress:
    """Return the address that a value of `--bind` names.

    Raises:
        SettingsError: it names none.
    """
    scheme, colon, rest = text.partition(":")
    if scheme == "unix" and rest:
        return UnixAddress(rest)
    if scheme == "fd" and rest.startswith("//") and _is_number(rest[2:]):
        return InheritedAddress(int(rest[2:]))
    host, colon, port = text.rpartition(":")
    if colon and _is_number(port) and int(port) <= 65535:
        name = without_brackets(host)
        if not {"[", "]"} & set(name) and (name != host or ":" not in host):
            return TcpAddress(name, int(port))
    raise SettingsError(f"{text!r} is not HOST:PORT, [IPV6]:PORT, unix:PATH or fd://N", "--bind")


def without_brackets(host: str) -> str:
    """Return a host without the brackets that an IPv6 address has in a URL (RFC 3986 §3.2.2)."""
    return host[1:-1] if host.startswith("[") and host.endswith("]") and ":" in host else host


_KNOWN_HOSTS = 4096


class AllowList:
    """Peers that are trusted, by a list such as "127.0.0.1,10.0.0.0/8,unix"; "*" is everyone.

    flag: the option that the list is from.

    Raises:
        SettingsError: something in the list is none of these.
    """

    __slots__ = ("_has_all", "_has_unix", "_known", "_networks")

    def __init__(self, text: str, flag: str) -> None:
        names = [name for part in text.split(",") if (name := part.strip())]
        self._has_all = "*" in names
        self._has_unix = "unix" in names
        self._networks = [_network(name, flag) for name in names if name not in ("*", "unix")]
        self._known: dict[str, bool] = {}

    def has(self, host: str | None) -> bool:
        """Tell whether a peer is trusted, given its IP address, or None for one on a Unix socket."""
        if self._has_all:
            return True
        if host is None:
            return self._has_unix
        known = self._known.get(host)
        if known is None:
            if len(self._known) >= _KNOWN_HOSTS:
                self._known.clear()
            known = self._known[host] = self._find(host)
        return known

    def _find(self, host: str) -> bool:
        try:
            address = ipaddress.ip_address(host.partition("%")[0])
        except ValueError:
            return False
        plain = getattr(address, "ipv4_mapped", None) or address  # as a socket for both families has them
        return any(plain in network for network in self._networks)


def _network(name: str, flag: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    with contextlib.suppress(ValueError):
        return ipaddress.ip_network(name)
    try:
        network = ipaddress.ip_network(name, strict=False)
    except ValueError:
        raise SettingsError(f"{name!r} is not an address, a network, 'unix' or '*'", flag) from None
    raise SettingsError(f"{name!r} has host bits set; the network is {network}", flag)


def authority(host: str, port: int) -> str:
    """Return host and port as in a URL (RFC 3986 §3.2)."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def socket_authority(name: object) -> str:
    """Return the name of a socket, as `getsockname` gives it, as in a URL, or as unix:PATH."""
    return authority(name[0], name[1]) if isinstance(name, tuple) else f"unix:{name}"


def describe_client(client: tuple[str, int | None] | None) -> str:
    """Return the address of a client (ASGI HTTP scope, `client`) as logs have it."""
    return f"{client[0]}:{client[1]}" if client and client[1] is not None else "unix"


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()

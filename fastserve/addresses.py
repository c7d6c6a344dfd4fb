"""Addresses to listen on, as options name them."""

from __future__ import annotations

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
        if host.startswith("[") and host.endswith("]"):
            return TcpAddress(host[1:-1], int(port))
        if ":" not in host:
            return TcpAddress(host, int(port))
    raise SettingsError(f"--bind: {text!r} is not HOST:PORT, [IPV6]:PORT, unix:PATH or fd://N")


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

"""Every option of fastserve, declared once: flag, default, unit, bounds and help, in frozen groups.

The command line, the environment (`FASTSERVE_*`), the configuration file and the reference in docs/ are all made from
these declarations. A layer is given the groups it needs and cannot read others.
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from decimal import Decimal
from typing import Any, Literal, cast

from fastserve.accessformats import parse_access_format
from fastserve.addresses import (
    AllowList,
    BindAddress,
    InheritedAddress,
    TcpAddress,
    UnixAddress,
    parse_bind,
    without_brackets,
)
from fastserve.errors import SettingsError


@dataclass(frozen=True, slots=True)
class Option:
    """What is declared of an option besides its name, type and default.

    flag: on the command line. off: the flag that says no, for a switch. unit: of its value. minimum: the least value.
    choices: the only values. metavar: how help names the value; a bool that has one is no switch, but takes a value.
    is_list: its text may hold several values, between commas. is_field: it is a header field. ignores_case: in choices.
    is_secret: its value is never shown.
    """

    flag: str
    help: str
    off: str | None = None
    unit: str | None = None
    minimum: float | None = None
    choices: tuple[str, ...] = ()
    metavar: str | None = None
    is_list: bool = False
    is_field: bool = False
    ignores_case: bool = False
    is_secret: bool = False


def option(default: Any, flag: str, help: str, **more: Any) -> Any:
    """Declare a field of a group as an option; `more` are further fields of Option."""
    declared = Option(flag, help, **more)
    return field(default=default, repr=not declared.is_secret, metadata={"option": declared})


class Group:
    """A set of options for one part of the server. Frozen dataclasses derive from it.

    Raises:
        SettingsError: when made with a value out of bounds.
    """

    __slots__ = ()

    def __post_init__(self) -> None:
        for name, declared in declared_options(type(self)):
            _check(getattr(self, name), declared)


def declared_options(group: type[Any]) -> Iterator[tuple[str, Option]]:
    """Yield the options of a group with the names of their fields."""
    for each in fields(group):
        if "option" in each.metadata:
            yield each.name, each.metadata["option"]


_LARGEST = 2**53


def _check(value: Any, declared: Option) -> None:
    if value is None:
        return
    if isinstance(value, float) and math.isnan(value):
        raise SettingsError(f"{value} is not a number", declared.flag)
    if declared.minimum is not None and isinstance(value, int | float) and value < declared.minimum:
        raise SettingsError(f"{value} is less than {declared.minimum}", declared.flag)
    if isinstance(value, int | float) and _LARGEST < value < math.inf:
        raise SettingsError(f"{value} is too large", declared.flag)
    if declared.choices and value not in declared.choices:
        raise SettingsError(f"{value!r} is not one of {', '.join(declared.choices)}", declared.flag)


_SIZE = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,15})?) ?([KMG])(?:i?B)?", re.ASCII | re.IGNORECASE)


def parse_size(text: str) -> int | None:
    """Return the bytes of a size such as "65536", "512K" or "1.5 GiB"; None when it is not one.

    K, M and G are powers of 1024, however they are written.
    """
    try:
        return int(text)
    except ValueError:
        match = _SIZE.fullmatch(text.strip())
    if match is None:
        return None
    return int(Decimal(match[1]) * 1024 ** (1 + "KMG".index(match[2].upper())))


@dataclass(frozen=True, slots=True, kw_only=True)
class AppSettings(Group):
    """Application: which one, and how it is called."""

    app: str | None = None
    factory: bool = option(False, "--factory", "Call APP without arguments to get the application.")
    interface: str = option(
        "auto",
        "--interface",
        "What APP is. 'auto' finds out. WSGI applications need a2wsgi, of the extra 'wsgi'.",
        choices=("auto", "asgi3", "asgi2", "wsgi"),
    )
    app_dir: str | None = option(
        "", "--app-dir", "Look for APP in this directory, put first on sys.path.", metavar="DIR"
    )
    lifespan: str = option(
        "auto",
        "--lifespan",
        "Run the application's lifespan: always, never, or if it knows it.",
        choices=("auto", "on", "off"),
    )
    root_path: str = option(
        "",
        "--root-path",
        "The path that a proxy in front has cut off; it is put back in front of each path. Slashes at its"
        " begin and its end may be left out.",
        metavar="PATH",
    )
    env_file: str | None = option(
        None,
        "--env-file",
        "Set the environment variables of this file, as far as they are not set, before APP is imported. Options are"
        " not read from it.",
        metavar="FILE",
    )
    accelerate: str = option(
        "auto",
        "--accelerate",
        "Answer requests for FastAPI and Starlette applications by specialised handlers with the same behaviour: where"
        " that is possible, never, or not to start without.",
        choices=("auto", "off", "strict"),
    )
    http_spec_version: str = option(
        "auto",
        "--http-spec-version",
        "Which version of the ASGI HTTP specification APP is told, and served by. With 2.4, send() raises an OSError"
        " when the client has gone away; with 2.3, what is sent then goes nowhere. 'auto' is 2.3 for applications of"
        " frameworks, and 2.4 for others.",
        choices=("auto", "2.3", "2.4"),
    )
    pathsend: str = option(
        "auto",
        "--pathsend",
        "Offer the extension http.response.pathsend, which has the kernel send files: where no middleware can miss it,"
        " always, or never.",
        choices=("auto", "on", "off"),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class BindSettings(Group):
    """Sockets: where connections come from."""

    host: str = option("127.0.0.1", "--host", "Listen on this host: a name or an address.")
    port: int = option(8000, "--port", "Listen on this port; 0 takes a free one, which is printed.", minimum=0)
    bind: tuple[str, ...] = option(
        (),
        "--bind",
        "Listen here instead of --host and --port: HOST:PORT, unix:PATH or fd://N. May be given several times.",
        metavar="ADDRESS",
    )
    uds: str | None = option(None, "--uds", "The same as --bind unix:PATH.", metavar="PATH")
    fd: int | None = option(None, "--fd", "The same as --bind fd://N.", minimum=0, metavar="N")
    backlog: int = option(
        2048, "--backlog", "How many connections may wait in the kernel for each listening socket.", minimum=1
    )

    def __post_init__(self) -> None:
        Group.__post_init__(self)
        if self.port > 65535:
            raise SettingsError(f"{self.port} is more than 65535", "--port")
        if {"[", "]"} & set(without_brackets(self.host)):
            raise SettingsError(f"{self.host!r} is not a name or an address", "--host")
        for text in self.bind:
            parse_bind(text)
        other = _given(self, "host", "port")
        if self.bind and other:
            raise SettingsError("exclude each other", "--bind", *other)
        named = [flag for flag, value in (("--bind", self.bind), ("--uds", self.uds)) if value]
        named += ["--fd"] if self.fd is not None else []
        if len(named) > 1:
            raise SettingsError("exclude each other", *named)

    @property
    def is_named(self) -> bool:
        """Whether there is an address besides --host and --port, which then have no meaning."""
        return bool(self.bind or self.uds) or self.fd is not None

    @property
    def addresses(self) -> list[BindAddress]:
        """Where to listen."""
        if self.uds:
            return [UnixAddress(self.uds)]
        if self.fd is not None:
            return [InheritedAddress(self.fd)]
        return [parse_bind(text) for text in self.bind] or [TcpAddress(without_brackets(self.host), self.port)]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessSettings(Group):
    """Processes: how many, where, and on which event loop."""

    workers: int | Literal["auto"] = option(
        1,
        "--workers",
        "Worker processes. 'auto' is one for each CPU that this process may use. With 1 there is no supervisor, unless"
        " another option needs one; with 'auto' there always is.",
        minimum=1,
        metavar="N|auto",
    )
    loop: str = option(
        "auto",
        "--loop",
        "The event loop. 'auto' is uvloop where it is installed, 'none' is asyncio's; another one is named by what"
        " makes it, as in rloop:new_event_loop.",
        metavar="auto|uvloop|zuvloop|asyncio|none|MODULE:FACTORY",
    )
    balance: str = option(
        "random",
        "--balance",
        "Which of the workers that are ready gets a new connection: any, the one on the CPU where it arrived, as the"
        " kernel hashes it, or the first to accept it from one queue for all.",
        choices=("random", "cpu", "kernel", "shared"),
    )
    affinity: str = option(
        "auto",
        "--affinity",
        "Pin each worker to a CPU: to one of its own when there are enough whole CPUs, never, or to those of a list"
        " such as 0,2,4-7 in turn.",
        metavar="auto|off|LIST",
    )
    preload: bool = option(
        False, "--preload", "Import APP in the supervisor, before it forks workers: they share its memory."
    )
    gc: str = option(
        "server",
        "--gc",
        "How Python looks for cyclic garbage in a worker: 'server' leaves out what was there when the application had"
        " started, and looks less often; 'default' is Python's own way, which a program that embeds the server keeps.",
        choices=("server", "default"),
    )
    hooks: str | None = option(
        None,
        "--hooks",
        "Call the functions pre_fork, post_fork, worker_ready and worker_exit of this module or file, as far as it has"
        " them.",
        metavar="MODULE|FILE",
    )
    pid: str | None = option(None, "--pid", "Write the process id to this file, while the server runs.", metavar="FILE")

    def __post_init__(self) -> None:
        Group.__post_init__(self)
        if self.affinity not in ("auto", "off") and not parse_cpus(self.affinity):
            raise SettingsError(f"{self.affinity!r} is not auto, off or a list such as 0,2,4-7", "--affinity")
        if self.loop not in ("auto", "uvloop", "zuvloop", "asyncio", "none") and ":" not in self.loop:
            raise SettingsError(
                f"{self.loop!r} is not auto, uvloop, zuvloop, asyncio, none or MODULE:FACTORY", "--loop"
            )


def parse_cpus(text: str) -> list[int]:
    """Return the CPUs of a list such as "0,2,4-7", as Linux writes it; none when it is not one."""
    cpus: list[int] = []
    for part in text.strip().split(","):
        match = re.fullmatch(r"([0-9]{1,5})(?:-([0-9]{1,5}))?", part)
        if match is None:
            return []
        cpus += range(int(match[1]), int(match[2] or match[1]) + 1)
    return cpus


@dataclass(frozen=True, slots=True, kw_only=True)
class ReloadSettings(Group):
    """Development: starting anew when files change."""

    reload: bool = option(False, "--reload", "Import the application anew when a file changes. For development.")
    directories: tuple[str, ...] = option(
        (),
        "--reload-dir",
        "Watch this directory instead of the current one. May be given several times.",
        metavar="DIR",
    )
    includes: tuple[str, ...] = option(
        (),
        "--reload-include",
        "Watch files of this pattern, besides *.py, or this directory. May be given several times.",
        metavar="PATTERN",
    )
    excludes: tuple[str, ...] = option(
        (),
        "--reload-exclude",
        "Do not watch files of this pattern, besides .* and others that editors make, or this directory. May be given"
        " several times.",
        metavar="PATTERN",
    )
    delay_s: float = option(
        0.25, "--reload-delay", "Time between two looks at the files.", unit="seconds", minimum=0.01
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpSettings(Group):
    """HTTP: how requests are read, and what every response carries."""

    http: str = option(
        "auto",
        "--http",
        "What reads request heads. 'auto' is a compiled reader of fastserve's own for plain ones, and httptools for the"
        " others or without a compiler.",
        choices=("auto", "httptools", "h11"),
    )
    server_header: bool = option(True, "--server-header", "Send a Server field.", off="--no-server-header")
    date_header: bool = option(True, "--date-header", "Send a Date field.", off="--no-date-header")
    header: tuple[str, ...] = option(
        (),
        "--header",
        "Send this field with every response. May be given several times.",
        metavar="NAME:VALUE",
        is_field=True,
    )

    def __post_init__(self) -> None:
        Group.__post_init__(self)
        for line in self.header:
            _split_header(line)

    @property
    def fields(self) -> list[tuple[bytes, bytes]]:
        """The fields of --header."""
        return [_split_header(line) for line in self.header]


def _split_header(line: str) -> tuple[bytes, bytes]:
    match = re.fullmatch(r"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*([\t\x20-\x7e\x80-\xff]*)", line)
    if match is None:
        raise SettingsError(f"{line!r} is not NAME:VALUE", "--header")
    if match[1].lower() in ("content-length", "transfer-encoding", "connection"):
        raise SettingsError(f"{match[1]} is the server's to set", "--header")
    return match[1].encode("ascii"), match[2].rstrip(" \t").encode("latin-1")


FORWARDED_FIELDS = ("for", "proto", "host", "port", "prefix", "forwarded")
"""What --forwarded-fields can name: the X-Forwarded fields, and the one of RFC 7239."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxySettings(Group):
    """Proxies: what is believed of what they say about the client."""

    headers: bool = option(
        True,
        "--proxy-headers",
        "Believe what a trusted proxy says about the client, in the fields of --forwarded-fields.",
        off="--no-proxy-headers",
    )
    trusted: str = option(
        "127.0.0.1,::1",
        "--forwarded-allow-ips",
        "The proxies that are trusted: a list of addresses and networks such as 10.0.0.0/8, 'unix' for Unix sockets, or"
        " '*' for everyone, which is right only where nobody but the proxy can connect.",
        metavar="LIST",
        is_list=True,
    )
    fields: str = option(
        "for,proto",
        "--forwarded-fields",
        "The fields that the proxy sets itself, whatever the client has sent: a list of for, proto, host, port and"
        " prefix, which are X-Forwarded-For and so on, or forwarded (RFC 7239).",
        metavar="LIST",
        is_list=True,
    )
    protocol: str = option(
        "off",
        "--proxy-protocol",
        "Whether connections of --proxy-allow-ips begin with a PROXY header, version 1 or 2. With 'on' they must.",
        choices=("off", "on"),
    )
    protocol_trusted: str = option(
        "127.0.0.1,::1",
        "--proxy-allow-ips",
        "The proxies that send a PROXY header: a list as above. Other connections are served without one.",
        metavar="LIST",
        is_list=True,
    )

    def __post_init__(self) -> None:
        Group.__post_init__(self)
        AllowList(self.trusted, "--forwarded-allow-ips")
        AllowList(self.protocol_trusted, "--proxy-allow-ips")
        for name in self.field_names:
            if name not in FORWARDED_FIELDS:
                raise SettingsError(f"{name!r} is not one of {', '.join(FORWARDED_FIELDS)}", "--forwarded-fields")
        if "forwarded" in self.field_names and self.field_names - {"forwarded", "prefix"}:
            reason = "forwarded excludes all others but prefix: a proxy sets one of them"
            raise SettingsError(reason, "--forwarded-fields")

    @property
    def field_names(self) -> frozenset[str]:
        """The names in --forwarded-fields."""
        return frozenset(name for part in self.fields.split(",") if (name := part.strip().lower()))


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsSettings(Group):
    """TLS: certificates, and what clients must be able to do."""

    certfile: str | None = option(
        None,
        "--ssl-certfile",
        "Speak TLS, with the certificate in this PEM file, and the others of its chain after it. It is read again when"
        " it changes.",
        metavar="FILE",
    )
    keyfile: str | None = option(
        None,
        "--ssl-keyfile",
        "The key of the certificate. The default is the file of the certificate.",
        metavar="FILE",
    )
    keyfile_password: str | bytes | None = option(
        None, "--ssl-keyfile-password", "The password of the key, if it has one.", metavar="TEXT", is_secret=True
    )
    sni_dir: str | None = option(
        None,
        "--ssl-sni-dir",
        "Further certificates, for clients that ask for a name: for example.org in example.org.pem, with the key there"
        " or in example.org.key; or in the folder example.org, as fullchain.pem and privkey.pem, or tls.crt and"
        " tls.key. For *.example.org the name is _.example.org.",
        metavar="DIR",
    )
    version: int = option(
        17,
        "--ssl-version",
        "The protocol, as a number of Python's ssl module: 17 and 2 are all versions from --ssl-min-version on, 5 is"
        " TLS 1.2 alone.",
        metavar="NUMBER",
    )
    min_version: str = option(
        "1.2", "--ssl-min-version", "The least version of TLS that is spoken.", choices=("1.2", "1.3")
    )
    cert_reqs: int = option(
        0,
        "--ssl-cert-reqs",
        "Client certificates, as a number of Python's ssl module: 0 asks for none, with 1 a client may have one, with 2"
        " it must.",
        minimum=0,
        metavar="NUMBER",
    )
    ca_certs: str | None = option(
        None,
        "--ssl-ca-certs",
        "The authorities that client certificates are to be from: a PEM file.",
        metavar="FILE",
    )
    ciphers: str | None = option(
        None,
        "--ssl-ciphers",
        "The ciphers for TLS 1.2, as a list of OpenSSL. The default is Python's.",
        metavar="LIST",
    )
    handshake_s: float = option(
        10.0,
        "--ssl-handshake-timeout",
        "Time for a TLS handshake. Then the connection is cut.",
        unit="seconds",
        minimum=0.1,
    )

    @property
    def is_wanted(self) -> bool:
        """Whether TLS is to be spoken."""
        return self.certfile is not None

    @property
    def scheme(self) -> str:
        """The scheme of URLs (RFC 9110 §4.2)."""
        return "https" if self.is_wanted else "http"

    def __post_init__(self) -> None:
        Group.__post_init__(self)
        if self.version not in (2, 5, 17):
            raise SettingsError(f"{self.version} is not one of 17, 2, 5", "--ssl-version")
        if self.version == 5 and self.min_version == "1.3":
            raise SettingsError("exclude each other: 5 is TLS 1.2 alone", "--ssl-version", "--ssl-min-version")
        if self.cert_reqs > 2:
            raise SettingsError(f"{self.cert_reqs} is not one of 0, 1, 2", "--ssl-cert-reqs")

    def check_complete(self) -> None:
        """Check that there is what the options need besides themselves.

        Raises:
            SettingsError: something is missing.
        """
        if self.certfile is None:
            for each in fields(self):
                if getattr(self, each.name) != each.default:
                    raise SettingsError("it needs --ssl-certfile", each.metadata["option"].flag)
        if self.cert_reqs and self.ca_certs is None:
            raise SettingsError(f"{self.cert_reqs} needs --ssl-ca-certs", "--ssl-cert-reqs")


@dataclass(frozen=True, slots=True, kw_only=True)
class WebSocketSettings(Group):
    """WebSocket: whether, how large messages may be, and how it is noticed that a client is gone."""

    ws: str = option(
        "auto",
        "--ws",
        "Serve WebSockets. With 'none', a request that wants to open one is served like any other request.",
        choices=("auto", "none"),
    )
    max_bytes: int = option(
        16 * 1024 * 1024,
        "--ws-max-size",
        "Size of a message that a client sends, decompressed. Then the WebSocket is closed with 1009.",
        unit="bytes",
        minimum=1,
    )
    max_queue: int = option(
        32,
        "--ws-max-queue",
        "Messages received for which the application has not asked yet, for each WebSocket; --limit-unread holds too."
        " Then reading pauses.",
        minimum=1,
    )
    ping_interval_s: float = option(
        20.0,
        "--ws-ping-interval",
        "Time between two pings to each client; 0 sends none.",
        unit="seconds",
        minimum=0,
    )
    ping_timeout_s: float = option(
        20.0,
        "--ws-ping-timeout",
        "Time without a byte from the client after a ping. Then the WebSocket is closed; 0 waits without end.",
        unit="seconds",
        minimum=0,
    )
    per_message_deflate: bool = option(
        True,
        "--ws-per-message-deflate",
        "Compress messages, with clients that offer it.",
        metavar="BOOL",
    )


_STOP_S = 30.0  # Programs that stop servers often wait no longer before they kill them.


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts(Group):
    """Timeouts: how long each wait may last, to a quarter of a second."""

    head_s: float = option(
        30.0,
        "--timeout-request-head",
        "Time for a whole request head to arrive, also for the first one of a connection. Then 408.",
        unit="seconds",
        minimum=0.1,
    )
    keep_alive_s: float = option(
        75.0,
        "--timeout-keep-alive",
        "Time a connection may stay without a request. Must be longer than the idle time of a load balancer in"
        " front, which is often 60 seconds. 0 closes after each response.",
        unit="seconds",
        minimum=0,
    )
    body_s: float = option(
        60.0,
        "--timeout-request-body",
        "Time without a byte of a request body that is being waited for. Then 408.",
        unit="seconds",
        minimum=0.1,
    )
    write_s: float = option(
        60.0,
        "--timeout-write",
        "Time in which a client takes not one byte of what is waiting for it. Then the connection is cut.",
        unit="seconds",
        minimum=0.1,
    )
    cancel_s: float | None = option(
        None,
        "--cancel-on-disconnect",
        "Cancel a request so long after its client has gone away, when it is still running and has not answered."
        " Without this, applications are told by http.disconnect alone.",
        unit="seconds",
        minimum=0,
    )
    graceful_s: float | None = option(
        None,
        "--timeout-graceful-shutdown",
        "Time for running requests to finish when the server stops. Then they are cancelled. The last fifth of it, up"
        " to 5 seconds, is kept for the application's own shutdown. Without this it is 30 seconds, and 1 after SIGINT"
        " (Ctrl-C).",
        unit="seconds",
        minimum=0,
    )
    drain_delay_s: float = option(
        0.0,
        "--drain-delay",
        "Time to go on serving after SIGTERM, while --ready-path already says no, so that a load balancer can take the"
        " server out first.",
        unit="seconds",
        minimum=0,
    )
    silent_s: float = option(
        30.0,
        "--timeout-worker",
        "Time for which the event loop of a worker may be blocked, at least 2. Then it is"
        " replaced; a tenth of this brings a warning with its stack. 0 is no limit.",
        unit="seconds",
        minimum=0,
    )
    boot_s: float = option(
        600.0,
        "--timeout-worker-boot",
        "Time for a worker to import and start the application. 0 is no limit.",
        unit="seconds",
        minimum=0,
    )

    @property
    def stop_s(self) -> float:
        """The time for a graceful stop."""
        return _STOP_S if self.graceful_s is None else self.graceful_s

    def __post_init__(self) -> None:
        Group.__post_init__(self)
        if 0 < self.silent_s < 2:
            raise SettingsError(f"{self.silent_s:g} is less than 2, and not 0", "--timeout-worker")


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestLimits(Group):
    """Request limits: how large the parts of a request may be, counted across reads."""

    line_bytes: int = option(
        16 * 1024, "--limit-request-line", "Size of a request line. Then 414.", unit="bytes", minimum=64
    )
    head_bytes: int = option(
        64 * 1024, "--limit-request-head", "Size of all fields of a request. Then 431.", unit="bytes", minimum=64
    )
    fields: int = option(128, "--limit-request-fields", "Number of fields of a request. Then 431.", minimum=1)
    trailer_bytes: int = option(
        16 * 1024,
        "--limit-request-trailers",
        "Size of the trailers of a chunked body, and of all its chunk extensions. Then 431 and 400.",
        unit="bytes",
        minimum=2,
    )
    body_bytes: int = option(
        0, "--limit-request-body", "Size of a request body; 0 is no limit. Then 413.", unit="bytes", minimum=0
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionLimits(Group):
    """Worker limits: how much one worker takes on at a time."""

    concurrency: int | None = option(
        None,
        "--limit-concurrency",
        "Requests a worker runs at the same time. One more gets 503 with Retry-After.",
        minimum=1,
    )
    websockets: int | None = option(
        None,
        "--limit-websockets",
        "WebSockets a worker has open at the same time; --limit-concurrency does not count them. One more gets 503.",
        minimum=1,
    )
    connections: int | None = option(
        None,
        "--limit-connections",
        "Connections a worker keeps open. One more waits in the kernel's queue until another closes. One that has been"
        " idle for a second, or says nothing, closes for it; a WebSocket or a running request does not.",
        minimum=1,
    )
    age_s: float | None = option(
        None,
        "--limit-connection-age",
        "Close a connection with the first response after this time, or up to a tenth earlier or later. The clients, or"
        " the load balancer, then connect anew, also to instances that were not there before.",
        unit="seconds",
        minimum=1,
    )
    unread_bytes: int = option(
        64 * 1024,
        "--limit-unread",
        "Bytes received for which the application has not asked yet, for each connection. Then reading pauses.",
        unit="bytes",
        minimum=1,
    )
    unsent_bytes: int = option(
        64 * 1024,
        "--limit-unsent",
        "Bytes that the client has not taken yet, for each connection. Then send() waits.",
        unit="bytes",
        minimum=0,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Recycling(Group):
    """Recycling: when a worker is replaced, without a request lost."""

    max_requests: int | None = option(
        None, "--limit-max-requests", "Replace a worker after so many requests.", minimum=1
    )
    max_requests_jitter: int = option(
        0,
        "--limit-max-requests-jitter",
        "Add a random number up to this to --limit-max-requests, so that workers are not replaced all together.",
        minimum=0,
    )
    memory_bytes: int | None = option(
        None,
        "--limit-memory",
        "Replace a worker whose resident memory is larger, for example 512M or 2G.",
        unit="bytes",
        minimum=1024 * 1024,
    )
    lifetime_s: float | None = option(
        None, "--limit-lifetime", "Replace a worker after this time.", unit="seconds", minimum=1
    )

    def draw_max_requests(self) -> int | None:
        """Return after how many requests one worker is replaced, a part of which is chance; None when it is not."""
        if self.max_requests is None:
            return None
        return self.max_requests + random.randint(0, self.max_requests_jitter)


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusSettings(Group):
    """Status: what the server answers itself."""

    ready_path: str | None = option(
        None,
        "--ready-path",
        "Answer requests for this path with 200, or with 503 as soon as the server is told to stop.",
        metavar="PATH",
    )
    status_path: str | None = option(
        None,
        "--status-path",
        "Answer requests for this path with the state of all workers as JSON, to clients on this machine only: the peer"
        " and every client that X-Forwarded-For or Forwarded names, trusted or not.",
        metavar="PATH",
    )

    @property
    def is_wanted(self) -> bool:
        """Whether there is anything to answer."""
        return self.ready_path is not None or self.status_path is not None

    def __post_init__(self) -> None:
        Group.__post_init__(self)
        for flag, path in (("--ready-path", self.ready_path), ("--status-path", self.status_path)):
            if path is not None and not path.startswith("/"):
                raise SettingsError(f"{path!r} does not begin with a slash", flag)
        if self.is_wanted and self.ready_path == self.status_path:
            raise SettingsError(f"are both {self.ready_path!r}", "--ready-path", "--status-path")


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSettings(Group):
    """Logging: what is logged, and how."""

    log_level: str | None = option(
        None,
        "--log-level",
        "The least level that is logged; 'debug' tells of each connection, and 'trace' of each ASGI message too. The"
        " default is info, or what the file of --log-config says.",
        choices=("critical", "error", "warning", "info", "debug", "trace"),
        ignores_case=True,
    )
    access_log: bool = option(True, "--access-log", "Log every request.", off="--no-access-log")
    access_log_format: str | None = option(
        None,
        "--access-log-format",
        'The format of the access log: json, common, combined, or one such as \'%h %t "%r" %s %b %D "%{User-Agent}i"\','
        " as for Apache, or with the atoms of gunicorn or granian. The default is that of uvicorn.",
        metavar="json|common|combined|FORMAT",
    )
    access_log_exclude: tuple[str, ...] = option(
        (),
        "--access-log-exclude",
        "Do not log requests for this path, with or without the root path. May be given several times.",
        metavar="PATH",
    )
    access_log_sample: float = option(
        1.0,
        "--access-log-sample",
        "Log only this share of the requests, by chance; failures (5xx) always.",
        minimum=0,
        metavar="SHARE",
    )
    use_colors: bool | None = option(
        None,
        "--use-colors",
        "Colour the log. The default is to do so on a terminal, unless NO_COLOR is set.",
        off="--no-use-colors",
    )
    log_config: str | None = option(
        None,
        "--log-config",
        "Configure logging from this file: .json or .yaml for logging.config.dictConfig, others for fileConfig.",
        metavar="FILE",
    )

    def __post_init__(self) -> None:
        Group.__post_init__(self)
        if self.access_log_sample > 1:
            raise SettingsError(f"{self.access_log_sample:g} is more than 1", "--access-log-sample")
        if self.access_log_format not in (None, "json"):
            parse_access_format(self.access_log_format)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All options of a server."""

    app: AppSettings = field(default_factory=AppSettings)
    bind: BindSettings = field(default_factory=BindSettings)
    processes: ProcessSettings = field(default_factory=ProcessSettings)
    reload: ReloadSettings = field(default_factory=ReloadSettings)
    http: HttpSettings = field(default_factory=HttpSettings)
    proxies: ProxySettings = field(default_factory=ProxySettings)
    tls: TlsSettings = field(default_factory=TlsSettings)
    websockets: WebSocketSettings = field(default_factory=WebSocketSettings)
    timeouts: Timeouts = field(default_factory=Timeouts)
    requests: RequestLimits = field(default_factory=RequestLimits)
    connections: ConnectionLimits = field(default_factory=ConnectionLimits)
    recycling: Recycling = field(default_factory=Recycling)
    status: StatusSettings = field(default_factory=StatusSettings)
    logs: LogSettings = field(default_factory=LogSettings)

    def __post_init__(self) -> None:
        if self.reload.reload and self.processes.preload:
            raise SettingsError("exclude each other", "--reload", "--preload")

    @property
    def supervised(self) -> list[str]:
        """The options for which a parent process is needed, also for a single worker, by name."""
        wanted = {
            "workers": self.processes.workers != 1,
            "preload": self.processes.preload,
            "hooks": self.processes.hooks is not None,
            "reload": self.reload.reload,
            "limit_max_requests": self.recycling.max_requests is not None,
            "limit_memory": self.recycling.memory_bytes is not None,
            "limit_lifetime": self.recycling.lifetime_s is not None,
        }
        return [name for name, is_wanted in wanted.items() if is_wanted]

    @property
    def needs_supervisor(self) -> bool:
        """Whether a parent process is needed."""
        return bool(self.supervised)

    @property
    def remarks(self) -> list[str]:
        """What to warn of: options that have no effect because of others."""
        watched = ("directories", "includes", "excludes", "delay_s")
        opened = ("max_bytes", "max_queue", "ping_interval_s", "ping_timeout_s", "per_message_deflate")
        logged = ("access_log_format", "access_log_exclude", "access_log_sample")
        alone = _given(self.timeouts, "silent_s", "boot_s") + _given(self.processes, "balance")
        found = (
            (not self.needs_supervisor, alone, "in one process without a supervisor"),
            (self.bind.is_named, _given(self.bind, "host", "port"), "when another address is named"),
            (not self.reload.reload, _given(self.reload, *watched), "without --reload"),
            (
                self.recycling.max_requests is None,
                _given(self.recycling, "max_requests_jitter"),
                "without --limit-max-requests",
            ),
            (
                self.websockets.ws == "none",
                _given(self.websockets, *opened) + _given(self.connections, "websockets"),
                "with --ws none",
            ),
            (self.proxies.protocol == "off", _given(self.proxies, "protocol_trusted"), "without --proxy-protocol on"),
            (not self.logs.access_log, _given(self.logs, *logged), "with --no-access-log"),
        )
        return [
            f"{listed(flags)} {'has' if len(flags) == 1 else 'have'} no effect {when}"
            for applies, flags, when in found
            if applies and flags
        ]

    @classmethod
    def from_options(cls, values: Mapping[str, Any]) -> Settings:
        """Return settings from values by option name (the flag in snake case), the rest at their defaults.

        Raises:
            SettingsError: a name that is no option, a value out of bounds, or values that exclude each other.
        """
        left = dict(values)
        groups = {}
        for group_name, group in option_groups():
            named = {name: option_name(declared) for name, declared in declared_options(group)}
            if group is AppSettings:
                named["app"] = "app"
            groups[group_name] = group(**{name: left.pop(key) for name, key in named.items() if key in left})
        if left:
            raise SettingsError(f"unknown option {next(iter(left))!r}")
        return cls(**groups)


def listed(names: list[str]) -> str:
    """Return names as in "a, b and c"."""
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last


def _given(group: Group, *names: str) -> list[str]:
    """Return the flags of those options of a group that have another value than the default."""
    declared = {name: each.flag for name, each in declared_options(type(group))}
    default = {each.name: each.default for each in fields(cast("Any", group))}
    return [declared[name] for name in names if getattr(group, name) != default[name]]


def option_groups() -> Iterator[tuple[str, type[Any]]]:
    """Yield the groups of Settings by the names they have there."""
    for each in fields(Settings):
        yield each.name, cast("type[Any]", each.default_factory)


def option_name(declared: Option) -> str:
    """Return the name of an option in programs and configuration files: its flag in snake case."""
    return declared.flag.removeprefix("--").replace("-", "_")


def group_title(group: type[Any]) -> str:
    """Return the heading for a group: what its docstring begins with."""
    return (group.__doc__ or "").partition(":")[0]

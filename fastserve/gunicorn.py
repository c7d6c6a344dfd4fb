"""The worker class for gunicorn: `gunicorn main:app -k fastserve.gunicorn.FastserveWorker`.

gunicorn's arbiter owns the listening sockets and the worker processes; this is what runs in each of them. The arbiter
forks, and wants to see a heartbeat; it ends a worker with SIGTERM, with SIGQUIT when it is in a hurry, and with SIGABRT
when the heartbeat stops. It gives up when a worker exits with 3, and replaces one that exits with anything else.
"""

from __future__ import annotations

import asyncio
import faulthandler
import logging
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from time import perf_counter
from typing import Any, ClassVar

from gunicorn.arbiter import Arbiter
from gunicorn.glogging import Logger
from gunicorn.workers.base import Worker

from fastserve.accel import explain
from fastserve.asgi.accesslog import passes_filters
from fastserve.asgi.answered import Answered
from fastserve.asgi.types import ASGIApp, Receive, Scope, Send
from fastserve.config import as_option, name_meant
from fastserve.errors import CertificateError, SettingsError
from fastserve.logs import log_with, phrase
from fastserve.net.certificates import Certificates, Context, open_certificates
from fastserve.settings import RequestLimits, Settings
from fastserve.worker import worker as worker_module
from fastserve.worker.apploader import check_app
from fastserve.worker.scoreboard import Scoreboard
from fastserve.worker.server import Place, Server
from fastserve.worker.worker import run_worker

_CLIENT_CLOSED_REQUEST = 499
# Applications filter the access log by this logger, which uvicorn's worker writes it with.
_FILTERED_BY = logging.getLogger("uvicorn.access")
# The arbiter kills what has not ended when its time is over; this much earlier, what still runs is cancelled.
_MARGIN_S = 1.0
# At most so long between two heartbeats, and between two looks at whether the arbiter is still there.
_BEAT_S = 1.0
# How much later than its timeout the arbiter may look. Then a loop that is blocked in C, and hears no signal, shows its
# stack without being asked.
_LATE_S = 0.9
_UNLIMITED_BYTES = 2**30

_DECIDED_BY_GUNICORN = {
    "app": "the application is gunicorn's argument",
    "factory": "gunicorn calls a factory that is named as main:create_app()",
    "app_dir": "use chdir or pythonpath",
    "host": "use bind",
    "port": "use bind",
    "bind": "use bind",
    "uds": "use bind",
    "fd": "use bind",
    "env_file": "use raw_env",
    "reload": "use reload",
    "reload_dir": "gunicorn watches the modules",
    "reload_include": "use reload_extra_files",
    "reload_exclude": "gunicorn watches the modules",
    "reload_delay": "gunicorn looks when it does",
    "workers": "use workers",
    "balance": "use reuse_port",
    "affinity": "gunicorn does not place workers",
    "preload": "use preload_app",
    "hooks": "use gunicorn's hooks",
    "pid": "use pidfile",
    "timeout_graceful_shutdown": "use graceful_timeout",
    "timeout_worker": "use timeout",
    "timeout_worker_boot": "use timeout",
    "limit_max_requests": "use max_requests",
    "limit_max_requests_jitter": "use max_requests_jitter",
    "limit_memory": "gunicorn does not replace workers by their memory",
    "limit_lifetime": "gunicorn does not replace workers by their age",
    "log_level": "use loglevel",
    "log_config": "use logconfig",
    "use_colors": "gunicorn formats the log",
    "access_log_format": "use access_log_format",
    "access_log_exclude": "gunicorn writes the access log",
    "access_log_sample": "gunicorn writes the access log",
}
"""Options that CONFIG_KWARGS cannot have, and what there is for them."""

_WITHOUT_EFFECT = {
    "threads": "an ASGI application runs in one event loop",
    "secure_scheme_headers": "the scheme is that of X-Forwarded-Proto",
    "asgi_disconnect_grace_period": "an application is told of a disconnect and not cancelled",
    "http_protocols": "connections are HTTP/1.1",
    "http_parser": "use 'http' in CONFIG_KWARGS",
    "ssl_version": "use 'ssl_version' or 'ssl_min_version' in CONFIG_KWARGS",
    "suppress_ragged_eofs": "an end without its TLS message is one of the connection",
    "do_handshake_on_connect": "the handshake is done while others are served",
    "permit_obsolete_folding": "obsolete folding is refused",
    "strip_header_spaces": "space before a colon is refused",
    "permit_unconventional_http_method": "any token is a method",
    "permit_unconventional_http_version": "HTTP/1.0 and HTTP/1.1 are read",
    "casefold_http_method": "methods are case-sensitive",
}
"""Settings of gunicorn for which nothing happens, and why; the arbiter says so when one of them is given."""


class FastserveWorker(Worker):  # type: ignore[misc]  # gunicorn has no types
    """A gunicorn worker that serves an ASGI application.

    CONFIG_KWARGS: options of fastserve by their names in programs, for classes that derive from this one. They come
    before what gunicorn's settings say.
    """

    CONFIG_KWARGS: ClassVar[dict[str, Any]] = {}

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        log_with(self.log.error_log, self.log.access_log)  # before the application is loaded, as with uvicorn's worker

    @classmethod
    def check_config(cls, cfg: Any, log: Any) -> None:
        """Check the settings before there is any worker.

        Raises:
            RuntimeError: something in them cannot be had. gunicorn prints it and exits with 1.
        """
        try:
            _open_certificates(cfg, worker_settings(cfg, cls.CONFIG_KWARGS))
        except (SettingsError, CertificateError) as error:
            raise RuntimeError(str(error)) from None
        for name, reason in _WITHOUT_EFFECT.items():
            if _is_given(cfg, name):
                log.warning("%s has no effect with %s: %s.", name, cls.__name__, reason)

    def load_wsgi(self) -> None:
        """Load the application. One that cannot be loaded is replaced, with `reload`, by one that says why."""
        try:
            self.wsgi = self.app.wsgi()
        except (Exception, SystemExit) as error:
            if self.reloader is None:
                raise
            self.log.exception("The application cannot be loaded. Waiting for a change.")
            for name in _files_of(error):
                self.reloader.add_extra_file(name)
            self.wsgi = _failed_app("".join(traceback.format_exception(error)))

    def run(self) -> None:
        """Serve until the arbiter, a limit or an error ends it."""
        signal.set_wakeup_fd(-1)  # What wakes the event loop is its own business.
        if not self.alive:
            return  # A signal came while the application was being loaded.
        try:
            settings = worker_settings(self.cfg, self.CONFIG_KWARGS)
            certificates = _open_certificates(self.cfg, settings)
        except (SettingsError, CertificateError) as error:  # since check_config()
            self.log.error("%s", error)
            sys.exit(Arbiter.WORKER_BOOT_ERROR)
        owner = ArbiterAsOwner(self)
        status = run_worker(
            settings,
            [each.sock for each in self.sockets],  # Only now: with reuse_port they are made after the fork.
            owner,
            load=lambda: _with_pre_request(self, settings.app.accelerate),
            place=_own_place(),
            observers=[owner.count, *_request_hooks(self)],
            certificates=certificates,
        )
        faulthandler.cancel_dump_traceback_later()
        if status or owner.was_aborted:
            sys.exit(Arbiter.WORKER_BOOT_ERROR if status else 1)


class FastserveH11Worker(FastserveWorker):
    """A worker that reads requests with h11, in asyncio's event loop."""

    CONFIG_KWARGS: ClassVar[dict[str, Any]] = {"loop": "asyncio", "http": "h11"}


# Settings.


def worker_settings(cfg: Any, options: Mapping[str, Any]) -> Settings:
    """Return what gunicorn's settings, and options that come before them, are for fastserve.

    Raises:
        SettingsError: there is no such thing.
    """
    options = {keyword: value for keyword, value in options.items() if value is not None}
    for name in map(name_meant, options):
        if name in _DECIDED_BY_GUNICORN:
            raise SettingsError(f"CONFIG_KWARGS: {name!r} cannot be given here: {_DECIDED_BY_GUNICORN[name]}")
    given = dict(filter(None, (as_option(keyword, value) for keyword, value in options.items())))
    values = {**_mapped(cfg), **given, "access_log": False}
    # What the whole stop may take is the arbiter's to say, and it counts from SIGTERM.
    budget_s = cfg.graceful_timeout - float(values.get("drain_delay", 0))
    values["timeout_graceful_shutdown"] = max(budget_s - _MARGIN_S, budget_s / 2, 0.0)
    return Settings.from_options(values)


def _mapped(cfg: Any) -> dict[str, Any]:
    protocol = getattr(cfg, "proxy_protocol", False)
    values: dict[str, Any] = {
        "backlog": cfg.backlog,
        "loop": getattr(cfg, "asgi_loop", "auto"),
        "lifespan": getattr(cfg, "asgi_lifespan", "auto"),
        "root_path": getattr(cfg, "root_path", ""),
        # gunicorn trusts whoever can connect to its Unix socket.
        "forwarded_allow_ips": f"{_joined(cfg.forwarded_allow_ips)},unix",
        "proxy_protocol": "on" if protocol and protocol != "off" else "off",
        "proxy_allow_ips": f"{_joined(cfg.proxy_allow_ips)},unix",
        "limit_request_line": cfg.limit_request_line or _UNLIMITED_BYTES,
        "limit_request_fields": cfg.limit_request_fields,
    }
    tls = {"ssl_certfile": cfg.certfile, "ssl_keyfile": cfg.keyfile, "ssl_ca_certs": cfg.ca_certs}
    values |= {**tls, "ssl_ciphers": cfg.ciphers, "ssl_cert_reqs": int(cfg.cert_reqs)}
    # gunicorn's default would have load balancers send requests into connections that are being closed.
    if _is_given(cfg, "keepalive"):
        values["timeout_keep_alive"] = float(cfg.keepalive)
    # Idle connections count, and gunicorn's default is for workers that keep few.
    if _is_given(cfg, "worker_connections"):
        values["limit_connections"] = cfg.worker_connections
    if _is_given(cfg, "limit_request_field_size"):
        values["limit_request_head"] = _head_bytes(cfg.limit_request_field_size, cfg.limit_request_fields)
    return values


def _open_certificates(cfg: Any, settings: Settings) -> Certificates | None:
    """Return the certificates, None without TLS; with contexts as the user's hook ssl_context has them.

    Raises:
        CertificateError: they cannot be used.
        SettingsError: an option lacks another one that it needs.
    """
    if not settings.tls.is_wanted or not _is_given(cfg, "ssl_context"):
        return open_certificates(settings.tls)

    def adapt(context: Context) -> Context:
        changed: object = cfg.ssl_context(cfg, lambda: context)
        if not isinstance(changed, Context):
            raise CertificateError("ssl_context: the hook must return what default_ssl_context_factory() gives")
        return changed

    return Certificates(settings.tls, adapt)


def _head_bytes(field_bytes: int, count: int) -> int:
    """Return the limit for all fields together, which is the one there is, from that for each of them."""
    usual: int = RequestLimits().head_bytes
    if not field_bytes:
        return _UNLIMITED_BYTES
    return max(min(usual, field_bytes * count), field_bytes)


def _joined(value: Any) -> str:
    return value if isinstance(value, str) else ",".join(value or ())


def _is_given(cfg: Any, name: str) -> bool:
    """Tell whether a setting exists and is not at its default."""
    setting = cfg.settings.get(name)
    return setting is not None and setting.get() != type(setting)().get()


# The arbiter.


class ArbiterAsOwner:
    """gunicorn's arbiter, as the owner of this worker (see worker.owner).

    was_aborted: whether it has found the heartbeat missing.
    """

    signals: tuple[signal.Signals, ...] = (
        signal.SIGTERM,
        signal.SIGINT,
        signal.SIGQUIT,
        signal.SIGABRT,
        signal.SIGUSR1,
    )

    def __init__(self, worker: FastserveWorker) -> None:
        self._worker = worker
        self._server: Server | None = None
        self._period_s = min(worker.timeout / 2 or _BEAT_S, _BEAT_S)
        self._beat_at = time.monotonic()
        self._is_hurried = False
        self.was_aborted = False

    def worker_is_ready(self) -> None:
        """Say so, for people who wait for it."""
        self._worker.log.info("Fastserve worker is ready (pid: %s)", os.getpid())

    def worker_failed(self, text: str) -> None:
        """Log it."""
        self._worker.log.error("%s", text)

    def worker_is_worn(self, reason: str) -> None:
        """Do nothing: gunicorn's limit is counted here."""

    def count(self, exchange: Answered) -> None:
        """Count a request, and leave when they are enough for one worker."""
        if exchange.is_refused:
            return
        worker = self._worker
        worker.nr += 1
        if worker.nr == worker.max_requests and self._server is not None and not self._server.is_stopping:
            worker.log.info("Autorestarting worker after current request.")
            self._server.stop()

    def hear(self, number: int) -> bool:
        """See Owner."""
        return True

    def tell(self, number: int, server: Server) -> None:
        """Act on a signal. The arbiter may send one twice, and so may a terminal."""
        if number == signal.SIGUSR1:
            server.call_soon(self._worker.log.reopen_files)
        elif number == signal.SIGABRT:
            self._abort(server)
        elif number == signal.SIGTERM:
            if not server.is_stopping:
                server.stop()
        else:
            self._worker.cfg.worker_int(self._worker)
            self._hurry(server)

    def _hurry(self, server: Server) -> None:
        if not self._is_hurried:
            self._is_hurried = True
            server.stop_quickly()

    def _abort(self, server: Server) -> None:
        """Show what has blocked the event loop, and end it."""
        worker = self._worker
        self.was_aborted = True
        worker.alive = False
        worker.log.critical("Aborted, most recent call last:\n%s", _stack())
        worker.cfg.worker_abort(worker)
        self._hurry(server)
        if time.monotonic() - self._beat_at > 2 * self._period_s:
            raise SystemExit(1)  # Into what does not let go of the event loop.

    def watch(self, loop: asyncio.AbstractEventLoop, server: Server) -> None:
        """Send heartbeats, also while the application starts and stops, and look after the arbiter and the reloader."""
        self._server = server
        loop.add_reader(self._worker.PIPE[0], self._hear_reloader, loop, server)
        self._beat(loop, server)

    def _hear_reloader(self, loop: asyncio.AbstractEventLoop, server: Server) -> None:
        loop.remove_reader(self._worker.PIPE[0])
        self._hurry(server)  # Whoever has changed a file waits for no one's stream.

    def _beat(self, loop: asyncio.AbstractEventLoop, server: Server) -> None:
        loop.call_later(self._period_s, self._beat, loop, server)  # First, so that nothing can stop it.
        worker = self._worker
        self._beat_at = time.monotonic()
        worker.notify()
        if worker.cfg.timeout:
            faulthandler.dump_traceback_later(worker.cfg.timeout + _LATE_S, file=2)
        if worker.ppid != os.getppid():
            if not self._is_hurried:
                worker.log.error("The arbiter has ended. Shutting down.")
            self._hurry(server)
        elif not worker.alive and not server.is_stopping:
            server.stop()


def _stack() -> str:
    """Return the stack, without the frames of the signal handler."""
    frames = traceback.extract_stack()
    while frames and frames[-1].filename in (__file__, worker_module.__file__):
        frames.pop()
    return "".join(traceback.format_list(frames))


def _own_place() -> Place:
    """Return a place for a worker of which the others know nothing: it ends, and the server does not."""
    scoreboard = Scoreboard(1)
    record = scoreboard.reserve(0, time.monotonic())
    record.claim()
    return Place(0, scoreboard, record)


# Logging, and what is called for each request.


@dataclass(frozen=True, slots=True)
class Request:
    """A request, as gunicorn's hooks and its access log know it."""

    method: str
    path: str
    query: str
    uri: str
    version: tuple[int, int]
    headers: list[tuple[str, str]]
    remote_addr: tuple[str, int] | None

    @classmethod
    def of(cls, scope: Scope) -> Request:
        """Return the request of a scope."""
        path, query = scope["raw_path"].decode("latin-1"), scope["query_string"].decode("latin-1")
        return cls(
            method=scope.get("method", "GET"),  # A WebSocket has none.
            path=scope["path"],
            query=query,
            uri=f"{path}?{query}" if query else path,
            version=(1, int(scope["http_version"] == "1.1")),
            headers=[(name.decode("latin-1").upper(), value.decode("latin-1")) for name, value in scope["headers"]],
            remote_addr=scope["client"] and tuple(scope["client"]),
        )

    def environ(self) -> dict[str, Any]:
        """Return it as WSGI has it, as far as access logs use that."""
        fields = {f"HTTP_{name.replace('-', '_')}": value for name, value in self.headers}
        return {
            **fields,
            "REQUEST_METHOD": self.method,
            "RAW_URI": self.uri,
            "PATH_INFO": self.path,
            "QUERY_STRING": self.query,
            "SERVER_PROTOCOL": "HTTP/{}.{}".format(*self.version),
            "REMOTE_ADDR": self.remote_addr[0] if self.remote_addr else "",
            "REMOTE_PORT": str(self.remote_addr[1]) if self.remote_addr else "",
        }


@dataclass(frozen=True, slots=True)
class Response:
    """A response, as gunicorn's hooks and its access log know it."""

    status_code: int
    headers: list[tuple[str, str]]
    sent: int

    @classmethod
    def of(cls, exchange: Answered) -> Response:
        """Return the response of an exchange."""
        fields = [(bytes(name).decode("latin-1"), bytes(value).decode("latin-1")) for name, value in exchange.fields]
        return cls(exchange.status or _CLIENT_CLOSED_REQUEST, fields, exchange.sent_bytes)

    @property
    def status(self) -> str:
        """The status with its phrase."""
        return f"{self.status_code} {phrase(self.status_code)}".rstrip()


def _request_hooks(worker: FastserveWorker) -> list[Callable[[Answered], None]]:
    """Return what is to be called with each request: none, if nobody would learn of it."""
    logs = _is_logging_access(worker.log)
    has_hook = _is_given(worker.cfg, "post_request")
    if not logs and not has_hook:
        return []

    def observe(exchange: Answered) -> None:
        request, response = Request.of(exchange.scope), Response.of(exchange)
        environ = request.environ()
        if logs and passes_filters(exchange, _FILTERED_BY):
            worker.log.access(response, request, environ, timedelta(seconds=perf_counter() - exchange.started_at))
        if has_hook and not exchange.is_refused:  # As for pre_request, the application was not called.
            try:
                worker.cfg.post_request(worker, request, environ, response)
            except Exception:  # The response is sent, whatever the user's function does.
                worker.log.exception("Exception in post_request hook")

    return [observe]


def _is_logging_access(log: Any) -> bool:
    cfg = log.cfg
    is_configured = cfg.accesslog or cfg.logconfig or cfg.logconfig_dict or getattr(cfg, "logconfig_json", None)
    to_syslog = cfg.syslog and not cfg.disable_redirect_access_to_syslog
    # statsd, and users' classes, have a method of their own.
    return bool(is_configured or to_syslog or type(log).access is not Logger.access)


def _with_pre_request(worker: FastserveWorker, accelerate: str) -> ASGIApp:
    """Return the application; with the hook pre_request, if the user has one. accelerate: the option.

    Raises:
        AppLoadError: it is none for this server.
    """
    app = check_app(worker.wsgi, worker.cfg.default_proc_name, factory=False)
    if not _is_given(worker.cfg, "pre_request"):
        return app
    routes = explain(app) if accelerate != "off" else []
    if routes:
        worker.log.info("accelerated 0 of %d routes: the hook pre_request is called for each request", len(routes))

    async def hooked(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            worker.cfg.pre_request(worker, Request.of(scope))
        await app(scope, receive, send)

    return hooked


# An application that cannot be loaded.


def _files_of(error: BaseException) -> set[str]:
    """Return the files in which an import has failed: those are not watched, because they are no modules yet."""
    names = {frame.filename for frame in traceback.extract_tb(error.__traceback__)}
    if isinstance(error, SyntaxError) and error.filename is not None:
        names.add(error.filename)
    return {name for name in names if os.path.isfile(name)}


def _failed_app(trace: str) -> ASGIApp:
    """Return an application that answers every request with this traceback. For development."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise RuntimeError("the application cannot be loaded")
        fields = [(b"content-type", b"text/plain; charset=utf-8")]
        await send({"type": "http.response.start", "status": 500, "headers": fields})
        await send({"type": "http.response.body", "body": trace.encode(errors="backslashreplace")})

    return app

"""Options of uvicorn, gunicorn and granian under their names: which of ours each one is, or what to do instead.

What has the same name and meaning here is not listed. Nothing is ignored in silence: a name is an option, another name
for one, or answered with a sentence.
"""

from __future__ import annotations

from collections.abc import Iterator

ALIASES: dict[str, str] = {
    # uvicorn
    "--h11-max-incomplete-event-size": "limit_request_head",
    "--timeout-worker-healthcheck": "timeout_worker",
    # gunicorn and hypercorn
    "-w": "workers",
    "-b": "bind",
    "-t": "timeout_worker",
    "-p": "pid",
    "--timeout": "timeout_worker",
    "--graceful-timeout": "timeout_graceful_shutdown",
    "--keep-alive": "timeout_keep_alive",
    "--max-requests": "limit_max_requests",
    "--max-requests-jitter": "limit_max_requests_jitter",
    "--worker-connections": "limit_connections",
    "--limit-request-field_size": "limit_request_head",
    "--access-logformat": "access_log_format",
    "--log-config-json": "log_config",
    "--reload-extra-file": "reload_include",
    "--pythonpath": "app_dir",
    "--proxy-allow-from": "proxy_allow_ips",
    # granian
    "--url-path-prefix": "root_path",
    "--workers-lifetime": "limit_lifetime",
    "--workers-kill-timeout": "timeout_graceful_shutdown",
    "--access-log-fmt": "access_log_format",
    "--env-files": "env_file",
    "--pid-file": "pid",
    "--reload-paths": "reload_dir",
    "--reload-ignore-dirs": "reload_exclude",
    "--reload-ignore-patterns": "reload_exclude",
}
"""Other names of our options, which take the same values."""

PLURALS: dict[str, str] = {
    "header": "headers",
    "reload_dir": "reload_dirs",
    "reload_include": "reload_includes",
    "reload_exclude": "reload_excludes",
}
"""What uvicorn calls these options in programs and in the environment."""

FULFILLED: dict[str, str] = {
    "--reset-contextvars": "every request has context variables of its own",
}
"""Switches of uvicorn for what is always so here."""

_NO_WORKER_CLASS = (
    "there are no worker classes: fastserve runs ASGI applications by itself, so leave it out. Under gunicorn, use"
    " --worker-class fastserve.gunicorn.FastserveWorker"
)
_NO_THREADS = "an ASGI application runs in one thread of each worker: use --workers"
_SYSTEM_USER = "start fastserve as the user that it should run as: User= of systemd, USER in a Dockerfile"
_NO_FILES_OF_LOGS = "logs go to standard output and error: redirect them, or use --log-config"
_NO_HTTP2 = "HTTP/2 is not served: leave it to the proxy in front, which speaks HTTP/1.1 to fastserve"
_NO_METRICS = "use --status-path, which answers with the counters of all workers as JSON"
_NO_FILES = "serve files by the application (StaticFiles), or by the proxy in front"
_ALWAYS_RESPAWNED = "workers that end are always replaced, after a growing delay when they end often"

ADVICE: dict[str, str] = {
    # uvicorn
    "--http2": _NO_HTTP2,
    # gunicorn
    "-k": _NO_WORKER_CLASS,
    "--worker-class": _NO_WORKER_CLASS,
    "--threads": _NO_THREADS,
    "-c": "gunicorn's configuration is Python, which is not read: write the options to [tool.fastserve] in"
    " pyproject.toml, or name a TOML file with --config",
    "-D": "fastserve stays in the foreground: let systemd or a container run it",
    "--daemon": "fastserve stays in the foreground: let systemd or a container run it",
    "--chdir": "change the directory before, or use --app-dir",
    "-e": "set the variable before, or use --env-file",
    "--env": "set the variable before, or use --env-file",
    "-u": _SYSTEM_USER,
    "--user": _SYSTEM_USER,
    "-g": _SYSTEM_USER,
    "--group": _SYSTEM_USER,
    "-m": "set the umask before: UMask= of systemd",
    "--umask": "set the umask before: UMask= of systemd",
    "-n": "processes are named fastserve and fastserve:wN by themselves",
    "--name": "processes are named fastserve and fastserve:wN by themselves",
    "--access-logfile": _NO_FILES_OF_LOGS,
    "--error-logfile": _NO_FILES_OF_LOGS,
    "--log-file": _NO_FILES_OF_LOGS,
    "--capture-output": _NO_FILES_OF_LOGS,
    "--logger-class": "use --log-config",
    "--log-syslog": "use --log-config with a logging.handlers.SysLogHandler",
    "--statsd-host": _NO_METRICS,
    "--reuse-port": "each worker always has a listening socket of its own, unless --balance says otherwise",
    "--preload-app": "it is --preload",
    "--reload-engine": "watchfiles is used where it is installed, and files are looked at otherwise",
    "--worker-tmp-dir": "there are no temporary files for workers",
    "--no-sendfile": "there is nothing to switch off",
    "--keyfile": "it is --ssl-keyfile",
    "--certfile": "it is --ssl-certfile",
    "--ca-certs": "it is --ssl-ca-certs",
    "--ciphers": "it is --ssl-ciphers",
    "--cert-reqs": "it is --ssl-cert-reqs",
    "--insecure-bind": "use --bind; one server cannot serve both with and without TLS",
    # granian
    "--blocking-threads": _NO_THREADS,
    "--blocking-threads-idle-timeout": _NO_THREADS,
    "--runtime-threads": _NO_THREADS,
    "--runtime-blocking-threads": _NO_THREADS,
    "--runtime-mode": _NO_THREADS,
    "--task-impl": "tasks are asyncio's",
    "--backpressure": "use --limit-connections or --limit-concurrency",
    "--log": "use --log-level",
    "--no-log": "use --log-level critical",
    "--workers-max-rss": "use --limit-memory, with a unit: 512M",
    "--respawn-failed-workers": _ALWAYS_RESPAWNED,
    "--respawn-interval": _ALWAYS_RESPAWNED,
    "--working-dir": "change the directory before, or use --app-dir",
    "--process-name": "processes are named fastserve and fastserve:wN by themselves",
    "--static-path-mount": _NO_FILES,
    "--static-path-route": _NO_FILES,
    "--metrics": _NO_METRICS,
    "--metrics-address": _NO_METRICS,
    "--metrics-port": _NO_METRICS,
    "--ssl-certificate": "it is --ssl-certfile",
    "--http1-keep-alive": "use --timeout-keep-alive; 0 closes connections after each response",
    "--no-http1-keep-alive": "use --timeout-keep-alive 0",
}
"""What to do instead of options that are not here."""

STANDS_FOR: dict[str, dict[str, str]] = {
    "ws": dict.fromkeys(("websockets", "websockets-sansio", "wsproto"), "auto"),
    "http": {"zttp": "auto"},
    "interface": {"asgi": "asgi3"},
}
"""Values of other servers, and those of ours that do the same."""

STANDS_FOR_BECAUSE: dict[str, str] = {
    "ws": "fastserve does that itself",
    "http": "fastserve does that itself",
    "interface": "it is granian's name for it",
}
"""Why they do."""

VALUES: dict[str, str] = {
    "ws": "fastserve implements WebSocket itself, and no library or class can be plugged in",
    "http": "fastserve reads requests itself, and no protocol class can be plugged in",
    "interface": "'auto' finds out what APP is; RSGI, which is granian's own, is not served",
}
"""What to say besides that the value of an option is not allowed."""

KEYWORDS: dict[str, str] = {
    "ssl_context_factory": "certificates come from files, which are read again when they change: use ssl_certfile",
    "http2": _NO_HTTP2,
}
"""What to do instead of arguments of `uvicorn.Config` that are not here."""

NONE_MEANS: dict[str, float] = {"ws_ping_interval": 0.0, "ws_ping_timeout": 0.0}
"""What None means to uvicorn in programs, where it is not the default."""

NOT_GIVEN: dict[str, str] = {"ssl_ciphers": "TLSv1"}
"""Defaults of `uvicorn.Config` that say nothing, and that programs hand on."""

UVICORN_LISTS: dict[str, str | None] = {
    "reload_dir": ":",
    "reload_include": None,
    "reload_exclude": None,
    "header": None,
}
"""How uvicorn separates several values of a variable; None is white space."""

FALLBACKS: dict[str, str] = {"workers": "WEB_CONCURRENCY", "forwarded_allow_ips": "FORWARDED_ALLOW_IPS"}
"""Variables that decide when nothing else does."""


def aliases(name: str) -> list[str]:
    """Return the other flags of an option."""
    return [flag for flag, other in ALIASES.items() if other == name]


def variables(name: str) -> Iterator[str]:
    """Yield the environment variables that an option is taken from, the first that is set decides."""
    names = [name, PLURALS[name]] if name in PLURALS else [name]
    for each in names:
        yield f"FASTSERVE_{each.upper()}"
    others = [flag.removeprefix("--").replace("-", "_") for flag in aliases(name) if flag.startswith("--")]
    for each in (*names, *others):
        yield f"UVICORN_{each.upper()}"

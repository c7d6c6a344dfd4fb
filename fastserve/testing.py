"""A real server for tests, in a thread: `with serving(app) as url`."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

from fastserve.asgi.types import ASGIApp
from fastserve.config import Config
from fastserve.server import Server

# How long requests that a test has left behind may take, and then everything else.
_GRACEFUL_S = 2.0
_END_S = 10.0


@contextlib.contextmanager
def serving(app: ASGIApp | Callable[..., Any] | str, **options: Any) -> Iterator[str]:
    """Serve an application on a free port of this machine, and give the URL of its root, without a slash at the end.

    In a fixture of pytest: `with serving(app) as url: yield url`. options: of Config. Logging is left as it is.

    Raises:
        StartupError: the application does not start.
        TimeoutError: at the end: the server does not stop.
    """
    defaults = {"port": 0, "log_config": None, "timeout_graceful_shutdown": _GRACEFUL_S}
    server = Server(Config(app, **{**defaults, **options}))
    errors: list[BaseException] = []
    ready = threading.Event()

    def run() -> None:
        try:
            server.run_in_thread(ready.set)
        except BaseException as error:
            errors.append(error)
        finally:
            ready.set()

    thread = threading.Thread(target=run, name="fastserve.testing", daemon=True)
    thread.start()
    ready.wait()
    try:
        if errors:
            raise errors[0]
        yield server.urls[0]
    finally:
        server.should_exit = True
        thread.join(_END_S)
        if thread.is_alive():
            raise TimeoutError(f"the server has not stopped within {_END_S:g} seconds")

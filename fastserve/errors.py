"""The exceptions of fastserve. Each carries what the place that handles it needs, and is handled once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from http import HTTPStatus

# The text that uvicorn sends, which clients and tests know.
_BAD_REQUEST = b"Invalid HTTP request received."


def causes(error: BaseException) -> Iterator[BaseException]:
    """Yield what an exception was raised because of, then what that was, and so on; of a circle each one once."""
    seen = {id(error)}
    cause = error.__cause__ or error.__context__
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        yield cause
        cause = cause.__cause__ or cause.__context__


class FastserveError(Exception):
    """The root of everything fastserve raises on purpose."""


class SettingsError(FastserveError):
    """An option has a bad value, or two options contradict each other. The command line exits with 2.

    reason: what is wrong, after the names of the options that it is about, if there are any. flags: these options.
    """

    exit_code = 2

    def __init__(self, reason: str, *flags: str) -> None:
        super().__init__(f"{' and '.join(flags)}{': ' if len(flags) == 1 else ' ' if flags else ''}{reason}")
        self.reason = reason
        self.flags = flags

    def with_places(self, places: Mapping[str, str]) -> SettingsError:
        """Return the error with the places that the values of options come from, by flag, in place of the flags."""
        return SettingsError(self.reason, *(places.get(flag, flag) for flag in self.flags))


class StartupError(FastserveError):
    """The server cannot begin to serve. The command line exits with 3."""

    exit_code = 3

    def explain(self) -> str:
        """Return what to log."""
        return str(self)


class AppLoadError(StartupError):
    """The application named on the command line cannot be imported.

    `trace` is the formatted part of the traceback that lies in the user's code, or "" when there is none.
    """

    def __init__(self, message: str, trace: str = "") -> None:
        super().__init__(message)
        self.trace = trace

    def explain(self) -> str:
        """See StartupError: with the traceback, if there is one."""
        trace = f"\n{self.trace.rstrip()}" if self.trace else ""
        end = "" if str(self).endswith("?") else "."
        return f"Error loading ASGI app: {self}{end}{trace}"


class NestedServer(AppLoadError):
    """The application that is being loaded starts a server itself."""


class BindError(StartupError):
    """A listening socket cannot be opened."""


class CertificateError(StartupError):
    """A certificate or its key is missing, cannot be read, or is wrong."""


class LifespanError(StartupError):
    """The application answered `lifespan.startup.failed`, cannot start with `--lifespan on`, or takes too long.

    stack: where it waits, if that is known.
    """

    def __init__(self, reason: str, stack: str = "") -> None:
        super().__init__(reason)
        self.stack = stack


class AccelerationError(StartupError):
    """What was to be accelerated without exception cannot be: the application, or some of its routes."""


class ProtocolViolation(FastserveError):
    """The peer broke the protocol, or went over a limit. Answered with `status`, then the connection closes.

    fields: what the answer says besides.
    """

    def __init__(self, reason: str, *, status: int = 400, fields: tuple[tuple[bytes, bytes], ...] = ()) -> None:
        super().__init__(reason)
        self.reason = reason
        self.status = status
        self.fields = fields

    @property
    def text(self) -> bytes:
        """What the client gets to read."""
        return _BAD_REQUEST if self.status == HTTPStatus.BAD_REQUEST else HTTPStatus(self.status).phrase.encode()


class WebSocketViolation(FastserveError):
    """The peer broke the WebSocket protocol, or went over a limit. The WebSocket is closed with `code`."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class FieldsRefused(FastserveError):
    """A parser library refuses a field section; the message is the library's own."""


class ApplicationError(FastserveError, RuntimeError):
    """The application used the ASGI interface wrongly. Raised out of `send()`, into the application."""


class InvalidMessage(ApplicationError):
    """An ASGI message of an unknown type, or one that is not allowed in this state."""


class InvalidResponse(ApplicationError):
    """A response that cannot be put on the wire: a bad field name or value, a bad status, a wrong length."""


class ClientDisconnected(OSError):
    """`send()` was called after the client went away (ASGI HTTP specification 2.4).

    An application may let it through: it is then neither logged nor answered.
    """

"""The bytes of ordinary answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydantic_core import ValidationError
from starlette.responses import Response

from fastserve.accel.cors import CorsAnswer
from fastserve.accel.plain import encode
from fastserve.accel.validated import Validated
from fastserve.asgi.exchange import respond
from fastserve.asgi.types import Scope, Send

_CONTENT_TYPE = (b"content-type", b"application/json")
# Up to this length, the fields of answers are kept.
_MOST_KEPT = 4096


class Encoder:
    """Makes the bytes of ordinary answers of one endpoint, and sends them.

    status: of an ordinary answer. is_fast: there are such answers, of which the body is JSON. validate, dump, options:
    what the response model does; None where there is none. invalid: returns what is raised for a result that is not
    what the response model says.

    Not to be derived from: a method that may be overridden is looked up for each call, also by compiled code.
    """

    __slots__ = ("_dump", "_dump_options", "_fields", "_invalid", "_is_fast", "_validate", "status")

    def __init__(
        self,
        status: int,
        validate: Callable[..., Any] | None,
        dump: Callable[..., bytes] | None,
        options: dict[str, Any] | None,
        is_fast: bool,
        invalid: Callable[[ValidationError, Any, Scope], Exception],
    ) -> None:
        self.status = status
        self._validate = validate
        self._dump = dump
        self._dump_options = options
        self._is_fast = is_fast
        self._invalid = invalid
        self._fields: dict[int, list[tuple[bytes, bytes]]] = {}

    def encode(self, result: Any, is_special: bool, scope: Scope) -> bytes | None:
        """Return the JSON of the ordinary answer, or None when it is another one.

        is_special: a dependency may have set header fields, or the status.

        Raises:
            ResponseValidationError: the result is not what the response model says.
        """
        if is_special or not self._is_fast or isinstance(result, Response):
            return None
        if self._dump is None:
            return encode(result)
        value = result[1] if type(result) is Validated else self.validated(result, scope)
        return self._dump(value, **self._dump_options)  # type: ignore[arg-type]

    def validated(self, result: Any, scope: Scope) -> Any:
        """Return what the response model makes of a result.

        Raises:
            ResponseValidationError: the result is not what the response model says.
        """
        assert self._validate is not None
        try:
            return self._validate(result, from_attributes=True)
        except ValidationError as error:
            wrong = error
        try:
            raise self._invalid(wrong, result, scope)
        finally:
            del wrong  # Its traceback has this frame, and with it the result.

    def fields(self, length: int) -> list[tuple[bytes, bytes]]:
        """Return the header fields of an ordinary answer, not to be changed."""
        found = self._fields.get(length)
        if found is None:
            found = [(b"content-length", b"%d" % length), _CONTENT_TYPE]
            if length <= _MOST_KEPT:
                self._fields[length] = found
        return found

    def respond(self, send: Send, content: bytes) -> bool:
        """Send an ordinary answer if that takes one step, and tell whether it did."""
        answer = getattr(send, "__self__", None)
        if isinstance(answer, CorsAnswer):
            marking = answer
            return marking.respond(self.status, self.fields(len(content)), content)
        return respond(send, self.status, self.fields(len(content)), content)

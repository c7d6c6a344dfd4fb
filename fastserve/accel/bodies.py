"""The bodies of requests, read as FastAPI reads them."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any, Protocol

from fastapi import routing
from fastapi.exceptions import EndpointContext, RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.body_limit import MAX_BODY_SIZE_SCOPE_KEY
from starlette.requests import ClientDisconnect, Request

from fastserve.accel.body_limits import limit_of
from fastserve.accel.taking import JsonContent, Solving
from fastserve.asgi.types import Message, Receive, Scope

Context = Callable[[Scope], EndpointContext]
"""Returns what errors say about the endpoint of a request."""


class Body(Protocol):
    """The body of the requests for one endpoint.

    Either method puts what is in it into the state, or raises RequestValidationError if it is not the JSON that it
    claims to be, or HTTPException if it cannot be read.
    """

    def take(self, state: Solving) -> bool:
        """Take the whole body if that takes no waiting, and tell whether it was so."""

    async def read(self, state: Solving) -> None:
        """Read the whole body."""


def body_of(cells: dict[str, Any], context: Context) -> Body | None:
    """Return the body for an endpoint, or None when it needs none.

    cells: the variables of FastAPI's own handler.
    """
    if not cells["body_field"]:
        return None
    if cells["is_body_form"]:
        return FormBody(cells)
    return JsonBody(context, is_strict=cells["actual_strict_content_type"])


class JsonBody:
    """A body of JSON (see Body and JsonContent)."""

    def __init__(self, context: Context, *, is_strict: bool) -> None:
        self._content = JsonContent(is_strict=is_strict, unreadable=self._unreadable)
        self._context = context
        self.take = self._content.take  # It is compiled, and there is nothing in between.

    async def read(self, state: Solving) -> None:
        """See Body."""
        try:
            content = await _content(state)
        except HTTPException:
            raise
        except Exception as error:
            raise self._unreadable(error, state) from error
        self._content.put(content, state)

    def _unreadable(self, error: Exception, state: Solving) -> Exception:
        """Return what is raised for a body that cannot be read, or is not the JSON that it claims to be."""
        if isinstance(error, json.JSONDecodeError):
            return _invalid_json(error, self._context(state.scope))
        return _unreadable(error, state)


class FormBody:
    """A body that is a form, which may have files (see Body)."""

    def __init__(self, cells: dict[str, Any]) -> None:
        self._has_limits = "form_limits" in cells  # FastAPI has them from 0.165 on.
        self._limits = cells.get("form_limits")

    def take(self, state: Solving) -> bool:
        """See Body."""
        return False

    async def read(self, state: Solving) -> None:
        """See Body."""
        try:
            form = await state.request().form(**self._allowed(state))
            files: AsyncExitStack = state.scope["fastapi_middleware_astack"]
            files.push_async_callback(form.close)
        except HTTPException:
            raise
        except Exception as error:
            raise _unreadable(error, state) from error
        state.body = form

    def _allowed(self, state: Solving) -> dict[str, Any]:
        """Return the limits, as keywords of `Request.form`."""
        if not self._has_limits:
            return {}
        return dict(routing._resolve_form_limits(state.scope.get("fastapi", {}), self._limits))


def _invalid_json(error: json.JSONDecodeError, context: EndpointContext) -> RequestValidationError:
    wrong = {
        "type": "json_invalid",
        "loc": ("body", error.pos),
        "msg": "JSON decode error",
        "input": {},
        "ctx": {"error": error.msg},
    }
    return RequestValidationError([wrong], body=error.doc, endpoint_ctx=context)


def _unreadable(error: Exception, state: Solving) -> Exception:
    if MAX_BODY_SIZE_SCOPE_KEY in state.scope and (limit := limit_of(error)):
        return limit
    return HTTPException(status_code=400, detail="There was an error parsing the body")


async def _content(state: Solving) -> bytes:
    """Return the whole body, and leave it with the request, which is made only if there is more than one message."""
    if state.has_request():
        return await _content_of(state.request(), state.receive)
    message = await state.receive()
    if message["type"] != "http.request" or message.get("more_body", False):
        return await _content_of(state.request(), state.receive, message)
    content = message.get("body", b"") or b""
    if type(content) is not bytes:
        content = b"".join((content,))
    state.keep_content(content)
    return content


async def _content_of(request: Request[Any], receive: Receive, message: Message | None = None) -> bytes:
    """Return the whole body, and leave it with the request. message: the first one, when it is there already."""
    if hasattr(request, "_body") or request._stream_consumed:
        return await request.body()
    chunks: list[bytes] = []
    while not request._stream_consumed:
        message = message or await receive()
        if message["type"] == "http.request":
            if not message.get("more_body", False):
                request._stream_consumed = True
            if chunk := message.get("body", b""):
                chunks.append(chunk)
        elif message["type"] == "http.disconnect":
            request._is_disconnected = True
            raise ClientDisconnect
        message = None
    request._body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
    return request._body

"""The bodies of requests, read as FastAPI reads them."""

from __future__ import annotations

import email.message
import json
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from functools import lru_cache
from typing import Any

from fastapi import routing
from fastapi._body_limit import get_body_limit_error
from fastapi._compat import Undefined
from fastapi.exceptions import EndpointContext, RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.body_limit import MAX_BODY_SIZE_SCOPE_KEY
from starlette.requests import ClientDisconnect, Request

from fastserve.accel.taking import Source
from fastserve.asgi.types import Message, Receive, Scope

Read = Callable[[Source], Awaitable[Any]]
Context = Callable[[Scope], EndpointContext]


def reader(cells: dict[str, Any]) -> Read | None:
    """Return what reads the body for an endpoint, or None when it needs none.

    cells: the variables of FastAPI's own handler.
    """
    if not cells["body_field"]:
        return None
    if cells["is_body_form"]:
        return _form_reader(cells)
    return _json_reader(is_strict=cells["actual_strict_content_type"])


async def read_body(read: Read, source: Source, context: Context) -> Any:
    """Return the body; Undefined when there is none.

    context: returns what errors say about the endpoint.

    Raises:
        RequestValidationError: it is not the JSON that it claims to be.
        HTTPException: it cannot be read.
    """
    try:
        return await read(source)
    except json.JSONDecodeError as error:
        raise _invalid_json(error, context(source.scope)) from error
    except HTTPException:
        raise
    except Exception as error:
        raise _unreadable(error, source) from error


def _invalid_json(error: json.JSONDecodeError, context: EndpointContext) -> RequestValidationError:
    wrong = {
        "type": "json_invalid",
        "loc": ("body", error.pos),
        "msg": "JSON decode error",
        "input": {},
        "ctx": {"error": error.msg},
    }
    return RequestValidationError([wrong], body=error.doc, endpoint_ctx=context)


def _unreadable(error: Exception, source: Source) -> Exception:
    if MAX_BODY_SIZE_SCOPE_KEY in source.scope and (limit := get_body_limit_error(error)):
        return limit
    return HTTPException(status_code=400, detail="There was an error parsing the body")


def _form_reader(cells: dict[str, Any]) -> Read:
    has_limits = "form_limits" in cells  # FastAPI has them from 0.165 on.

    async def read(source: Source) -> Any:
        allowed = (
            routing._resolve_form_limits(source.scope.get("fastapi", {}), cells["form_limits"]) if has_limits else {}
        )
        form = await source.request().form(**allowed)
        files: AsyncExitStack = source.scope["fastapi_middleware_astack"]
        files.push_async_callback(form.close)
        return form

    return read


def _json_reader(*, is_strict: bool) -> Read:
    """Return what reads JSON, or just bytes when that is not the type. is_strict: nor is it without a type."""

    async def read(source: Source) -> Any:
        if source.has_request():
            content = await _content_of(source.request(), source.receive)
        else:
            message = await source.receive()
            if message["type"] != "http.request" or message.get("more_body", False):
                content = await _content_of(source.request(), source.receive, message)
            else:
                content = message.get("body", b"") or b""
                if type(content) is not bytes:
                    content = b"".join((content,))
                source.keep_content(content)
        if not content:
            return Undefined
        content_type = source.header(b"content-type")
        if not (_is_json(content_type) if content_type else not is_strict):
            return content
        found = _loads(content)
        source.keep_json(found)
        return found

    return read


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


_scan = json.JSONDecoder().scan_once  # type: ignore[attr-defined]


def _loads(content: bytes) -> Any:
    """Return what json.loads returns, with its own scanner.

    Raises:
        json.JSONDecodeError: as json.loads does.
    """
    # An object or array of which the second byte is not 0 is taken for UTF-8, and stands for itself at both ends.
    if len(content) >= 4 and content[0] in b"{[" and content[1]:
        try:
            text = content.decode("utf-8", "surrogatepass")
            found, end = _scan(text, 0)
        except (ValueError, StopIteration, RecursionError):
            return json.loads(content)
        if end == len(text):
            return found
    return json.loads(content)


@lru_cache(maxsize=256)
def _is_json(content_type: str) -> bool:
    message = email.message.Message()
    message["content-type"] = content_type
    if message.get_content_maintype() != "application":
        return False
    subtype = message.get_content_subtype()
    return subtype == "json" or subtype.endswith("+json")

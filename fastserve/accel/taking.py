"""Taking parameters and the body of a request, and validating them: what is done for every request.

What cannot be had without waiting is not for this module. Plain parameters are taken from the scope directly. All
others are FastAPI's own business: see accel.parameters.
"""

from __future__ import annotations

import email.message
import json
from collections.abc import Callable, Sequence
from copy import deepcopy
from functools import lru_cache
from typing import Any
from urllib.parse import parse_qsl

from fastapi import BackgroundTasks
from fastapi._compat import Undefined, v2
from fastapi._compat.v2 import ModelField, _regenerate_error_with_loc
from fastapi.dependencies import utils
from fastapi.security.oauth2 import SecurityScopes
from pydantic_core import ValidationError
from starlette.background import BackgroundTasks as StarletteBackgroundTasks
from starlette.requests import Request
from starlette.responses import Response

from fastserve.accel.dispatching import Marks
from fastserve.asgi.exchange import take_content
from fastserve.asgi.types import Receive, Scope, Send

Values = dict[str, Any]
Errors = list[Any]

NO_DEFAULT = object()
_NO_DEFAULT = NO_DEFAULT
_UNDEFINED = Undefined
_CONTENT_TYPE = b"content-type"
_OPENING = b"{["
_scan = json.JSONDecoder().scan_once  # type: ignore[attr-defined]


class Source:
    """What parameters are taken from: a request, of which only that is made which is needed.

    scope: for ourselves, without marks perhaps. marks: what is put into it before anybody else gets it. unmarked: the
    parameters in the path as long as it has no marks, else None.
    """

    __slots__ = ("_content", "_json", "_marks", "_query", "_request", "_unmarked", "receive", "scope", "send")

    def __init__(
        self, scope: Scope, receive: Receive, send: Send, marks: Marks, unmarked: dict[str, Any] | None
    ) -> None:
        self.begin(scope, receive, send, marks, unmarked)

    def begin(self, scope: Scope, receive: Receive, send: Send, marks: Marks, unmarked: dict[str, Any] | None) -> None:
        """Be made: see asgi.exchange."""
        self.scope = scope
        self.receive = receive
        self.send = send
        self._marks = marks
        self._unmarked = unmarked
        self._request: Request[Any] | None = None
        self._query: dict[str, str] | None = None
        self._content: bytes | None = None
        self._json: Any = _NO_DEFAULT

    def has_request(self) -> bool:
        """Tell whether the request has been made, so that others may have it."""
        return self._request is not None

    def marked_scope(self) -> Scope:
        """Return the scope, for others."""
        if self._unmarked is not None:
            self._marks.put_all(self.scope, self._unmarked)
            self._unmarked = None
        return self.scope

    def path(self) -> dict[str, Any]:
        """Return the parameters in the path."""
        if self._unmarked is not None:
            return self._unmarked
        return self.scope["path_params"]  # type: ignore[no-any-return]

    def request(self) -> Request[Any]:
        """Return the request, the same one each time."""
        if self._request is None:
            self._request = request = Request(self.marked_scope(), self.receive, self.send)
            if self._content is not None:
                request._stream_consumed = True
                request._body = self._content
            if self._json is not _NO_DEFAULT:
                request._json = self._json
        return self._request

    def keep_content(self, content: bytes) -> None:
        """Leave the whole body to the request, which exception handlers may want it from."""
        self._content = content

    def keep_json(self, found: Any) -> None:
        """Leave the JSON in the body to the request."""
        self._json = found
        if self._request is not None:
            self._request._json = found

    def query(self) -> dict[str, str]:
        """Return the parameters of the query: of each name the last one."""
        if self._query is None:
            query = self.scope["query_string"]
            # Starlette takes text too, which middleware may have put there.
            self._query = _parse_query(query) if type(query) is bytes else dict(self.request().query_params)
        return self._query

    def header(self, name: bytes) -> str | None:
        """Return the first header field of this name, which is in lower case."""
        for field in self.scope["headers"]:
            if field[0] == name:
                return field[1].decode("latin-1")  # type: ignore[no-any-return]
        return None


def _parse_query(query: bytes) -> dict[str, str]:
    if not query:
        return {}
    text = query.decode("latin-1")
    if "%" in text:
        return dict(parse_qsl(text, keep_blank_values=True))
    found = {}
    for part in text.replace("+", " ").split("&"):
        if part:
            name, _, value = part.partition("=")
            found[name] = value
    return found


class Solving(Source):
    """The state of solving the dependencies of one request.

    overrides: has the attribute `dependency_overrides`, or is None. A dependency may set them for later ones. body:
    what is in the body; Undefined when there is none, or it has not been taken.
    """

    __slots__ = ("background", "body", "cache", "overrides", "solved_response")

    def __init__(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        marks: Marks,
        unmarked: dict[str, Any] | None,
        overrides: Any,
    ) -> None:
        self.begin(scope, receive, send, marks, unmarked)
        self.overrides = overrides
        self.body: Any = _UNDEFINED
        self.background: StarletteBackgroundTasks | None = None
        self.solved_response: Response | None = None
        self.cache: dict[Any, Any] = {}

    def use(self, request: Request[Any]) -> None:
        """Take this as the request, instead of making one."""
        self._request = request

    def tasks(self) -> StarletteBackgroundTasks:
        """Return the background tasks, the same each time."""
        if self.background is None:
            self.background = BackgroundTasks()
        return self.background

    def response(self) -> Response:
        """Return the response on which dependencies set header fields and a status, the same each time."""
        if self.solved_response is None:
            self.solved_response = Response()
            del self.solved_response.headers["content-length"]
            self.solved_response.status_code = None  # type: ignore[assignment]
        return self.solved_response


class Parameter:
    """A parameter that has one name and one value.

    key: its name in header fields. loc: where it is, in errors. default: what it is when it is missing; NO_DEFAULT when
    FastAPI decides that anew for every request.
    """

    __slots__ = ("alias", "default", "field", "key", "loc", "name", "validate")

    def __init__(
        self, field: ModelField, alias: str, loc: tuple[str, str], validate: Callable[..., Any], default: Any
    ) -> None:
        self.field = field
        self.name = field.name
        self.alias = alias
        self.key = alias.lower().encode("latin-1")
        self.loc = loc
        self.validate = validate
        self.default = default

    def take(self, value: str | None, values: Values, errors: Errors) -> None:
        """Put the valid value, or that of a missing parameter, into the values, or what is wrong into the errors."""
        if value is None:
            self._take_missing(values, errors)
            return
        try:
            values[self.name] = self.validate(value, from_attributes=True)
        except ValidationError as error:
            errors.extend(located(error, self.loc))

    def _take_missing(self, values: Values, errors: Errors) -> None:
        if self.default is not _NO_DEFAULT:
            values[self.name] = self.default
            return
        if self.field.field_info.is_required():
            errors.append(v2.get_missing_field_error(self.loc))
            return
        default = deepcopy(self.field.default)
        if self.field.field_info.validate_default:
            default, found = self.field.validate(default, values, loc=self.loc)
            if found:
                errors.extend(found)
                return
        values[self.name] = default


class Taking:
    """Takes the parameters of one place, such as the query."""

    __slots__ = ("_parameters",)

    def __init__(self, parameters: list[Parameter]) -> None:
        self._parameters = parameters

    def take(self, source: Source, values: Values, errors: Errors) -> None:
        """Put the parameters into the values, or what is wrong with them into the errors."""
        raise NotImplementedError


class PathTaking(Taking):
    """Takes parameters out of the path."""

    __slots__ = ()

    def take(self, source: Source, values: Values, errors: Errors) -> None:
        """See Taking."""
        path = source.path()
        for each in self._parameters:
            each.take(path.get(each.alias), values, errors)


class QueryTaking(Taking):
    """Takes parameters out of the query."""

    __slots__ = ()

    def take(self, source: Source, values: Values, errors: Errors) -> None:
        """See Taking."""
        query = source.query()
        for each in self._parameters:
            each.take(query.get(each.alias), values, errors)


class HeaderTaking(Taking):
    """Takes parameters out of the header fields."""

    __slots__ = ()

    def take(self, source: Source, values: Values, errors: Errors) -> None:
        """See Taking."""
        for each in self._parameters:
            each.take(source.header(each.key), values, errors)


class FrameworkTaking(Taking):
    """Has a function of FastAPI take parameters out of what another function gets from the request."""

    __slots__ = ("_fields", "_received", "_take")

    def __init__(
        self,
        fields: Sequence[ModelField],
        take: Callable[..., tuple[Values, Errors]],
        received: Callable[[Request[Any]], Any],
    ) -> None:
        self._parameters = []
        self._fields = fields
        self._take = take
        self._received = received

    def take(self, source: Source, values: Values, errors: Errors) -> None:
        """See Taking."""
        found, wrong = self._take(self._fields, self._received(source.request()))
        values.update(found)
        errors += wrong


class BodyField:
    """The only parameter in the body, which is all of the body."""

    __slots__ = ("field", "name", "validate")

    def __init__(self, field: ModelField, validate: Callable[..., Any]) -> None:
        self.field = field
        self.name = field.name
        self.validate = validate

    def take(self, body: Any, values: Values, errors: Errors) -> None:
        """Put the validated body into the values, and what is wrong into the errors."""
        if body is _UNDEFINED:
            value, wrong = utils._validate_value_with_model_field(
                field=self.field, value=body, values={}, loc=("body",)
            )
            values[self.name] = value
            errors.extend(wrong)
            return
        try:
            values[self.name] = self.validate(body, from_attributes=True)
        except ValidationError as error:
            values[self.name] = None
            errors.extend(located(error, ("body",)))


class Signature:
    """What one callable takes: parameters, the body and what FastAPI gives by its type.

    takings: in FastAPI's order. body: None when there is none, or more than one field. special: names of arguments by
    their kinds: request_param_name and so on. scopes: of OAuth.
    """

    __slots__ = ("_body", "_has_special", "_scopes", "_special", "_takings")

    def __init__(
        self, takings: list[Taking], body: BodyField | None, special: dict[str, str | None], scopes: list[str]
    ) -> None:
        self._takings = takings
        self._body = body
        self._special = special
        self._has_special = any(special.values())
        self._scopes = scopes

    def take_all(self, state: Solving) -> tuple[Values, Errors]:
        """Return the arguments, and what is wrong with them."""
        values: Values = {}
        errors: Errors = []
        self.take(state, values, errors)
        return values, errors

    def take(self, state: Solving, values: Values, errors: Errors) -> None:
        """Put the arguments into the values, or what is wrong into the errors."""
        self.take_parameters(state, values, errors)
        if self._body is not None:
            self._body.take(state.body, values, errors)
        if self._has_special:
            self.take_special(state, values)

    def take_parameters(self, state: Solving, values: Values, errors: Errors) -> None:
        """Do the first part of `take`."""
        for each in self._takings:
            each.take(state, values, errors)

    def take_special(self, state: Solving, values: Values) -> None:
        """Do the last part of `take`."""
        special = self._special
        if name := special["http_connection_param_name"]:
            values[name] = state.request()
        if name := special["request_param_name"]:
            values[name] = state.request()
        if name := special["background_tasks_param_name"]:
            values[name] = state.tasks()
        if name := special["response_param_name"]:
            values[name] = state.response()
        if name := special["security_scopes_param_name"]:
            values[name] = SecurityScopes(scopes=self._scopes.copy())


class JsonContent:
    """Makes of the content of a body what it stands for: JSON, or just bytes when that is not the type.

    is_strict: nor is it without a type. unreadable: returns what is raised when it is not the JSON that it claims to
    be.
    """

    __slots__ = ("_is_strict", "_unreadable")

    def __init__(self, *, is_strict: bool, unreadable: Callable[[Exception, Solving], Exception]) -> None:
        self._is_strict = is_strict
        self._unreadable = unreadable

    def take(self, state: Solving) -> bool:
        """Take the whole body if it is there, and tell whether it was."""
        if state.has_request():
            return False  # Who has it may have read from it.
        content = take_content(state.receive)
        if content is None:
            return False
        state.keep_content(content)
        self.put(content, state)
        return True

    def put(self, content: bytes, state: Solving) -> None:
        """Put what the whole body stands for into the state."""
        if not content:
            return
        try:
            content_type = state.header(_CONTENT_TYPE)
            if not (_is_json(content_type) if content_type else not self._is_strict):
                state.body = content
                return
            found = loads(content)
        except Exception as error:
            raise self._unreadable(error, state) from error
        state.keep_json(found)
        state.body = found


@lru_cache(maxsize=256)  # Clients send few different ones.
def _is_json(content_type: str) -> bool:
    message = email.message.Message()
    message["content-type"] = content_type
    if message.get_content_maintype() != "application":
        return False
    subtype = message.get_content_subtype()
    return subtype == "json" or subtype.endswith("+json")


def loads(content: bytes) -> Any:
    """Return what json.loads returns, with its own scanner.

    Raises:
        json.JSONDecodeError: as json.loads does.
    """
    # An object or array of which the second byte is not 0 is taken for UTF-8, and stands for itself at both ends.
    if len(content) >= 4 and content[0] in _OPENING and content[1]:
        try:
            text = content.decode("utf-8", "surrogatepass")
            found, end = _scan(text, 0)
        except (ValueError, StopIteration, RecursionError):
            return json.loads(content)
        if end == len(text):
            return found
    return json.loads(content)


def located(error: ValidationError, loc: tuple[str, ...]) -> Errors:
    """Return the errors as FastAPI reports them."""
    return _regenerate_error_with_loc(errors=error.errors(include_url=False), loc_prefix=loc)

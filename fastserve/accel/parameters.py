"""Parameters of FastAPI endpoints: their values out of the request, validated by pydantic's own validators.

Plain parameters are taken from the scope directly. All others, such as models, lists and aliases, are FastAPI's own
business: `request_params_to_args` is called for them as FastAPI calls it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import Any
from urllib.parse import parse_qsl

from fastapi import params
from fastapi._compat import Undefined, field_annotation_is_sequence, v2
from fastapi._compat.v2 import ModelField, _regenerate_error_with_loc
from fastapi.dependencies import utils
from fastapi.dependencies.utils import (
    _get_param_aliases,
    _get_param_model,
    _is_json_field,
    request_params_to_args,
)
from pydantic_core import SchemaValidator, ValidationError
from starlette.requests import Request

from fastserve.asgi.types import Receive, Scope, Send

Values = dict[str, Any]
Errors = list[Any]

_NO_DEFAULT = object()
_CONSTANT = (type(None), str, bytes, int, float, bool)


class Source:
    """What parameters are taken from: a request, of which only that is made which is needed."""

    __slots__ = ("_query", "_request", "receive", "scope", "send")

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope = scope
        self.receive = receive
        self.send = send
        self._request: Request[Any] | None = None
        self._query: dict[str, str] | None = None

    def request(self) -> Request[Any]:
        """Return the request, the same one each time."""
        if self._request is None:
            self._request = Request(self.scope, self.receive, self.send)
        return self._request

    def query(self) -> dict[str, str]:
        """Return the parameters of the query: of each name the last one."""
        if self._query is None:
            self._query = _parse_query(self.scope["query_string"])
        return self._query

    def header(self, name: bytes) -> str | None:
        """Return the first header field of this name, which is in lower case."""
        for each, value in self.scope["headers"]:
            if each == name:
                return value.decode("latin-1")  # type: ignore[no-any-return]
        return None


def _parse_query(query: bytes) -> dict[str, str]:
    if not query:
        return {}
    text = query.decode("latin-1")
    if "%" in text or "+" in text:
        return dict(parse_qsl(text, keep_blank_values=True))
    parts = [part.partition("=") for part in text.split("&") if part]
    return {name: value for name, _, value in parts}


class Parameter:
    """A parameter that has one name and one value.

    default: what it is when it is missing; _NO_DEFAULT when FastAPI decides that anew for every request.
    """

    __slots__ = ("alias", "default", "field", "key", "loc", "name", "validate")

    def __init__(self, field: ModelField, alias: str) -> None:
        info = field.field_info
        assert isinstance(info, params.Param)
        self.field = field
        self.name = field.name
        self.alias = alias
        self.key = alias.lower().encode("latin-1")
        self.loc = (info.in_.value, alias)
        self.validate = validator(field)
        is_constant = not info.is_required() and info.default_factory is None and not info.validate_default
        default = info.default if is_constant else _NO_DEFAULT
        self.default = default if type(default) in _CONSTANT else _NO_DEFAULT

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


Take = Callable[[Source, Values, Errors], None]
"""Puts the parameters of one place, such as the query, into the values, or what is wrong with them into the errors."""


def take_path(fields: Sequence[ModelField]) -> Take:
    """Return what takes these parameters out of the path."""
    found = _plain(fields)
    if found is None:
        return _take_by_framework(fields, lambda source: source.request().path_params)

    def take(source: Source, values: Values, errors: Errors) -> None:
        path = source.scope["path_params"]
        for each in found:
            each.take(path.get(each.alias), values, errors)

    return take


def take_query(fields: Sequence[ModelField]) -> Take:
    """Return what takes these parameters out of the query."""
    found = _plain(fields)
    if found is None:
        return _take_by_framework(fields, lambda source: source.request().query_params)

    def take(source: Source, values: Values, errors: Errors) -> None:
        query = source.query()
        for each in found:
            each.take(query.get(each.alias), values, errors)

    return take


def take_header(fields: Sequence[ModelField]) -> Take:
    """Return what takes these parameters out of the header fields."""
    found = _plain(fields)
    if found is None:
        return _take_by_framework(fields, lambda source: source.request().headers)

    def take(source: Source, values: Values, errors: Errors) -> None:
        for each in found:
            each.take(source.header(each.key), values, errors)

    return take


def take_cookie(fields: Sequence[ModelField]) -> Take:
    """Return what takes these parameters out of the cookies."""
    return _take_by_framework(fields, lambda source: source.request().cookies)


def _take_by_framework(fields: Sequence[ModelField], received: Callable[[Source], Any]) -> Take:
    def take(source: Source, values: Values, errors: Errors) -> None:
        found, wrong = request_params_to_args(fields, received(source))
        values.update(found)
        errors += wrong

    return take


def _plain(fields: Sequence[ModelField]) -> list[Parameter] | None:
    """Return parameters for these fields, or None when one of them is not plain."""
    found = []
    for field in fields:
        aliases = _get_param_aliases(field)
        is_list = field_annotation_is_sequence(field.field_info.annotation) and not _is_json_field(field)
        if _get_param_model(field) is not None or len(aliases) != 1 or is_list:
            return None
        found.append(Parameter(field, aliases[0][1]))
    return found


class BodyField:
    """The only parameter in the body, which is all of the body."""

    __slots__ = ("field", "name", "validate")

    def __init__(self, field: ModelField) -> None:
        self.field = field
        self.name = field.name
        self.validate = validator(field)

    def take(self, body: Any, values: Values, errors: Errors) -> None:
        """Put the validated body into the values, and what is wrong into the errors."""
        if body is Undefined:
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


def body_field(fields: Sequence[ModelField], *, embeds: bool) -> BodyField | None:
    """Return the only parameter that is all of the body, or None when FastAPI has to look for them in it."""
    if len(fields) != 1 or embeds or utils._should_embed_body_fields(list(fields)):
        return None
    if utils._get_form_models(fields[0]) or isinstance(fields[0].field_info, params.Form):
        return None
    return BodyField(fields[0])


def validator(field: ModelField) -> Callable[..., Any]:
    """Return what validates a value of a field, as TypeAdapter.validate_python does."""
    found = field._type_adapter.validator
    return found.validate_python if type(found) is SchemaValidator else field._type_adapter.validate_python


def located(error: ValidationError, loc: tuple[str, ...]) -> Errors:
    """Return the errors as FastAPI reports them."""
    return _regenerate_error_with_loc(errors=error.errors(include_url=False), loc_prefix=loc)

"""Parameters of FastAPI endpoints: their values out of the request, validated by pydantic's own validators.

What is done for each request is in accel.taking. Plain parameters are taken from the scope directly. All others, such
as models, lists and aliases, are FastAPI's own business: `request_params_to_args` is called for them as FastAPI does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from fastapi import params
from fastapi._compat import field_annotation_is_sequence
from fastapi._compat.v2 import ModelField
from fastapi.dependencies import utils
from fastapi.dependencies.utils import (
    _get_param_aliases,
    _get_param_model,
    _is_json_field,
    request_params_to_args,
)
from pydantic_core import SchemaValidator
from starlette.requests import Request

from fastserve.accel.taking import (
    NO_DEFAULT,
    BodyField,
    FrameworkTaking,
    HeaderTaking,
    Parameter,
    PathTaking,
    QueryTaking,
    Taking,
)

_CONSTANT = (type(None), str, bytes, int, float, bool)


def take_path(fields: Sequence[ModelField]) -> Taking:
    """Return what takes these parameters out of the path."""
    return _taking(PathTaking, fields, lambda request: request.path_params)


def take_query(fields: Sequence[ModelField]) -> Taking:
    """Return what takes these parameters out of the query."""
    return _taking(QueryTaking, fields, lambda request: request.query_params)


def take_header(fields: Sequence[ModelField]) -> Taking:
    """Return what takes these parameters out of the header fields."""
    return _taking(HeaderTaking, fields, lambda request: request.headers)


def take_cookie(fields: Sequence[ModelField]) -> Taking:
    """Return what takes these parameters out of the cookies."""
    return FrameworkTaking(fields, request_params_to_args, lambda request: request.cookies)


def _taking(kind: type[Taking], fields: Sequence[ModelField], received: Callable[[Request[Any]], Any]) -> Taking:
    found = _plain(fields)
    return FrameworkTaking(fields, request_params_to_args, received) if found is None else kind(found)


def _plain(fields: Sequence[ModelField]) -> list[Parameter] | None:
    """Return parameters for these fields, or None when one of them is not plain."""
    found = []
    for field in fields:
        aliases = _get_param_aliases(field)
        is_list = field_annotation_is_sequence(field.field_info.annotation) and not _is_json_field(field)
        if _get_param_model(field) is not None or len(aliases) != 1 or is_list:
            return None
        found.append(_parameter(field, aliases[0][1]))
    return found


def _parameter(field: ModelField, alias: str) -> Parameter:
    info = field.field_info
    assert isinstance(info, params.Param)
    is_constant = not info.is_required() and info.default_factory is None and not info.validate_default
    default = info.default if is_constant else NO_DEFAULT
    loc = (info.in_.value, alias)
    return Parameter(field, alias, loc, validator(field), default if type(default) in _CONSTANT else NO_DEFAULT)


def body_field(fields: Sequence[ModelField], *, embeds: bool) -> BodyField | None:
    """Return the only parameter that is all of the body, or None when FastAPI has to look for them in it."""
    if len(fields) != 1 or embeds or utils._should_embed_body_fields(list(fields)):
        return None
    if utils._get_form_models(fields[0]) or isinstance(fields[0].field_info, params.Form):
        return None
    return BodyField(fields[0], validator(fields[0]))


def validator(field: ModelField) -> Callable[..., Any]:
    """Return what validates a value of a field, as TypeAdapter.validate_python does."""
    found = field._type_adapter.validator
    return found.validate_python if type(found) is SchemaValidator else field._type_adapter.validate_python

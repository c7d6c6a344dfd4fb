"""What FastAPI makes of the result of an endpoint: bytes where that is certain, else a response of its own."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import copy_context
from types import SimpleNamespace
from typing import Any

from fastapi import routing
from fastapi._compat.v2 import ModelField
from fastapi.datastructures import DefaultPlaceholder
from fastapi.exceptions import EndpointContext, ResponseValidationError
from fastapi.utils import is_body_allowed_for_status_code
from pydantic_core import SchemaSerializer, ValidationError
from starlette.responses import JSONResponse, Response

from fastserve.accel.encoding import Encoder
from fastserve.accel.parameters import validator
from fastserve.accel.taking import Solving, located
from fastserve.accel.validated import Validated
from fastserve.asgi.types import Scope

Context = Callable[[Scope], EndpointContext]
"""Returns what errors say about the endpoint of a request."""
_DUMP_OPTIONS = {
    "include": "response_model_include",
    "exclude": "response_model_exclude",
    "by_alias": "response_model_by_alias",
    "exclude_unset": "response_model_exclude_unset",
    "exclude_defaults": "response_model_exclude_defaults",
    "exclude_none": "response_model_exclude_none",
}


class Answers:
    """Makes answers of the results of one endpoint.

    cells: the variables of FastAPI's own handler. encoder: makes the ordinary ones.
    """

    def __init__(self, cells: dict[str, Any], context: Context) -> None:
        self._cells = cells
        self._context = context
        self.field: ModelField | None = cells["response_field"]
        status: int = cells["status_code"] or 200
        is_fast = self._writes_json() and status >= 200 and is_body_allowed_for_status_code(status)
        validate, dump, options = (None, None, None) if self.field is None else _model(self.field, cells)
        self.encoder = Encoder(status, validate, dump, options, is_fast, self._invalid)

    def _invalid(self, error: ValidationError, result: Any, scope: Scope) -> ResponseValidationError:
        """Return what is raised for a result that is not what the response model says."""
        wrong = located(error, ("response",))
        return ResponseValidationError(errors=wrong, body=result, endpoint_ctx=self._context(scope))

    def call_and_validate(self, call: Callable[..., Any], arguments: dict[str, Any], scope: Scope) -> Any:
        """Call a synchronous endpoint and validate its result, in one thread where FastAPI uses two.

        What the endpoint sets in its context is not seen by validators, nor would it be in a thread of their own.
        """
        context = copy_context()
        result = call(**arguments)
        if isinstance(result, Response):
            return result
        return Validated((result, context.run(self.encoder.validated, result, scope)))

    async def respond_specially(self, result: Any, state: Solving) -> Response:
        """Return the response that FastAPI makes of a result, or that the result is."""
        if isinstance(result, Response):
            if result.background is None:
                result.background = state.background
            return result
        solved = SimpleNamespace(background_tasks=state.background, response=state.response())
        args = routing._build_response_args(status_code=self._cells["status_code"], solved_result=solved)
        dumps = self._dumps_json()
        if type(result) is Validated:
            assert self.field is not None
            serialize = self.field.serialize_json if dumps else self.field.serialize
            content = serialize(result[1], **self._options())
        else:
            content = await routing.serialize_response(
                field=self.field,
                response_content=result,
                dump_json=dumps,
                endpoint_ctx=self._context(state.scope),
                **self._options(),
            )
        if dumps:
            response = Response(content=content, media_type="application/json", **args)
        else:
            response = self._cells["actual_response_class"](content, **args)
        if not is_body_allowed_for_status_code(response.status_code):
            response.body = b""
        response.headers.raw.extend(solved.response.headers.raw)
        return response

    def _options(self) -> dict[str, Any]:
        return {name: self._cells[cell] for name, cell in _DUMP_OPTIONS.items()}

    def _dumps_json(self) -> bool:
        """Tell whether pydantic writes the JSON, as FastAPI decides it."""
        return self.field is not None and isinstance(self._cells["response_class"], DefaultPlaceholder)

    def _writes_json(self) -> bool:
        """Tell whether the body is JSON that pydantic writes, or that `json.dumps` does."""
        return self._dumps_json() or (self.field is None and self._cells["actual_response_class"] is JSONResponse)


def _model(field: ModelField, cells: dict[str, Any]) -> tuple[Callable[..., Any], Callable[..., bytes], dict[str, Any]]:
    """Return what validates a value, what writes one as TypeAdapter.dump_json does, and its options."""
    serializer: Any = field._type_adapter.serializer
    dump = serializer.to_json if type(serializer) is SchemaSerializer else field._type_adapter.dump_json
    options = {name: cells[cell] for name, cell in _DUMP_OPTIONS.items()}
    used = {name: value for name, value in options.items() if value not in (None, False) or name == "by_alias"}
    return validator(field), dump, used

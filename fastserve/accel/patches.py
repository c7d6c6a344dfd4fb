"""Whether the frameworks are as they were installed: instrumentation and tests replace parts of them.

What a plan stands in for must be what it was verified with. That is looked at when the plan is made, and again for
every request, because instrumentation may come late. Where the interpreter tells when modules and classes are changed,
it is looked at again after that only.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

try:
    from fastserve.accel.watched import Watched as _Watched
except ImportError:  # It is not compiled.
    _Watched = None  # type: ignore[assignment, misc]

_ALWAYS = """
starlette.applications:Starlette.__call__
starlette.middleware.errors:ServerErrorMiddleware.__call__
starlette.middleware.exceptions:ExceptionMiddleware.__call__
starlette.middleware.exceptions:wrap_app_handling_exceptions
starlette.routing:Router.__call__
starlette.routing:Router.app
starlette.routing:Route.matches
starlette.routing:Route.handle
starlette.routing:Mount.matches
starlette.requests:Request.__init__
starlette.requests:HTTPConnection.__init__
starlette.responses:Response.__init__
starlette.responses:Response.__call__
starlette.responses:Response.render
starlette.responses:Response.init_headers
starlette.responses:JSONResponse.__init__
starlette.responses:JSONResponse.render
json:dumps
"""
_ALWAYS_FASTAPI = """
fastapi.applications:FastAPI.__call__
fastapi.telemetry._asgi:ExceptionTelemetryMiddleware.__call__
fastapi.telemetry._asgi:NativeTelemetry.enabled
fastapi._body_limit:AppBodyLimitMiddleware.__call__
fastapi.middleware.asyncexitstack:AsyncExitStackMiddleware.__call__
fastapi.routing:APIRouter.app
fastapi.routing:APIRoute.matches
fastapi.routing:APIRoute.handle
fastapi.routing:Request
fastapi.routing:AsyncExitStack
fastapi.routing:Response
fastapi.routing:wrap_app_handling_exceptions
fastapi.routing:run_endpoint_function
fastapi.routing:serialize_response
fastapi.routing:solve_dependencies
fastapi.routing:jsonable_encoder
fastapi.routing:_operation
fastapi.routing:_extract_endpoint_context
fastapi.routing:is_body_allowed_for_status_code
fastapi._compat.v2:ModelField.validate
fastapi._compat.v2:ModelField.serialize_json
pydantic.type_adapter:TypeAdapter.validate_python
pydantic.type_adapter:TypeAdapter.dump_json
"""
_WITH_ARGUMENTS = """
starlette.concurrency:run_in_threadpool
anyio.to_thread:run_sync
starlette.routing:get_route_path
starlette.routing:wrap_app_handling_exceptions
starlette.routing:run_in_threadpool
starlette.routing:request_response
starlette.requests:Request.body
starlette.requests:Request.json
starlette.requests:Request.stream
starlette.requests:cookie_parser
starlette.datastructures:QueryParams.__init__
starlette.datastructures:Headers.__init__
starlette.datastructures:parse_qsl
json:loads
"""
_WITH_ARGUMENTS_FASTAPI = """
fastapi.routing:JSONResponse
fastapi.routing:request_response
fastapi.routing:get_request_handler
fastapi.routing:run_in_threadpool
fastapi.routing:_run_sync_endpoint
fastapi.routing:RequestValidationError
fastapi.routing:ResponseValidationError
fastapi.routing:APIRoute.get_route_handler
fastapi.routing:APIRouter.handle
fastapi.routing:APIRouter.matches
fastapi.routing:_IncludedRouter.matches
fastapi.routing:_IncludedRouter.handle
fastapi.routing:_IncludedRouter._handle_selected
fastapi.routing:_IncludedRouter._match
fastapi.routing:_EffectiveRouteContext.matches
fastapi.dependencies.utils:solve_dependencies
fastapi.dependencies.utils:request_params_to_args
fastapi.dependencies.utils:request_body_to_args
fastapi.dependencies.utils:_validate_value_with_model_field
fastapi.dependencies.utils:_get_multidict_value
fastapi.dependencies.utils:_solve_generator
fastapi.dependencies.utils:get_missing_field_error
fastapi.dependencies.utils:run_in_threadpool
fastapi.dependencies.utils:deepcopy
fastapi._compat.v2:ModelField.serialize
fastapi._compat.v2:_regenerate_error_with_loc
pydantic.type_adapter:TypeAdapter.dump_python
"""
# Modules that the oldest verified versions do not have.
_LATER = {"fastapi._body_limit"}
_PACKAGES = {"starlette", "fastapi", "pydantic", "anyio", "contextlib", "copy", "json", "urllib"}


class Part(NamedTuple):
    """A part of a framework that a plan stands in for.

    holder: the module or class that it is looked up in. found: what is there.
    """

    path: str
    holder: Any
    name: str
    found: Any


def always(framework: str) -> list[Part]:
    """Return the parts of a framework, "fastapi" or "starlette", that a plan stands in for whatever the endpoint."""
    return parts_of(_ALWAYS, _ALWAYS_FASTAPI if framework == "fastapi" else "")


def with_arguments(framework: str) -> list[Part]:
    """Return the other parts, which matter as soon as an endpoint takes arguments, or is not called directly."""
    return parts_of(_WITH_ARGUMENTS, _WITH_ARGUMENTS_FASTAPI if framework == "fastapi" else "")


def parts(framework: str) -> list[Part]:
    """Return all parts of a framework that a plan stands in for."""
    return always(framework) + with_arguments(framework)


def parts_of(*paths: str) -> list[Part]:
    """Return the parts that are named, as they are now."""
    return [_part(path) for path in " ".join(paths).split() if _is_there(path.partition(":")[0])]


def patched(found: Iterable[Part]) -> str | None:
    """Return the path of the first part that is not what the framework defines, or None."""
    return next((part.path for part in found if not _is_original(part)), None)


def unchanged(found: Iterable[Part]) -> Callable[[], bool]:
    """Return a function that tells whether all parts are still there. It is called for every request."""
    listed = list(found)
    look = _look(listed)
    if _Watched is None:
        return look
    try:
        return _Watched(look, {id(part.holder): part.holder for part in listed}.values()).holds
    except RuntimeError:  # This Python tells of no changes, or all of its watchers are taken.
        return look


def _look(found: Iterable[Part]) -> Callable[[], bool]:
    """Return a function that looks at all parts.

    It is a single expression: the interpreter caches each look-up in its own place.
    """
    names: dict[str, Any] = {}
    checks = []
    for number, part in enumerate(found):
        names[f"holder{number}"], names[f"part{number}"] = part.holder, part.found
        checks.append(f"holder{number}.{part.name} is part{number}")
    exec(compile("def is_unchanged():\n    return " + " and ".join(checks), "<fastserve.accel.patches>", "exec"), names)
    return names["is_unchanged"]  # type: ignore[no-any-return]


def _is_there(module: str) -> bool:
    return module not in _LATER or importlib.util.find_spec(module) is not None


def _part(path: str) -> Part:
    module, _, names = path.partition(":")
    *outer, name = names.split(".")
    holder: Any = importlib.import_module(module)
    for each in outer:
        holder = getattr(holder, each)
    return Part(path, holder, name, getattr(holder, name))


def _is_original(part: Part) -> bool:
    """Tell whether a part is a function or class that one of the packages defines, under this name and unwrapped."""
    found: Any = part.found
    if not (inspect.isfunction(found) or inspect.isclass(found)) or hasattr(found, "__wrapped__"):
        return False
    if found.__module__.partition(".")[0] not in _PACKAGES or found.__name__ != part.name:
        return False
    defined: Any
    module = defined = importlib.import_module(found.__module__)
    for name in found.__qualname__.split("."):
        defined = getattr(defined, name, None)
    if defined is not found:
        return False
    return inspect.isclass(found) or found.__code__.co_filename == module.__file__

"""The site of test_frameworks with Starlette."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import (
    FileResponse,
    JSONResponse,
    PlainTextResponse,
    RedirectResponse,
    Response,
    StreamingResponse,
)
from starlette.routing import Route


@contextlib.asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[dict[str, str]]:
    yield {"started": "by the lifespan"}


class Mark(BaseHTTPMiddleware):
    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        response = await call_next(request)
        response.headers["x-middleware"] = "was here"
        return response


async def show_json(request: Request) -> Response:
    return JSONResponse({"hello": "wörld", "numbers": [1, 2.5, None]})


def show_item(request: Request) -> Response:
    return JSONResponse({"number": request.path_params["number"], "q": request.query_params.get("q", "")})


async def take_note(request: Request) -> Response:
    note = await request.json()
    return JSONResponse({"title": note["title"], "words": len(note["words"])}, 201)


async def take_raw(request: Request) -> Response:
    size = 0
    async for part in request.stream():
        size += len(part)
    return JSONResponse({"size": size})


async def take_form(request: Request) -> Response:
    async with request.form() as form:
        return JSONResponse({"name": form["name"], "choice": form.getlist("choice")})


async def take_upload(request: Request) -> Response:
    async with request.form() as form:
        document = form["document"]
        assert isinstance(document, UploadFile)
        content = await document.read()
        seen = {"name": form["name"], "filename": document.filename, "size": len(content), "end": content[-3:].decode()}
        return JSONResponse(seen)


async def stream(request: Request) -> Response:
    async def lines() -> AsyncIterator[str]:
        for number in range(5):
            yield f"{number}\n"
            await asyncio.sleep(0.01)

    return StreamingResponse(lines(), media_type="text/plain")


async def endless(request: Request) -> Response:
    async def parts() -> AsyncIterator[bytes]:
        try:
            while True:
                yield bytes(1000)
                await asyncio.sleep(0.01)
        finally:
            Path(request.query_params["name"]).touch()

    return StreamingResponse(parts())


async def large(request: Request) -> Response:
    return PlainTextResponse("a large text, " * 1000)


async def file(request: Request) -> Response:
    return FileResponse(__file__)


async def redirect(request: Request) -> Response:
    return RedirectResponse("/json", 302)


async def error(request: Request) -> Response:
    raise RuntimeError("failed on purpose")


async def teapot(request: Request) -> Response:
    raise HTTPException(418, headers={"x-reason": "short and stout"})


async def background(request: Request) -> Response:
    name = request.query_params["name"]
    return JSONResponse({"later": name}, background=BackgroundTask(Path(name).touch))


async def log_in(request: Request) -> Response:
    response = JSONResponse({"ok": True})
    response.set_cookie("user", "ann", httponly=True)
    response.set_cookie("theme", "dark")
    return response


async def show_user(request: Request) -> Response:
    return JSONResponse({"user": request.cookies.get("user", "nobody")})


async def state(request: Request) -> Response:
    return JSONResponse({"started": request.state.started, "pid": os.getpid()})


app = Starlette(
    routes=[
        Route("/json", show_json),
        Route("/items/{number:int}", show_item),
        Route("/notes", take_note, methods=["POST"]),
        Route("/raw", take_raw, methods=["PUT"]),
        Route("/form", take_form, methods=["POST"]),
        Route("/upload", take_upload, methods=["POST"]),
        Route("/stream", stream),
        Route("/endless", endless),
        Route("/large", large),
        Route("/file", file),
        Route("/redirect", redirect),
        Route("/error", error),
        Route("/teapot", teapot),
        Route("/background", background),
        Route("/login", log_in, methods=["POST"]),
        Route("/user", show_user),
        Route("/state", state),
    ],
    middleware=[
        Middleware(Mark),
        Middleware(CORSMiddleware, allow_origins=["https://friend.test"], allow_methods=["GET", "PUT"]),
        Middleware(GZipMiddleware, minimum_size=1000),
    ],
    lifespan=lifespan,
)

"""The site of test_frameworks with FastAPI."""

import asyncio
import contextlib
import importlib.util
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Annotated

from fastapi import BackgroundTasks, Cookie, Depends, FastAPI, HTTPException, Request, Response
from fastapi.middleware.cors import CORSMiddleware
from fastapi.middleware.gzip import GZipMiddleware
from fastapi.responses import FileResponse, RedirectResponse, StreamingResponse
from pydantic import BaseModel


@contextlib.asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, str]]:
    yield {"started": "by the lifespan"}


app = FastAPI(lifespan=lifespan)
app.add_middleware(GZipMiddleware, minimum_size=1000)
app.add_middleware(CORSMiddleware, allow_origins=["https://friend.test"], allow_methods=["GET", "PUT"])


@app.middleware("http")
async def mark(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    response = await call_next(request)
    response.headers["x-middleware"] = "was here"
    return response


class Note(BaseModel):
    title: str
    words: list[str]


@app.get("/json")
async def show_json() -> dict[str, object]:
    return {"hello": "wörld", "numbers": [1, 2.5, None]}


@app.get("/items/{number}")
def show_item(number: int, q: str = "") -> dict[str, object]:
    return {"number": number, "q": q}


@app.post("/notes", status_code=201)
async def take_note(note: Note) -> dict[str, object]:
    return {"title": note.title, "words": len(note.words)}


@app.put("/raw")
async def take_raw(request: Request) -> dict[str, int]:
    size = 0
    async for part in request.stream():
        size += len(part)
    return {"size": size}


if importlib.util.find_spec("python_multipart"):
    from fastapi import Form, UploadFile

    @app.post("/form")
    async def take_form(name: Annotated[str, Form()], choice: Annotated[list[str], Form()]) -> dict[str, object]:
        return {"name": name, "choice": choice}

    @app.post("/upload")
    async def take_upload(name: Annotated[str, Form()], document: UploadFile) -> dict[str, object]:
        content = await document.read()
        return {"name": name, "filename": document.filename, "size": len(content), "end": content[-3:].decode()}


@app.get("/stream")
async def stream() -> StreamingResponse:
    async def lines() -> AsyncIterator[str]:
        for number in range(5):
            yield f"{number}\n"
            await asyncio.sleep(0.01)

    return StreamingResponse(lines(), media_type="text/plain")


@app.get("/endless")
async def endless(name: str) -> StreamingResponse:
    async def parts() -> AsyncIterator[bytes]:
        try:
            while True:
                yield bytes(1000)
                await asyncio.sleep(0.01)
        finally:
            Path(name).touch()

    return StreamingResponse(parts())


@app.get("/large")
async def large() -> str:
    return "a large text, " * 1000


@app.get("/file")
async def file() -> FileResponse:
    return FileResponse(__file__)


@app.get("/redirect")
async def redirect() -> RedirectResponse:
    return RedirectResponse("/json", 302)


@app.get("/error")
async def error() -> None:
    raise RuntimeError("failed on purpose")


@app.get("/teapot")
async def teapot() -> None:
    raise HTTPException(418, headers={"x-reason": "short and stout"})


@app.get("/background")
async def background(name: str, tasks: BackgroundTasks) -> dict[str, str]:
    tasks.add_task(Path(name).touch)
    return {"later": name}


@app.post("/login")
async def log_in(response: Response) -> dict[str, bool]:
    response.set_cookie("user", "ann", httponly=True)
    response.set_cookie("theme", "dark")
    return {"ok": True}


def current_user(user: Annotated[str, Cookie()] = "nobody") -> str:
    return user


@app.get("/user")
async def show_user(user: Annotated[str, Depends(current_user)]) -> dict[str, str]:
    return {"user": user}


@app.get("/state")
async def state(request: Request) -> dict[str, object]:
    return {"started": request.state.started, "pid": os.getpid()}

"""The site of test_frameworks with Quart."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

from quart import Quart, Response, abort, jsonify, redirect, request, send_file
from quart.typing import ResponseReturnValue

app = Quart(__name__)
started: dict[str, str] = {}


@app.before_serving
async def begin() -> None:
    started["started"] = "by the lifespan"


@app.after_request
async def mark(response: Response) -> Response:
    response.headers["x-middleware"] = "was here"
    return response


@app.get("/json")
async def show_json() -> ResponseReturnValue:
    return jsonify({"hello": "wörld", "numbers": [1, 2.5, None]})


@app.get("/items/<int:number>")
async def show_item(number: int) -> ResponseReturnValue:
    return jsonify({"number": number, "q": request.args.get("q", "")})


@app.post("/notes")
async def take_note() -> ResponseReturnValue:
    note = await request.get_json()
    return jsonify({"title": note["title"], "words": len(note["words"])}), 201


@app.put("/raw")
async def take_raw() -> ResponseReturnValue:
    size = 0
    async for part in request.body:
        size += len(part)
    return jsonify({"size": size})


@app.post("/form")
async def take_form() -> ResponseReturnValue:
    form = await request.form
    return jsonify({"name": form["name"], "choice": form.getlist("choice")})


@app.post("/upload")
async def take_upload() -> ResponseReturnValue:
    form = await request.form
    document = (await request.files)["document"]
    content = document.read()
    return jsonify(
        {"name": form["name"], "filename": document.filename, "size": len(content), "end": content[-3:].decode()}
    )


@app.get("/stream")
async def stream() -> ResponseReturnValue:
    async def lines() -> AsyncIterator[bytes]:
        for number in range(5):
            yield b"%d\n" % number
            await asyncio.sleep(0.01)

    return Response(lines(), content_type="text/plain")


@app.get("/endless")
async def endless() -> ResponseReturnValue:
    name = request.args["name"]

    async def parts() -> AsyncIterator[bytes]:
        try:
            while True:
                yield bytes(1000)
                await asyncio.sleep(0.01)
        finally:
            Path(name).touch()

    return Response(parts())


@app.get("/large")
async def large() -> ResponseReturnValue:
    return "a large text, " * 1000, {"content-type": "text/plain"}


@app.get("/file")
async def file() -> ResponseReturnValue:
    return await send_file(__file__)


@app.get("/redirect")
async def lead_on() -> ResponseReturnValue:
    return redirect("/json")


@app.get("/error")
async def error() -> ResponseReturnValue:
    raise RuntimeError("failed on purpose")


@app.get("/teapot")
async def teapot() -> ResponseReturnValue:
    abort(Response("", 418, {"x-reason": "short and stout"}))


@app.get("/background")
async def background() -> ResponseReturnValue:
    name = request.args["name"]

    async def touch() -> None:
        Path(name).touch()

    app.add_background_task(touch)
    return jsonify({"later": name})


@app.post("/login")
async def log_in() -> ResponseReturnValue:
    response = jsonify({"ok": True})
    response.set_cookie("user", "ann", httponly=True)
    response.set_cookie("theme", "dark")
    return response


@app.get("/user")
async def show_user() -> ResponseReturnValue:
    return jsonify({"user": request.cookies.get("user", "nobody")})


@app.get("/state")
async def state() -> ResponseReturnValue:
    return jsonify({**started, "pid": os.getpid()})

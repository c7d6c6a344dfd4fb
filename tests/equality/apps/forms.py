"""Forms and files. They need python-multipart."""

from typing import Annotated

from fastapi import Depends, FastAPI, File, Form, Request, UploadFile
from fastapi.security import OAuth2PasswordRequestForm
from pydantic import BaseModel

from tests.equality.driving import Trace


class Signup(BaseModel):
    name: str
    age: int = 3
    likes: list[str] = []


def build(trace: Trace) -> FastAPI:
    app = FastAPI()

    @app.post("/form")
    async def form(
        name: Annotated[str, Form()],
        age: Annotated[int, Form()] = 1,
        likes: Annotated[list[str] | None, Form()] = None,
    ) -> dict[str, object]:
        trace.note("form", name, age, likes)
        return {"name": name, "age": age, "likes": likes}

    @app.post("/signup")
    def signup(form: Annotated[Signup, Form()]) -> Signup:
        trace.note("signup", form.model_dump())
        return form

    @app.post("/upload")
    async def upload(
        document: UploadFile, note: Annotated[str, Form()], more: list[UploadFile] | None = None
    ) -> dict[str, object]:
        content = await document.read()
        trace.note("upload", document.filename, document.content_type, content, note, len(more or []))
        return {"name": document.filename, "size": len(content), "note": note}

    @app.post("/file")
    async def file(content: Annotated[bytes | None, File()] = None) -> dict[str, object]:
        return {"size": None if content is None else len(content)}

    @app.post("/token")
    async def token(form: Annotated[OAuth2PasswordRequestForm, Depends()]) -> dict[str, object]:
        return {"user": form.username, "scopes": form.scopes}

    @app.post("/by-hand")
    async def by_hand(request: Request) -> dict[str, object]:
        async with request.form(max_fields=3) as form:
            trace.note("by hand", [(key, str(value)) for key, value in form.multi_items()])
            return {"keys": list(form)}

    return app

"""An application: replace it with yours."""

from typing import Annotated

from fastapi import Body, FastAPI

app = FastAPI()


@app.get("/")
async def hello() -> dict[str, str]:
    """Say hello."""
    return {"message": "Hello, World!"}


@app.post("/greetings")
async def greet(name: Annotated[str, Body(embed=True)]) -> dict[str, str]:
    """Say hello to someone."""
    return {"message": f"Hello, {name}!"}

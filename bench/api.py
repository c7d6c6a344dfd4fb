"""A FastAPI application with the routes that real ones have, and the same behind CORSMiddleware."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Depends, FastAPI, Header, HTTPException
from fastapi.middleware.cors import CORSMiddleware
from pydantic import BaseModel, Field


class Item(BaseModel):
    """What is sent to be stored."""

    name: str = Field(min_length=1, max_length=80)
    price: float = Field(gt=0)
    description: str | None = None
    tags: list[str] = []


class StoredItem(Item):
    """What is stored."""

    id: int
    is_new: bool = True


class User(BaseModel):
    """A user, as shown to others."""

    id: int
    name: str
    email: str
    is_active: bool = True


async def current_user(authorization: Annotated[str, Header()]) -> User:
    """Return the user whose token this is."""
    scheme, _, token = authorization.partition(" ")
    if scheme != "Bearer" or not token:
        raise HTTPException(401)
    return User(id=1, name=token, email="user@example.com")


_USERS = [{"id": number, "name": f"user {number}", "email": f"{number}@example.com"} for number in range(20)]


def users() -> list[dict[str, Any]]:
    """Return all users; in a thread, as a database driver without asyncio has it."""
    return _USERS


def _new_app() -> FastAPI:
    api = FastAPI()

    @api.get("/")
    async def read() -> dict[str, str]:
        return {"message": "Hello, World!"}

    @api.get("/items/{item_id}")
    async def read_item(item_id: int, q: str | None = None, limit: int = 10, exact: bool = False) -> dict[str, Any]:
        return {"item_id": item_id, "q": q, "limit": limit, "exact": exact}

    @api.post("/items")
    async def store_item(item: Item) -> StoredItem:
        return StoredItem(id=1, **item.model_dump())

    @api.get("/me")
    async def read_me(user: Annotated[User, Depends(current_user)]) -> User:
        return user

    @api.get("/users", response_model=list[User])
    async def read_users(found: Annotated[list[dict[str, Any]], Depends(users)]) -> Any:
        return found

    @api.get("/sync")
    def read_in_a_thread() -> dict[str, str]:
        return {"message": "Hello, World!"}

    return api


app = _new_app()
with_cors = _new_app()
with_cors.add_middleware(CORSMiddleware, allow_origins=["https://example.com"], allow_credentials=True)

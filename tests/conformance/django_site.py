"""The site of test_frameworks with Django, without a database. It has no lifespan, and no background tasks."""

# mypy: disable-error-code="import-untyped, no-any-return, untyped-decorator"

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from django.conf import settings

settings.configure(
    ALLOWED_HOSTS=["127.0.0.1"],
    ROOT_URLCONF=__name__,
    SECRET_KEY="for tests",
    MIDDLEWARE=["django.middleware.gzip.GZipMiddleware", f"{__name__}.mark"],
)

from django.core.asgi import get_asgi_application  # noqa: E402
from django.http import (  # noqa: E402
    HttpRequest,
    HttpResponse,
    HttpResponseBase,
    HttpResponseRedirect,
    JsonResponse,
    StreamingHttpResponse,
)
from django.urls import path  # noqa: E402


def mark(get_response: Callable[[HttpRequest], HttpResponseBase]) -> Callable[[HttpRequest], HttpResponseBase]:
    def middleware(request: HttpRequest) -> HttpResponseBase:
        response = get_response(request)
        response["x-middleware"] = "was here"
        return response

    return middleware


async def show_json(request: HttpRequest) -> HttpResponseBase:
    return JsonResponse({"hello": "wörld", "numbers": [1, 2.5, None]})


def show_item(request: HttpRequest, number: int) -> HttpResponseBase:
    return JsonResponse({"number": number, "q": request.GET.get("q", "")})


def take_note(request: HttpRequest) -> HttpResponseBase:
    note = json.loads(request.body)
    return JsonResponse({"title": note["title"], "words": len(note["words"])}, status=201)


def take_raw(request: HttpRequest) -> HttpResponseBase:
    size = 0
    while part := request.read(65536):
        size += len(part)
    return JsonResponse({"size": size})


def take_form(request: HttpRequest) -> HttpResponseBase:
    return JsonResponse({"name": request.POST["name"], "choice": request.POST.getlist("choice")})


def take_upload(request: HttpRequest) -> HttpResponseBase:
    document = request.FILES["document"]
    content = document.read()
    seen = {"name": request.POST["name"], "filename": document.name, "size": len(content), "end": content[-3:].decode()}
    return JsonResponse(seen)


async def stream(request: HttpRequest) -> HttpResponseBase:
    async def lines() -> AsyncIterator[str]:
        for number in range(5):
            yield f"{number}\n"
            await asyncio.sleep(0.01)

    return StreamingHttpResponse(lines(), content_type="text/plain")


async def endless(request: HttpRequest) -> HttpResponseBase:
    async def parts() -> AsyncIterator[bytes]:
        try:
            while True:
                yield bytes(1000)
                await asyncio.sleep(0.01)
        finally:
            Path(request.GET["name"]).touch()

    return StreamingHttpResponse(parts())


def large(request: HttpRequest) -> HttpResponseBase:
    return HttpResponse("a large text, " * 1000, content_type="text/plain")


def redirect(request: HttpRequest) -> HttpResponseBase:
    return HttpResponseRedirect("/json")


async def error(request: HttpRequest) -> HttpResponseBase:
    raise RuntimeError("failed on purpose")


def teapot(request: HttpRequest) -> HttpResponseBase:
    return HttpResponse(status=418, headers={"x-reason": "short and stout"})


def log_in(request: HttpRequest) -> HttpResponseBase:
    response = JsonResponse({"ok": True})
    response.set_cookie("user", "ann", httponly=True)
    response.set_cookie("theme", "dark")
    return response


def show_user(request: HttpRequest) -> HttpResponseBase:
    return JsonResponse({"user": request.COOKIES.get("user", "nobody")})


urlpatterns = [
    path("json", show_json),
    path("items/<int:number>", show_item),
    path("notes", take_note),
    path("raw", take_raw),
    path("form", take_form),
    path("upload", take_upload),
    path("stream", stream),
    path("endless", endless),
    path("large", large),
    path("redirect", redirect),
    path("error", error),
    path("teapot", teapot),
    path("login", log_in),
    path("user", show_user),
]

app = get_asgi_application()

"""The page and the description of the API, kept in memory, so that no request reads a file."""

from __future__ import annotations

import hashlib
import importlib.resources
from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

_MEDIA_TYPES = {
    "css": "text/css",
    "html": "text/html",
    "js": "text/javascript",
    "json": "application/json",
    "svg": "image/svg+xml",
    "webmanifest": "application/manifest+json",
}
_INDEX = "index.html"


def static_routes() -> list[Route]:
    """Returns a route for each file of the page; / is the page itself."""
    routes = []
    for file in importlib.resources.files("t2t_vqem.server").joinpath("static").iterdir():
        answer = _answer(file.read_bytes(), _MEDIA_TYPES[file.name.rpartition(".")[2]])
        routes.append(Route(f"/{file.name}", answer, name="page"))
        if file.name == _INDEX:
            routes.append(Route("/", answer, name="page"))
    return routes


def _answer(content: bytes, media_type: str) -> Callable[[Request], Awaitable[Response]]:
    etag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    headers = {"ETag": etag, "Cache-Control": "no-cache"}

    async def page(request: Request) -> Response:
        if request.headers.get("if-none-match") == etag:
            return Response(status_code=304, headers=headers)
        return Response(content, headers=headers, media_type=media_type)

    return page

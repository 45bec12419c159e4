"""Checks of every request (host, origin, token, body, time), and the answers to errors."""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import time
from collections.abc import Awaitable, Callable, Collection
from typing import Any
from urllib.parse import urlsplit

from starlette.exceptions import HTTPException
from starlette.responses import Response

from t2t_vqem.server.limits import Limits, RequestError
from t2t_vqem.server.metrics import Metrics

_logger = logging.getLogger(__name__)

# Headers of every answer, also of those that uvicorn writes itself. The page is self-contained: the
# policy forbids resources from other origins and inline scripts and styles.
HEADERS = (
    (
        "Content-Security-Policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; "
        "img-src 'self' blob: data:; connect-src 'self'; manifest-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Permissions-Policy", "camera=(), geolocation=(), microphone=()"),
)
_PROTECTED = ("/v1/", "/metrics")

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


def json_response(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Returns a JSON answer in UTF-8."""
    body = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Response(body.encode(), status, headers, media_type="application/json")


class Guard:
    """An ASGI application around another one, which then gets only complete bodies."""

    def __init__(
        self,
        app: App,
        limits: Limits,
        metrics: Metrics,
        *,
        token: str | None = None,
        hosts: Collection[str] = (),
    ):
        """Stores its arguments.

        Args:
            app: answers requests, or raises `RequestError` or Starlette's `HTTPException`.
            limits: the limits of requests.
            metrics: the metrics that count requests and times.
            token: the token that clients of /v1/ and /metrics must send; None: no token.
            hosts: host names under which clients may address the server; empty: any.
        """
        self._app, self._limits, self._metrics = app, limits, metrics
        self._token, self._hosts = token, frozenset(hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        begin, status = time.monotonic(), 0
        scope["app"] = self  # Starlette's router raises errors only if the scope has an application

        async def counted(message: dict[str, Any]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            try:
                await self._checked(scope, receive, counted)
            except (RequestError, HTTPException) as error:
                await _error_response(error)(scope, receive, counted)
            except Exception as error:
                # Without the error's message, which may contain parts of the request.
                place = _innermost(error)
                _logger.error("%s at %s, answered with 500", type(error).__name__, place)
                fault = RequestError(
                    500, f"The server failed at {place}; the request is not at fault."
                )
                await _error_response(fault)(scope, receive, counted)
        except asyncio.CancelledError:  # the client closed the connection
            status = 499
        finally:
            endpoint = getattr(scope.get("endpoint"), "__name__", "none")
            self._metrics.requests.add(endpoint, str(status))
            self._metrics.seconds.observe(time.monotonic() - begin, endpoint)

    async def _checked(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        self._check_origin(headers, scope["path"])
        if self._token is not None and scope["path"].startswith(_PROTECTED):
            self._check_token(headers.get(b"authorization", ""))
        body = await self._body(headers, receive)

        async def replay() -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        seconds = self._limits.request_seconds
        try:
            await asyncio.wait_for(self._app(scope, replay, send), seconds)
        except (TimeoutError, asyncio.TimeoutError) as error:
            message = (
                f"The answer took longer than {seconds:g} seconds: send a smaller request, or try "
                "again later."
            )
            raise RequestError(503, message, {"Retry-After": "5"}) from error

    def _check_origin(self, headers: dict[bytes, str], path: str) -> None:
        """Refuses requests that a browser sends for the pages of other websites."""
        host = headers.get(b"host", "")
        if self._hosts and _hostname(host) not in self._hosts:
            raise RequestError(421, f"Host {host[:80]!r} is not served: see --allowed_hosts.")
        origin = headers.get(b"origin")
        foreign = origin is not None and origin.partition("://")[2] != host
        if path.startswith(_PROTECTED) and (
            foreign or headers.get(b"sec-fetch-site", "none") not in ("same-origin", "none")
        ):
            raise RequestError(403, "Pages of other origins must not use this server.")

    def _check_token(self, sent: str) -> None:
        scheme, _, token = sent.partition(" ")
        right = hmac.compare_digest(token.strip().encode(), self._token.encode())
        if scheme.lower() != "bearer" or not right:
            raise RequestError(
                401,
                "Expected the server's token in the header Authorization: Bearer TOKEN.",
                {"WWW-Authenticate": "Bearer"},
            )

    async def _body(self, headers: dict[bytes, str], receive: Receive) -> bytes:
        """Reads the whole body.

        The rest of a body that is too large is read and discarded, because most clients read the
        answer only after sending everything.

        Raises:
            RequestError: 413, too large; 408, too slow.
        """
        announced = headers.get(b"content-length", "")
        if not announced.strip("0") and b"transfer-encoding" not in headers:
            return b""
        most = self._limits.body_bytes
        too_large = announced.isdecimal() and (len(announced) > 18 or int(announced) > most)
        error = RequestError(413, f"The body is too large: expected at most {most} bytes.", _CLOSE)
        if too_large and b"expect" in headers:  # the client waits before it sends the body
            raise error
        try:
            body = await asyncio.wait_for(_read(receive, most), self._limits.body_seconds)
        except (TimeoutError, asyncio.TimeoutError) as timeout:
            seconds = self._limits.body_seconds
            message = f"The body did not arrive within {seconds:g} seconds."
            raise (error if too_large else RequestError(408, message, _CLOSE)) from timeout
        if body is None:
            raise error
        return body


_CLOSE = {"Connection": "close"}


async def _read(receive: Receive, most: int) -> bytes | None:
    """Returns a body, or None if it has more bytes than `most`."""
    body = bytearray()
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise asyncio.CancelledError
        part = message.get("body", b"")
        size += len(part)
        if size <= most:
            body += part
        else:
            body.clear()
        if not message.get("more_body"):
            return bytes(body) if size <= most else None


def _error_response(error: RequestError | HTTPException) -> Response:
    if isinstance(error, HTTPException):
        texts = {404: "There is nothing at this address: see /openapi.json."}
        allowed = (error.headers or {}).get("Allow", "")
        texts[405] = f"This address accepts only {allowed}."
        error = RequestError(error.status_code, texts[error.status_code], error.headers)
    return json_response({"error": error.message}, error.status, error.headers)


def _hostname(host: str) -> str:
    """Returns the name in a Host header, without its port."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _innermost(error: BaseException) -> str:
    """Returns the place where an error was raised."""
    trace = error.__traceback__
    while trace.tb_next is not None:
        trace = trace.tb_next
    return f"{trace.tb_frame.f_globals.get('__name__')}:{trace.tb_lineno}"

"""uvicorn's protocol with bounds that it lacks: of a request's head, of time, of connections."""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from t2t_vqem.server.limits import Limits


class BoundedProtocol(HttpToolsProtocol):
    """One connection.

    A client must send a request's head within `body_seconds`, and read its answer within
    `idle_seconds`. When it goes, what it asked for is cancelled. Time and bytes of bodies are
    bounded by the application, which reads them.
    """

    limits: Limits  # set by `bounded_protocol`

    def connection_made(self, transport: asyncio.Transport) -> None:
        """A connection was opened."""
        super().connection_made(transport)
        self._in_body = False
        self._head_bytes = 0
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task | None = None
        # Up to as many get an answer, 503, see `limit_concurrency` of uvicorn.
        if len(self.connections) > 2 * self.limits.connections:
            transport.abort()
        else:
            self._close_after(self.limits.body_seconds)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection was closed, by the client or by the server."""
        self._unset_keepalive_if_required()
        self._stop_timer()
        busy = self.cycle is not None and not self.cycle.response_complete
        super().connection_lost(exc)
        self.pipeline.clear()
        if busy and self._task is not None:
            self._task.cancel()

    def data_received(self, data: bytes) -> None:
        """Some bytes came."""
        if self.transport.is_closing():
            return
        if not self._in_body:
            self._head_bytes += len(data)
            if self._timer is None:
                self._close_after(self.limits.body_seconds)
        super().data_received(data)
        if not self._in_body and self._head_bytes > self.limits.header_bytes:
            self._refuse(431)

    def on_headers_complete(self) -> None:
        """The head of a request is complete."""
        self._in_body = True
        self._head_bytes = 0
        self._stop_timer()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The body of a request is complete."""
        self._in_body = False
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """An answer was written, which does not say that it was read."""
        super().on_response_complete()
        if self.transport.is_closing():
            self._abort_after(self.limits.idle_seconds)

    def timeout_keep_alive_handler(self) -> None:
        """Nothing came for a while after an answer."""
        super().timeout_keep_alive_handler()
        self._abort_after(self.limits.idle_seconds)

    def _start_asgi_task(self, cycle, app) -> None:
        # As in uvicorn, which does not keep the task.
        self._task = self.loop.create_task(cycle.run_asgi(app))
        self._task.add_done_callback(self.tasks.discard)
        self.tasks.add(self._task)

    def _close_after(self, seconds: float) -> None:
        self._stop_timer()
        self._timer = self.loop.call_later(seconds, self._refuse, 408)

    def _abort_after(self, seconds: float) -> None:
        self._stop_timer()
        self._timer = self.loop.call_later(seconds, self.transport.abort)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _refuse(self, status: int) -> None:
        """Answers a request whose head is not complete, and closes."""
        if not self.transport.is_closing():
            headers = [(b"content-length", b"0"), (b"connection", b"close")]
            headers = [*self.server_state.default_headers, *headers]
            lines = [name + b": " + value + b"\r\n" for name, value in headers]
            self.transport.write(STATUS_LINE[status] + b"".join(lines) + b"\r\n")
            self.transport.close()
        self._abort_after(self.limits.idle_seconds)


def bounded_protocol(bounds: Limits) -> type[BoundedProtocol]:
    """Returns the protocol with these bounds, for `http` of uvicorn's configuration."""
    return type("Protocol", (BoundedProtocol,), {"limits": bounds})

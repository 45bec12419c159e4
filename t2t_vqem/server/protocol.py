"""uvicorn's protocol with the limits that it lacks: size of headers, time, connections."""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from t2t_vqem.server.limits import Limits


class BoundedProtocol(HttpToolsProtocol):
    """One connection.

    A client must send the headers of a request within `body_seconds`, and read the answer within
    `idle_seconds`. If it closes the connection, its request is cancelled. The application, which
    reads the bodies, limits their time and size.
    """

    limits: Limits  # set by `bounded_protocol`

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Called when a connection was opened."""
        super().connection_made(transport)
        self._in_body = False
        self._head_bytes = 0
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task | None = None
        # Between one and two times the limit, uvicorn answers 503, see its `limit_concurrency`.
        if len(self.connections) > 2 * self.limits.connections:
            transport.abort()
        else:
            self._close_after(self.limits.body_seconds)

    def connection_lost(self, exc: Exception | None) -> None:
        """Called when the connection was closed, by the client or the server."""
        self._unset_keepalive_if_required()
        self._stop_timer()
        busy = self.cycle is not None and not self.cycle.response_complete
        super().connection_lost(exc)
        self.pipeline.clear()
        if busy and self._task is not None:
            self._task.cancel()

    def data_received(self, data: bytes) -> None:
        """Called when bytes arrived."""
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
        """Called when the headers of a request are complete."""
        self._in_body = True
        self._head_bytes = 0
        self._stop_timer()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Called when the body of a request is complete."""
        self._in_body = False
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Called when an answer was written, which the client may not have read yet."""
        super().on_response_complete()
        if self.transport.is_closing():
            self._abort_after(self.limits.idle_seconds)

    def timeout_keep_alive_handler(self) -> None:
        """Called when no request followed an answer in time."""
        super().timeout_keep_alive_handler()
        self._abort_after(self.limits.idle_seconds)

    def _start_asgi_task(self, cycle, app) -> None:
        # As in uvicorn, which does not store the task.
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
        """Answers a request whose headers are incomplete, and closes the connection."""
        if not self.transport.is_closing():
            headers = [(b"content-length", b"0"), (b"connection", b"close")]
            headers = [*self.server_state.default_headers, *headers]
            lines = [name + b": " + value + b"\r\n" for name, value in headers]
            self.transport.write(STATUS_LINE[status] + b"".join(lines) + b"\r\n")
            self.transport.close()
        self._abort_after(self.limits.idle_seconds)


def bounded_protocol(bounds: Limits) -> type[BoundedProtocol]:
    """Returns the protocol with these limits, for `http` of uvicorn's configuration."""
    return type("Protocol", (BoundedProtocol,), {"limits": bounds})

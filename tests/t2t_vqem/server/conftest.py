"""A running server, and raw connections to it."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from t2t_vqem.server.guard import App
from t2t_vqem.server.limits import Limits
from t2t_vqem.server.serving import listen, make_server

SECONDS = 120  # after which a test has hung


@contextlib.contextmanager
def running(app: App, limits: Limits) -> Iterator[int]:
    """Serves an application in a thread; yields the port."""
    opened = listen("127.0.0.1", 0)
    server = make_server(app, limits)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [opened]})
    thread.start()
    try:
        deadline = time.monotonic() + SECONDS
        while not server.started:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        yield opened.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(SECONDS)
        assert not thread.is_alive()


@pytest.fixture(scope="module")
def run_app() -> Iterator[Callable[[App, Limits], int]]:
    """Returns a function that serves an application until the tests of a file end: its port."""
    with contextlib.ExitStack() as stack:
        yield lambda app, limits: stack.enter_context(running(app, limits))


@pytest.fixture
def exchange() -> Callable[..., bytes]:
    """Returns a function that sends parts to a port, with pauses, and reads until the end."""

    def send(port: int, *parts: bytes, pause: float = 0.0, half_close: bool = False) -> bytes:
        with socket.create_connection(("127.0.0.1", port), SECONDS) as connection:
            received = b""
            try:
                for part in parts:
                    connection.sendall(part)
                    time.sleep(pause)
                if half_close:
                    connection.shutdown(socket.SHUT_WR)
                while more := connection.recv(65536):
                    received += more
            except (ConnectionResetError, BrokenPipeError):
                pass
            return received

    return send

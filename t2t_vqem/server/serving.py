"""Runs uvicorn with the limits of `Limits`, until SIGTERM or SIGINT."""

from __future__ import annotations

import logging
import signal
import socket
from collections.abc import Callable

import uvicorn

from t2t_vqem.constants import UsageError
from t2t_vqem.server.guard import HEADERS, App
from t2t_vqem.server.limits import Limits
from t2t_vqem.server.protocol import bounded_protocol

_BACKLOG = 2048
LOOPBACK = ("localhost", "127.0.0.1", "::1")


def listen(host: str, port: int) -> socket.socket:
    """Returns a listening socket.

    Args:
        host: name or address of the interface.
        port: port number; 0: any free port.

    Raises:
        UsageError: the address does not belong to this machine, or the port is in use.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        opened = socket.socket(family, socket.SOCK_STREAM)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind(address)
        opened.listen(_BACKLOG)
    except OSError as error:
        raise UsageError(
            f"cannot listen on --host={host} --port={port}: {error.strerror or error}. Use an "
            "address of this machine and a free port; port 0 chooses one."
        ) from error
    return opened


def make_server(app: App, limits: Limits) -> uvicorn.Server:
    """Returns a server of an application, with the given limits."""
    return uvicorn.Server(
        uvicorn.Config(
            app,
            http=bounded_protocol(limits),
            ws="none",
            lifespan="off",
            log_config=None,
            log_level=logging.ERROR,  # lower levels log single requests
            access_log=False,
            server_header=False,
            proxy_headers=False,
            headers=list(HEADERS),
            limit_concurrency=limits.connections,
            backlog=_BACKLOG,
            timeout_keep_alive=limits.idle_seconds,
            timeout_graceful_shutdown=limits.drain_seconds,
        )
    )


def serve(app: App, limits: Limits, opened: socket.socket, ready: Callable[[], None]) -> None:
    """Answers requests until SIGTERM or SIGINT, then answers the requests accepted by then.

    Args:
        app: the application.
        limits: the limits of requests.
        opened: the socket from `listen`.
        ready: called when the server is ready for requests.
    """
    server = make_server(app, limits)

    def stop(number: int, frame: object) -> None:
        """Handles signals before uvicorn does, and those that uvicorn raises again at its end."""
        server.should_exit = True

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    ready()
    server.run(sockets=[opened])

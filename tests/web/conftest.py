"""A browser of the machine, and a server of the stored exports.

Nothing is downloaded: where the machine has no Chromium, the tests are skipped.
"""

from __future__ import annotations

import os
import pathlib
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator

import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
# As root, as containers are, Chromium has no sandbox; the rest keeps it from asking elsewhere.
FLAGS = (
    "--no-sandbox",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
AXE = pathlib.Path(__file__).resolve().parents[2] / "web/node_modules/axe-core/axe.min.js"
MODELS = ("latent", "beam", "images")


@pytest.fixture(scope="module")  # while it runs, its event loop is the thread's
def browser():
    """Chromium without a window."""
    playwright = pytest.importorskip("playwright.sync_api")
    path = os.environ.get("T2T_VQEM_BROWSER") or next(filter(None, map(shutil.which, BROWSERS)), "")
    if not path:
        pytest.skip(f"no browser, none of {', '.join(BROWSERS)}: the page is not tested")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=path, args=list(FLAGS))
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def axe() -> str:
    """The source of axe-core, which `make web` fetches."""
    if not AXE.exists():
        pytest.skip("axe-core is not there: `make web` fetches it")
    return AXE.read_text(encoding="utf-8")


class Server:
    """A t2t-server in a process of its own."""

    def __init__(self, folder: pathlib.Path, *flags: str, port: int = 0):
        """Starts it and waits until it listens."""
        models = ",".join(str(folder / name) for name in MODELS)
        command = [sys.executable, "-m", "t2t_vqem.bin.t2t_server", f"--models={models}"]
        self.process = subprocess.Popen(
            [*command, f"--port={port}", "--interpreters=1", "--threads=1", *flags],
            stderr=subprocess.PIPE,
            text=True,
        )
        for line in self.process.stderr:
            if found := re.search(r"http://127\.0\.0\.1:(\d+)/", line):
                self.port = int(found[1])
                self.url = found[0]
                return
        raise AssertionError(f"the server ended with status {self.process.wait()}")

    def stop(self) -> None:
        """Ends it."""
        self.process.terminate()
        self.process.wait(20)
        self.process.stderr.close()


@pytest.fixture(scope="session")
def server(stored_exports) -> Iterator[Server]:
    """A server for all tests of the page."""
    server = Server(stored_exports)
    yield server
    server.stop()


@pytest.fixture(scope="session")
def start_server(stored_exports) -> Iterator[type[Server]]:
    """Returns a function that starts a server with flags of its own."""
    started = []

    def start(*flags: str, port: int = 0) -> Server:
        started.append(Server(stored_exports, *flags, port=port))
        return started[-1]

    yield start
    for server in started:
        server.stop()

"""A browser of the machine, a server of the stored exports, and a folder with the page alone.

Nothing is downloaded: where the machine has no Chromium, the tests are skipped.
"""

from __future__ import annotations

import functools
import http.server
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from t2t_vqem.constants import UsageError

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
# As root, as containers are, Chromium has no sandbox; the rest keeps it from asking elsewhere.
FLAGS = (
    "--no-sandbox",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
ROOT = pathlib.Path(__file__).resolve().parents[2]
AXE = ROOT / "web/node_modules/axe-core/axe.min.js"
MODELS = ("latent", "beam", "images")
WEB_MODELS = ("latent", "beam", "candidates")


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

    def __init__(self, folders: Sequence[pathlib.Path], *flags: str, port: int = 0):
        """Starts it and waits until it listens."""
        self.phrases = json.loads((folders[0] / "phrases.json").read_text())
        models = ",".join(map(str, folders))
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

    def ask(self, path: str, **fields: Any) -> dict[str, Any]:
        """Returns what it answers without the page."""
        request = urllib.request.Request(f"{self.url}{path}", json.dumps(fields).encode())
        with urllib.request.urlopen(request, timeout=20) as response:
            return json.load(response)

    def stop(self) -> None:
        """Ends it."""
        self.process.terminate()
        self.process.wait(20)
        self.process.stderr.close()


@pytest.fixture(scope="session")
def served(stored_exports, page_exports) -> list[pathlib.Path]:
    """Folders of the models of the servers."""
    return [*(stored_exports / name for name in MODELS), page_exports / "litert/candidates"]


@pytest.fixture(scope="session")
def server(served) -> Iterator[Server]:
    """A server for all tests of the page."""
    server = Server(served)
    yield server
    server.stop()


@pytest.fixture(scope="session")
def start_server(served) -> Iterator[type[Server]]:
    """Returns a function that starts a server with flags of its own."""
    started = []

    def start(*flags: str, port: int = 0) -> Server:
        started.append(Server(served, *flags, port=port))
        return started[-1]

    yield start
    for server in started:
        server.stop()


class _Files(http.server.SimpleHTTPRequestHandler):
    """Serves a folder, without messages."""

    def log_message(self, format: str, *args: Any) -> None:
        del format, args


# The engine of the page, without the page: {call: path of the server's API, fields} -> its answer.
_ASK = """async ([path, {model = "images", text, codes, ...options}]) => {
  if (!globalThis.engine) {
    const { LocalEngine } = await import(new URL("local.js", location));
    const made = new LocalEngine("models.json");
    await made.models();
    globalThis.engine = made;
  }
  const png = (image) => {
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [image.width, image.height];
    canvas.getContext("2d").drawImage(image, 0, 0);
    return canvas.toDataURL().split(",")[1];
  };
  if (path === "v1/translate") return engine.translate(model, text, { codes, ...options });
  if (path === "v1/images/decode") return { images: (await engine.decode(model, codes)).map(png) };
  const found = await engine.sample(model, options);
  return { ...found, images: found.images.map(png) };
}"""


class Static:
    """A server of the files of a folder, which computes nothing."""

    def __init__(self, folder: pathlib.Path, browser: Any = None, port: int = 0):
        """Starts it.

        Args:
            folder: the folder.
            browser: the browser in which `ask` computes.
            port: the port; 0: any.
        """
        _Files.extensions_map[".js"] = "text/javascript"  # whatever the machine's table says
        handler = functools.partial(_Files, directory=str(folder))
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", port), handler)
        self.port = self._server.server_port
        self.url = f"http://127.0.0.1:{self.port}/"
        self.phrases = json.loads((folder / "models/latent/phrases.json").read_text())
        self._browser, self._page = browser, None
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def ask(self, path: str, **fields: Any) -> Any:
        """Returns what the page's engine computes, in a document that is not the page."""
        if self._page is None:
            self._page = self._browser.new_page()
            self._page.goto(f"{self.url}models.json")
        return self._page.evaluate(_ASK, [path, fields])

    def stop(self) -> None:
        """Ends it."""
        if self._page is not None:
            self._page.close()
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture(scope="session")
def site(page_exports, tmp_path_factory) -> pathlib.Path:
    """A folder with the page and the models for the web; not to be changed."""
    from t2t_vqem.export import web  # imports TensorFlow, only where it is needed
    from t2t_vqem.runtime import manifest as manifests

    try:
        web.check_browser_files()
    except UsageError as error:
        pytest.skip(str(error))
    folder = tmp_path_factory.mktemp("site")
    first, *rest = (str(page_exports / "web" / name) for name in ("images", *WEB_MODELS))
    others = web.models_of(rest, "images")
    shutil.copytree(f"{first}/models", folder / "models")
    web.write_page(str(folder), "images", manifests.read(first), None, others=others)
    return folder


@pytest.fixture(scope="module")
def static(site, browser) -> Iterator[Static]:
    """A server of the files of `site`."""
    server = Static(site, browser)
    yield server
    server.stop()


@pytest.fixture
def start_static(site) -> Iterator[Any]:
    """Returns a function that starts a server of the files of a folder, `site` by default."""
    started = []

    def start(folder: pathlib.Path = site, port: int = 0) -> Static:
        started.append(Static(folder, port=port))
        return started[-1]

    yield start
    for server in started:
        server.stop()

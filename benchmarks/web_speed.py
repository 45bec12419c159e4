"""How fast runs translate in a browser, and whether they translate as with the Python runtime.

    python benchmarks/web_speed.py --source=test.en --work=exports latent=runs/nat \\
        candidates=runs/nat:beam_size=9,num_candidates=9,num_best=9 \\
        --results=benchmarks/results/web_speed.md

Each run is exported for the web and for the Python runtime, at first use, in the folder --work. A
headless Chromium translates each line of the source, one at a time and in one thread, from text to
text, in the page's own modules. Lines are translated twice, and the second time counts; the first
compiles WebAssembly. Run it on an idle machine, after `make web`.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import http.server
import os
import pathlib
import shutil
import statistics
import threading
from collections.abc import Iterator
from typing import Any

import report
from playwright.sync_api import sync_playwright

from t2t_vqem import runtime
from t2t_vqem.constants import LITERT, WEB
from t2t_vqem.data.lines import read_lines
from t2t_vqem.data.vocabulary import Vocabulary
from t2t_vqem.decoding.options import parse_options
from t2t_vqem.export import web
from t2t_vqem.export.exporter import export_run
from t2t_vqem.output_dir import OutputDir
from t2t_vqem.runtime import manifest

_TRANSLATE = """async ([lines, rounds]) => {
  const begin = performance.now();
  const { LocalEngine } = await import(new URL("local.js", location));
  const engine = new LocalEngine("models.json");
  const [{ name }] = await engine.models();
  const loading = performance.now() - begin;
  let found, times;
  for (let round = 0; round < rounds; round++) {
    found = [];
    times = [];
    for (const line of lines) {
      const answer = await engine.translate(name, line, {});
      found.push(answer.translations);
      times.push(answer.milliseconds);
    }
  }
  return { loading, times, found };
}"""


class _Files(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        del format, args


@contextlib.contextmanager
def served(folder: str) -> Iterator[str]:
    """Yields the address of a server of the files of a folder."""
    handler = functools.partial(_Files, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def exported(path: str, folder: str, engine: str, quantize: str, options: str) -> str:
    """Exports a run where that is not done yet; returns the folder."""
    if not os.path.exists(os.path.join(folder, manifest.MANIFEST)):
        settings = {"engine": engine, "quantize": quantize, "options": parse_options(options)}
        export_run(OutputDir(path), folder, verify=False, phrases=False, **settings)
    return folder


def in_browser(browser: Any, folder: str, lines: list[str], rounds: int) -> dict[str, Any]:
    """Returns the translations of lines in a new page, and the times they took."""
    with served(folder) as address:
        page = browser.new_page()
        page.goto(f"{address}models.json")  # a document in which nothing else runs
        found = page.evaluate(_TRANSLATE, [lines, rounds])
        page.close()
    return found


def same_file(folder: str) -> runtime.TextRuntime:
    """Returns the Python runtime with the model file of an export for the web."""
    found = manifest.read(folder)
    home = web.model_folder(folder, os.path.basename(folder))
    backend = web.StaticInterpreters(os.path.join(home, manifest.MODEL), found)
    vocabulary = Vocabulary(os.path.join(home, manifest.VOCABULARY))
    return runtime.TextRuntime(found, vocabulary, backend)


def count_equal(ours: list[dict[str, Any]], theirs: Iterator[runtime.Hypothesis]) -> int:
    """Returns the number of lines with the same text and the same codes."""
    return sum(
        our["text"] == their.text and tuple(our.get("codes", ())) == their.codes
        for our, their in zip(ours, theirs, strict=True)
    )


def size(folder: str) -> float:
    """Returns the size of a folder in MB (10^6 bytes)."""
    files = pathlib.Path(folder).rglob("*")
    return sum(path.stat().st_size for path in files if path.is_file()) / 1e6


def measured(browser: Any, given: str, args: argparse.Namespace, lines: list[str]) -> str:
    """Returns the row of a run for the table."""
    name, _, where = given.partition("=")
    path, _, options = where.partition(":")
    settings = (args.quantize, options)
    folder = exported(path, os.path.join(args.work, f"{name}.web"), WEB, *settings)
    other = exported(path, os.path.join(args.work, f"{name}.litert"), LITERT, *settings)
    found = in_browser(browser, folder, lines, args.rounds)
    equal = [
        count_equal(found["found"], model.translate(lines))
        for model in (same_file(folder), runtime.load(other))
    ]
    middle, high = (
        statistics.median(found["times"]),
        statistics.quantiles(found["times"], n=100)[98],
    )
    return (
        f"| {name} | {middle:.2f} | {high:.2f} | {found['loading']:.0f} | {size(folder):.1f} | "
        f"{equal[0]} | {equal[1]} | {len(lines)} |"
    )


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("runs", nargs="+", help="NAME=OUTPUT_DIR or NAME=OUTPUT_DIR:OPTIONS")
    parser.add_argument("--source", required=True)
    parser.add_argument("--work", required=True)
    parser.add_argument("--quantize", default="int8", choices=["none", "int8"])
    parser.add_argument("--lines", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--browser", default=shutil.which("chromium") or "chromium")
    parser.add_argument("--results", help="file to write")
    args = parser.parse_args()
    lines = [line.decode() for line in read_lines(args.source)][: args.lines]
    packages = ("ai-edge-litert", "playwright", "sentencepiece", "tensorflow")
    text = report.header("Speed in a browser", packages)
    with sync_playwright() as started:
        flags = ["--no-sandbox"]  # as root, Chromium has none
        browser = started.chromium.launch(executable_path=args.browser, args=flags)
        text += [
            f"Chromium {browser.version}, headless, one thread; weights: {args.quantize}. One "
            "sentence at a time, from text to text. Equal: lines with the same text and codes from "
            "the Python runtime, with the same model file, and with the export for litert, whose "
            "8-bit operations round differently.",
            "",
            "| model | ms a sentence, median | 99 % | loading, ms | folder, MB | equal, same "
            "file | equal, litert | lines |",
            "|---|--:|--:|--:|--:|--:|--:|--:|",
        ]
        text += [measured(browser, given, args, lines) for given in args.runs]
        browser.close()
    report.write(text, args.results)


if __name__ == "__main__":
    main()

"""Speed of t2t-datagen by format, compression and filter, and memory of finding duplicates.

    python benchmarks/datagen_formats.py --text_dir=multi30k \\
        --results=benchmarks/results/datagen_formats.md

Times are processor time of one process, so that other work on the machine matters little; each is
the best of several runs.
"""

from __future__ import annotations

import argparse
import bz2
import gzip
import json
import lzma
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from xml.sax.saxutils import escape

import report
from backports import zstd

from t2t_vqem.data.filters import Filters
from t2t_vqem.data.lines import read_lines
from t2t_vqem.data.parallel_files import read_pairs
from t2t_vqem.data.text_building import TextSettings, build_text
from t2t_vqem.data.text_source import FilePairs, find_files
from t2t_vqem.data.vocabulary import Vocabulary

LANGUAGES = ("en", "de")
PACKAGES = ("array-record", "backports.zstd", "numpy", "sentencepiece")
COMPRESS = {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress, "zst": zstd.compress}
FILTERS = {
    "none but the lengths": {},
    "drop_copies": {"copies": True},
    "drop_duplicates": {"duplicates": True},
    "drop_held_out": {"held_out": True},
    "source_script, target_script": {"scripts": ("latin", "latin")},
}
# Run by a process of its own, whose largest resident memory is measured from here on.
DUPLICATES = """
import re, sys, time
from t2t_vqem.data.filters import find_duplicates
def kibibytes(name):
    return int(re.search(name + r":\\s+(\\d+) kB", open("/proc/self/status").read())[1])
open("/proc/self/clear_refs", "w").write("5")
before = kibibytes("VmRSS")
started = time.process_time()
find_duplicates(sys.argv[1])
print(time.process_time() - started, 1024 * (kibibytes("VmHWM") - before))
"""


def main() -> None:
    """Measures and writes the results."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--text_dir", required=True, help="folder with train.en and train.de")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--hashes", type=int, nargs="+", default=(5_000_000, 50_000_000))
    parser.add_argument("--results", help="Markdown file to write")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        files, num_pairs = write_formats(folder, args.text_dir)
        lines = report.header("Speed of t2t-datagen by format and filter", PACKAGES)
        lines += [
            f"- text: {num_pairs:,} pairs of {os.path.basename(os.path.abspath(args.text_dir))}",
            f"- processor time of one process, best of {args.repeats}",
            "",
            "| reading | pairs/s |",
            "|---|--:|",
        ]
        for kind, paths in files.items():
            seconds = best(lambda paths=paths: count(paths), args.repeats)
            lines.append(f"| {kind} | {num_pairs / seconds:,.0f} |")
        lines += ["", "| filters; reading, encoding and writing | pairs/s |", "|---|--:|"]
        rates = measure_filters(folder, files["plain"], args.repeats)
        lines += [f"| {kind} | {num_pairs / seconds:,.0f} |" for kind, seconds in rates.items()]
        lines += ["", "| finding duplicates among | seconds | bytes per pair |", "|--:|--:|--:|"]
        lines += [measure_duplicates(folder, number) for number in args.hashes]
    report.write(lines, args.results)


def best(function: Callable[[], object], repeats: int) -> float:
    """Returns the least processor time of several calls, in seconds."""
    times = []
    for _ in range(repeats):
        started = time.process_time()
        function()
        times.append(time.process_time() - started)
    return min(times)


def count(paths: tuple[str, ...]) -> int:
    return sum(1 for _ in read_pairs(paths, LANGUAGES))


def write_formats(folder: pathlib.Path, text_dir: str) -> tuple[dict[str, tuple[str, ...]], int]:
    """Writes the text in each format; returns the files of each, and the number of pairs."""
    sides = [
        [line.replace(b"\t", b" ") for line in read_lines(path)]
        for path in find_files(text_dir, ("train",), LANGUAGES)
    ]
    files = {"plain": tuple(str(folder / f"train.{code}") for code in LANGUAGES)}
    for path, lines in zip(files["plain"], sides, strict=True):
        pathlib.Path(path).write_bytes(b"".join(line + b"\n" for line in lines))
    pairs = [(left.decode(), right.decode()) for left, right in zip(*sides, strict=True)]
    texts = {
        "tsv": "".join(f"{left}\t{right}\n" for left, right in pairs),
        "jsonl": "".join(
            json.dumps(dict(zip(LANGUAGES, pair, strict=True)), ensure_ascii=False) + "\n"
            for pair in pairs
        ),
        "tmx": "<tmx><body>\n" + "".join(map(unit, pairs)) + "</body></tmx>\n",
    }
    contents = {kind: text.encode() for kind, text in texts.items()}
    contents |= {f"tsv.{end}": compress(contents["tsv"]) for end, compress in COMPRESS.items()}
    for kind, content in contents.items():
        files[kind] = (str(folder / f"train.{kind}"),)
        pathlib.Path(files[kind][0]).write_bytes(content)
    return files, len(pairs)


def unit(pair: tuple[str, str]) -> str:
    """Returns a translation unit of TMX."""
    variants = (
        f'<tuv xml:lang="{code}"><seg>{escape(text)}</seg></tuv>'
        for code, text in zip(LANGUAGES, pair, strict=True)
    )
    return f"<tu>{''.join(variants)}</tu>\n"


def measure_filters(folder: pathlib.Path, train: tuple[str, ...], repeats: int) -> dict[str, float]:
    """Returns the seconds of making the data with each filter; the vocabulary is there already."""
    for split in ("dev", "test"):
        for path, code in zip(train, LANGUAGES, strict=True):
            lines = [b"held out\n", *list(read_lines(path))[:1000]]
            (folder / f"{split}.{code}").write_bytes(b"\n".join(lines))
    splits = {s: [str(folder / f"{s}.{code}") for code in LANGUAGES] for s in ("dev", "test")}
    source = FilePairs({"train": train, **splits}, LANGUAGES)
    sample = [line.decode() for path in train for line in read_lines(path)]
    vocabulary = Vocabulary.train(sample, 4000, str(folder / "vocab.model"), 0)

    def make(filters: Filters) -> None:
        directory = folder / "data"
        shutil.rmtree(directory, ignore_errors=True)
        (directory / "scratch").mkdir(parents=True)
        (directory / "vocab.model").write_bytes(vocabulary.model)
        settings = TextSettings(LANGUAGES, 4000, 1, filters, 0)
        scratch = str(directory / "scratch")
        build_text(str(directory), scratch, source, settings, num_workers=1, progress=False)

    return {
        kind: best(lambda chosen=chosen: make(Filters(256, 4.0, **chosen)), repeats)
        for kind, chosen in FILTERS.items()
    }


def measure_duplicates(folder: pathlib.Path, number: int) -> str:
    """Returns a row about finding duplicates among random hashes, half of which occur twice."""
    path = folder / "hashes"
    writer = (
        "import sys, numpy as np\n"
        "rng = np.random.default_rng(0)\n"
        "with open(sys.argv[1], 'wb') as file:\n"
        "    for start in range(0, int(sys.argv[2]), 1 << 20):\n"
        "        size = min(1 << 20, int(sys.argv[2]) - start)\n"
        "        half = rng.integers(0, 1 << 63, size - size // 2, np.uint64)\n"
        "        file.write(np.concatenate([half, half[: size // 2]]).tobytes())\n"
    )
    subprocess.run([sys.executable, "-c", writer, str(path), str(number)], check=True)
    command = [sys.executable, "-c", DUPLICATES, str(path)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    seconds, size = done.stdout.split()
    path.unlink()
    return f"| {number:,} | {float(seconds):.1f} | {int(size) / number:.1f} |"


if __name__ == "__main__":
    main()

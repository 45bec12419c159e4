"""Speed and memory of t2t-datagen: sentences per second, and peak memory as the text grows.

    python benchmarks/datagen_speed.py --text_dir=multi30k \\
        --results=benchmarks/results/datagen_speed.md

The text is made by drawing real lines (train.{en,de}, plain or gzip, in --text_dir) and swapping
some of their words, so that no line is simply repeated. The command runs as a user would run it;
its memory is that of all its processes, with shared pages counted once (Linux only).
"""

from __future__ import annotations

import argparse
import os
import pathlib
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import NamedTuple

import report

from t2t_vqem.data.lines import read_lines
from t2t_vqem.data.text_source import find_files

LANGUAGES = ("en", "de")
SAMPLE_SECONDS = 0.05
PACKAGES = ("array-record", "sentencepiece", "numpy")


class Run(NamedTuple):
    """The time and memory of one run of the command."""

    num_lines: int
    seconds: float
    vocabulary_seconds: float  # of these, until the vocabulary was trained
    peak_bytes: int
    disk_bytes: int


def main() -> None:
    """Measures and writes the results."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--text_dir", required=True, help="folder with train.en and train.de")
    parser.add_argument("--speed_lines", type=int, default=200_000)
    parser.add_argument("--memory_lines", type=int, nargs=2, default=(100_000, 400_000))
    parser.add_argument("--vocab_size", type=int, default=8000)
    parser.add_argument("--num_workers", type=int, default=os.cpu_count())
    parser.add_argument("--work_dir", help="folder to write to; default: a temporary one")
    parser.add_argument("--results", help="Markdown file to write")
    args = parser.parse_args()
    runs = {}
    with tempfile.TemporaryDirectory(dir=args.work_dir) as folder:
        for num_lines in sorted({args.speed_lines, *args.memory_lines}):
            text = pathlib.Path(folder, f"text{num_lines}")
            write_text(text, args.text_dir, num_lines)
            runs[num_lines] = measure(text, pathlib.Path(folder, f"data{num_lines}"), args)
            print(runs[num_lines], file=sys.stderr)
    report.write(results(runs, args), args.results)


def write_text(folder: pathlib.Path, text_dir: str, num_lines: int) -> None:
    """Writes train text with the given number of lines, and short dev and test text."""
    folder.mkdir()
    pairs = list(zip(*map(read_lines, find_files(text_dir, ("train",), LANGUAGES)), strict=True))
    for split, count in (("train", num_lines), ("dev", 1000), ("test", 1000)):
        # Depends on the seed alone, so that longer texts begin like shorter ones.
        rng = random.Random(split)
        with (
            open(folder / f"{split}.en", "wb") as source,
            open(folder / f"{split}.de", "wb") as target,
        ):
            for pair in perturbed(pairs, count, rng):
                source.write(pair[0] + b"\n")
                target.write(pair[1] + b"\n")


def perturbed(
    pairs: list[tuple[bytes, bytes]], count: int, rng: random.Random
) -> Iterator[tuple[bytes, bytes]]:
    """Returns pairs in which some words of each side are swapped with words of another line."""
    for _ in range(count):
        chosen, other = rng.choice(pairs), rng.choice(pairs)
        sides = []
        for line, donor in zip(chosen, other, strict=True):
            words, others = line.split(b" "), donor.split(b" ")
            for _ in range(max(1, len(words) // 5)):
                words[rng.randrange(len(words))] = rng.choice(others)
            sides.append(b" ".join(words))
        yield sides[0], sides[1]


def measure(text: pathlib.Path, data_dir: pathlib.Path, args: argparse.Namespace) -> Run:
    """Runs the command on a text and samples its memory."""
    command = [
        sys.executable,
        "-m",
        "t2t_vqem.bin.t2t_datagen",
        "--problem=translate_text",
        f"--source_dir={text}",
        f"--data_dir={data_dir}",
        f"--problem_params=vocab_size={args.vocab_size}",
        f"--num_workers={args.num_workers}",
    ]
    data = data_dir / "translate_text"
    vocabulary = pathlib.Path(f"{data}.partial", "vocab.model")
    started = time.monotonic()
    vocabulary_seconds = peak = 0.0
    process = subprocess.Popen(command)
    while process.poll() is None:
        peak = max(peak, memory(process.pid))
        if not vocabulary_seconds and vocabulary.exists():
            vocabulary_seconds = time.monotonic() - started
        time.sleep(SAMPLE_SECONDS)
    seconds = time.monotonic() - started
    if process.returncode:
        sys.exit(f"{' '.join(command)} failed with status {process.returncode}")
    num_lines = sum(1 for _ in read_lines(str(text / "train.en")))
    disk = sum(path.stat().st_size for path in data.iterdir())
    return Run(num_lines, seconds, vocabulary_seconds, int(peak), disk)


def memory(pid: int) -> int:
    """Returns the bytes of a process and its descendants; a shared page counts once."""
    total = 0
    pending = [pid]
    while pending:
        process = pending.pop()
        try:
            for line in pathlib.Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += 1024 * int(line.split()[1])
            for task in os.listdir(f"/proc/{process}/task"):
                children = pathlib.Path(f"/proc/{process}/task/{task}/children").read_text()
                pending += map(int, children.split())
        except OSError:
            continue  # the process has just ended
    return total


def results(runs: dict[int, Run], args: argparse.Namespace) -> list[str]:
    """Returns the lines of the results file."""
    lines = report.header("Speed and memory of t2t-datagen", PACKAGES)
    lines += [
        f"- text: lines of {os.path.basename(os.path.abspath(args.text_dir))} with words swapped; "
        f"vocabulary of {args.vocab_size} pieces; {args.num_workers} workers",
        "",
        "| pairs | seconds | of these, until the vocabulary is trained | pairs/s | sentences/s "
        "| pairs/s after the vocabulary | peak memory, MB | on disk, MB |",
        "|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for run in runs.values():
        encoding = run.seconds - run.vocabulary_seconds
        lines.append(
            f"| {run.num_lines:,} | {run.seconds:.1f} | {run.vocabulary_seconds:.1f} "
            f"| {run.num_lines / run.seconds:,.0f} | {2 * run.num_lines / run.seconds:,.0f} "
            f"| {run.num_lines / encoding:,.0f} | {run.peak_bytes / 1e6:.0f} "
            f"| {run.disk_bytes / 1e6:.1f} |"
        )
    small, large = args.memory_lines
    ratio = runs[large].peak_bytes / runs[small].peak_bytes
    lines += [
        "",
        f"Peak memory at {large:,} pairs is {ratio:.3f} times that at {small:,}; "
        "goal: within 20 %.",
        "",
        "Seconds are those of the whole command, including the start of Python. The vocabulary is "
        "trained on a sample of at most 100,000 pairs, so its time does not grow beyond that.",
    ]
    return lines


if __name__ == "__main__":
    main()

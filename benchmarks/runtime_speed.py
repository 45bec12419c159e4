"""Speed of translation, text to text: LiteRT in float32 and int8, TensorFlow, and CTranslate2.

    python benchmarks/runtime_speed.py --teacher=runs/teacher --student=runs/student \\
        --latent=runs/nat2 --latent=runs/nat3 --latent=runs/nat4 --source=test.en \\
        --reference=test.de --work=work --results=benchmarks/results/runtime_speed.md

The systems take turns, round by round, with sentences alone, batches of 32, and a whole file.
Models of base size have random weights and are compared with sentences alone. Times from the start
of a process to its first translation, and its memory, are those of new processes. CTranslate2 runs
with one and with two threads, and with several batch sizes for files; its best setting counts.

Figures are kept in --work, where the next call finds them: a run can be made in pieces, by --sizes
and --engines, and --again measures some systems again. Run it on an idle machine; --prepare, which
makes the exports, need not.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import report
from runtime_systems import (
    ENGINES,
    FLOAT32,
    INT8,
    XLA,
    Role,
    System,
    Translate,
    random_roles,
    systems,
    trained_roles,
)

from t2t_vqem.data.lines import read_lines
from t2t_vqem.files import write_file, write_json
from t2t_vqem.metrics.bleu import sacrebleu_score

BATCH = 32
TRIAL_LINES = 1000  # to choose settings of CTranslate2 for files
PAUSE = 0.2  # seconds between systems, until the threads of the one before are idle
# Translates one line and waits; then translates with all interpreters at the same time, and waits.
FIRST = """
import sys
from concurrent.futures import ThreadPoolExecutor
from t2t_vqem import runtime

number, line = int(sys.argv[2]), sys.argv[3]
model = runtime.load(sys.argv[1], interpreters=number)
translate = lambda _: next(model.translate([line])).text
print(translate(0), flush=True)
with ThreadPoolExecutor(number) as pool:
    list(pool.map(translate, range(20 * number)))
print("done", flush=True)
sys.stdin.read()
"""


class Figures:
    """Measured figures, kept in a file: by system and kind, a list of one for each round."""

    def __init__(self, work: str):
        """Reads the figures of earlier calls from a folder."""
        self._path = os.path.join(work, "figures.json")
        self._found: dict[str, dict[str, list[float]]] = {}
        if os.path.exists(self._path):
            self._found = json.loads(pathlib.Path(self._path).read_text(encoding="utf-8"))

    def forget(self, part: str) -> None:
        """Removes the figures of systems with `part` in their name."""
        self._found = {name: kinds for name, kinds in self._found.items() if part not in name}

    def number(self, name: str, kind: str) -> int:
        """Returns the number of rounds so far."""
        return len(self._found.get(name, {}).get(kind, []))

    def add(self, name: str, kind: str, value: float) -> None:
        """Stores and prints a figure."""
        self._found.setdefault(name, {}).setdefault(kind, []).append(value)
        write_json(self._path, self._found)
        print(f"{kind}: {value:.4g}  {name}", file=sys.stderr, flush=True)

    def all(self, name: str, kind: str) -> list[float]:
        """Returns the figures of all rounds."""
        return self._found.get(name, {}).get(kind, [])

    def median(self, name: str, kind: str) -> float | None:
        """Returns the median; None if nothing was measured."""
        found = self.all(name, kind)
        return statistics.median(found) if found else None


class Loaded:
    """Systems, each loaded when it is first needed."""

    def __init__(self, load: Callable[[System], Translate]):
        """Stores how to load a system."""
        self._load = load
        self._loaded: dict[str, Translate] = {}

    def __getitem__(self, system: System) -> Translate:
        if system.name not in self._loaded:
            self._loaded[system.name] = self._load(system)
        return self._loaded[system.name]


def in_turn(
    chosen: list[System],
    kind: str,
    rounds: int,
    figures: Figures,
    measure: Callable[[System], float],
) -> None:
    """Measures the systems in turn, as many rounds as are missing."""
    for number in range(rounds):
        for system in chosen:
            if figures.number(system.name, kind) <= number:
                time.sleep(PAUSE)
                figures.add(system.name, kind, measure(system))


def measure_batches(
    chosen: list[System], batch: int, lines: list[str], args: argparse.Namespace, figures: Figures
) -> None:
    """Measures milliseconds a sentence, with batches of lines of similar length."""
    ordered = lines if batch == 1 else sorted(lines, key=len)
    batches = [ordered[start : start + batch] for start in range(0, len(ordered), batch)]
    warm: set[str] = set()
    loaded = Loaded(lambda system: system.load(args.work))

    def measure(system: System) -> float:
        translate = loaded[system]
        if system.name not in warm:
            warm.add(system.name)
            for part in batches:
                translate(part)
        begin = time.perf_counter()
        for part in batches:
            translate(part)
        return 1000 * (time.perf_counter() - begin) / len(lines)

    in_turn(chosen, f"batch {batch}", args.rounds, figures, measure)


def measure_files(
    chosen: list[System], lines: list[str], args: argparse.Namespace, figures: Figures
) -> None:
    """Measures lines a second of a large file, made of the lines, and stores its translation."""
    repeats = -(-args.file_lines // len(lines))
    large = (lines * repeats)[: args.file_lines]
    loaded = Loaded(lambda system: system.load_for_files(args.work, large[:TRIAL_LINES]))

    def measure(system: System) -> float:
        translate = loaded[system]
        found = translate(lines)  # compiles what must be compiled
        write_file(_texts_path(args.work, system), "\n".join(found).encode())
        begin = time.perf_counter()
        translate(large)
        return len(large) / (time.perf_counter() - begin)

    in_turn(chosen, "file", args.file_rounds, figures, measure)


def _texts_path(work: str, system: System) -> str:
    return os.path.join(work, re.sub(r"[ ,=]+", "_", system.name) + ".txt")


def measure_starts(
    chosen: list[System], line: str, args: argparse.Namespace, figures: Figures
) -> None:
    """Measures seconds to the first translation, and memory in megabytes, of new processes."""
    for system in chosen:
        folder = system.folder(args.work)
        for number in range(figures.number(system.name, "start"), args.rounds):
            seconds, memory = _start(folder, line, interpreters=1)
            figures.add(system.name, "start", seconds)
            figures.add(system.name, "memory", memory)
            if not number:
                _, both = _start(folder, line, interpreters=2)
                figures.add(system.name, "further memory", both - memory)


def _start(folder: str, line: str, *, interpreters: int) -> tuple[float, float]:
    command = [sys.executable, "-c", FIRST, folder, str(interpreters), line]
    begin = time.perf_counter()
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        process.stdout.readline()
        seconds = time.perf_counter() - begin
        if process.stdout.readline() != "done\n":
            raise RuntimeError(f"{folder} did not translate in a new process")
        status = pathlib.Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8")
        process.stdin.close()
    return seconds, int(re.search(r"VmRSS:\s+(\d+)", status)[1]) * 1024 / 1e6


def table(
    chosen: list[System], lines: list[str], references: list[str], args, figures: Figures
) -> list[str]:
    """Returns the rows of all systems of one size."""
    found = [
        "| system | engine | precision | threads | ms a sentence, alone | fastest | slowest | "
        "ms a sentence, batch 32 | lines a second, file | BLEU |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for system in chosen:
        alone = figures.all(system.name, "batch 1")
        rates = [figures.median(system.name, kind) for kind in (f"batch {BATCH}", "file")]
        cells = [
            *(_number(f(alone), 2) if alone else "" for f in (statistics.median, min, max)),
            _number(rates[0], 2),
            _number(rates[1], 0),
            _number(_bleu(system, references, args), 2),
        ]
        label = [system.role.name, system.engine, system.precision, str(system.threads or "")]
        found.append(f"| {' | '.join([*label, *cells])} |")
    return [*found, ""]


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _texts(system: System, args: argparse.Namespace) -> list[str] | None:
    path = pathlib.Path(_texts_path(args.work, system))
    return path.read_text(encoding="utf-8").split("\n") if path.exists() else None


def _bleu(system: System, references: list[str], args: argparse.Namespace) -> float | None:
    texts = _texts(system, args)
    return None if texts is None else sacrebleu_score(texts, references).value


def starts_table(chosen: list[System], figures: Figures) -> list[str]:
    """Returns the rows of new processes."""
    found = [
        "| system | precision | seconds to the first translation | resident memory, MB | "
        "each further interpreter, MB |",
        "|---|---|---|---|---|",
    ]
    for system in chosen:
        values = [figures.median(system.name, k) for k in ("start", "memory", "further memory")]
        if values[0] is not None:
            cells = [_number(values[0], 2), _number(values[1], 0), _number(values[2], 0)]
            found.append(f"| {' | '.join([system.role.name, system.precision, *cells])} |")
    return [*found, ""]


class Goals:
    """Compares figures with goals."""

    def __init__(self, chosen: list[System], figures: Figures, references: list[str], args):
        """Stores its arguments."""
        self._chosen, self._figures = chosen, figures
        self._references, self._args = references, args
        self.rows = ["| figure | value | goal |", "|---|---|---|"]

    def _of(self, role: str, engine: str, precision: str) -> list[System]:
        return [
            s
            for s in self._chosen
            if (s.role.name, s.engine, s.precision) == (role, engine, precision)
        ]

    def _best(self, role: str, kind: str, engine: str = "LiteRT", precision: str = INT8):
        values = [self._figures.median(s.name, kind) for s in self._of(role, engine, precision)]
        values = [value for value in values if value is not None]
        return (max if kind == "file" else min)(values) if values else None

    def _row(self, title: str, value: float | None, digits: int, goal: str) -> None:
        if value is not None:
            self.rows.append(f"| {title} | {value:.{digits}f} | {goal} |")

    def times(self, role: str, other: str, engine: str, kind: str, goal: str) -> None:
        """Adds how many times as fast a role is in int8 as another one on an engine."""
        ours, theirs = self._best(role, kind), self._best(other, kind, engine)
        if ours is not None and theirs is not None:
            ratio = ours / theirs if kind == "file" else theirs / ours
            self._row(f"{role}, {kind}: times as fast as {other}, {engine}", ratio, 2, goal)

    def least(self, role: str, kind: str, goal: str, digits: int) -> None:
        """Adds a figure of a role in int8."""
        self._row(f"{role}: {kind}", self._best(role, kind), digits, goal)

    def agreement(self, role: str) -> None:
        """Adds BLEU of int8 less that of float32, and how many texts equal TensorFlow's."""
        plain, small = (
            _bleu(system, self._references, self._args)
            for precision in (FLOAT32, INT8)
            for system in self._of(role, "LiteRT", precision)
        )
        if plain is not None and small is not None:
            self._row(f"{role}: BLEU of int8 less that of float32", small - plain, 2, "within 0.3")
        pairs = [
            _texts(system, self._args)
            for engine in ("LiteRT", XLA)
            for system in self._of(role, engine, FLOAT32)
        ]
        if len(pairs) == 2 and None not in pairs:
            same = sum(left == right for left, right in zip(*pairs, strict=True))
            share = 100 * same / len(pairs[0])
            self._row(f"{role}: % of texts equal to TensorFlow's", share, 2, ">= 99.9")


def goals(chosen: list[System], references: list[str], args, figures: Figures) -> list[str]:
    """Returns the table of goals."""
    table = Goals(chosen, figures, references, args)
    peer, ours, roles = "CTranslate2", "LiteRT", list(dict.fromkeys(s.role.name for s in chosen))
    small = [role for role in roles if role.startswith("small, latent") and "nine" not in role]
    table.times("small, greedy", "small, greedy", peer, "batch 1", ">= 1.6; stretch 1.9")
    for role in small:
        goal = ">= 2.8; stretch 3.7" if role.endswith("=2") else ""
        table.times(role, "small, greedy", peer, "batch 1", goal)
        goal = ">= 1.7" if role.endswith("=2") else "stretch 3.3" if role.endswith("=3") else ""
        table.times(role, "small, greedy", ours, "batch 1", goal)
    beam = table._best("small, beam 4", "batch 1"), table._best("small, greedy", "batch 1")
    if None not in beam:
        table._row("small, beam 4: time, in times that of greedy", beam[0] / beam[1], 2, "<= 3")
    table.times("base, greedy", "base, greedy", peer, "batch 1", ">= 3.3")
    for role, first, second in (
        ("base, latent n_c=3", ">= 10; stretch 15", ">= 2.8; stretch 3.3"),
        ("base, latent n_c=4", "", ">= 3.3; stretch 4.5"),
    ):
        table.times(role, "base, greedy", peer, "batch 1", first)
        table.times(role, "base, greedy", ours, "batch 1", second)
    table.times("small, greedy", "small, greedy", peer, "file", ">= 1.2")
    for role in small:
        table.times(role, "small, greedy", peer, "file", ">= 2")
    for role in roles:
        if role.startswith("small"):
            table.agreement(role)
        is_small = role.startswith("small")
        table.least(role, "start", "<= 1.0" if is_small else "<= 2.0", 2)
        table.least(role, "memory", "<= 150" if is_small else "<= 300", 0)
    return [*table.rows, ""]


def parse_arguments() -> argparse.Namespace:
    """Returns the command's arguments."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--teacher", required=True, help="run of transformer")
    parser.add_argument("--student", help="run of transformer with a shallow decoder")
    parser.add_argument("--latent", action="append", default=[], help="run of transformer_nat")
    parser.add_argument("--source", required=True, help="file of source lines")
    parser.add_argument("--reference", required=True, help="file of their translations")
    parser.add_argument("--work", required=True, help="folder for exports and figures")
    parser.add_argument("--sizes", default="small,base", help="sizes to measure")
    parser.add_argument("--engines", default=",".join(ENGINES), help="engines to measure")
    parser.add_argument("--prepare", action="store_true", help="make the exports, and end")
    parser.add_argument("--again", help="measure systems again with this in their name")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--alone", type=int, default=100, help="sentences of a round")
    parser.add_argument(
        "--alone_base", type=int, default=10, help="sentences of a round, base size"
    )
    parser.add_argument("--file_lines", type=int, default=10_000, help="lines of the whole file")
    parser.add_argument("--file_rounds", type=int, default=1)
    parser.add_argument("--results", help="file to write")
    return parser.parse_args()


def main() -> None:
    """Measures what is missing and writes the results."""
    args = parse_arguments()
    os.makedirs(args.work, exist_ok=True)
    lines, references = (
        [line.decode() for line in read_lines(path)] for path in (args.source, args.reference)
    )
    figures = Figures(args.work)
    if args.again:
        figures.forget(args.again)
    small = trained_roles(args.teacher, args.student, args.latent)
    base = random_roles(args.teacher, args.work)
    engines, sizes = args.engines.split(","), args.sizes.split(",")
    if args.prepare:
        prepare([*small * ("small" in sizes), *base * ("base" in sizes)], engines, args.work)
        return
    if "small" in sizes:
        chosen = list(systems(small, engines))
        measure_batches(chosen, 1, lines[: args.alone], args, figures)
        measure_batches(chosen, BATCH, lines[: 10 * BATCH], args, figures)
        # CTranslate2 chooses its threads for files itself.
        measure_files([s for s in chosen if s.threads != 2], lines, args, figures)
        measure_starts([s for s in chosen if s.engine == "LiteRT"], lines[0], args, figures)
    if "base" in sizes:
        chosen = list(systems(base, [engine for engine in engines if engine != XLA]))
        measure_batches(chosen, 1, lines[: args.alone_base], args, figures)
        measure_starts([s for s in chosen if s.engine == "LiteRT"], lines[0], args, figures)
    everything = list(systems([*small, *base], list(ENGINES)))
    report.write(summary(everything, lines, references, args, figures), args.results)


def prepare(roles: list[Role], engines: list[str], work: str) -> None:
    """Makes the exports of roles."""
    for system in systems(roles, [engine for engine in engines if engine != XLA]):
        print(f"export: {system.name}", file=sys.stderr, flush=True)
        system.folder(work)


def summary(
    everything: list[System], lines: list[str], references: list[str], args, figures: Figures
) -> list[str]:
    """Returns the lines of the results file."""
    measured = [s for s in everything if figures.all(s.name, "batch 1")]
    packages = ["t2t-vqem", "tensorflow", "ai-edge-litert", "ctranslate2", "sentencepiece"]
    signature = sacrebleu_score(references, references).signature
    return [
        *report.header("Speed of translation: LiteRT, TensorFlow and CTranslate2", packages),
        f"Text to text. Alone: {args.alone} sentences, one after the other ({args.alone_base} at "
        f"base size); medians of {args.rounds} rounds, in which the systems take turns. File: "
        f"{args.file_lines} lines, all cores. Base size: random weights, as many tokens as the "
        "source has, and one.",
        "",
        "## Goals",
        "",
        "In int8; CTranslate2 with its best number of threads and size of batches.",
        "",
        *goals(measured, references, args, figures),
        "## All systems",
        "",
        *table(measured, lines, references, args, figures),
        f"BLEU: {signature}",
        "",
        "## New processes",
        "",
        *starts_table(measured, figures),
    ]


if __name__ == "__main__":
    main()

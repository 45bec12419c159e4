"""Time to import the package, and time of each command to answer --help.

    python benchmarks/startup.py --results=benchmarks/results/startup.md

Each program runs in a process of its own, in alternation with the others; the first round fills the
file cache and is not counted. `python -c pass` is the time of Python alone.
"""

from __future__ import annotations

import argparse
import pathlib
import statistics
import subprocess
import sys
import time

from commands import command
from report import header, write

BIN = pathlib.Path(__file__).resolve().parents[1] / "bin"


def programs() -> dict[str, list[str]]:
    """Returns the command lines to be timed, by their names in the table."""
    found = {
        "python -c pass": [sys.executable, "-c", "pass"],
        "import t2t_vqem": [sys.executable, "-c", "import t2t_vqem"],
        "import tensorflow": [sys.executable, "-c", "import tensorflow"],
        "t2t-trainer --registry_help": command("t2t_trainer", "--registry_help"),
    }
    for path in sorted(BIN.glob("t2t_*.py")):
        found[f"{path.stem.replace('_', '-')} --help"] = command(path.stem, "--help")
    return found


def seconds(words: list[str]) -> float:
    """Returns the seconds that a program runs."""
    began = time.perf_counter()
    subprocess.run(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    return time.perf_counter() - began


def main() -> None:
    """Measures and writes the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=10, help="Runs of each program.")
    parser.add_argument("--results", help="Markdown file to write.")
    args = parser.parse_args()
    found = programs()
    times: dict[str, list[float]] = {name: [] for name in found}
    for round_ in range(args.rounds + 1):
        for name, words in found.items():
            took = seconds(words)
            if round_:
                times[name].append(took)
    lines = header("Start-up time", ["t2t-vqem", "tensorflow", "absl-py"])
    lines += ["| program | median, seconds | slowest, seconds |", "|:--|--:|--:|"]
    for name, took in times.items():
        lines.append(f"| `{name}` | {statistics.median(took):.2f} | {max(took):.2f} |")
    write(lines, args.results)


if __name__ == "__main__":
    main()

"""Time and memory of training at the paper's size, with the commands of the whole training.

    python benchmarks/paper_scale.py --source_dir=wmt14 --work_dir=runs/paper \\
        --results=benchmarks/results/paper_scale.md

Runs docs/paper.md for a few steps: the base teacher and the base latent model on WMT'14 English-
German, or on as much of it as --source_dir holds. The latent model learns from the original text,
because a teacher of a few steps has nothing to teach; the work per step is the same. Each training
is a process of its own.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import statistics
import subprocess
from typing import NamedTuple

from commands import command, read_log, run
from report import header, write

PROBLEM = "translate_ende_wmt14"
SETS = ("transformer_base", "transformer_nat_base")
GIB = 2**30


class Training(NamedTuple):
    """Cost of one training."""

    losses: list[float]  # nats per token, of each step
    seconds: list[float]  # of each step
    memory: int  # bytes, peak resident size


def train(hparams_set: str, args: argparse.Namespace) -> Training:
    """Trains from the start for some steps, without an evaluation."""
    output_dir = pathlib.Path(args.work_dir) / hparams_set
    if output_dir.exists():
        raise SystemExit(f"{output_dir} exists: measuring time and memory needs a new --work_dir")
    words = command(
        "t2t-trainer",
        f"--problem={PROBLEM}",
        f"--hparams_set={hparams_set}",
        f"--hparams=batch_size={args.batch_size}",
        f"--data_dir={args.work_dir}/data",
        f"--output_dir={output_dir}",
        f"--train_steps={args.steps}",
        "--log_step_count_steps=1",
        "--schedule=train",
    )
    print(f"$ {' '.join(words[1:])}", flush=True)
    process = subprocess.Popen(words)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(words)} ended with {os.waitstatus_to_exitcode(status)}")
    log = [line for line in read_log(output_dir) if line["kind"] == "train"]
    seconds = [1 / line["steps_per_second"] for line in log]
    return Training([line["loss"] for line in log], seconds, 1024 * usage.ru_maxrss)


def row(hparams_set: str, training: Training, args: argparse.Namespace) -> str:
    """Returns the training's line of the table."""
    cells = [
        f"`{hparams_set}`",
        f"{statistics.median(training.seconds):.1f}",
        f"{args.batch_size / statistics.median(training.seconds):,.0f}",
        f"{max(training.seconds):.0f}",
        f"{training.memory / GIB:.1f}",
        f"{training.losses[0]:.2f}",
        f"{statistics.mean(training.losses[-3:]):.2f}",
    ]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Makes the data, trains and writes the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--source_dir", required=True, help="Folder with train, dev and test text.")
    parser.add_argument("--work_dir", required=True, help="New folder for data and runs.")
    parser.add_argument("--steps", type=int, default=24)
    parser.add_argument("--batch_size", type=int, default=4096, help="padded target positions")
    parser.add_argument("--results", help="Markdown file to write.")
    args = parser.parse_args()
    run(
        "t2t-datagen",
        f"--problem={PROBLEM}",
        f"--source_dir={args.source_dir}",
        f"--data_dir={args.work_dir}/data",
    )
    lines = header("Training at the paper's size", ["t2t-vqem", "tensorflow", "keras", "numpy"])
    lines += [
        f"{args.steps} steps of {args.batch_size} padded target positions each, float32, one "
        "process. Seconds per step are the median; the longest step compiles. Loss, in nats per "
        "token with label smoothing: of the first step, and the mean of the last three. The latent "
        "model still sees the target, as in its first 50,000 steps.",
        "",
        "| set | seconds per step | positions/s | longest step, s | peak memory, GiB "
        "| loss, first | loss, last |",
        "|--|--:|--:|--:|--:|--:|--:|",
        *(row(name, train(name, args), args) for name in SETS),
    ]
    write(lines, args.results)


if __name__ == "__main__":
    main()

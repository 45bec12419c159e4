"""Checks that memory, open files and threads stay constant over 10,000 steps with evaluations.

    pip install -e '.[demo]' matplotlib
    python benchmarks/long_run.py --work_dir=runs/long \\
        --results=benchmarks/results/long_run.md

Trains each model with t2t-trainer, which evaluates (text: with decoded sentences and BLEU; images:
with pictures and samples) and saves every 500 steps, and records the resources of the process every
100 steps (Linux only). The comparison ignores the first 2,000 steps; after them every shape has
been compiled and every cache is full.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import subprocess
import time
from typing import NamedTuple

import numpy as np
from commands import command
from fault_harness import SMALL
from report import header, pyplot, save, write
from strategy_equality import CASES, Case, generate, training

from t2t_vqem.output_dir import OutputDir
from t2t_vqem.training.metrics_log import METRICS, TRAIN, MetricsLog

STEPS, REPORT, EVALUATE, SETTLED = 10_000, 100, 500, 2_000
POLL = 0.02  # seconds
MIB = 2**20
# Small models, so that 10,000 steps take minutes; several shapes and several batches of dev.
TRANSLATION = "train_size=4000,dev_size=300,test_size=50,vocab_size=500"
LONG = {
    model: case._replace(
        hparams=SMALL[model],
        problem_params=TRANSLATION if case.problem_params else "",
    )
    for model, case in CASES.items()
}


class Held(NamedTuple):
    """The resources of the process at a step."""

    step: int
    memory: int  # resident bytes
    files: int
    threads: int


def held(step: int, pid: int) -> Held:
    """Returns the resources of a process."""
    status = pathlib.Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    values = dict(line.split(":", 1) for line in status.splitlines())
    return Held(
        step,
        1024 * int(values["VmRSS"].split()[0]),
        len(os.listdir(f"/proc/{pid}/fd")),
        int(values["Threads"]),
    )


def watch(case: Case, data_dir: str, output_dir: pathlib.Path) -> list[Held]:
    """Trains and returns the resources of the process at each log line; also stores them."""
    kept = output_dir / "held.json"
    if kept.exists():
        return [Held(*values) for values in json.loads(kept.read_text(encoding="utf-8"))]
    others = [
        f"--local_eval_frequency={EVALUATE}",
        f"--save_checkpoints_steps={EVALUATE}",
        f"--log_step_count_steps={REPORT}",
    ]
    words = command("t2t_trainer", *training(case, data_dir, output_dir, STEPS, *others))
    log, size, found = output_dir / METRICS, 0, []
    process = subprocess.Popen(words)
    while process.poll() is None:
        time.sleep(POLL)
        if log.exists() and log.stat().st_size != size:
            size = log.stat().st_size
            lines = MetricsLog.read(OutputDir(str(output_dir)))
            steps = [line["step"] for line in lines if line["kind"] == TRAIN]
            if steps and (not found or steps[-1] != found[-1].step) and process.poll() is None:
                found.append(held(steps[-1], process.pid))
    if process.returncode:
        raise SystemExit(f"{' '.join(words)} ended with {process.returncode}")
    kept.write_text(json.dumps(found), encoding="utf-8")
    return found


def row(model: str, found: list[Held]) -> str:
    """Returns a row of the table: both halves of the compared steps, and the slope over them."""
    settled = [one for one in found if one.step > SETTLED]
    steps = np.array([one.step for one in settled])
    memory = np.array([one.memory for one in settled]) / MIB
    early = memory[steps <= (SETTLED + STEPS) / 2]
    late = memory[steps > (SETTLED + STEPS) / 2]
    slope = np.polyfit(steps / 1000, memory, 1)[0]
    cells = [model, f"{np.median(early):.0f}", f"{np.median(late):.0f}", f"{memory.max():.0f}"]
    cells.append(f"{slope:+.2f}")
    for values in ([one.files for one in settled], [one.threads for one in settled]):
        cells.append(f"{min(values)} to {max(values)}")
    return f"| {' | '.join(cells)} |"


def plot(results: dict[str, list[Held]], path: pathlib.Path) -> None:
    """Plots memory, files and threads over the steps."""
    plt = pyplot()
    figure, axes = plt.subplots(1, 3, figsize=(13, 3.5))
    for model, found in results.items():
        steps = [one.step for one in found]
        axes[0].plot(steps, [one.memory / MIB for one in found], label=model)
        axes[1].plot(steps, [one.files for one in found], label=model)
        axes[2].plot(steps, [one.threads for one in found], label=model)
    for axis, title in zip(axes, ("resident memory, MiB", "open files", "threads"), strict=True):
        axis.set(title=title, xlabel="step", ylim=(0, None))
        axis.grid(alpha=0.3)
    axes[0].legend()
    save(figure, path)


def main() -> None:
    """Makes data, trains, samples and writes the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work_dir", required=True, help="Folder for data and runs.")
    parser.add_argument("--models", default=",".join(LONG), help="Models, separated by commas.")
    parser.add_argument("--results", help="Markdown file to write; the plot is written beside it.")
    args = parser.parse_args()
    work_dir = pathlib.Path(args.work_dir)
    data_dir = str(work_dir / "data")
    results = {}
    for model in args.models.split(","):
        case = LONG[model]
        generate(case, data_dir)
        results[model] = watch(case, data_dir, work_dir / model)
    lines = header(f"Memory over {STEPS:,} steps", ["t2t-vqem", "tensorflow", "keras", "numpy"])
    lines += [
        f"One process; evaluation, checkpoint and summaries every {EVALUATE} steps, sampled "
        f"every {REPORT}. Resident memory in MiB: the median from step {SETTLED:,} to "
        f"{(SETTLED + STEPS) // 2:,}, the median from there to the end, the maximum, and the slope "
        "of a line through all of these samples.",
        "",
        "| model | earlier half | later half | maximum | slope, MiB in 1,000 steps | open files | "
        "threads |",
        "|--|--:|--:|--:|--:|--:|--:|",
        *(row(model, found) for model, found in results.items()),
        "",
    ]
    if args.results:
        picture = pathlib.Path(args.results).with_suffix(".svg")
        plot(results, picture)
        lines.append(f"![Memory, open files and threads over the steps]({picture.name})")
    write(lines, args.results)


if __name__ == "__main__":
    main()

"""Speed of the input pipeline: examples per second of the reader alone, and in training.

    python benchmarks/input_pipeline.py --problem=translate_ende_multi30k --data_dir=data \\
        --hparams_set=transformer_multi30k --output_dir=runs/multi30k \\
        --results=benchmarks/results/input_pipeline.md

The reader does the same work as in the trainer (plan, look-up, decoding of records, padding) and
never waits for a consumer. What training consumes is read from the metrics of a run with the same
settings.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from typing import NamedTuple

import numpy as np
import report
from commands import read_log

from t2t_vqem.config import HParams, resolve
from t2t_vqem.constants import TARGETS
from t2t_vqem.data.building import read_manifest
from t2t_vqem.fields import from_json
from t2t_vqem.problem import Dataset
from t2t_vqem.registry import problems

PACKAGES = ("array-record", "numpy")


class Speed(NamedTuple):
    """Numbers of items read per second."""

    examples: float
    target_tokens: float
    batches: float


class Training(NamedTuple):
    """The consumption of a run; medians over its reported metrics."""

    target_tokens: float
    wait_share: float
    worst_wait_share: float


def main() -> None:
    """Measures and writes the results."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--problem", required=True)
    parser.add_argument("--data_dir", required=True)
    parser.add_argument("--hparams_set", required=True)
    parser.add_argument("--hparams", default="", help="as for t2t-trainer")
    parser.add_argument("--output_dir", help="a training run with these settings")
    parser.add_argument("--seconds", type=float, default=10, help="seconds per measurement")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--results", help="Markdown file to write")
    args = parser.parse_args()
    hparams = resolve(hparams_set=args.hparams_set, hparams=args.hparams).hparams
    speeds = [read(open_data(args), hparams, args.seconds) for _ in range(args.runs)]
    training = read_metrics(args.output_dir) if args.output_dir else None
    report.write(results(speeds, start_up(args, hparams), training, args), args.results)


def open_data(args: argparse.Namespace) -> Dataset:
    """Opens the data with the settings that it was made with."""
    problem = problems.get(args.problem)
    manifest = read_manifest(os.path.join(args.data_dir, args.problem)) or {}
    return problem(from_json(problem.Config, manifest.get("config", {}))).open(args.data_dir)


def read(dataset: Dataset, hparams: HParams, seconds: float) -> Speed:
    """Reads for some seconds, from a step at which a resumed run might start."""
    data = dataset.examples("train", hparams, seed=0)
    examples = tokens = batches = 0
    with data.read(data.plan.steps_per_epoch // 2) as reader:
        next(reader)  # opens files
        started = time.perf_counter()
        for _, batch in reader:
            examples += int((batch[TARGETS][:, 0] != 0).sum())
            tokens += int(np.count_nonzero(batch[TARGETS]))
            batches += 1
            elapsed = time.perf_counter() - started
            if elapsed >= seconds:
                return Speed(examples / elapsed, tokens / elapsed, batches / elapsed)
    raise AssertionError("a plan without epochs never ends")


def start_up(args: argparse.Namespace, hparams: HParams) -> float:
    """Returns the seconds from opening the data to the first batch, in the middle of an epoch."""
    started = time.perf_counter()
    data = open_data(args).examples("train", hparams, seed=0)
    step = data.plan.steps_per_epoch * 100 + data.plan.steps_per_epoch // 2
    with data.read(step) as reader:
        next(reader)
        return time.perf_counter() - started


def read_metrics(output_dir: str) -> Training:
    """Returns the consumption of a run, from the metrics that it reported."""
    reports = [line for line in read_log(output_dir) if "wait_share" in line]
    waits = [line["wait_share"] for line in reports]
    return Training(
        statistics.median(line["tokens_per_second"] for line in reports),
        statistics.median(waits),
        # The first report includes the start, when no batch is ready and everything is compiled.
        max(waits[1:] or waits),
    )


def results(
    speeds: list[Speed], start_seconds: float, training: Training | None, args: argparse.Namespace
) -> list[str]:
    """Returns the lines of the results file."""
    median = Speed(*(statistics.median(values) for values in zip(*speeds, strict=True)))
    low, high = min(s.examples for s in speeds), max(s.examples for s in speeds)
    lines = report.header("Speed of the input pipeline", PACKAGES)
    lines += [
        f"- data: {args.problem}, batches of {args.hparams_set} {args.hparams}".rstrip(),
        f"- {args.runs} runs of {args.seconds:g} seconds; medians",
        "",
        "| | examples/s | target tokens/s | batches/s |",
        "|--|--:|--:|--:|",
        f"| reader alone | {median.examples:,.0f} ({low:,.0f} to {high:,.0f}) "
        f"| {median.target_tokens:,.0f} | {median.batches:,.1f} |",
    ]
    if training is not None:
        examples = training.target_tokens * median.examples / median.target_tokens
        lines += [
            f"| training consumes | {examples:,.0f} | {training.target_tokens:,.0f} "
            f"| {training.target_tokens * median.batches / median.target_tokens:,.1f} |",
            "",
            f"The reader is {median.target_tokens / training.target_tokens:,.0f} times as fast as "
            f"training. Training waited for data {training.wait_share:.2%} of the time (median of "
            f"its reports; at most {training.worst_wait_share:.2%} after the first); goal: below "
            "2 %.",
        ]
    lines += [
        "",
        f"From opening the data to the first batch of step 100.5 epochs: {start_seconds:.2f} s.",
    ]
    return lines


if __name__ == "__main__":
    main()

"""Checks that a run gives the same numbers with each strategy: each model, 20 steps.

    pip install -e '.[demo]'
    python benchmarks/strategy_equality.py --work_dir=runs/equality \\
        --results=benchmarks/results/strategy_equality.md

Trains each model on one device, on two replicas in one process, on two and four processes, and on
these one after the other, and compares weights and codes with those of one device. Batches have
an odd number of rows, so that replicas get different numbers of tokens. Started again, the script
keeps finished runs.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import pathlib
import socket
import subprocess
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from commands import command
from report import header, write

from t2t_vqem.tf_config import TF_CONFIG, tf_configs

STEPS, EARLY = 20, 5
TIMEOUT = 3600  # seconds


class Case(NamedTuple):
    """A model, its problem and its hyperparameters."""

    problem: str
    problem_params: str
    hparams_set: str
    hparams: str


TRANSLATION = Case(
    "translate_ende_cldr",
    "train_size=2000,dev_size=50,test_size=50,vocab_size=500",
    "transformer_tiny",
    "batch_size=2064,num_buckets=1,max_length=48,warmup_steps=10,ema_decay=0.9",
)
# One line per model; all with dropout, and soft EM if there are codes.
CASES = {
    "transformer": TRANSLATION,
    "vqvae": Case(
        "image_digits",
        "",
        "vqvae_digits",
        "batch_size=63,num_codebooks=2,schedule=rsqrt,warmup_steps=10,ema_decay=0.9",
    ),
    "transformer_nat": TRANSLATION._replace(hparams_set="transformer_nat_tiny"),
}


class Machine(NamedTuple):
    """Devices and processes that compute a part of a run."""

    workers: int = 1
    devices: str = "cpu:0"


ONE, TWO_REPLICAS = Machine(), Machine(devices="cpu:0,cpu:1")
# The parts of a run: the last step of each, and its machine.
STRATEGIES = {
    "one_device": [(STEPS, ONE)],
    "mirrored, 2 replicas": [(STEPS, TWO_REPLICAS)],
    "multi_worker, 2 processes": [(STEPS, Machine(workers=2))],
    "multi_worker, 4 processes": [(STEPS, Machine(workers=4))],
    "mirrored, then one device, 2 and 4 processes, one device": [
        (4, TWO_REPLICAS),
        (8, ONE),
        (12, Machine(workers=2)),
        (16, Machine(workers=4)),
        (STEPS, ONE),
    ],
}


def generate(case: Any, data_dir: str) -> None:
    """Makes the data of a case, unless it exists."""
    words = [f"--problem={case.problem}", f"--problem_params={case.problem_params}"]
    subprocess.run(command("t2t_datagen", *words, f"--data_dir={data_dir}"), check=True)


def training(
    case: Any, data_dir: str, output_dir: str | pathlib.Path, train_steps: int, *others: str
) -> list[str]:
    """Returns the arguments of t2t-trainer that train a case up to a step."""
    return [
        f"--problem={case.problem}",
        f"--problem_params={case.problem_params}",
        f"--hparams_set={case.hparams_set}",
        f"--hparams={case.hparams}",
        f"--data_dir={data_dir}",
        f"--output_dir={output_dir}",
        f"--train_steps={train_steps}",
        *others,
    ]


def free_ports(number: int) -> list[int]:
    """Returns free ports."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def train(machine: Machine, args: list[str]) -> None:
    """Runs t2t-trainer in one process or several, and waits for all."""
    environments = [{**os.environ}]
    if machine.workers == 1:
        args = [*args, f"--devices={machine.devices}"]
    else:
        configs = tf_configs([f"127.0.0.1:{port}" for port in free_ports(machine.workers)])
        environments = [{**os.environ, TF_CONFIG: config} for config in configs]
    processes = [
        subprocess.Popen(command("t2t_trainer", *args), env=environment)
        for environment in environments
    ]
    try:
        statuses = [process.wait(TIMEOUT) for process in processes]
    finally:
        for process in processes:
            process.kill()
    if any(statuses):
        raise SystemExit(f"t2t-trainer {' '.join(args)} ended with {statuses}")


def run(case: Case, parts: list[tuple[int, Machine]], data_dir: str, output_dir: str) -> None:
    """Trains part after part, without those that are finished."""
    for train_steps, machine in parts:
        if os.path.exists(f"{output_dir}/checkpoints/ckpt-{train_steps}.index"):
            continue
        others = ["--save_checkpoints_steps=1", f"--keep_checkpoint_max={STEPS}", "--noxla"]
        others += ["--schedule=train"]
        train(machine, training(case, data_dir, output_dir, train_steps, *others))


def numbers(output_dir: str, step: int) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Returns the weights by name, and the codebooks of a model that learns them by EM."""
    reader = tf.train.load_checkpoint(f"{output_dir}/checkpoints/ckpt-{step}")
    values = {
        name.partition("/.ATTRIBUTES")[0]: reader.get_tensor(name)
        for name in reader.get_variable_to_shape_map()
        if name.startswith("model/")
    }
    codebooks = {
        name.removesuffix("sums"): sums / values[name.removesuffix("sums") + "counts"][..., None]
        for name, sums in values.items()
        if name.endswith(".Ssums")
    }
    state = tuple(codebooks)
    weights = {name: x for name, x in values.items() if not (state and name.startswith(state))}
    return weights, codebooks


def difference(ours: dict[str, np.ndarray], others: dict[str, np.ndarray]) -> list[str]:
    """Returns the largest and the median difference of numbers, "" if there are none."""
    if ours.keys() != others.keys():
        raise SystemExit(f"other variables: {sorted(ours.keys() ^ others.keys())}")
    if not ours:
        return ["", ""]
    distances = np.concatenate([np.abs(x - others[name]).ravel() for name, x in ours.items()])
    return [f"{distances.max():.1e}", f"{np.median(distances):.1e}"]


def main() -> None:
    """Makes data, trains, compares and writes the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work_dir", required=True, help="Folder for data and runs.")
    parser.add_argument("--models", default=",".join(CASES), help="Models, separated by commas.")
    parser.add_argument("--results", help="Markdown file to write.")
    args = parser.parse_args()
    work_dir = pathlib.Path(args.work_dir)
    data_dir = str(work_dir / "data")
    lines = header("The same numbers on any machine", ["t2t-vqem", "tensorflow", "keras", "numpy"])
    lines += [
        f"Largest and median difference of a number from the run on one device after {EARLY} and "
        f"{STEPS} steps, float32, with dropout. Sums over replicas are rounded differently from "
        "those over one batch. The difference grows: where a gradient is close to 0, Adam's step "
        "is as large as elsewhere and its sign may be that of the rounding error; and a vector "
        "halfway between two codes may be assigned to the other one. The codes are learned by soft "
        "EM and initialised by k-means++. The first row of a model is the change by training since "
        "the first step.",
        "",
        "| model | strategy | step | weights, largest | median | codebook, largest | median |",
        "|--|--|--:|--:|--:|--:|--:|",
    ]
    for model in args.models.split(","):
        case = CASES[model]
        generate(case, data_dir)
        folders = {
            name: str(work_dir / model / str(index)) for index, name in enumerate(STRATEGIES)
        }
        for name, parts in STRATEGIES.items():
            run(case, parts, data_dir, folders[name])
        one = folders.pop("one_device")
        compared = [("(change by training)", (one, 1), STEPS)]
        compared += [(n, (f, step), step) for n, f in folders.items() for step in (EARLY, STEPS)]
        for name, other, step in compared:
            pairs = zip(numbers(*other), numbers(one, step), strict=True)
            cells = [cell for pair in pairs for cell in difference(*pair)]
            lines.append(f"| {model} | {name} | {step} | {' | '.join(cells)} |")
    write(lines, args.results)


if __name__ == "__main__":
    main()

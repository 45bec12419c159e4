"""One process against two workers on this machine, and the calculated communication of many GPUs.

    pip install -e '.[demo]'
    python benchmarks/scaling.py --work_dir=runs/scaling --results=benchmarks/results/scaling.md

Trains each model in three ways, in alternation: one process on all cores; two workers on
127.0.0.1, each pinned to half of the cores; and two independent processes, pinned in the same way,
each with half of the batch. The last two differ in communication only, so their difference is its
share of the time. The loopback interface counts what the workers send (Linux only; nothing else may
use it at the same time). From that the time is calculated that sets of real size would spend on
communication on 8 and on 64 GPUs.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import shutil
import statistics
import subprocess
import time
from typing import Any, NamedTuple

import tensorflow as tf
from commands import command, read_log
from report import header, write
from strategy_equality import TIMEOUT, free_ports, generate, training

from t2t_vqem import registry
from t2t_vqem.ops.random import Rng
from t2t_vqem.tf_config import TF_CONFIG, tf_configs

STEPS, REPORT, WARM = 60, 10, 20  # updates: in total, between reports, before counting begins
POLL = 0.01  # seconds
MIB = 2**20


class Case(NamedTuple):
    """The set that is trained here, and the set of real size that is calculated."""

    problem: str
    problem_params: str
    hparams_set: str
    hparams: str
    batch_size: int
    unit: str
    sizes: dict[str, Any]  # arguments of the model's constructor besides hparams
    real_set: str
    real_sizes: dict[str, Any]


TRANSLATION = Case(
    problem="translate_ende_cldr",
    problem_params="train_size=4000,dev_size=50,test_size=50,vocab_size=1000",
    hparams_set="transformer_small",
    hparams="num_buckets=1,max_length=48",
    batch_size=1536,
    unit="tokens",
    sizes={"vocab_size": 1000},
    real_set="transformer_base",
    real_sizes={"vocab_size": 32768},
)
CASES = {
    "transformer": TRANSLATION,
    "vqvae": Case(
        problem="image_digits",
        problem_params="",
        hparams_set="vqvae_digits",
        hparams="",
        batch_size=128,
        unit="images",
        sizes={"image_shape": (8, 8, 1)},
        real_set="vqvae_cifar10",
        real_sizes={"image_shape": (32, 32, 3)},
    ),
    "transformer_nat": TRANSLATION._replace(
        hparams_set="transformer_nat_small", real_set="transformer_nat_base"
    ),
}
# GB/s around a ring in one direction, from data sheets. A ring (or several, each with a part)
# passes from host to host and crosses each host's links once.
NVLINK = 450.0  # H100 SXM, NVLink 4: 900 GB/s in both directions together
PCIE = 64.0  # 16 lanes of PCIe 5.0
INFINIBAND = 8 * 50.0  # eight links of 400 Gb/s (NDR) per host
ETHERNET = 12.5  # one link of 100 Gb/s a host
CLUSTERS = {  # GPUs, GB/s, latency of a message in seconds
    "8 GPUs, NVLink 4": (8, NVLINK, 5e-6),
    "8 GPUs, PCIe 5.0 x16": (8, PCIE, 10e-6),
    "8 hosts of 8 GPUs, eight 400 Gb/s InfiniBand links each": (64, INFINIBAND, 15e-6),
    "8 hosts of 8 GPUs, one 100 Gb/s Ethernet link each": (64, ETHERNET, 50e-6),
}
FLOPS = 100e12  # assumed speed of a GPU per second, a tenth of an H100's bfloat16 peak


class Measured(NamedTuple):
    """Figures of one training."""

    units_per_second: float
    bytes_per_step: float  # over the loopback interface


def arguments(case: Case, data_dir: str, output_dir: pathlib.Path, batch_size: int) -> list[str]:
    """Returns the command-line arguments of the training."""
    hparams = ",".join(filter(None, [case.hparams, f"batch_size={batch_size}"]))
    others = [f"--log_step_count_steps={REPORT}", "--schedule=train"]
    words = training(case._replace(hparams=hparams), data_dir, output_dir, STEPS, *others)
    return command("t2t_trainer", *words)


def loopback_bytes() -> int:
    """Returns how many bytes the loopback interface has carried so far."""
    for line in pathlib.Path("/proc/net/dev").read_text(encoding="utf-8").splitlines():
        name, _, counts = line.partition(":")
        if name.strip() == "lo":
            return int(counts.split()[0])
    raise SystemExit("there is no loopback interface in /proc/net/dev")


def train(
    runs: list[tuple[list[str], pathlib.Path, dict[str, str], set[int]]], unit: str
) -> Measured:
    """Runs trainings at the same time.

    Args:
      runs: arguments, output directory, additional environment and cores of each process.
      unit: name of the counted items.

    Returns:
      Units per second, the sum over the runs that log any, each the median over its reports.
    """
    folders = list(dict.fromkeys(folder for _, folder, _, _ in runs))
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
    processes = []
    everything = os.sched_getaffinity(0)
    for words, _, environment, cores in runs:
        os.sched_setaffinity(0, cores)  # inherited by the process
        processes.append(subprocess.Popen(words, env=os.environ | environment))
    os.sched_setaffinity(0, everything)
    seen: dict[int, int] = {}  # bytes at the steps reported by the first run
    deadline = time.monotonic() + TIMEOUT
    while any(process.poll() is None for process in processes):
        if time.monotonic() > deadline or any(process.returncode for process in processes):
            for process in processes:
                process.kill()
            raise SystemExit(f"training in {folders} failed or hangs")
        if found := read_log(folders[0]):
            seen.setdefault(int(found[-1]["step"]), loopback_bytes())
        time.sleep(POLL)
    first, last = min(step for step in seen if step >= WARM), max(step for step in seen)
    figure = f"{unit}_per_second"
    speeds = [
        statistics.median(report[figure] for report in read_log(folder) if report["step"] > WARM)
        for folder in folders
    ]
    return Measured(sum(speeds), (seen[last] - seen[first]) / (last - first))


def measure(model: str, work_dir: pathlib.Path, rounds: int) -> dict[str, Measured]:
    """Trains in the three ways, in alternation; returns the medians."""
    case, data_dir = CASES[model], str(work_dir / "data")
    cores = sorted(os.sched_getaffinity(0))
    halves = [set(cores[: len(cores) // 2]), set(cores[len(cores) // 2 :])]
    found: dict[str, list[Measured]] = {}
    for _ in range(rounds):
        folder = work_dir / model
        whole = arguments(case, data_dir, folder, case.batch_size)
        configs = tf_configs([f"127.0.0.1:{port}" for port in free_ports(2)])
        ways = {
            "one process": [(whole, folder, {}, set(cores))],
            "two workers": [
                (whole, folder, {TF_CONFIG: config}, half)
                for config, half in zip(configs, halves, strict=True)
            ],
            "two alone": [
                (arguments(case, data_dir, own, case.batch_size // 2), own, {}, half)
                for own, half in zip((folder, work_dir / f"{model}_2"), halves, strict=True)
            ],
        }
        for way, runs in ways.items():
            found.setdefault(way, []).append(train(runs, case.unit))
            print(f"{model}, {way}: {found[way][-1]}", flush=True)
    return {
        way: Measured(*map(statistics.median, zip(*all_, strict=True)))
        for way, all_ in found.items()
    }


def message(model: str, hparams_set: str, sizes: dict[str, Any]) -> tuple[int, int, int]:
    """Returns the bytes of gradients and of the other sums per step, and the parameter count."""
    hparams = registry.hparams_sets.get(hparams_set)()
    built = registry.models.get(model)(hparams, **sizes)
    built.build_variables()
    rng = Rng(1, tf.constant(0), tf.constant(0), tf.constant(1))
    traced = tf.function(lambda: built.loss(built.example_batch(), rng), autograph=False)
    output = traced.get_concrete_function().structured_outputs
    others = sum(x.dtype.size * x.shape.num_elements() for x in tf.nest.flatten(output))
    parameters = sum(variable.shape.num_elements() for variable in built.trainable_variables)
    return 4 * parameters, others, parameters


def ring_seconds(num_bytes: float, gpus: int, gigabytes: float, latency: float) -> float:
    """Returns the seconds that a ring takes to sum `size` bytes (Patarasuk and Yuan 2009)."""
    return 2 * (gpus - 1) * (num_bytes / gpus / (gigabytes * 1e9) + latency)


def calculated(model: str) -> list[str]:
    """Returns the rows of the table of GPUs."""
    case = CASES[model]
    hparams = registry.hparams_sets.get(case.real_set)()
    gradients, others, parameters = message(model, case.real_set, case.real_sizes)
    # Six operations per parameter and position, forward and backward. A convolution uses its
    # parameters at each pixel, of which there are at least as many as latents: 8x8.
    positions = hparams.batch_size * (64 if model == "vqvae" else 1)
    compute = 6 * parameters * positions / FLOPS
    rows = []
    for name, cluster in CLUSTERS.items():
        talk = ring_seconds(gradients + others, *cluster)
        rows.append(
            f"| {case.real_set} | {(gradients + others) / MIB:.0f} | {name} | {1000 * talk:.2f} | "
            f"{1000 * compute:.0f} | {talk / (talk + compute):.0%} |"
        )
    return rows


def main() -> None:
    """Makes data, trains, calculates and writes the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work_dir", required=True, help="Folder for data and runs.")
    parser.add_argument("--models", default=",".join(CASES), help="Models, separated by commas.")
    parser.add_argument("--rounds", type=int, default=3, help="Trainings in each way.")
    parser.add_argument("--results", help="Markdown file to write.")
    args = parser.parse_args()
    work_dir = pathlib.Path(args.work_dir)
    models = args.models.split(",")
    rows = []
    for model in models:
        case = CASES[model]
        generate(case, str(work_dir / "data"))
        found = measure(model, work_dir, args.rounds)
        one, two, alone = (found[way].units_per_second for way in found)
        sent = (found["two workers"].bytes_per_step - found["two alone"].bytes_per_step) / 2
        gradients, others, _ = message(model, case.hparams_set, case.sizes)
        rows.append(
            f"| {case.hparams_set} | {one:,.0f} | {two:,.0f} | {two / one:.2f} | "
            f"{max(0.0, 1 - two / alone):.1%} | {sent / MIB:.2f} | "
            f"{(gradients + others) / MIB:.2f}, {others / MIB:.2f} |"
        )
    lines = header("Several workers: speed and communication", ["t2t-vqem", "tensorflow", "numpy"])
    lines += [
        f"Medians of {args.rounds} trainings in alternation, each the median of its reports from "
        f"step {WARM} to {STEPS}; the global batch is the same. Units: tokens or images. "
        "Communication is the share of the speed that two workers lose compared with two "
        "independent processes, each with half of the batch. Sent: MiB that a worker sends per "
        "step, as the loopback interface counts them. Size: MiB that are summed, gradients and the "
        "rest, and how much of it is the rest (loss, metrics, statistics of EM).",
        "",
        "| set | one process, units/s | two workers | ratio | communication | sent | size, of it "
        "statistics |",
        "|--|--:|--:|--:|--:|--:|--:|",
        *rows,
        "",
        "## Calculated: 8 and 64 GPUs",
        "",
        "A ring sends 2 (n-1) / n times the size in 2 (n-1) messages. The bandwidth is that in the "
        "slowest link's data sheet; the latency of a message is 5 (NVLink), 10 (PCIe), 15 "
        "(InfiniBand) or 50 (Ethernet) microseconds. Computing: six operations per parameter and "
        f"position, each GPU with the set's own batch, at {FLOPS / 1e12:.0f} TFLOP/s. "
        "Communication begins when all gradients are computed, as in our step. None of this was "
        "measured.",
        "",
        "| set | size, MiB | on | communication, ms | computing, ms | share |",
        "|--|--:|--|--:|--:|--:|",
        *(row for model in models for row in calculated(model)),
    ]
    write(lines, args.results)


if __name__ == "__main__":
    main()

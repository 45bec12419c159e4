"""Memory and time of a training step with and without rematerialisation (`rematerialize=true`).

    python benchmarks/rematerialization.py --hparams_set=transformer_base --rows 64 128 256 \\
        --length=128 --results=benchmarks/results/rematerialization.md

Every measurement runs in a process of its own, the two settings one after the other for each size
of the batch. Memory on a GPU is the peak of TensorFlow's allocator; on a CPU, which has no such
figure, the largest resident memory of the process minus that before the first step, with compiling.
A batch that does not fit is reported as such. Time is the median over the steps.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time

import numpy as np
from report import header, write

VOCAB_SIZE = 32_000
MIB = 2**20
SETTINGS = (False, True)


def measure(
    hparams_set: str, hparams: str, rows: int, length: int, steps: int, again: bool
) -> dict:
    """Returns the seconds of a step and its memory in bytes."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import tensorflow as tf

    from t2t_vqem import registry
    from t2t_vqem.config import resolve
    from t2t_vqem.training.state import TrainState
    from t2t_vqem.training.step import TrainStep
    from t2t_vqem.training.strategies import Replicas, make_strategy

    more = f"{hparams},rematerialize={str(again).lower()}".lstrip(",")
    resolved = resolve(hparams_set=hparams_set, hparams=more).hparams
    strategy = make_strategy("auto")
    gpus = tf.config.list_logical_devices("GPU")
    model = registry.models.get(resolved.model)
    state = TrainState(strategy, lambda: model(resolved, vocab_size=VOCAB_SIZE), resolved, seed=0)
    step_fn = TrainStep(strategy, state, resolved, seed=0, train_steps=steps, xla=True)
    ids = np.random.default_rng(0).integers(3, VOCAB_SIZE, [2, rows, length]).astype(np.int32)
    batch = Replicas(strategy).distribute({"inputs": ids[0], "targets": ids[1]})
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    seconds = []
    for step in range(steps + 2):
        start = time.perf_counter()
        float(step_fn([batch], step=step).loss)
        seconds.append(time.perf_counter() - start)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
    if gpus:
        memory = tf.config.experimental.get_memory_info("GPU:0")["peak"]
    device = tf.config.experimental.get_device_details(
        tf.config.list_physical_devices("GPU")[0]
    ).get("device_name", "GPU") if gpus else "CPU"  # fmt: skip
    return {"seconds": statistics.median(seconds[2:]), "memory": memory, "device": device}


def measured_apart(arguments: argparse.Namespace, rows: int, again: bool) -> dict | None:
    """Returns the measurement of a process of its own; None if its memory was not enough."""
    plan = vars(arguments) | {"rows": rows, "again": again}
    keys = ("hparams_set", "hparams", "rows", "length", "steps", "again")
    command = [sys.executable, __file__, "--worker", json.dumps({key: plan[key] for key in keys})]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode == 0:
        return json.loads(done.stdout.splitlines()[-1])
    if "RESOURCE_EXHAUSTED" in done.stderr or "ResourceExhausted" in done.stderr:
        return None
    raise RuntimeError(f"the measurement failed:\n{done.stderr[-4000:]}")


def main() -> None:
    """Measures all sizes and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hparams_set", default="transformer_base")
    parser.add_argument("--hparams", default="")
    parser.add_argument("--rows", type=int, nargs="+", default=[64, 128, 256])
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--results")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        print(json.dumps(measure(**json.loads(arguments.worker))))
        return
    lines = header("Rematerialisation", ["tensorflow", "keras"])
    table = [
        f"| {arguments.hparams_set}, rows of length {arguments.length} | rematerialised | "
        "memory of a step, MiB | seconds of a step |",
        "|---|---|---|---|",
    ]
    devices = set()
    for rows in arguments.rows:
        for again in SETTINGS:
            found = measured_apart(arguments, rows, again)
            cells = ["out of memory", ""]
            if found:
                devices.add(found["device"])
                cells = [f"{found['memory'] / MIB:,.0f}", f"{found['seconds']:.3f}"]
            table.append(f"| {rows} | {'yes' if again else 'no'} | {cells[0]} | {cells[1]} |")
    write([*lines, f"Device: {', '.join(sorted(devices))}.", "", *table], arguments.results)


if __name__ == "__main__":
    main()

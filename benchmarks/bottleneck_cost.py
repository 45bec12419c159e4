"""Cost of the bottleneck alone: time and memory of ours, Tensor2Tensor's method and a peer.

    pip install torch==2.13.0 vector-quantize-pytorch
    python benchmarks/bottleneck_cost.py --results=benchmarks/results/bottleneck_cost.md

Each system quantises the same N vectors of width D in training: forward pass and codebook update,
without a gradient. The reference is the product of vectors and codes alone. Every system runs in a
process of its own; they alternate, and each figure is the median over all runs of all rounds.
Memory is the peak during the runs less what the process held before. By then vectors, codebooks,
compilers and thread pools exist, because 64 other vectors have been quantised.
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

import numpy as np
from report import header, write

NUM_VECTORS, WIDTH, NUM_SAMPLES = 4096, 512, 10
SIZES = ((4096, 4096), (4096, 16384))  # N, K
LARGE = (65536, 16384)
REFERENCE = "distance product alone (XLA)"
PEER = "vector-quantize-pytorch"
OURS = ("ours, vq", "ours, hard EM", "ours, soft EM, 10 draws", "ours, soft EM, expectation")
T2T = ("one-hot (as Tensor2Tensor), hard EM", "one-hot (as Tensor2Tensor), soft EM, 10 draws")
SYSTEMS = (REFERENCE, *OURS, *T2T, PEER)


def data(num_vectors: int, num_codes: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns vectors and codes; the vectors lie close to codes, as after some training."""
    rng = np.random.default_rng(0)
    codes = rng.standard_normal([num_codes, WIDTH], np.float32)
    x = codes[rng.integers(0, num_codes, num_vectors)]
    return x + 0.5 * rng.standard_normal([num_vectors, WIDTH], np.float32), codes


def run_tensorflow(name: str, num_vectors: int, num_codes: int, runs: int) -> dict:
    """Times a system that is a compiled TensorFlow function."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import tensorflow as tf

    x, codes = data(num_vectors, num_codes)
    x = tf.constant(x)
    function = {
        REFERENCE: distance_product,
        **dict.fromkeys(OURS, ours),
        **dict.fromkeys(T2T, one_hot),
    }[name]
    step = function(name, codes)
    compiled = tf.function(step, jit_compile=True, autograph=False)
    return time_runs(lambda x: tf.nest.flatten(compiled(x))[0].numpy(), x, runs)


def distance_product(name: str, codes: np.ndarray):
    """Computes x @ codes^T and keeps one number per vector."""
    del name
    import tensorflow as tf

    codes = tf.constant(codes)
    return lambda x: tf.matmul(x, codes, transpose_b=True)


def ours(name: str, codes: np.ndarray):
    """Quantises and updates the state, as a training step does."""

    from t2t_vqem.layers import VectorQuantizer
    from t2t_vqem.layers.codebooks import CodebookState
    from t2t_vqem.ops.random import Rng

    kind = {"vq": "vq", "hard EM": "hard_em"}.get(name.removeprefix("ours, "), "soft_em")
    samples = 0 if name.endswith("expectation") else NUM_SAMPLES
    layer = VectorQuantizer(len(codes), WIDTH, kind=kind, num_samples=samples, name="q")
    ones = np.ones([1, len(codes)])
    layer.assign(CodebookState(codes[None], ones, np.full([1], 0.25 * WIDTH), 1.0, ones))

    def step(x):
        output = layer.quantize_vectors(x, rng=Rng(0, 0))
        values, metrics = layer.update(layer.read(), output.statistics)
        layer.assign(values)
        return output.loss, output.vectors, metrics

    return step


def one_hot(name: str, codes: np.ndarray):
    """Computes distances and products with one-hot assignments, as Tensor2Tensor's bottleneck."""
    import tensorflow as tf

    means = tf.Variable(codes)
    counts = tf.Variable(tf.ones([len(codes)]))
    sums = tf.Variable(codes)

    def step(x):
        table = tf.convert_to_tensor(means)
        norms = tf.reduce_sum(tf.square(table), -1)
        distance = (
            tf.reduce_sum(tf.square(x), -1, keepdims=True)
            - 2 * tf.matmul(x, table, transpose_b=True)
            + norms
        )
        if name.endswith("hard EM"):
            hot = tf.one_hot(tf.argmin(distance, -1), len(codes))
        else:
            drawn = tf.random.stateless_categorical(-distance / (0.2 * WIDTH), NUM_SAMPLES, [1, 2])
            hot = tf.add_n(
                [tf.one_hot(ids, len(codes)) / NUM_SAMPLES for ids in tf.unstack(drawn, axis=1)]
            )
        counts.assign(0.99 * counts + 0.01 * tf.reduce_sum(hot, 0))
        sums.assign(0.99 * sums + 0.01 * tf.matmul(hot, x, transpose_a=True))
        means.assign(sums / tf.maximum(counts, 1e-5)[:, None])
        quantized = hot @ table
        return tf.reduce_mean(tf.square(x - quantized)), quantized

    return step


def run_peer(num_vectors: int, num_codes: int, runs: int) -> dict:
    """Times vector-quantize-pytorch in training, with its own defaults (hard EM)."""
    import torch
    from vector_quantize_pytorch import VectorQuantize

    torch.set_num_threads(os.cpu_count())
    torch.manual_seed(0)
    x, codes = data(num_vectors, num_codes)
    layer = VectorQuantize(WIDTH, num_codes, decay=0.99).train()
    layer.codebook = torch.tensor(codes)
    x = torch.tensor(x)[None]

    def step(x):
        with torch.no_grad():
            return layer(x)[0].sum().item()

    return time_runs(step, x, runs)


def time_runs(step, x, runs: int) -> dict:
    """Returns the seconds of each run after the first, and the memory of the runs in bytes."""
    step(x[..., :64, :])
    pathlib.Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # resets the peak
    before = memory("VmRSS")
    step(x)
    seconds = []
    for _ in range(runs):
        start = time.perf_counter()
        step(x)
        seconds.append(time.perf_counter() - start)
    return {"seconds": seconds, "memory": memory("VmHWM") - before}


def memory(name: str) -> int:
    """Resident memory of this process in bytes: VmRSS now, VmHWM at its peak."""
    status = pathlib.Path("/proc/self/status").read_text(encoding="utf-8")
    return int(re.search(rf"{name}:\s+(\d+) kB", status)[1]) * 1024


def run_worker(name: str, size: tuple[int, int], runs: int) -> dict:
    """Runs one system in a process of its own."""
    command = [sys.executable, __file__, f"--worker={name}", f"--size={size[0]},{size[1]}"]
    command.append(f"--runs={runs}")
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def measure(size: tuple[int, int], systems, runs: int, rounds: int) -> list[str]:
    """Measures the systems in alternation; returns the section of the report."""
    seconds: dict[str, list[float]] = {name: [] for name in systems}
    memory: dict[str, int] = {}
    for number in range(rounds):
        for name in systems:
            result = run_worker(name, size, runs)
            seconds[name] += result["seconds"]
            memory[name] = max(memory.get(name, 0), result["memory"])
            median = 1000 * statistics.median(result["seconds"])
            print(f"{size}, round {number + 1}, {name}: {median:.0f} ms", flush=True)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    num_vectors, num_codes = size
    array = num_vectors * num_codes * 4
    lines = [
        f"## N = {num_vectors}, K = {num_codes}, D = {WIDTH}",
        "",
        f"One [N, K] array of float32 has {array / 2**20:.0f} MiB.",
        "",
        "| | ms | ratio to the distance product | peak memory, MiB | ratio to one [N, K] array |",
        "|---|---|---|---|---|",
    ]
    for name in systems:
        ratio = f"{medians[name] / medians[REFERENCE]:.2f}" if REFERENCE in medians else "-"
        lines.append(
            f"| {name} | {1000 * medians[name]:.0f} | {ratio} | "
            f"{memory[name] / 2**20:.0f} | {memory[name] / array:.2f} |"
        )
    return [*lines, ""]


def main() -> None:
    """Measures and writes the results; with --worker, measures one system."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--results", help="Markdown file to write; default: only print.")
    parser.add_argument(
        "--runs", type=int, default=10, help="Timed runs of a system in each round."
    )
    parser.add_argument("--rounds", type=int, default=3, help="How often each system is measured.")
    parser.add_argument("--worker", choices=SYSTEMS, help=argparse.SUPPRESS)
    parser.add_argument("--size", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        size = [int(number) for number in args.size.split(",")]
        if args.worker == PEER:
            result = run_peer(*size, args.runs)
        else:
            result = run_tensorflow(args.worker, *size, args.runs)
        print(json.dumps(result))
        return
    packages = ["tensorflow", "torch", "vector-quantize-pytorch", "numpy"]
    lines = header("Cost of the bottleneck alone", packages)
    for size in SIZES:
        lines += measure(size, SYSTEMS, args.runs, args.rounds)
    lines += measure(LARGE, OURS[:3], 2, 1)
    write(lines, args.results)


if __name__ == "__main__":
    main()

"""Training speed: t2t-vqem against PyTorch's nn.Transformer, same sizes, same batch, on the CPU.

    pip install torch==2.13.0
    python benchmarks/training_speed.py --results=benchmarks/results/training_speed.md

Both train the same network (3+3 pre-norm layers, filter four times the width, heads of 64, tied
embeddings, 4,000 tokens) in float32 with dropout 0.1 everywhere, label smoothing 0.1, clipping and
Adam, on the same sentences with the same padding. Every system runs in a process of its own; they
alternate, round after round, and the figure is the median over all steps of all rounds. PyTorch
runs eagerly and compiled, and the faster one counts.
"""

from __future__ import annotations

import argparse
import glob
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter

import numpy as np
from report import header, write

VOCAB_SIZE = 4000
ROWS, LENGTH = 85, 24  # a bucket of transformer_multi30k
LAYERS = 3
RATE = 0.1
WORKERS = ("t2t-vqem", "PyTorch eager", "PyTorch compiled")


def batch() -> tuple[np.ndarray, np.ndarray]:
    """Source and target ids [ROWS, LENGTH]; lengths are from two thirds of LENGTH to LENGTH."""
    rng = np.random.default_rng(0)
    sides = []
    for _ in range(2):
        ids = rng.integers(3, VOCAB_SIZE, [ROWS, LENGTH])
        lengths = rng.integers(2 * LENGTH // 3, LENGTH + 1, ROWS)
        for row, length in zip(ids, lengths, strict=True):
            row[length - 1] = 1
            row[length:] = 0
        sides.append(ids)
    return sides[0], sides[1]


def time_steps(step, steps: int) -> list[float]:
    """Returns the seconds of each of `steps` calls, after three that are not timed."""
    seconds = []
    for index in range(steps + 3):
        start = time.perf_counter()
        step(index)
        seconds.append(time.perf_counter() - start)
    return seconds[3:]


def run_ours(width: int, steps: int) -> dict:
    """Times the trainer's own step, and measures where the time goes."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import tensorflow as tf

    from t2t_vqem.hparams.transformer import TransformerHParams
    from t2t_vqem.models.transformer import Transformer
    from t2t_vqem.training.state import TrainState
    from t2t_vqem.training.step import TrainStep
    from t2t_vqem.training.strategies import Replicas, make_strategy

    hparams = TransformerHParams(
        num_encoder_layers=LAYERS,
        num_decoder_layers=LAYERS,
        hidden_size=width,
        filter_size=4 * width,
        num_heads=width // 64,
        dropout=RATE,
        attention_dropout=RATE,
        relu_dropout=RATE,
        label_smoothing=0.1,
        learning_rate=1e-3,
        clip_norm=1.0,
        ema_decay=0.0,
        schedule="constant",
        warmup_steps=1,
    )
    strategy = make_strategy("one_device")
    state = TrainState(
        strategy, lambda: Transformer(hparams, vocab_size=VOCAB_SIZE), hparams, seed=0
    )
    train_step = TrainStep(strategy, state, hparams, seed=0, train_steps=1000, xla=True)
    inputs, targets = (side.astype(np.int32) for side in batch())
    features = Replicas(strategy).distribute({"inputs": inputs, "targets": targets})
    parameters = sum(int(np.prod(v.shape)) for v in state.model.trainable_variables)

    def step(index: int) -> None:
        float(train_step([features], step=index).loss)

    seconds = time_steps(step, steps)
    with tempfile.TemporaryDirectory() as folder:
        with tf.profiler.experimental.Profile(folder):
            for index in range(3):
                step(index)
        shares = profile_shares(folder)
    return {"seconds": seconds, "parameters": parameters, "shares": shares}


def profile_shares(folder: str) -> dict[str, float]:
    """Returns the share of each kind of operation in the time, from a profile of the device."""
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    space = xplane_pb2.XSpace()
    (path,) = glob.glob(f"{folder}/**/*.xplane.pb", recursive=True)
    with open(path, "rb") as file:
        space.ParseFromString(file.read())
    times: Counter = Counter()
    for plane in space.planes:
        for line in plane.lines:
            for event in line.events:
                name = plane.event_metadata[event.metadata_id].name
                kind = kind_of(re.sub(r"[.\d]+$", "", name))
                if kind:
                    times[kind] += event.duration_ps
    total = sum(times.values())
    return {kind: value / total for kind, value in times.most_common()}


def kind_of(name: str) -> str | None:
    """Returns the kind of a compiled operation, None if it only contains other operations."""
    if name in ("MatMul", "matmul"):
        return "matrix products of the layers, forward and backward"
    if name in ("MatMul_", "matmul_", "dot"):
        return "matrix products of attention"
    if "reduce" in name:
        return "sums (normalisation, softmax, gradients of biases and gains)"
    if "transpose" in name or "copy" in name or "concat" in name:
        return "moving data (heads, splits)"
    if "fusion" in name or name.startswith("wrapped_"):
        return "elementwise (dropout, activations, normalisation, loss, Adam)"
    return None


def run_torch(width: int, steps: int, compiled: bool) -> dict:
    """Times a training loop with nn.Transformer like that in its documentation."""
    import torch
    from torch import nn

    torch.set_num_threads(os.cpu_count())
    torch.manual_seed(0)

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = nn.Embedding(VOCAB_SIZE, width)
            self.register_buffer("positions", torch.randn(LENGTH, width))
            self.transformer = nn.Transformer(
                width,
                width // 64,
                LAYERS,
                LAYERS,
                4 * width,
                RATE,
                batch_first=True,
                norm_first=True,
            )
            self.dropout = nn.Dropout(RATE)
            self.register_buffer(
                "causal", nn.Transformer.generate_square_subsequent_mask(LENGTH) < 0
            )

        def embed(self, ids):
            return self.dropout(self.embedding(ids) * width**0.5 + self.positions)

        def forward(self, source, shifted, source_padding):
            x = self.transformer(
                self.embed(source),
                self.embed(shifted),
                tgt_mask=self.causal,
                src_key_padding_mask=source_padding,
                memory_key_padding_mask=source_padding,
                tgt_is_causal=True,
            )
            return x @ self.embedding.weight.T

    model = Model()
    forward = torch.compile(model) if compiled else model
    optimizer = torch.optim.Adam(model.parameters(), 1e-3, (0.9, 0.997), 1e-9, fused=True)
    loss_fn = nn.CrossEntropyLoss(label_smoothing=0.1, ignore_index=0)
    source, target = (torch.tensor(side) for side in batch())
    shifted = torch.nn.functional.pad(target[:, :-1], (1, 0))
    padding = source == 0

    def step(index: int) -> None:
        del index
        optimizer.zero_grad()
        logits = forward(source, shifted, padding)
        loss = loss_fn(logits.flatten(0, 1), target.flatten())
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        loss.item()

    seconds = time_steps(step, steps)
    parameters = sum(p.numel() for p in model.parameters())
    return {"seconds": seconds, "parameters": parameters}


def run_worker(worker: str, width: int, steps: int) -> dict:
    """Measures one system in a process of its own."""
    command = [sys.executable, __file__, f"--worker={worker}", f"--widths={width}"]
    command.append(f"--steps={steps}")
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def measure(width: int, steps: int, rounds: int) -> list[str]:
    """Measures the systems in alternation; returns the section of the report."""
    seconds: dict[str, list[float]] = {worker: [] for worker in WORKERS}
    last: dict[str, dict] = {}
    for number in range(rounds):
        for worker in WORKERS:
            last[worker] = run_worker(worker, width, steps)
            seconds[worker] += last[worker]["seconds"]
            median = statistics.median(last[worker]["seconds"])
            print(f"width {width}, round {number + 1}, {worker}: {1000 * median:.0f} ms per step")
    tokens = int((batch()[1] > 0).sum())
    medians = {worker: statistics.median(values) for worker, values in seconds.items()}
    best = min(medians["PyTorch eager"], medians["PyTorch compiled"])
    lines = [
        f"## Width {width}",
        "",
        f"{ROWS} x {LENGTH} positions per batch, {tokens} real target tokens.",
        "",
        "| | parameters (M) | ms per step | (min, max) | target tokens/s | of the best PyTorch |",
        "|---|---|---|---|---|---|",
    ]
    for worker in WORKERS:
        values, median = seconds[worker], medians[worker]
        lines.append(
            f"| {worker} | {last[worker]['parameters'] / 1e6:.2f} | {1000 * median:.0f} | "
            f"{1000 * min(values):.0f}, {1000 * max(values):.0f} | {tokens / median:.0f} | "
            f"{best / median:.2f} |"
        )
    lines += ["", "Where our time goes:", "", "| | share |", "|---|---|"]
    lines += [f"| {k} | {100 * v:.0f} % |" for k, v in last["t2t-vqem"]["shares"].items()]
    return [*lines, ""]


def main() -> None:
    """Measures and writes the results; with --worker, measures one system."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--results", help="Markdown file to write; default: only print.")
    parser.add_argument(
        "--widths", default="256,512", help="Widths to measure, separated by commas."
    )
    parser.add_argument(
        "--steps", type=int, default=15, help="Timed steps of a system in each round."
    )
    parser.add_argument("--rounds", type=int, default=3, help="How often each system is measured.")
    parser.add_argument("--worker", choices=WORKERS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    widths = [int(width) for width in args.widths.split(",")]
    if args.worker == "t2t-vqem":
        print(json.dumps(run_ours(widths[0], args.steps)))
    elif args.worker:
        compiled = args.worker == "PyTorch compiled"
        print(json.dumps(run_torch(widths[0], args.steps, compiled)))
    else:
        lines = header("Training speed against PyTorch", ["tensorflow", "keras", "torch", "numpy"])
        for width in widths:
            lines += measure(width, args.steps, args.rounds)
        write(lines, args.results)


if __name__ == "__main__":
    main()

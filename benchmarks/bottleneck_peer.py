"""VQ-VAE with our bottleneck and with vector-quantize-pytorch's: same autoencoder, data and steps.

    pip install torch==2.13.0 vector-quantize-pytorch
    python benchmarks/bottleneck_peer.py --source_dir=cifar10 \\
        --results=benchmarks/results/bottleneck_peer.md

--source_dir holds the official CIFAR-10 archive. Both train the same autoencoder, that of the set
vqvae_cifar10_small, with Adam on the squared error divided by the variance of the pixels, plus the
bottleneck's own loss, on the same batches. The peer runs with its defaults and with what its
documentation recommends against unused codes (K-means initialisation, replacing codes). Every
training is a process of its own; the systems alternate over the seeds. One of our trainings makes
fewer steps, to show how soon it reaches the peer's final quality. Wall time is that of all steps;
the time by which the first three exceed the median step is reported as compiling.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator

import numpy as np
from report import header, write

CHANNELS, INNER, BLOCKS, WIDTH = 192, 96, 2, 32
PATCH = 4  # height and width in pixels
BATCH, LEARNING_RATE, BETA = 128, 1e-3, 0.25
FEWER_STEPS = "ours, hard EM, 3/5 of the steps"
SHARE_OF_STEPS = 0.6
SMALL = 0.1  # initial scale of the latents and of the residual blocks' output, in both systems
OURS = {
    "ours, soft EM, 10 draws": {"kind": "soft_em"},
    "ours, hard EM": {"kind": "hard_em"},
    "ours, hard EM, decay 0.99": {"kind": "hard_em", "decay": 0.99},
    FEWER_STEPS: {"kind": "hard_em"},
}
PEER = {
    "vector-quantize-pytorch, defaults": {},
    "vector-quantize-pytorch, recommended": {
        "kmeans_init": True,
        "threshold_ema_dead_code": 2,
    },
}
SYSTEMS = (*OURS, *PEER)


def images(source_dir: str, split: str) -> np.ndarray:
    """Returns all images of a split, uint8 [n, 32, 32, 3]; "train" has all 50,000."""
    from t2t_vqem.problem import SourceFlags
    from t2t_vqem.registry import problems

    problem_class = problems.get("image_cifar10")
    source = problem_class(problem_class.Config()).source(SourceFlags("", source_dir=source_dir))
    splits = ("train", "dev") if split == "train" else (split,)
    parts = [source.part(name, 0, source.num_images(name)) for name in splits]
    return np.concatenate([np.stack(list(part)) for part in parts])


def batches(data: np.ndarray, seed: int) -> Iterator[np.ndarray]:
    """Yields batches without end, in a new random order in each epoch."""
    rng = np.random.default_rng(seed)
    while True:
        order = rng.permutation(len(data))
        for start in range(0, len(data) - BATCH + 1, BATCH):
            yield data[order[start : start + BATCH]]


def measured(test: np.ndarray, reconstruct, num_codes: int) -> dict[str, float]:
    """Returns PSNR in dB, averaged over the test images, and the perplexity of their codes.

    Args:
      test: uint8 [n, 32, 32, 3].
      reconstruct: uint8 [b, 32, 32, 3] -> float images in 0..255 of that shape, and codes.
      num_codes: K.
    """
    errors, counts = [], np.zeros(num_codes)
    for start in range(0, len(test), 500):
        batch = test[start : start + 500]
        copies, ids = reconstruct(batch)
        difference = np.round(np.clip(copies, 0, 255)) - batch.astype(np.float64)
        errors.append((difference**2).mean((1, 2, 3)))
        counts += np.bincount(ids.ravel(), minlength=num_codes)
    psnr = 10 * np.log10(255**2 / np.concatenate(errors))
    shares = counts[counts > 0] / counts.sum()
    return {"psnr": psnr.mean(), "perplexity": math.exp(-(shares * np.log(shares)).sum())}


def timed(step, stream: Iterator[np.ndarray], steps: int) -> dict[str, float]:
    """Trains; returns the seconds of compiling, of all other work, and of the median step."""
    seconds = []
    for _ in range(steps):
        start = time.perf_counter()
        step(next(stream))
        seconds.append(time.perf_counter() - start)
    usual = statistics.median(seconds[3:])
    return {
        "compiling": max(0.0, sum(seconds[:3]) - 3 * usual),
        "wall": sum(seconds),
        "step": usual,
    }


def run_ours(name: str, args: argparse.Namespace) -> dict[str, float]:
    """Trains with our layers in a loop of its own, as docs/bottleneck.md describes."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import keras
    import tensorflow as tf

    from t2t_vqem.layers import VectorQuantizer
    from t2t_vqem.layers.convolution import ConvDecoder, ConvEncoder

    keras.utils.set_random_seed(args.seed)
    train, test = images(args.source_dir, "train"), images(args.source_dir, "test")
    variance = float(np.var(train / 127.5, dtype=np.float64))
    sizes = {"channels": CHANNELS, "num_blocks": BLOCKS, "residual_channels": INNER}
    encoder = ConvEncoder(WIDTH, num_downsamplings=2, **sizes)
    decoder = ConvDecoder(3, num_upsamplings=2, **sizes)
    quantizer = VectorQuantizer(
        args.num_codes,
        WIDTH,
        beta=BETA,
        temperature_steps=args.steps // 2,
        seed=args.seed,
        **OURS[name],
    )
    stream = batches(train, args.seed)

    def scaled(batch):
        return tf.cast(batch, tf.float32) / 127.5 - 1

    first = np.stack([next(stream) for _ in range(8)]).reshape(-1, 32, 32, 3)
    quantizer.start(np.reshape(encoder(scaled(first)), [-1, WIDTH]))
    decoder(quantizer(encoder(scaled(first[:1]))))
    weights = encoder.trainable_variables + decoder.trainable_variables
    rate = keras.optimizers.schedules.CosineDecay(LEARNING_RATE, args.steps)
    optimizer = keras.optimizers.Adam(rate)
    optimizer.build(weights)

    @tf.function(jit_compile=True, autograph=False)
    def update(batch):
        x = scaled(batch)
        with tf.GradientTape() as tape:
            copies = decoder(quantizer(encoder(x), training=True))
            loss = tf.reduce_mean(tf.square(copies - x)) / variance + sum(quantizer.losses)
        optimizer.apply(tape.gradient(loss, weights), weights)
        return loss

    result = timed(lambda batch: float(update(tf.constant(batch))), stream, args.steps)

    def reconstruct(batch):
        quantized = quantizer.quantize_vectors(encoder(scaled(batch)))
        return (decoder(quantized.vectors).numpy() + 1) * 127.5, quantized.ids.numpy()

    return result | measured(test, reconstruct, args.num_codes)


def torch_autoencoder():
    """Returns encoder and decoder in PyTorch, with the same initial weight ranges."""
    import torch
    from torch import nn

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.contract = nn.Conv2d(CHANNELS, INNER, 3, padding=1)
            self.expand = nn.Conv2d(INNER, CHANNELS, 1)

        def forward(self, x):
            return x + self.expand(torch.relu(self.contract(torch.relu(x))))

    def stack(inputs):
        return [
            nn.Conv2d(inputs, CHANNELS, 3, padding=1),
            *(Block() for _ in range(BLOCKS)),
            nn.ReLU(),
        ]

    encoder = nn.Sequential(
        nn.PixelUnshuffle(PATCH), *stack(3 * PATCH**2), nn.Conv2d(CHANNELS, WIDTH, 1)
    )
    decoder = nn.Sequential(
        *stack(WIDTH), nn.Conv2d(CHANNELS, 3 * PATCH**2, 1), nn.PixelShuffle(PATCH)
    )
    for module in (*encoder.modules(), *decoder.modules()):
        if isinstance(module, nn.Conv2d):
            limit = math.sqrt(6 / (module.in_channels * math.prod(module.kernel_size)))
            if module.kernel_size == (1, 1):  # the initialisation of our Dense layers
                limit = math.sqrt(6 / (module.in_channels + module.out_channels))
            nn.init.uniform_(module.weight, -limit, limit)
            nn.init.zeros_(module.bias)
    small = [m.expand for m in (*encoder, *decoder) if isinstance(m, Block)] + [encoder[-1]]
    with torch.no_grad():
        for module in small:
            module.weight *= SMALL
    return encoder, decoder


def run_peer(name: str, args: argparse.Namespace) -> dict[str, float]:
    """Trains with the peer's layer in the loop that its documentation shows."""
    import torch
    from vector_quantize_pytorch import VectorQuantize

    torch.set_num_threads(os.cpu_count())
    torch.manual_seed(args.seed)
    train, test = images(args.source_dir, "train"), images(args.source_dir, "test")
    variance = float(np.var(train / 127.5, dtype=np.float64))
    encoder, decoder = torch_autoencoder()
    encoder, decoder = (m.to(memory_format=torch.channels_last) for m in (encoder, decoder))
    quantizer = VectorQuantize(WIDTH, args.num_codes, **PEER[name])
    weights = [*encoder.parameters(), *decoder.parameters()]
    optimizer = torch.optim.Adam(weights, LEARNING_RATE, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, args.steps)
    stream = batches(train, args.seed)
    for _ in range(8):  # the vectors from which our codebook is initialised
        next(stream)
    encode, decode = encoder, decoder
    if args.compiled:
        encode, decode = torch.compile(encoder), torch.compile(decoder)

    def scaled(batch):
        return torch.from_numpy(batch).permute(0, 3, 1, 2).float() / 127.5 - 1

    def quantized(x):
        x = x.permute(0, 2, 3, 1)
        vectors, ids, loss = quantizer(x.reshape(x.shape[0], -1, WIDTH))
        return vectors.reshape(x.shape).permute(0, 3, 1, 2), ids, loss

    def update(batch):
        x = scaled(batch)
        vectors, _, commitment = quantized(encode(x))
        loss = (decode(vectors) - x).square().mean() / variance + commitment.sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        loss.item()

    result = timed(update, stream, args.steps)
    quantizer.eval()

    def reconstruct(batch):
        with torch.no_grad():
            vectors, ids, _ = quantized(encoder(scaled(batch)))
            copies = decoder(vectors).permute(0, 2, 3, 1)
        return (copies.numpy() + 1) * 127.5, ids.numpy()

    return result | measured(test, reconstruct, args.num_codes)


def run_worker(name: str, seed: int, args: argparse.Namespace, **changes: int) -> dict[str, float]:
    """Runs one training in a process of its own."""
    options = {"source_dir": args.source_dir, "num_codes": args.num_codes, "steps": args.steps}
    options |= {"worker": name, "seed": seed, **changes}
    command = [sys.executable, __file__, *(f"--{key}={value}" for key, value in options.items())]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    result = json.loads(done.stdout.splitlines()[-1])
    print(f"{name}, seed {seed}: {result}", flush=True)
    return result


def table(results: dict[str, list[dict[str, float]]]) -> list[str]:
    """Returns the rows of the report: means over seeds, and half the distance between them."""
    lines = [
        "| | PSNR, dB | perplexity | ms per step | wall time of the steps, s | of it compiling |",
        "|---|---|---|---|---|---|",
    ]
    columns = {"psnr": 2, "perplexity": 0, "step": 1, "wall": 0, "compiling": 0}  # decimals
    for name, found in results.items():
        cells = []
        for key, decimals in columns.items():
            values = [1000 * one[key] if key == "step" else one[key] for one in found]
            half = (max(values) - min(values)) / 2
            cells.append(f"{statistics.mean(values):.{decimals}f} ± {half:.{decimals}f}")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def main() -> None:
    """Trains, measures and writes the results; with --worker, runs one training."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--source_dir", required=True, help="Where the CIFAR-10 archive is.")
    parser.add_argument("--num_codes", type=int, default=512, help="K.")
    parser.add_argument("--steps", type=int, default=1500, help="Updates of each training.")
    parser.add_argument("--seeds", default="1,2", help="Seeds, separated by commas.")
    parser.add_argument("--results", help="Markdown file to write; default: only print.")
    parser.add_argument("--worker", choices=SYSTEMS, help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--compiled", type=int, default=0, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        print(json.dumps((run_ours if args.worker in OURS else run_peer)(args.worker, args)))
        return
    recommended = list(PEER)[-1]
    tries = {flag: run_worker(recommended, 0, args, compiled=flag, steps=60) for flag in (0, 1)}
    compiled = min(tries, key=lambda flag: tries[flag]["step"])
    results: dict[str, list[dict[str, float]]] = {name: [] for name in SYSTEMS}
    for seed in args.seeds.split(","):
        for name in SYSTEMS:
            steps = round(SHARE_OF_STEPS * args.steps) if name == FEWER_STEPS else args.steps
            found = run_worker(name, int(seed), args, compiled=compiled, steps=steps)
            results[name].append(found)
    packages = ["tensorflow", "keras", "torch", "vector-quantize-pytorch", "numpy"]
    lines = header("A VQ-VAE with our bottleneck and with vector-quantize-pytorch's", packages)
    lines += [
        f"CIFAR-10, 8x8 codes of {args.num_codes}, {args.steps} steps of {BATCH} images, test set, "
        f"seeds {args.seeds}: mean ± half the distance. PyTorch ran "
        f"{'compiled' if compiled else 'eagerly'}, which was the faster of the two: "
        f"{1000 * tries[0]['step']:.0f} ms per step eagerly, "
        f"{1000 * tries[1]['step']:.0f} compiled.",
        "",
        *table(results),
    ]
    write(lines, args.results)


if __name__ == "__main__":
    main()

"""Options of the quantiser on CIFAR-10: each beside the default, with the same bits and steps.

    t2t-datagen --problem=image_cifar10 --source_dir=cifar10 --data_dir=data
    python benchmarks/quantizer_options.py --data_dir=data --work_dir=options \\
        --results=benchmarks/results/quantizer_options.md

Trains a small VQ-VAE, with far fewer channels than `vqvae_cifar10_small`, with the rotation trick
(Fifty et al. 2024) instead of the straight-through gradient, and with two codebooks that quantise
residuals instead of slices, and measures each on the dev set. All trainings run in one process, one
after the other, and Adam gets the same batches and learning rates in each. Started again, it keeps
the finished trainings.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import os
import pathlib
import statistics
from collections.abc import Iterator

import numpy as np
from report import header, write

SMALL = {  # differences to vqvae_cifar10_small
    "hidden_size": 32,
    "residual_size": 16,
    "num_mixtures": 1,
    "encoding_turns": 1,
    "balance": 0.0,
    "prior_layers": 1,
    "prior_size": 32,
    "prior_filter_size": 64,
    "prior_heads": 2,
}
BATCH, LEARNING_RATE = 32, 4e-3
VARIANTS = {
    "hard EM": {"bottleneck_kind": "hard_em"},
    "hard EM, rotation": {"bottleneck_kind": "hard_em", "bottleneck_gradient": "rotation"},
    "hard EM, product of 2": {"bottleneck_kind": "hard_em", "num_codebooks": 2},
    "hard EM, residual of 2": {
        "bottleneck_kind": "hard_em",
        "num_codebooks": 2,
        "composition": "residual",
    },
    "vq": {"bottleneck_kind": "vq"},
    "vq, rotation": {"bottleneck_kind": "vq", "bottleneck_gradient": "rotation"},
}
FIGURES = {  # heading and decimals of the column
    "psnr": ("PSNR, dB", 2),
    "reconstruction_bits": ("reconstruction, bits/dim", 3),
    "bits_per_dim": ("bits/dim", 3),
    "perplexity": ("perplexity", 0),
    "commitment": ("commitment", 2),
}


def batches(images: np.ndarray, seed: int) -> Iterator[dict[str, np.ndarray]]:
    """Yields batches without end, in a new random order in each epoch."""
    rng, mask = np.random.default_rng(seed), np.ones(BATCH, bool)
    while True:
        order = rng.permutation(len(images))
        for start in range(0, len(images) - BATCH + 1, BATCH):
            yield {"images": images[order[start : start + BATCH]], "mask": mask}


def train(name: str, seed: int, data: dict[str, np.ndarray], steps: int) -> dict[str, float]:
    """Trains a variant and returns its figures on the dev set."""
    import keras
    import tensorflow as tf

    from t2t_vqem.ops.random import Rng
    from t2t_vqem.registry import hparams_sets, models

    keras.utils.set_random_seed(seed)
    hparams = hparams_sets.get("vqvae_cifar10_small")()
    hparams = dataclasses.replace(hparams, **SMALL, **VARIANTS[name])
    model = models.get(hparams.model)(hparams, image_shape=data["train"].shape[1:])
    model.loss(model.example_batch())
    stream = batches(data["train"], seed)
    model.start(stream, seed=seed)
    weights = model.trainable_variables
    warm_up = steps // 10
    optimizer = keras.optimizers.Adam(
        keras.optimizers.schedules.CosineDecay(
            0.0, steps - warm_up, warmup_target=LEARNING_RATE, warmup_steps=warm_up
        ),
        beta_2=hparams.adam_beta2,
        epsilon=hparams.adam_epsilon,
        global_clipnorm=hparams.clip_norm,
    )
    optimizer.build(weights)

    @tf.function(autograph=False)
    def update(batch, step):
        with tf.GradientTape() as tape:
            output = model.loss(batch, rng=Rng(seed, step))
            loss = output.loss / output.weight
        before = tf.nest.map_structure(tf.identity, model.quantizer.read())
        optimizer.apply(tape.gradient(loss, weights), weights)
        values, _ = model.update_state(model.quantizer.read(), output.statistics, before)
        model.quantizer.assign(values)
        return loss

    for step in range(steps):
        loss = float(update(next(stream), tf.constant(step)))
        if step % 100 == 99:
            print(f"{name}, seed {seed}, step {step + 1}: loss {loss:.3f}", flush=True)
    return evaluate(model, data["dev"])


def evaluate(model, images: np.ndarray) -> dict[str, float]:
    """Returns the figures of the model on images."""
    import tensorflow as tf

    sums: dict[str, np.ndarray] = {}
    counts = 0.0
    for start in range(0, len(images), 200):
        batch = images[start : start + 200]
        mask = tf.ones([len(batch)], tf.bool)
        output = model.loss({"images": tf.constant(batch), "mask": mask})
        for key, pair in output.metrics.items():
            sums[key] = sums.get(key, 0.0) + np.array([float(value) for value in pair])
        counts += output.statistics
    means = {key: float(total / weight) for key, (total, weight) in sums.items()}
    return means | {"perplexity": float(model.describe_statistics(counts)["perplexity"])}


def table(found: dict[str, list[dict[str, float]]]) -> list[str]:
    """Returns the rows of the report: the mean over the seeds, and each seed."""
    names = [heading for heading, _ in FIGURES.values()]
    lines = [f"| variant | seeds | {' | '.join(names)} |", "|---|--:" + "|--:" * len(names) + "|"]
    for name, runs in found.items():
        cells = []
        for key, (_, decimals) in FIGURES.items():
            values = [run[key] for run in runs]
            half = (max(values) - min(values)) / 2
            cells.append(f"{statistics.mean(values):.{decimals}f} ± {half:.{decimals}f}")
        lines.append(f"| {name} | {len(runs)} | {' | '.join(cells)} |")
    return lines


def main() -> None:
    """Trains, measures and writes the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data_dir", required=True, help="Data that t2t-datagen has made.")
    parser.add_argument("--work_dir", required=True, help="Folder of each training's figures.")
    parser.add_argument("--steps", type=int, default=400, help="Updates of each training.")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2], help="Seeds.")
    parser.add_argument(
        "--variants", default=";".join(VARIANTS), help="Variants to train, separated by semicolons."
    )
    parser.add_argument("--results", help="Markdown file to write; default: only print.")
    args = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from t2t_vqem.registry import problems

    problem_class = problems.get("image_cifar10")
    dataset = problem_class(problem_class.Config()).open(args.data_dir)
    data = {split: dataset.images(split) for split in ("train", "dev")}
    folder = pathlib.Path(args.work_dir)
    folder.mkdir(parents=True, exist_ok=True)
    found: dict[str, list[dict[str, float]]] = {}
    for seed in args.seeds:
        for name in args.variants.split(";"):
            kept = folder / f"{name.replace(', ', '-').replace(' ', '_')}-{args.steps}-{seed}.json"
            if not kept.exists():
                figures = train(name, seed, data, args.steps)
                kept.write_text(json.dumps(figures), encoding="utf-8")
            figures = json.loads(kept.read_text(encoding="utf-8"))
            print(name, seed, figures, flush=True)
            found.setdefault(name, []).append(figures)
    bits = 64 * math.log2(512)
    lines = header("Options of the quantiser", ["tensorflow", "keras", "numpy"])
    lines += [
        f"CIFAR-10, dev set of {len(data['dev'])} images, {args.steps} steps of {BATCH} images. "
        f"8x8 codes of 512: {bits:.0f} bits for an image, twice as many with two codebooks. Mean "
        "of the seeds ± half of the distance between them.",
        "",
        *table(found),
    ]
    write(lines, args.results)


if __name__ == "__main__":
    main()

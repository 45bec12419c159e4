"""Options of the quantiser on CIFAR-10: each beside the default, with the same bits and steps.

    t2t-datagen --problem=image_cifar10 --source_dir=cifar10 --data_dir=data
    python benchmarks/quantizer_options.py --data_dir=data --work_dir=options \\
        --results=benchmarks/results/quantizer_options.md

Trains a small VQ-VAE, with far fewer channels than `vqvae_cifar10_small`, with two codebooks that
quantise residuals instead of slices, and with the rotation trick (Fifty et al. 2024) instead of the
straight-through gradient, and measures each on the dev set. The rotation trick did not pay, so it
is no option of the package and is implemented here. All trainings run in one process, one after the
other, and Adam gets the same batches and learning rates in each. Started again, it keeps the
finished trainings.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import pathlib
import re
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
    "hard EM, rotation": {"bottleneck_kind": "hard_em"},
    "hard EM, product of 2": {"bottleneck_kind": "hard_em", "num_codebooks": 2},
    "hard EM, residual of 2": {
        "bottleneck_kind": "hard_em",
        "num_codebooks": 2,
        "composition": "residual",
    },
    "vq": {"bottleneck_kind": "vq"},
    "vq, rotation": {"bottleneck_kind": "vq"},
}
FIGURES = {  # heading and decimals of the column
    "psnr": ("PSNR, dB", 2),
    "reconstruction_bits": ("bits of the reconstruction", 3),
    "bits_per_dim": ("bits", 3),
    "perplexity": ("perplexity", 0),
    "commitment": ("commitment loss", 1),
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

    from t2t_vqem.registry import hparams_sets, models

    keras.utils.set_random_seed(seed)
    hparams = hparams_sets.get("vqvae_cifar10_small")()
    hparams = dataclasses.replace(hparams, **SMALL, **VARIANTS[name])
    model = models.get(hparams.model)(hparams, image_shape=data["train"].shape[1:])
    if name.endswith(", rotation"):
        pass_gradient_by_rotation(model.quantizer)
    model.loss(model.example_batch())
    stream = batches(data["train"], seed)
    model.start(stream, seed=seed)
    update = make_update(model, seed, steps)
    for step in range(steps):
        loss = float(update(next(stream), tf.constant(step)))
        if step % 100 == 99:
            print(f"{name}, seed {seed}, step {step + 1}: loss {loss:.3f}", flush=True)
    return evaluate(model, data["dev"])


def make_update(model, seed: int, steps: int):
    """Returns a function that updates the model with a batch and returns the mean loss."""
    import keras
    import tensorflow as tf

    from t2t_vqem.ops.random import Rng

    weights, hparams, warm_up = model.trainable_variables, model.hparams, steps // 10
    rate = keras.optimizers.schedules.CosineDecay(
        0.0, steps - warm_up, warmup_target=LEARNING_RATE, warmup_steps=warm_up
    )
    optimizer = keras.optimizers.Adam(
        rate,
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

    return update


def pass_gradient_by_rotation(quantizer) -> None:
    """Lets vectors have the gradient of their codes, rotated and scaled.

    The Jacobian of a code q for its vector x is the constant s R, where R is the rotation in the
    plane of both that turns x into the direction of q, and s = |q| / |x| (Fifty et al. 2024,
    equations 4 and 5). Where x is opposite to q, R is a reflection; where x is 0, s R is 1.
    """
    import tensorflow as tf

    straight_through = quantizer.quantize_vectors

    @tf.custom_gradient
    def rotate(x, q):
        lengths = tf.norm(x, axis=-1, keepdims=True)
        known = lengths > 1e-6
        scale = tf.norm(q, axis=-1, keepdims=True) / tf.where(known, lengths, 1.0)
        start, end = tf.math.l2_normalize(x, -1), tf.math.l2_normalize(q, -1)
        middle = tf.math.l2_normalize(start + end, -1, epsilon=1e-6)  # 0 if they are opposite

        def gradient(upstream):
            def along(axis):
                return tf.reduce_sum(axis * upstream, -1, keepdims=True)

            rotated = upstream - 2 * middle * along(middle) + 2 * start * along(end)
            return tf.where(known, scale * rotated, upstream), None

        return tf.identity(q), gradient

    def quantize_vectors(x, *args, **kwargs):
        found = straight_through(x, *args, **kwargs)
        return found._replace(vectors=rotate(x, found.vectors))

    quantizer.quantize_vectors = quantize_vectors


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


def measure(args: argparse.Namespace, data: dict[str, np.ndarray]) -> dict[str, list[dict]]:
    """Returns the figures of each variant for each seed; trains what was not trained before."""
    folder = pathlib.Path(args.work_dir)
    folder.mkdir(parents=True, exist_ok=True)
    found: dict[str, list[dict[str, float]]] = {}
    for seed in args.seeds:
        for name in VARIANTS:
            kept = folder / f"{re.sub(r'[, ]+', '_', name)}-{args.steps}-{seed}.json"
            if not kept.exists():
                figures = train(name, seed, data, args.steps)
                kept.write_text(json.dumps(figures), encoding="utf-8")
            found.setdefault(name, []).append(json.loads(kept.read_text(encoding="utf-8")))
    return found


def main() -> None:
    """Trains, measures and writes the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data_dir", required=True, help="Data that t2t-datagen has made.")
    parser.add_argument("--work_dir", required=True, help="Folder of each training's figures.")
    parser.add_argument("--steps", type=int, default=300, help="Updates of each training.")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2], help="Seeds.")
    parser.add_argument("--results", help="Markdown file to write; default: only print.")
    args = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from t2t_vqem.registry import problems

    problem_class = problems.get("image_cifar10")
    dataset = problem_class(problem_class.Config()).open(args.data_dir)
    data = {split: dataset.images(split) for split in ("train", "dev")}
    found = measure(args, data)
    lines = header("Options of the quantiser", ["tensorflow", "keras", "numpy"])
    lines += [
        f"CIFAR-10, dev set of {len(data['dev'])} images, {args.steps} steps of {BATCH} images. "
        "8x8 latents, each a code of 512 or two of them: 576 or 1,152 bits for an image. Mean of "
        "the seeds ± half of the distance between them. Bits are per dimension; the commitment "
        "loss, per latent, shows the scale of the latents too.",
        "",
        *table(found),
    ]
    write(lines, args.results)


if __name__ == "__main__":
    main()

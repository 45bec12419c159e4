"""Speed of drawing images from the prior of a VQ-VAE, by TensorFlow with XLA and by LiteRT.

    python benchmarks/sampling_speed.py --results=benchmarks/results/sampling_speed.md

The sets for digits and for CIFAR-10, and the latter with other sizes of images, to see how the
speed grows with the number of codes; one image at a time and 64 at a time. The codes are drawn one
after the other, then decoded together. The weights are random; the speed does not depend on them.
The engines take turns; each time is the median of several runs after one that compiles.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from report import header, write

from t2t_vqem import registry
from t2t_vqem.constants import LITERT
from t2t_vqem.export import litert
from t2t_vqem.export.graphs import image_graphs
from t2t_vqem.files import write_file
from t2t_vqem.inference.images import ImageDecoder
from t2t_vqem.runtime import ImageRuntime
from t2t_vqem.runtime.interpreters import Interpreters
from t2t_vqem.runtime.manifest import IMAGES, MODEL, Manifest

KINDS = [
    ("vqvae_digits", (28, 28, 1)),
    *(("vqvae_cifar10", (side, side, 3)) for side in (16, 32, 64, 128)),
]
BATCH_SIZES = (1, 64)
ENGINES = ("TensorFlow XLA", "LiteRT")
PAUSE = 0.2  # seconds between runs, until the threads of the other engine are idle


class Times(NamedTuple):
    """Seconds of each run over a batch."""

    drawing: list[float]
    decoding: list[float]

    def rate(self, batch_size: int) -> float:
        """Returns images a second."""
        return batch_size / (statistics.median(self.drawing) + statistics.median(self.decoding))


def load(model: Any, shape: tuple[int, int, int], folder: str) -> ImageRuntime:
    """Exports a model for LiteRT and loads it."""
    path = os.path.join(folder, MODEL)
    litert.prepare(model, litert.NONE)
    write_file(path, litert.convert(image_graphs(model, shape)))
    manifest = Manifest(
        kind=IMAGES,
        engine=LITERT,
        model="vqvae",
        files={},
        num_codes=model.hparams.num_codes,
        image_shape=shape,
        code_shape=(model.num_latents, model.hparams.num_codebooks),
    )
    return ImageRuntime(manifest, Interpreters(path))


def measure(engines: dict[str, Any], batch_size: int, runs: int) -> tuple[int, dict[str, Times]]:
    """Returns the number of codes of an image, and the times of each engine."""
    times = {name: Times([], []) for name in engines}
    for seed in range(runs + 1):
        for name, engine in engines.items():
            time.sleep(PAUSE)
            start = time.perf_counter()
            codes = engine.sample(batch_size, seed=seed)
            drawn = time.perf_counter()
            engine.decode(codes)
            if seed:
                times[name].drawing.append(drawn - start)
                times[name].decoding.append(time.perf_counter() - drawn)
    return codes.shape[1] * codes.shape[2], times


def rows(hparams_set: str, shape: tuple[int, int, int], runs: int) -> list[str]:
    """Returns the rows of one kind of images."""
    make: Callable[..., Any] = registry.models.get("vqvae")
    found = []
    with tempfile.TemporaryDirectory() as folder:
        compiled, exported = (
            make(registry.hparams_sets.get(hparams_set)(), image_shape=shape) for _ in range(2)
        )
        for model in (compiled, exported):
            model.build_variables()
        runtime = load(exported, shape, folder)
        for batch_size in BATCH_SIZES:
            decoder = ImageDecoder(compiled, image_shape=shape, batch_size=batch_size)
            engines = dict(zip(ENGINES, (decoder, runtime), strict=True))
            number, times = measure(engines, batch_size, runs)
            rates = [times[name].rate(batch_size) for name in ENGINES]
            parts = [
                f"{1000 * statistics.median(part) / batch_size:.2f}"
                for name in ENGINES
                for part in times[name]
            ]
            label = f"{hparams_set} | {shape[0]}x{shape[1]} | {number} | {batch_size}"
            ratio = f"{rates[0]:.1f} | {rates[1]:.1f} | {rates[1] / rates[0]:.2f}"
            found.append(f"| {label} | {ratio} | {' | '.join(parts)} |")
            print(found[-1], flush=True)
    return found


def main() -> None:
    """Measures and writes the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hparams_set", help="only this hparams set; default: all")
    parser.add_argument("--side", type=int, help="only images of this height; default: all")
    parser.add_argument("--runs", type=int, default=5, help="timed runs")
    parser.add_argument("--results", help="Markdown file to write; default: only print")
    args = parser.parse_args()
    lines = header("Speed of drawing images", ["t2t-vqem", "tensorflow", "ai-edge-litert", "numpy"])
    lines += [
        f"Random weights, float32; medians of {args.runs} runs. Goal for the sets' own images, "
        "28x28 and 32x32: LiteRT at least twice as fast.",
        "",
        "| set | image | codes | batch | TensorFlow, images/s | LiteRT, images/s | ratio | "
        "TensorFlow, ms of codes | ms of pixels | LiteRT, ms of codes | ms of pixels |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for hparams_set, shape in KINDS:
        if args.hparams_set in (None, hparams_set) and args.side in (None, shape[0]):
            lines += rows(hparams_set, shape, args.runs)
    write(lines, args.results)


if __name__ == "__main__":
    main()

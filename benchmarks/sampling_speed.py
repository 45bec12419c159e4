"""Speed of drawing images from the prior of a VQ-VAE, and how it grows with the number of codes.

    python benchmarks/sampling_speed.py --results=benchmarks/results/sampling_speed.md

Images of 16x16 to 128x128 pixels, with 16 to 1,024 codes each, one at a time and 64 at a time: the
codes are drawn one after the other, then decoded together. The weights are random; the speed does
not depend on them. Each time is the median of several runs after the one that compiles.
"""

from __future__ import annotations

import argparse
import statistics
import time

from report import header, write

from t2t_vqem import registry
from t2t_vqem.inference.images import ImageDecoder

SIDES = (16, 32, 64, 128)
BATCH_SIZES = (1, 64)


def measure(hparams_set: str, side: int, batch_size: int, runs: int) -> tuple[int, float, float]:
    """Returns the number of codes of an image, and the seconds to draw and to decode a batch."""
    shape = (side, side, 3)
    hparams = registry.hparams_sets.get(hparams_set)()
    model = registry.models.get("vqvae")(hparams, image_shape=shape)
    model.build_variables()
    decoder = ImageDecoder(model, image_shape=shape, batch_size=batch_size)
    drawing, decoding = [], []
    for seed in range(runs + 1):
        start = time.perf_counter()
        codes = decoder.sample(batch_size, seed=seed)
        drawn = time.perf_counter()
        decoder.decode(codes)
        drawing.append(drawn - start)
        decoding.append(time.perf_counter() - drawn)
    number = codes.shape[1] * codes.shape[2]
    return number, statistics.median(drawing[1:]), statistics.median(decoding[1:])


def main() -> None:
    """Measures and writes the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hparams_set", default="vqvae_cifar10", help="Hparams set of the VQ-VAE.")
    parser.add_argument("--runs", type=int, default=5, help="Timed runs.")
    parser.add_argument("--results", help="Markdown file to write; default: only print.")
    args = parser.parse_args()
    lines = header("Speed of drawing images", ["t2t-vqem", "tensorflow", "numpy"])
    lines += [
        f"Set `{args.hparams_set}`, random weights, float32; medians of {args.runs} runs.",
        "",
        "| batch | image | codes | images/s | ms per image: codes | pixels | µs per code |",
        "|---|---|---|---|---|---|---|",
    ]
    for batch_size in BATCH_SIZES:
        for side in SIDES:
            number, drawing, decoding = measure(args.hparams_set, side, batch_size, args.runs)
            each = 1000 * drawing / batch_size
            lines.append(
                f"| {batch_size} | {side}x{side} | {number} | "
                f"{batch_size / (drawing + decoding):.1f} | {each:.2f} | "
                f"{1000 * decoding / batch_size:.2f} | {1000 * each / number:.1f} |"
            )
            print(lines[-1], flush=True)
    write(lines, args.results)


if __name__ == "__main__":
    main()

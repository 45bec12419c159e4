"""EM against its rivals on CIFAR-10: one architecture, one data set, the same steps and seeds.

    t2t-datagen --problem=image_cifar10 --source_dir=cifar10 --data_dir=data
    pip install matplotlib
    python benchmarks/bottleneck_quality.py --data_dir=data --work_dir=runs/quality \\
        --results=benchmarks/results/bottleneck_quality.md

Trains the same VQ-VAE with codes learned by gradient ("vq"), by hard EM and by soft EM with 1, 5
and 10 draws, and once more with codes kept equally used, with few codes and with many, and measures
each on the test set. All encode in a single pass, as the literature does. Started again, it keeps
finished runs and continues unfinished ones.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import re
import statistics
from typing import NamedTuple

from commands import evaluations, figures, read_log, run
from report import header, pyplot, save, write

KINDS = {
    "vq": "bottleneck_kind=vq,balance=0",
    "hard EM": "bottleneck_kind=hard_em,balance=0",
    "soft EM, m=1": "bottleneck_kind=soft_em,num_samples=1,balance=0",
    "soft EM, m=5": "bottleneck_kind=soft_em,num_samples=5,balance=0",
    "soft EM, m=10": "bottleneck_kind=soft_em,num_samples=10,balance=0",
    "soft EM, m=10, balanced": "bottleneck_kind=soft_em,num_samples=10,balance=2",
}
FIGURES = {  # printed by t2t-decoder, with heading and decimals of the column
    "bits_per_dim": ("bits/dim", 3),
    "reconstruction_bits": ("reconstruction", 3),
    "prior_bits": ("prior", 4),
    "psnr": ("PSNR, dB", 2),
    "ssim": ("SSIM", 3),
    "perplexity": ("perplexity", 0),
    "codes_used": ("share of codes used", 3),
}


class Run(NamedTuple):
    """One training."""

    kind: str
    num_codes: int
    seed: int

    def directory(self, work_dir: pathlib.Path) -> pathlib.Path:
        """Returns the run's folder."""
        name = re.sub(r"\W+", "_", self.kind.lower())
        return work_dir / f"{name}_{self.num_codes}_{self.seed}"


def train_and_measure(this: Run, args: argparse.Namespace) -> dict[str, float]:
    """Trains, unless that is done, and returns the figures on the test set."""
    output_dir = this.directory(pathlib.Path(args.work_dir))
    kept = output_dir / "test.json"
    if kept.exists():
        return json.loads(kept.read_text(encoding="utf-8"))
    run(
        "t2t-trainer",
        "--problem=image_cifar10",
        f"--hparams_set={args.hparams_set}",
        f"--hparams=num_codes={this.num_codes},{KINDS[this.kind]},encoding_turns=1,"
        f"warmup_steps={args.train_steps // 10},temperature_steps={args.train_steps // 2}",
        f"--data_dir={args.data_dir}",
        f"--output_dir={output_dir}",
        f"--train_steps={args.train_steps}",
        f"--local_eval_frequency={max(1, args.train_steps // 5)}",
        f"--seed={this.seed}",
    )
    shown = run(
        "t2t-decoder", f"--output_dir={output_dir}", "--checkpoint=latest", "--decode_split=test"
    )
    found = figures(shown)
    measured = {name: float(found[name]) for name in FIGURES}
    kept.write_text(json.dumps(measured), encoding="utf-8")
    return measured


def curves(this: Run, work_dir: pathlib.Path, name: str) -> tuple[list[int], list[float]]:
    """Returns steps and values of a figure on the dev set."""
    lines = evaluations(read_log(this.directory(work_dir)))
    return [line["step"] for line in lines], [line[name] for line in lines]


def plot(runs: list[Run], work_dir: pathlib.Path, path: pathlib.Path) -> None:
    """Plots perplexity and PSNR on the dev set over the steps, one line per seed."""
    plt = pyplot()
    sizes = sorted({this.num_codes for this in runs})
    figure, axes = plt.subplots(2, len(sizes), figsize=(5 * len(sizes), 7), squeeze=False)
    for this in runs:
        color = f"C{list(KINDS).index(this.kind)}"
        label = this.kind if this.seed == runs[0].seed else None
        for row, name in enumerate(("perplexity", "psnr")):
            steps, values = curves(this, work_dir, name)
            axes[row][sizes.index(this.num_codes)].plot(steps, values, color=color, label=label)
    for column, size in enumerate(sizes):
        axes[0][column].set(title=f"K = {size}", ylabel="perplexity, dev")
        axes[1][column].set(xlabel="step", ylabel="PSNR, dB, dev")
        axes[0][column].legend()
        for row in range(2):
            axes[row][column].grid(alpha=0.3)
    save(figure, path)


def table(num_codes: int, results: dict[Run, dict[str, float]]) -> list[str]:
    """Returns the section of one number of codes: means over seeds and their spread."""
    headings = [heading for heading, _ in FIGURES.values()]
    lines = [
        f"## K = {num_codes}",
        "",
        f"| | {' | '.join(headings)} |",
        "|---" * (1 + len(headings)) + "|",
    ]
    for kind in dict.fromkeys(this.kind for this in results):
        found = [
            r for this, r in results.items() if (this.kind, this.num_codes) == (kind, num_codes)
        ]
        cells = []
        for name, (_, decimals) in FIGURES.items():
            values = [figures[name] for figures in found]
            half = (max(values) - min(values)) / 2
            cells.append(f"{statistics.mean(values):.{decimals}f} ± {half:.{decimals}f}")
        lines.append(f"| {kind} | {' | '.join(cells)} |")
    return [*lines, ""]


def main() -> None:
    """Trains, measures and writes the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data_dir", required=True, help="Folder that t2t-datagen wrote.")
    parser.add_argument("--work_dir", required=True, help="Folder for the runs.")
    parser.add_argument(
        "--hparams_set", default="vqvae_cifar10_small", help="Hparams set of the VQ-VAE."
    )
    parser.add_argument("--train_steps", type=int, default=1500, help="Updates of each run.")
    parser.add_argument(
        "--kinds", default=";".join(KINDS), help="Kinds to train, separated by semicolons."
    )
    parser.add_argument(
        "--num_codes", default="512,4096", help="Codebook sizes, separated by commas."
    )
    parser.add_argument("--seeds", default="1,2", help="Seeds, separated by commas.")
    parser.add_argument("--results", help="Markdown file to write; the plot is written beside it.")
    args = parser.parse_args()
    sizes = [int(number) for number in args.num_codes.split(",")]
    runs = [
        Run(kind, size, int(seed))
        for seed in args.seeds.split(",")
        for size in sizes
        for kind in args.kinds.split(";")
    ]
    results = {this: train_and_measure(this, args) for this in runs}
    lines = header("EM against its rivals on CIFAR-10", ["t2t-vqem", "tensorflow", "numpy"])
    lines += [
        f"Set `{args.hparams_set}`, {args.train_steps} steps (a tenth of them warm-up; the "
        "temperature of soft EM falls over the first half), test set. Mean over seeds "
        f"{args.seeds} ± half the distance between them. Bits per dimension is an upper bound, the "
        "sum of its two parts.",
        "",
    ]
    for size in sizes:
        lines += table(size, results)
    if args.results:
        picture = pathlib.Path(args.results).with_suffix(".svg")
        plot(runs, pathlib.Path(args.work_dir), picture)
        lines.append(f"![Training over time]({picture.name})")
    write(lines, args.results)


if __name__ == "__main__":
    main()

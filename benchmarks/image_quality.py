"""How good a VQ-VAE of CIFAR-10 becomes: one command each for data, training and measuring.

    pip install matplotlib
    python benchmarks/image_quality.py --source_dir=cifar10 --work_dir=runs \\
        --results=benchmarks/results/image_quality.md

--source_dir holds the official CIFAR-10 archive. The time of training is what the run logged:
compilation and evaluations included. The last checkpoint is measured on the test set; pictures of
test images beside their reconstructions, and of samples, go beside the results. Started again, what
is done is kept and an unfinished training goes on.
"""

from __future__ import annotations

import argparse
import pathlib
import re

from commands import evaluations, read_log, run
from report import header, write

PROBLEM = "image_cifar10"
FIGURES = {  # of t2t-decoder on the test set
    "psnr": "PSNR, dB, mean of the images",
    "ssim": "SSIM",
    "perplexity": "perplexity of the codes",
    "codes_used": "share of the codes used",
    "rate": "bits of an image's codes under the prior",
    "bits_per_dim": "bits per dimension, a bound",
    "reconstruction_bits": "of them for the pixels given the codes",
    "prior_bits": "of them for the codes",
    "bits_per_dim_uniform": "the bound with a uniform prior",
}


def main() -> None:
    """Runs the commands and writes the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--source_dir", required=True, help="Folder of the official archive.")
    parser.add_argument("--work_dir", required=True, help="Folder for data and run.")
    parser.add_argument("--hparams_set", default="vqvae_cifar10_small", help="Of the VQ-VAE.")
    parser.add_argument("--train_steps", type=int, default=12_000, help="Updates.")
    parser.add_argument("--seed", type=int, default=1, help="Of training and samples.")
    parser.add_argument("--results", required=True, help="Markdown file; pictures go beside it.")
    args = parser.parse_args()
    work_dir, results = pathlib.Path(args.work_dir), pathlib.Path(args.results)
    data_dir, output_dir = work_dir / "data", work_dir / args.hparams_set
    run(
        "t2t-datagen",
        f"--problem={PROBLEM}",
        f"--source_dir={args.source_dir}",
        f"--data_dir={data_dir}",
    )
    run(
        "t2t-trainer",
        f"--problem={PROBLEM}",
        f"--hparams_set={args.hparams_set}",
        f"--data_dir={data_dir}",
        f"--output_dir={output_dir}",
        f"--train_steps={args.train_steps}",
        "--local_eval_frequency=1000",
        "--save_checkpoints_steps=1000",
        f"--seed={args.seed}",
    )
    pictures = {
        name: results.with_suffix(f".{name}.png") for name in ("reconstructions", "samples")
    }
    decoder = ["t2t-decoder", f"--output_dir={output_dir}", "--checkpoint=latest"]
    shown = run(
        *decoder,
        "--decode_split=test",
        "--num_samples=32",
        f"--decode_to_file={pictures['reconstructions']}",
    )
    run(*decoder, f"--seed={args.seed}", f"--decode_to_file={pictures['samples']}")
    log = read_log(output_dir)
    plot(evaluations(log), results.with_suffix(".svg"))
    lines = header("A VQ-VAE of CIFAR-10", ["t2t-vqem", "tensorflow", "numpy"])
    minutes = max(line["seconds"] for line in log) / 60
    lines += [
        f"Set `{args.hparams_set}`, {args.train_steps} steps in {minutes:.1f} minutes, seed "
        f"{args.seed}; the last checkpoint, all 10,000 test images.",
        "",
        "| test | |",
        "|---|---|",
        *(f"| {text} | {value} |" for text, value in figures(shown).items()),
        "",
        *curve(evaluations(log)),
        "",
        f"![Dev set over minutes of training]({results.with_suffix('.svg').name})",
        "",
        "Test images, each beside its reconstruction:",
        "",
        f"![Reconstructions]({pictures['reconstructions'].name})",
        "",
        "Drawn from the prior at temperature 1:",
        "",
        f"![Samples]({pictures['samples'].name})",
    ]
    write(lines, args.results)


def figures(shown: str) -> dict[str, str]:
    """Returns what t2t-decoder said about the test set, by what it means."""
    found = dict(re.findall(r"(\w+) (-?[\d.]+)", shown))
    return {text: found[name] for name, text in FIGURES.items()}


def curve(measured: list[dict]) -> list[str]:
    """Returns the section on the dev set over time."""
    return [
        "## Curve (dev)",
        "",
        "| step | minutes | PSNR, dB | perplexity | bits/dim |",
        "|---|---|---|---|---|",
        *(
            f"| {line['step']} | {line['seconds'] / 60:.1f} | {line['psnr']:.2f} | "
            f"{line['perplexity']:.0f} | {line['bits_per_dim']:.3f} |"
            for line in measured
        ),
    ]


def plot(measured: list[dict], path: pathlib.Path) -> None:
    """Draws PSNR, perplexity and bits per dimension on the dev set over minutes of training."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    plt.rcParams["svg.hashsalt"] = "t2t-vqem"  # the same picture from the same figures
    minutes = [line["seconds"] / 60 for line in measured]
    titles = {"psnr": "PSNR, dB", "perplexity": "perplexity", "bits_per_dim": "bits/dim"}
    drawing, axes = plt.subplots(1, 3, figsize=(11, 3.2))
    for axis, (name, title) in zip(axes, titles.items(), strict=True):
        axis.plot(minutes, [line[name] for line in measured], marker=".")
        axis.set(title=f"{title}, dev", xlabel="minutes of training")
        axis.grid(alpha=0.3)
    drawing.tight_layout()
    drawing.savefig(path, metadata={"Date": None})


if __name__ == "__main__":
    main()

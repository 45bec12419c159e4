"""Quality of a VQ-VAE of CIFAR-10: one command each for data, training and measuring.

    pip install matplotlib
    python benchmarks/image_quality.py --source_dir=cifar10 --work_dir=runs \\
        --results=benchmarks/results/image_quality.md

--source_dir holds the official CIFAR-10 archive. The training time is the logged time of the run,
including compilation and evaluations. The last checkpoint is measured on the test set, with the
nearest codes and with those of a search. Pictures of test images with their reconstructions from
the nearest codes, and of samples, are written to the folder of the results. If started again, the
script keeps finished results and continues an unfinished training.
"""

from __future__ import annotations

import argparse
import pathlib
import time

from commands import evaluations, figures, read_log, run
from report import header, pyplot, save, write

FIGURES = {  # printed by t2t-decoder for the test set
    "psnr": "PSNR, dB, mean of the images",
    "ssim": "SSIM",
    "perplexity": "perplexity of the codes",
    "codes_used": "share of the codes used",
    "rate": "bits of an image's codes under the prior",
    "bits_per_dim": "bits per dimension (a bound)",
    "reconstruction_bits": "of them for the pixels given the codes",
    "prior_bits": "of them for the codes",
    "bits_per_dim_uniform": "the bound with a uniform prior",
    "minutes": "minutes to encode, decode and measure, with start-up",
}


def main() -> None:
    """Runs the commands and writes the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--source_dir", required=True, help="Folder of the official archive.")
    parser.add_argument("--work_dir", required=True, help="Folder for data and run.")
    parser.add_argument(
        "--hparams_set", default="vqvae_cifar10_small", help="Hparams set of the VQ-VAE."
    )
    parser.add_argument("--train_steps", type=int, default=10_000, help="Updates.")
    parser.add_argument("--seed", type=int, default=1, help="Seed of training and samples.")
    parser.add_argument(
        "--search_passes", type=int, default=1, help="Search passes of t2t-decoder."
    )
    parser.add_argument(
        "--results", required=True, help="Markdown file to write; pictures are written beside it."
    )
    args = parser.parse_args()
    work_dir, results = pathlib.Path(args.work_dir), pathlib.Path(args.results)
    output_dir = work_dir / args.hparams_set
    train(args, work_dir / "data", output_dir)
    copies, samples = map(results.with_suffix, (".reconstructions.png", ".samples.png"))
    decoder = ["t2t-decoder", f"--output_dir={output_dir}", "--checkpoint=latest"]
    pictures = ["--num_samples=32", f"--decode_to_file={copies}"]
    nearest = measure(*decoder, *pictures)
    searched = measure(*decoder, f"--search_passes={args.search_passes}")
    run(*decoder, f"--seed={args.seed}", f"--decode_to_file={samples}")
    log = read_log(output_dir)
    picture = results.with_suffix(".svg")
    plot(evaluations(log), picture)
    lines = header("A VQ-VAE of CIFAR-10", ["t2t-vqem", "tensorflow", "numpy"])
    minutes = max(line["seconds"] for line in log) / 60
    lines += [
        f"Set `{args.hparams_set}`, {args.train_steps} steps in {minutes:.1f} minutes, seed "
        f"{args.seed}; the last checkpoint, all 10,000 test images.",
        "",
        f"| test | nearest codes | after a search, passes: {args.search_passes} |",
        "|---|---|---|",
        *(f"| {text} | {nearest[name]} | {searched[name]} |" for name, text in FIGURES.items()),
        "",
        *curve(evaluations(log)),
        "",
        f"![Dev set over minutes of training]({picture.name})",
        "",
        "Test images, each with its reconstruction beside it:",
        "",
        f"![Reconstructions]({copies.name})",
        "",
        "Drawn from the prior at temperature 1:",
        "",
        f"![Samples]({samples.name})",
    ]
    write(lines, args.results)


def train(args: argparse.Namespace, data_dir: pathlib.Path, output_dir: pathlib.Path) -> None:
    """Makes the data and trains, unless that is done."""
    problem = "--problem=image_cifar10"
    run("t2t-datagen", problem, f"--source_dir={args.source_dir}", f"--data_dir={data_dir}")
    run(
        "t2t-trainer",
        problem,
        f"--hparams_set={args.hparams_set}",
        f"--data_dir={data_dir}",
        f"--output_dir={output_dir}",
        f"--train_steps={args.train_steps}",
        "--local_eval_frequency=1000",
        "--save_checkpoints_steps=1000",
        f"--seed={args.seed}",
    )


def measure(*decoder: str) -> dict[str, str]:
    """Returns the figures on the test set, and the minutes that measuring took."""
    start = time.monotonic()
    found = figures(run(*decoder, "--decode_split=test"))
    return {**found, "minutes": f"{(time.monotonic() - start) / 60:.1f}"}


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
    """Plots PSNR, perplexity and bits per dimension on the dev set over minutes of training."""
    plt = pyplot()
    minutes = [line["seconds"] / 60 for line in measured]
    titles = {"psnr": "PSNR, dB", "perplexity": "perplexity", "bits_per_dim": "bits/dim"}
    figure, axes = plt.subplots(1, 3, figsize=(11, 3.2))
    for axis, (name, title) in zip(axes, titles.items(), strict=True):
        axis.plot(minutes, [line[name] for line in measured], marker=".")
        axis.set(title=f"{title}, dev", xlabel="minutes of training")
        axis.grid(alpha=0.3)
    save(figure, path)


if __name__ == "__main__":
    main()

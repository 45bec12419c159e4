"""Hard EM against soft EM in the latent translator: quality and code usage over time.

    pip install matplotlib
    python benchmarks/latent_stability.py --work_dir=runs --teacher_dir=runs/teacher \\
        --results=benchmarks/results/latent_stability.md

Trains a latent model for each kind of bottleneck, number of codes and seed on the distilled data in
--work_dir, which latent_translation.py makes, and reports figures on dev over steps. Started again,
the script keeps what is finished and continues an unfinished training.
"""

from __future__ import annotations

import argparse
import itertools
import pathlib
from collections.abc import Callable

from commands import evaluations, read_log
from latent_translation import train
from report import header, plot_over_steps, write

LINES = {"hard_em": "--", "soft_em": "-"}
Run = tuple[str, int, int]  # kind, codes, seed


def main() -> None:
    """Trains the missing runs and writes the results."""
    args = parse_arguments()
    logs = {}
    for codes, seed, kind in itertools.product(args.codes, args.seeds, args.kinds):
        logs[kind, codes, seed] = trained(args, kind, codes, seed)
        report(args, logs)  # after each training, also if others are missing


def parse_arguments() -> argparse.Namespace:
    """Returns the command's arguments."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--problem", default="translate_ende_multi30k_distilled")
    parser.add_argument(
        "--work_dir", required=True, help="folder with data/; runs are written there, too"
    )
    parser.add_argument("--teacher_dir", required=True, help="run for the warm start")
    parser.add_argument("--latent_set", default="transformer_nat_multi30k")
    parser.add_argument("--kinds", nargs="+", default=["hard_em", "soft_em"], choices=list(LINES))
    parser.add_argument("--codes", type=int, nargs="+", default=[256, 1024, 4096])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--eval_every", type=int, default=250)
    parser.add_argument("--hparams", default="", help="further hyperparameters of every model")
    parser.add_argument("--results", help="Markdown file to write; the plot is written beside it")
    return parser.parse_args()


def trained(args: argparse.Namespace, kind: str, codes: int, seed: int) -> list[dict]:
    """Trains a model to its last step; returns the run's log."""
    output_dir = pathlib.Path(args.work_dir) / f"stability-{kind}-{codes}-{seed}"
    # The temperature falls over the first half, as in the longer training on Multi30k.
    hparams = f"bottleneck_kind={kind},num_codes={codes},temperature_steps={args.steps // 2}"
    train(
        args,
        args.problem,
        args.latent_set,
        output_dir,
        args.steps,
        f"--hparams={hparams},{args.hparams}".rstrip(","),
        f"--warm_start_from={args.teacher_dir}",
        "--keep_checkpoint_max=1",
        f"--seed={seed}",
        eval_every=args.eval_every,
    )
    return read_log(output_dir)


def report(args: argparse.Namespace, logs: dict[Run, list[dict]]) -> None:
    """Writes the tables and the plot of the runs so far."""
    lines = header(f"Stability of hard and soft EM: {args.problem}", ["t2t-vqem", "tensorflow"])
    signature = evaluations(next(iter(logs.values())))[-1]["signature"]
    lines += [
        f"`{args.latent_set}`, {args.steps} steps, one number for each of the seeds "
        f"{', '.join(map(str, args.seeds))}. BLEU: `{signature}`.",
        *missing(args, logs),
        *at_the_end(logs),
        *over_steps(logs),
    ]
    if args.results:
        picture = pathlib.Path(args.results).with_suffix(".svg")
        plot(logs, picture)
        lines += ["", f"![The dev set over steps]({picture.name})"]
    write(lines, args.results)


def missing(args: argparse.Namespace, logs: dict[Run, list[dict]]) -> list[str]:
    """Returns a line that names the runs that are not finished, if any."""
    wanted = itertools.product(args.kinds, args.codes, args.seeds)
    left = [one for one in wanted if one not in logs]
    names = [f"{kind} with {codes} codes, seed {seed}" for kind, codes, seed in left]
    return ["", f"Not trained yet: {'; '.join(names)}."] if names else []


def by_seed(
    logs: dict[Run, list[dict]], kind: str, codes: int, cell: Callable[[list[dict]], str]
) -> str:
    """Returns a cell with one value per seed."""
    found = [log for (k, c, _), log in logs.items() if (k, c) == (kind, codes)]
    return ", ".join(cell(log) for log in found)


def settings(logs: dict[Run, list[dict]]) -> list[tuple[str, int]]:
    """Returns kinds and numbers of codes, each once."""
    return list(dict.fromkeys((kind, codes) for kind, codes, _ in logs))


def at_the_end(logs: dict[Run, list[dict]]) -> list[str]:
    """Returns figures of the last evaluation and of the last hundred updates of each run."""
    names = {
        "bleu": "BLEU, predicted latents",
        "reconstruction_bleu": "BLEU, latents of the reference",
        "perplexity": "perplexity of codes",
        "codes_used": "codes used",
        "latent_accuracy": "accuracy of latents",
    }
    of_updates = {"codes_revived": "codes revived per update", "codes_moved": "movement of a code"}
    titles = [*names.values(), *of_updates.values()]
    lines = ["", "## Dev, at the end", "", f"| kind | codes | {' | '.join(titles)} |"]
    lines += ["|" + "---|" * (len(titles) + 2)]
    for kind, codes in settings(logs):
        cells = [
            by_seed(logs, kind, codes, lambda log, name=name: f"{evaluations(log)[-1][name]:.3g}")
            for name in names
        ]
        for name in of_updates:
            cells.append(by_seed(logs, kind, codes, lambda log, n=name: f"{updates(log)[n]:.2g}"))
        lines.append(f"| {kind} | {codes} | {' | '.join(cells)} |")
    return lines


def updates(log: list[dict]) -> dict:
    """Returns the figures of the last hundred updates."""
    return [line for line in log if line["kind"] == "train"][-1]


def over_steps(logs: dict[Run, list[dict]]) -> list[str]:
    """Returns quality and code usage at each evaluation."""
    steps = sorted({line["step"] for log in logs.values() for line in evaluations(log)})
    titles = {"perplexity": "Perplexity of codes", "bleu": "BLEU, predicted latents"}
    lines = []
    for name, title in titles.items():
        lines += ["", f"## {title} (dev)", ""]
        lines += ["| kind | codes | " + " | ".join(f"{step:,}" for step in steps) + " |"]
        lines += ["|" + "---|" * (len(steps) + 2)]
        for kind, codes in settings(logs):
            cells = [
                by_seed(logs, kind, codes, lambda log, n=name, at=step: value(log, n, at))
                for step in steps
            ]
            lines.append(f"| {kind} | {codes} | {' | '.join(cells)} |")
    return lines


def value(log: list[dict], name: str, step: int) -> str:
    """Returns the figure of the evaluation at a step."""
    return next((f"{e[name]:.3g}" for e in evaluations(log) if e["step"] == step), "")


def plot(logs: dict[Run, list[dict]], path: pathlib.Path) -> None:
    """Plots figures on dev over the training steps, one colour per number of codes."""
    titles = {
        "bleu": "sacreBLEU, predicted latents",
        "reconstruction_bleu": "sacreBLEU, latents of the reference",
        "perplexity": "perplexity, share of the codes",
    }
    colours = {codes: f"C{n}" for n, codes in enumerate(sorted({codes for _, codes, _ in logs}))}
    curves, named = [], set()
    for (kind, codes, _), log in logs.items():
        shares = [{**e, "perplexity": e["perplexity"] / codes} for e in evaluations(log)]
        label = None if (kind, codes) in named else f"{kind}, {codes} codes"
        named.add((kind, codes))
        style = {"color": colours[codes], "linestyle": LINES[kind], "label": label}
        curves.append((shares, style))
    plot_over_steps(titles, curves, path)


if __name__ == "__main__":
    main()

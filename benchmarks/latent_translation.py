"""The whole recipe for a latent translator: teacher, distillation, latent model, quality.

    pip install matplotlib
    python benchmarks/latent_translation.py --source_dir=multi30k --work_dir=runs \\
        --results=benchmarks/results/latent_translation.md

Makes the data, trains the teacher, has it translate the training text, trains latent models from
its weights, averages their last checkpoints, and translates the test set in several ways.
--variants names the latent models: a kind of bottleneck, with "-undistilled" for one that learns
from the original text, and with other hyperparameters after a colon, for example
soft_em:num_codes=4096,codebook_decay=0.999. Each is trained with each of --seeds. --students names
sets of the autoregressive Transformer that learn from the distilled text, such as one with a
shallow decoder; they are the rivals. Started again, the script keeps what is finished and continues
an unfinished training. With other sets and another --problem it does the same for other data; see
docs/latent_translation.md.
"""

from __future__ import annotations

import argparse
import itertools
import os
import pathlib
import re

from commands import bleu, evaluations, read_log, run
from report import header, plot_over_steps, write

CANDIDATES = 9
MANY_CANDIDATES = 16
BEAM_SIZE = 4
UNDISTILLED = "-undistilled"
INSIDE = {
    "bleu": "BLEU, predicted latents",
    "reconstruction_bleu": "BLEU, latents of the reference",
    "latent_accuracy": "accuracy of latents",
    "latent_nll": "nats per latent",
    "perplexity": "perplexity of codes",
    "codes_used": "codes used",
    "repeats": "repeated tokens",
    "length_error": "length error",
}


def main() -> None:
    """Runs the recipe and writes the results."""
    args = parse_arguments()
    work_dir = pathlib.Path(args.work_dir)
    teacher_dir = work_dir / "teacher" if args.teacher_dir is None else args.teacher_dir
    data = ["--source_dir=" + args.source_dir] if args.source_dir else []
    run("t2t-datagen", f"--problem={args.problem}", f"--data_dir={work_dir / 'data'}", *data)
    train(args, args.problem, args.teacher_set, teacher_dir, args.teacher_steps)
    distilled = f"{args.problem}_distilled"
    if args.students or any(UNDISTILLED not in variant for variant in args.variants):
        run(
            "t2t-datagen",
            f"--problem={distilled}",
            f"--data_dir={work_dir / 'data'}",
            f"--teacher_dir={teacher_dir}",
            f"--problem_params={args.distillation}",
        )
    rows = [
        ("teacher, greedy", test(teacher_dir)),
        (f"teacher, beam {BEAM_SIZE}", test(teacher_dir, f"--beam_size={BEAM_SIZE}")),
    ]
    for student in args.students:
        output_dir = work_dir / student
        train(args, distilled, student, output_dir, args.teacher_steps)
        rows.append((f"`{student}`, distilled, greedy", test(output_dir)))
    runs = {}
    for variant, seed in itertools.product(args.variants, args.seeds):
        name = variant if len(args.seeds) == 1 else f"{variant}, seed {seed}"
        output_dir = work_dir / f"latent-{re.sub('[^a-z0-9_.]+', '-', variant)}-{seed}"
        train_latent(args, variant, seed, teacher_dir, output_dir)
        runs[name] = evaluations(read_log(output_dir))
        rows += test_latent(args, name, teacher_dir, output_dir)
    lines = header(f"Latent translation: {args.problem}", ["t2t-vqem", "tensorflow", "sacrebleu"])
    lines += [
        f"Teacher `{args.teacher_set}`, {args.teacher_steps} steps; latent model "
        f"`{args.latent_set}`, {args.latent_steps} steps; distillation: "
        f"{args.distillation or 'default settings'}.",
        "",
    ]
    lines += [*quality(rows), *inside(runs), *over_steps(runs)]
    if args.results:
        picture = pathlib.Path(args.results).with_suffix(".svg")
        plot(runs, picture)
        lines += ["", f"![The dev set over steps]({picture.name})"]
    write(lines, args.results)


def train_latent(
    args: argparse.Namespace,
    variant: str,
    seed: int,
    teacher_dir: pathlib.Path | str,
    output_dir: pathlib.Path,
) -> None:
    """Trains a latent model, and averages its last checkpoints."""
    kind, _, hparams = variant.partition(":")
    train(
        args,
        args.problem if kind.endswith(UNDISTILLED) else f"{args.problem}_distilled",
        args.latent_set,
        output_dir,
        args.latent_steps,
        f"--hparams=bottleneck_kind={kind.removesuffix(UNDISTILLED)},{hparams}".rstrip(","),
        f"--warm_start_from={teacher_dir}",
        f"--seed={seed}",
    )
    run("t2t-avg-all", f"--output_dir={output_dir}", f"--n={args.average}")


def test_latent(
    args: argparse.Namespace, name: str, teacher_dir: pathlib.Path | str, output_dir: pathlib.Path
) -> list[tuple[str, str]]:
    """Translates the test set in several ways; returns the BLEU of each by its name."""
    candidates = f"--num_candidates={CANDIDATES}"
    rescored = f"--rescore_dir={teacher_dir}"
    return [
        (name, test(output_dir)),
        (f"{name}, beam {BEAM_SIZE} over latents", test(output_dir, f"--beam_size={BEAM_SIZE}")),
        (f"{name}, mean of {args.average}", test(output_dir, "--checkpoint=averaged")),
        (f"{name}, best of {CANDIDATES}, chosen by the model", test(output_dir, candidates)),
        (
            f"{name}, greedy or one of {CANDIDATES - 1} samples, chosen by the teacher",
            test(output_dir, candidates, "--sampling_temp=0.7", rescored),
        ),
        (
            f"{name}, best of {CANDIDATES}, chosen by the teacher",
            test(output_dir, candidates, rescored),
        ),
        (
            f"{name}, best of {MANY_CANDIDATES}, chosen by the teacher",
            test(output_dir, f"--num_candidates={MANY_CANDIDATES}", rescored),
        ),
    ]


def parse_arguments() -> argparse.Namespace:
    """Returns the command's arguments."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--problem", default="translate_ende_multi30k")
    parser.add_argument("--source_dir", help="folder with the problem's text, if it needs one")
    parser.add_argument("--work_dir", required=True, help="folder for data and runs")
    parser.add_argument("--teacher_dir", help="run to use or to continue; default: in work_dir")
    parser.add_argument("--teacher_set", default="transformer_multi30k")
    parser.add_argument("--teacher_steps", type=int, default=15_000)
    parser.add_argument(
        "--distillation", default="", help="settings of the distilled problem, such as beam_size=1"
    )
    parser.add_argument("--latent_set", default="transformer_nat_multi30k")
    parser.add_argument("--latent_steps", type=int, default=12_000)
    parser.add_argument("--variants", nargs="+", default=["soft_em"])
    parser.add_argument(
        "--seeds", type=int, nargs="+", default=[1], help="seeds of the latent models"
    )
    parser.add_argument(
        "--students",
        nargs="*",
        default=[],
        help="autoregressive sets to train on the distilled text",
    )
    parser.add_argument("--average", type=int, default=3, help="last checkpoints to average")
    parser.add_argument("--results", help="Markdown file to write; the plot is written beside it")
    return parser.parse_args()


def train(
    args: argparse.Namespace,
    problem: str,
    hparams_set: str,
    output_dir: pathlib.Path,
    steps: int,
    *more: str,
    eval_every: int = 500,
) -> None:
    """Trains a model to its last step; a finished one is not changed."""
    run(
        "t2t-trainer",
        f"--problem={problem}",
        f"--hparams_set={hparams_set}",
        f"--data_dir={pathlib.Path(args.work_dir) / 'data'}",
        f"--output_dir={output_dir}",
        f"--train_steps={steps}",
        f"--local_eval_frequency={eval_every}",
        f"--save_checkpoints_steps={eval_every}",
        *more,
    )


def test(output_dir: pathlib.Path | str, *options: str) -> str:
    """Translates the test set; returns BLEU with its signature."""
    target = os.path.join(output_dir, "test.out")
    output = run(
        "t2t-decoder",
        f"--output_dir={output_dir}",
        "--decode_split=test",
        f"--decode_to_file={target}",
        *options,
    )
    return next(line for line in output.splitlines() if line.startswith("BLEU"))


def quality(rows: list[tuple[str, str]]) -> list[str]:
    """Returns the table of the test set."""
    _, signature = bleu(rows[0][1])
    scores = {name: bleu(line)[0] for name, line in rows}
    greedy = scores["teacher, greedy"]
    return [
        "## Test set",
        "",
        "| system | sacreBLEU | minus the greedy teacher |",
        "|---|---|---|",
        *(f"| {name} | {value:.2f} | {value - greedy:+.2f} |" for name, value in scores.items()),
        "",
        f"BLEU: `{signature}`.",
    ]


def inside(runs: dict[str, list[dict]]) -> list[str]:
    """Returns the figures of each latent model's parts at its best step."""
    lines = ["", "## Parts of the models (dev, best step by BLEU)", ""]
    lines += ["| variant | step | " + " | ".join(INSIDE.values()) + " |"]
    lines += ["|" + "---|" * (len(INSIDE) + 2)]
    for variant, log in runs.items():
        best = max(log, key=lambda line: line["bleu"])
        cells = " | ".join(f"{best[name]:.3g}" for name in INSIDE)
        lines.append(f"| {variant} | {best['step']} | {cells} |")
    return lines


def over_steps(runs: dict[str, list[dict]]) -> list[str]:
    """Returns figures on dev at steps that double, and at the last step."""
    names = {
        "bleu": "BLEU, predicted latents",
        "reconstruction_bleu": "BLEU, latents of the reference",
        "latent_nll": "nats per latent",
    }
    evaluated = sorted({line["step"] for log in runs.values() for line in log})
    doubled = {evaluated[0] * 2**n for n in range(evaluated[-1].bit_length())} | {evaluated[-1]}
    steps = [step for step in evaluated if step in doubled]
    lines = ["", "## Over steps (dev)", ""]
    lines += ["| variant | figure | " + " | ".join(f"{step:,}" for step in steps) + " |"]
    lines += ["|" + "---|" * (len(steps) + 2)]
    for variant, log in runs.items():
        by_step = {line["step"]: line for line in log}
        for name, title in names.items():
            cells = (f"{by_step[step][name]:.3g}" if step in by_step else "" for step in steps)
            lines.append(f"| {variant} | {title} | " + " | ".join(cells) + " |")
    return lines


def plot(runs: dict[str, list[dict]], path: pathlib.Path) -> None:
    """Plots BLEU and perplexity on dev over the training steps."""
    titles = {
        "bleu": "sacreBLEU, predicted latents",
        "reconstruction_bleu": "sacreBLEU, latents of the reference",
        "perplexity": "perplexity of codes",
    }
    plot_over_steps(titles, [(log, {"label": name}) for name, log in runs.items()], path)


if __name__ == "__main__":
    main()

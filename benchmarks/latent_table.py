"""Trained latent translators side by side: the rows of the paper's table.

    pip install matplotlib
    python benchmarks/latent_table.py --teacher_dir=runs/teacher \\
        --students runs/student --runs runs/latent-soft_em-1 runs/latent-hard_em-1 \\
        --results=benchmarks/results/latent_table.md

Trains nothing: it needs only the settings and the best checkpoint of each run, so models that were
trained on another machine can be copied here without the files that only training needs. The data
must be where the run's flags.json says. What was trained, and how, is read from the run's own
settings and log. Figures on dev test the parts of the models; the test set is translated greedily
and from several candidates. latent_translation.py trains such models.
"""

from __future__ import annotations

import argparse
import pathlib
import statistics
from collections.abc import Iterable

from commands import bleu, figures, read_log, run
from latent_translation import BEAM_SIZE, CANDIDATES, INSIDE, test
from report import header, plot_over_steps, write

from t2t_vqem import registry
from t2t_vqem.distilled_problem import DecodingConfig
from t2t_vqem.fields import to_json
from t2t_vqem.hparams.transformer_nat import TransformerNATHParams
from t2t_vqem.output_dir import OutputDir, RunSettings

DESCRIBED = ["model", "learned from", "tokens per latent", "seed", "steps", "batch"]
TESTED = [
    "greedy",
    f"best of {CANDIDATES}, chosen by the model",
    f"best of {CANDIDATES}, chosen by the teacher",
    "greedy, minus the greedy teacher",
]
LEARNED = {
    "nll": "nats per token",
    "latent_nll": "nats per latent",
    "perplexity": "perplexity in a batch",
}
TRAINED = ["minutes", "steps per second, median", "in the last quarter"]
EVERY = 500  # steps between the points of the plot
PACKAGES = ["t2t-vqem", "tensorflow", "sacrebleu"]


def main() -> None:
    """Tests the runs and writes the table."""
    args = parse_arguments()
    lines = header("What each part of a latent translator is worth", PACKAGES)
    if args.trained_on:
        lines += [f"Trained on {args.trained_on}, tested on the machine above.", ""]
    lines += [*test_set(args), "", "## Parts of the models (dev)", ""]
    lines += table([*DESCRIBED, *INSIDE.values()], map(inside, args.runs))
    lines += ["", *training([*args.students, *args.runs])]
    if args.results:
        picture = pathlib.Path(args.results).with_suffix(".svg")
        plot(args.runs, picture)
        lines += ["", f"![Training over steps]({picture.name})"]
    write(lines, args.results)


def parse_arguments() -> argparse.Namespace:
    """Returns the command's arguments."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--teacher_dir", required=True, help="run of the autoregressive teacher")
    parser.add_argument("--students", nargs="*", default=[], help="runs of autoregressive rivals")
    parser.add_argument("--runs", nargs="+", required=True, help="runs of latent models")
    parser.add_argument("--trained_on", help="the machine that trained the runs, for the report")
    parser.add_argument("--results", help="Markdown file to write; the plot is written beside it")
    return parser.parse_args()


def test_set(args: argparse.Namespace) -> list[str]:
    """Translates the test set with every model, and returns the table of scores."""
    several = f"--num_candidates={CANDIDATES}"
    searches = [[], [several], [several, f"--rescore_dir={args.teacher_dir}"]]
    greedy, signature = bleu(test(args.teacher_dir))
    beam, _ = bleu(test(args.teacher_dir, f"--beam_size={BEAM_SIZE}"))
    described = describe(args.teacher_dir)[1:]
    rows = [
        ["teacher", *described, *tested([greedy])],
        [f"teacher, beam {BEAM_SIZE}", *described, *tested([beam])],
    ]
    for output_dir in [*args.students, *args.runs]:
        usual = searches if output_dir in args.runs else searches[:1]
        scores = [bleu(test(output_dir, *options))[0] for options in usual]
        rows.append([*describe(output_dir), *tested(scores, greedy)])
    return ["## Test set", "", *table([*DESCRIBED, *TESTED], rows), "", f"BLEU: `{signature}`."]


def tested(scores: list[float], teacher: float | None = None) -> list[str]:
    """Returns the score of each search, and the first one minus the teacher's."""
    cells = [f"{score:.2f}" for score in scores] + [""] * (len(TESTED) - 1 - len(scores))
    return [*cells, "" if teacher is None else f"{scores[0] - teacher:+.2f}"]


def inside(output_dir: str) -> list[str]:
    """Evaluates a latent model on dev, and returns its row."""
    output = run("t2t-trainer", f"--output_dir={output_dir}", "--schedule=evaluate")
    found = figures(output[output.index(", dev: ") :])
    return [*describe(output_dir), *(f"{float(found[name]):.3g}" for name in INSIDE)]


def describe(output_dir: str) -> list[str]:
    """Returns the cells that describe what a run trained."""
    settings = OutputDir(output_dir).settings()
    hparams, problem = settings.hparams, settings.problem_config
    model, ratio = f"`{settings.hparams_set}`", ""
    if isinstance(hparams, TransformerNATHParams):
        model, ratio = hparams.bottleneck_kind, str(2**hparams.num_halvings)
    learned_from = "original text"
    if isinstance(problem, DecodingConfig):
        further = " and further sources" if problem.extra_sources else ""
        learned_from = f"{problem.num_translations} translations{further}"
    sizes = [f"{settings.train_steps:,}", f"{hparams.batch_size:,}"]
    return [model, learned_from, ratio, str(settings.seed), *sizes]


def training(output_dirs: list[str]) -> list[str]:
    """Returns the speed at which the runs were trained, from their logs, and their commands."""
    rows = []
    for output_dir in output_dirs:
        log = training_log(output_dir)
        rates = [line["steps_per_second"] for line in log]
        middles = [statistics.median(some) for some in (rates, rates[-len(rates) // 4 :])]
        minutes = f"{log[-1]['seconds'] / 60:.1f}"
        rows.append([*describe(output_dir), minutes, *(f"{middle:.1f}" for middle in middles)])
    commands = [training_command(OutputDir(path).settings()) for path in output_dirs]
    lines = ["## How they were trained", "", *table([*DESCRIBED, *TRAINED], rows)]
    return [*lines, "", "```bash", *commands, "```"]


def training_log(output_dir: str) -> list[dict]:
    """Returns the training figures in a run's log."""
    return [line for line in read_log(output_dir) if line["kind"] == "train"]


def training_command(settings: RunSettings) -> str:
    """Returns the command that trains such a run, with its differences from the set."""
    usual = to_json(registry.hparams_sets.get(settings.hparams_set)())
    hparams = to_json(settings.hparams)
    words = {
        "problem": settings.problem,
        "hparams_set": settings.hparams_set,
        "hparams": ",".join(f"{k}={value}" for k, value in hparams.items() if value != usual[k]),
        "warm_start_from": "TEACHER" if settings.warm_start_from else "",
        "seed": str(settings.seed),
        "train_steps": str(settings.train_steps),
    }
    return " ".join(["t2t-trainer", *(f"--{name}={word}" for name, word in words.items() if word)])


def plot(output_dirs: list[str], path: pathlib.Path) -> None:
    """Plots figures of the training batches over the steps, from the first step with codes."""
    curves = []
    for output_dir in output_dirs:
        begin = OutputDir(output_dir).settings().hparams.masking_steps
        log = training_log(output_dir)
        model, learned_from, ratio, seed, *_ = describe(output_dir)
        name = f"{model}, {learned_from}, {ratio} tokens, seed {seed}"
        drawn = [line for line in log if line["step"] > begin and line["step"] % EVERY == 0]
        curves.append((drawn, {"label": name}))
    plot_over_steps(LEARNED, curves, path)


def table(columns: list[str], rows: Iterable[list[str]]) -> list[str]:
    """Returns the lines of a table."""
    lines = [columns, ["---"] * len(columns), *rows]
    return [f"| {' | '.join(cells)} |" for cells in lines]


if __name__ == "__main__":
    main()

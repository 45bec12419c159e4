"""Trained latent translators side by side: the rows of the paper's table.

    pip install matplotlib
    python benchmarks/latent_table.py --teacher_dir=runs/teacher \\
        --students runs/student --runs runs/latent-soft_em-1 runs/latent-hard_em-1 \\
        --results=benchmarks/results/latent_table.md

Trains nothing: of each run it needs the settings and the best checkpoint, so that models that were
trained on another machine can be copied here without what training alone needs; the data must be
where the run's flags.json says. What was trained, and how, is read from the run's own settings and
log. The dev set shows what is inside; the test set is translated greedily and from several
candidates. latent_translation.py trains such models.
"""

from __future__ import annotations

import argparse
import functools
import json
import pathlib
import re
from typing import Any

from commands import figures, read_log, run
from latent_translation import BEAM_SIZE, CANDIDATES, test
from report import header, plot_over_steps, write

INSIDE = {
    "bleu": "BLEU, predicted latents",
    "reconstruction_bleu": "BLEU, latents of the reference",
    "latent_accuracy": "accuracy of latents",
    "latent_nll": "nats a latent",
    "perplexity": "perplexity of codes",
    "repeats": "repeated tokens",
    "length_error": "length error",
}
DESCRIBED = ["model", "learned from", "tokens a latent", "seed", "steps", "batch"]
TESTED = [
    "greedy",
    f"best of {CANDIDATES} by itself",
    f"best of {CANDIDATES} by the teacher",
    "greedy beside the greedy teacher",
]
LEARNED = {
    "nll": "nats a token",
    "latent_nll": "nats a latent",
    "perplexity": "perplexity in a batch",
}
EVERY = 500  # steps between the points drawn
PACKAGES = ["t2t-vqem", "tensorflow", "sacrebleu"]


def main() -> None:
    """Tests the runs and writes the table."""
    args = parse_arguments()
    teacher, signature = bleu(args.teacher_dir)
    beam, _ = bleu(args.teacher_dir, f"--beam_size={BEAM_SIZE}")
    rows = [
        ["teacher", *settings(args.teacher_dir), f"{teacher:.2f}", "", "", ""],
        [f"teacher, beam {BEAM_SIZE}", *settings(args.teacher_dir), f"{beam:.2f}", "", "", ""],
    ]
    for output_dir in args.students:
        value, _ = bleu(output_dir)
        beside = f"{value - teacher:+.2f}"
        rows.append([name_of(output_dir), *settings(output_dir), f"{value:.2f}", "", "", beside])
    inside = []
    for output_dir in args.runs:
        described = [name_of(output_dir), *settings(output_dir)]
        several = [f"--num_candidates={CANDIDATES}"]
        values = [
            bleu(output_dir, *options)[0]
            for options in ([], several, [*several, f"--rescore_dir={args.teacher_dir}"])
        ]
        beside = f"{values[0] - teacher:+.2f}"
        rows.append([*described, *(f"{value:.2f}" for value in values), beside])
        said = run("t2t-trainer", f"--output_dir={output_dir}", "--schedule=evaluate")
        found = figures(said[said.index(", dev: ") :])
        inside.append([*described, *(f"{float(found[name]):.3g}" for name in INSIDE)])
    lines = header("What each part of a latent translator is worth", PACKAGES)
    if args.trained_on:
        lines += [f"Trained on {args.trained_on}, tested on the machine above.", ""]
    lines += ["## Test set", "", *table([*DESCRIBED, *TESTED], rows)]
    lines += ["", f"BLEU: `{signature}`.", "", "## Inside (dev)", ""]
    lines += [*table([*DESCRIBED, *INSIDE.values()], inside), "", "## How they were trained", ""]
    lines += ["```bash", *map(training_command, [*args.students, *args.runs]), "```"]
    if args.results:
        picture = pathlib.Path(args.results).with_suffix(".svg")
        plot(args.runs, picture)
        lines += ["", f"![Training over steps]({picture.name})"]
    write(lines, args.results)


def parse_arguments() -> argparse.Namespace:
    """Returns the command's arguments."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--teacher_dir", required=True, help="run of the autoregressive teacher")
    parser.add_argument("--students", nargs="*", default=[], help="autoregressive rivals' runs")
    parser.add_argument("--runs", nargs="+", required=True, help="latent models' runs")
    parser.add_argument("--trained_on", help="machine that trained the runs, to be named")
    parser.add_argument("--results", help="Markdown file to write; its plot goes beside it")
    return parser.parse_args()


def bleu(output_dir: str, *options: str) -> tuple[float, str]:
    """Translates the test set; returns sacreBLEU and its signature."""
    line = test(output_dir, *options)
    return float(re.search(r"= *([\d.]+)", line)[1]), re.search(r"\((.*)\)", line)[1]


@functools.cache
def read(output_dir: str, name: str) -> dict[str, Any]:
    """Returns a file of a run's settings."""
    return json.loads((pathlib.Path(output_dir) / name).read_text(encoding="utf-8"))


def name_of(output_dir: str) -> str:
    """Names a model by how its codes are learned, or by its set where it has none."""
    kind = read(output_dir, "hparams.json").get("bottleneck_kind")
    return kind or f"`{read(output_dir, 'flags.json')['hparams_set']}`"


def settings(output_dir: str) -> list[str]:
    """Returns the cells that describe a run."""
    flags, hparams = read(output_dir, "flags.json"), read(output_dir, "hparams.json")
    config = flags["problem_config"]
    learned_from = "original text"
    if "num_translations" in config:
        extra = " and further sources" if config["extra_sources"] else ""
        learned_from = f"{config['num_translations']} translations{extra}"
    ratio = 2 ** hparams["num_halvings"] if "num_halvings" in hparams else ""
    return [
        learned_from,
        str(ratio),
        str(flags["seed"]),
        f"{flags['train_steps']:,}",
        f"{hparams['batch_size']:,}",
    ]


def training_command(output_dir: str) -> str:
    """Returns the command that trains such a run, with what its set does not say."""
    # Here, so that no TensorFlow lies in memory beside the commands.
    from t2t_vqem import registry
    from t2t_vqem.fields import to_json

    flags, hparams = read(output_dir, "flags.json"), read(output_dir, "hparams.json")
    usual = to_json(registry.hparams_sets.get(flags["hparams_set"])())
    changed = [f"{name}={value}" for name, value in hparams.items() if value != usual[name]]
    words = {
        "problem": flags["problem"],
        "hparams_set": flags["hparams_set"],
        "hparams": ",".join(changed),
        "warm_start_from": "TEACHER" if flags["warm_start_from"] else None,
        "seed": flags["seed"],
        "train_steps": flags["train_steps"],
    }
    return " ".join(
        ["t2t-trainer", *(f"--{name}={value}" for name, value in words.items() if value)]
    )


def plot(output_dirs: list[str], path: pathlib.Path) -> None:
    """Draws figures of the training batches over the steps, from where there are codes on."""
    curves = []
    for output_dir in output_dirs:
        begin = 2 * read(output_dir, "hparams.json")["masking_steps"]
        log = [line for line in read_log(output_dir) if line["kind"] == "train"]
        learned_from, ratio, seed, *_ = settings(output_dir)
        name = f"{name_of(output_dir)}, {learned_from}, {ratio} tokens, seed {seed}"
        log = [line for line in log if line["step"] >= begin and line["step"] % EVERY == 0]
        curves.append((log, {"label": name}))
    plot_over_steps(LEARNED, curves, path)


def table(columns: list[str], rows: list[list[str]]) -> list[str]:
    """Returns the lines of a table."""
    lines = [columns, ["---"] * len(columns), *rows]
    return [f"| {' | '.join(cells)} |" for cells in lines]


if __name__ == "__main__":
    main()

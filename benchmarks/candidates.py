"""BLEU against time of several candidates of a latent model, in LiteRT, by who chooses.

    python benchmarks/candidates.py --run=runs/nat --teacher=runs/teacher --source=test.en \\
        --reference=test.de

The model itself chooses, its scorer if it has one (`num_scorer_layers`), the scorer with a softmax
over the vocabulary, and the teacher; the teacher also translates greedily. BLEU is that of the
whole file; times are medians of sentences alone, of systems in turn, several times, and the least
of each counts. Run it on an idle machine.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

import report
import tensorflow as tf

from t2t_vqem.constants import LITERT
from t2t_vqem.data.lines import read_lines
from t2t_vqem.decoding import candidates
from t2t_vqem.decoding.options import parse_options
from t2t_vqem.export import litert
from t2t_vqem.export.exporter import describe, make_graphs
from t2t_vqem.export.loading import LoadedRun, load_rescorer, load_run
from t2t_vqem.metrics.bleu import sacrebleu_score
from t2t_vqem.ops.masks import padding_mask
from t2t_vqem.output_dir import OutputDir
from t2t_vqem.runtime import TextRuntime
from t2t_vqem.runtime.interpreters import Interpreters

MODEL = "the model"


def choosers(
    path: str, teacher: str | None
) -> Iterator[tuple[str, LoadedRun, Callable[[], LoadedRun | None]]]:
    """Yields who chooses, the run, and a function that loads the rescorer."""
    plain = load_run(OutputDir(path))
    has_scorer = plain.model.scorer is not None
    plain.model.scorer = None
    yield MODEL, plain, lambda: None
    if has_scorer:
        yield "its scorer", load_run(OutputDir(path)), lambda: None
        exact = load_run(OutputDir(path))
        use_softmax(exact.model.scorer)
        yield "its scorer, with softmax", exact, lambda: None
    if teacher:
        yield "the teacher", plain, lambda: load_rescorer(teacher, plain.vocabulary)


def use_softmax(scorer: Any) -> None:
    """Makes a scorer compute log-probabilities over the whole vocabulary."""

    def score(before, tokens, memory, memory_bias, embedding):
        states, _ = scorer(before, memory, memory_bias)
        found = candidates.log_probs_of(tokens, embedding.logits, states, embedding.vocab_size)
        return tf.reduce_sum(tf.where(padding_mask(tokens), found, 0.0), 1)

    scorer.score = score


def runtime_of(
    loaded: LoadedRun, rescorer: LoadedRun | None, options: str, quantize: str, path: str
) -> TextRuntime:
    """Converts a model to a file for LiteRT and loads it."""
    parsed = parse_options(options)
    litert.prepare(loaded.model, quantize)
    with open(path, "wb") as file:
        file.write(litert.convert(make_graphs(loaded, parsed, rescorer), quantize))
    manifest = describe(loaded, parsed, engine=LITERT, quantize=quantize, files={})
    return TextRuntime(manifest, loaded.vocabulary, Interpreters(path))


def systems(args: argparse.Namespace, work: str) -> Iterator[tuple[str, str, TextRuntime]]:
    """Yields number of candidates, who chooses, and what translates."""
    if args.teacher:
        path = os.path.join(work, "teacher")
        greedy = runtime_of(load_run(OutputDir(args.teacher)), None, "", args.quantize, path)
        yield "teacher, greedy", "", greedy
    for who, loaded, rescorer in choosers(args.run, args.teacher):
        for number in args.candidates:
            if number == 1 and who != MODEL:
                continue  # there is nothing to choose
            options = f"num_candidates={number}" if number > 1 else ""
            path = os.path.join(work, f"{who} {number}")
            yield str(number), who, runtime_of(loaded, rescorer(), options, args.quantize, path)


def texts(model: TextRuntime, lines: list[str]) -> list[str]:
    """Returns the translations."""
    return [hypothesis.text for hypothesis in model.translate(lines)]


def milliseconds(model: TextRuntime, lines: list[str]) -> float:
    """Returns the median time of a sentence alone."""
    times = []
    for line in lines:
        begin = time.perf_counter()
        texts(model, [line])
        times.append(1000 * (time.perf_counter() - begin))
    return statistics.median(times)


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--run", required=True, help="output directory of a transformer_nat")
    parser.add_argument("--teacher", help="output directory of its teacher")
    parser.add_argument("--source", required=True)
    parser.add_argument("--reference", required=True)
    parser.add_argument("--candidates", type=int, nargs="+", default=[1, 3, 5, 9])
    parser.add_argument("--quantize", choices=("none", "int8"), default="none")
    parser.add_argument("--alone", type=int, default=100, help="sentences that are timed alone")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--results", help="file to write")
    args = parser.parse_args()
    lines, references = (
        [line.decode() for line in read_lines(path)] for path in (args.source, args.reference)
    )
    with tempfile.TemporaryDirectory() as work:
        found = {(number, who): model for number, who, model in systems(args, work)}
        scores = {
            name: sacrebleu_score(texts(model, lines), references) for name, model in found.items()
        }
        times: dict[tuple[str, str], list[float]] = {name: [] for name in found}
        for _ in range(args.rounds):
            for name, model in found.items():
                times[name].append(milliseconds(model, lines[: args.alone]))
    best = {name: min(values) for name, values in times.items()}
    table = [
        "| candidates | chosen by | BLEU | ms a sentence, alone | relative to the model's choice |",
        "|---|---|---|---|---|",
    ]
    for number, who in found:
        own = best.get((number, MODEL))
        relative = f"{best[number, who] / own:.2f}" if own else ""
        table.append(
            f"| {number} | {who} | {scores[number, who].value:.2f} | {best[number, who]:.2f} | "
            f"{relative} |"
        )
    signature = next(iter(scores.values())).signature
    lines = report.header("Candidates of a latent model", ["t2t-vqem", "ai-edge-litert"])
    report.write([*lines, *table, "", signature], args.results)


if __name__ == "__main__":
    main()

"""Decoding speed and agreement: t2t-vqem against CTranslate2, same weights, greedy, on the CPU.

    python benchmarks/decoding_speed.py --output_dir=runs/multi30k --data_dir=data \\
        --results=benchmarks/results/decoding_speed.md

Both translate text to text with the same SentencePiece model, one sentence or 32 at a time (sorted
by length, for both). The systems alternate, run by run; the figures are medians. CTranslate2 runs
with one and with two threads, and its better setting counts. Needs `pip install ctranslate2`.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import ctranslate2
import report
import tensorflow as tf

from t2t_vqem.constants import EOS_ID
from t2t_vqem.data.vocabulary import Vocabulary
from t2t_vqem.decoding.options import DecodeOptions
from t2t_vqem.export import ctranslate2_model
from t2t_vqem.inference.translate import Translator
from t2t_vqem.metrics import bleu
from t2t_vqem.output_dir import OutputDir

OURS = "t2t-vqem float32"
THREADS = (1, 2)
BATCH_SIZES = (1, 32)
MAX_POSITIONS = 1024  # of a source or a translation, in CTranslate2
PAUSE = 0.5  # seconds between runs, until the threads of the other system are idle

Translate = Callable[[list[str]], list[str]]


class Measured(NamedTuple):
    """Results of one system at one batch size."""

    outputs: list[str]  # in the order of the sentences
    seconds: list[float]  # of each run over all sentences


def main() -> None:
    """Measures and writes the results."""
    args = parse_arguments()
    if args.intra_op_threads:
        tf.config.threading.set_intra_op_parallelism_threads(args.intra_op_threads)
    output_dir = OutputDir(args.output_dir)
    vocabulary = output_dir.vocabulary()
    model = output_dir.build_model()
    checkpoint = output_dir.restore_for_inference(model, args.checkpoint)
    dataset = output_dir.problem().open(args.data_dir)
    sources = dataset.sources("test")[: args.num_sentences]
    references = dataset.references("test")[: args.num_sentences]
    max_length = output_dir.hparams().max_length
    options = DecodeOptions(extra_length=args.extra_length)
    ours = Translator(model, vocabulary, options, max_length=max_length)
    systems = {OURS: lambda lines: [result.text for result in ours.translate(lines)]}
    with tempfile.TemporaryDirectory() as scratch:
        ctranslate2_model.write(model, vocabulary, MAX_POSITIONS, scratch, "none")
        converted = os.path.join(scratch, ctranslate2_model.FOLDER)
        for compute_type in ("float32", "int8"):
            for threads in THREADS:
                name = f"CTranslate2 {compute_type}, {threads} thread(s)"
                systems[name] = peer(
                    ctranslate2.Translator(
                        converted, compute_type=compute_type, intra_threads=threads
                    ),
                    vocabulary,
                    max_length,
                    options.extra_length,
                )
        results = {
            batch_size: measure(systems, sources, vocabulary, batch_size, args.runs)
            for batch_size in BATCH_SIZES
        }
    report.write(
        summary(results, references, args.runs, checkpoint, args.intra_op_threads), args.results
    )


def parse_arguments() -> argparse.Namespace:
    """Returns the command's arguments."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--output_dir", required=True, help="output directory of the run")
    parser.add_argument("--data_dir", required=True, help="generated data of the run's problem")
    parser.add_argument("--checkpoint", help="best (default), latest, averaged or a path")
    parser.add_argument(
        "--num_sentences", type=int, help="sentences of the test split; default: all"
    )
    parser.add_argument(
        "--runs", type=int, default=5, help="timed runs over all sentences, for each system"
    )
    parser.add_argument("--extra_length", type=int, default=50)
    parser.add_argument(
        "--intra_op_threads", type=int, help="threads per operation of ours; default: all cores"
    )
    parser.add_argument("--results", help="file to write")
    return parser.parse_args()


def peer(
    translator: ctranslate2.Translator, vocabulary: Vocabulary, max_length: int, extra_length: int
) -> Translate:
    """Returns a function that translates text by CTranslate2, with greedy search, as one batch."""
    names = ctranslate2_model.names_of(vocabulary)
    ids_of = {name: id_ for id_, name in enumerate(names)}

    def translate(lines: list[str]) -> list[str]:
        sources = [
            [names[id_] for id_ in [*ids[: max_length - 1], EOS_ID]]
            for ids in vocabulary.encode(lines)
        ]
        results = translator.translate_batch(
            sources,
            beam_size=1,
            max_decoding_length=max(map(len, sources)) + extra_length,
            return_scores=False,
        )
        texts = []
        for source, result in zip(sources, results, strict=True):
            # CTranslate2 has one limit for the batch; ours has one for each sentence.
            found = result.hypotheses[0][: len(source) + extra_length]
            texts.append(vocabulary.decode([ids_of[name] for name in found]))
        return texts

    return translate


def measure(
    systems: dict[str, Translate],
    sources: Sequence[str],
    vocabulary: Vocabulary,
    batch_size: int,
    runs: int,
) -> dict[str, Measured]:
    """Runs the systems in alternation over all sentences.

    In a first run, which compiles and is not timed, all systems run at once.
    """
    lengths = [len(ids) for ids in vocabulary.encode(list(sources))]
    order = sorted(range(len(sources)), key=lambda index: -lengths[index])
    batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]

    def run(name: str, number: int = 0) -> Measured:
        outputs = [""] * len(sources)
        start = time.perf_counter()
        for batch in batches:
            texts = systems[name]([sources[index] for index in batch])
            for index, text in zip(batch, texts, strict=True):
                outputs[index] = text
        seconds = time.perf_counter() - start
        print(
            f"batch {batch_size:2}, run {number}: {seconds:7.2f} s  {name}",
            file=sys.stderr,
            flush=True,
        )
        return Measured(outputs, [seconds])

    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        first = zip(systems, pool.map(run, systems), strict=True)
        measured = {name: Measured(result.outputs, []) for name, result in first}
    for number in range(1, runs + 1):
        for name in systems:
            time.sleep(PAUSE)
            measured[name].seconds.extend(run(name, number).seconds)
    return measured


def summary(
    results: dict[int, dict[str, Measured]],
    references: Sequence[str],
    runs: int,
    checkpoint: str,
    threads: int | None,
) -> list[str]:
    """Returns the lines of the results file."""
    lines = report.header(
        "Decoding speed: t2t-vqem and CTranslate2",
        ["t2t-vqem", "tensorflow", "ctranslate2", "sentencepiece"],
    )
    lines += [
        f"Greedy, the same weights ({os.path.basename(checkpoint)}), text to text; threads per "
        f"operation of ours: {threads or 'all'}. Each time is "
        f"the median of {runs} runs over {len(references)} sentences; the systems alternate. "
        "Ratio: time of CTranslate2 divided by ours; above 1, ours is faster.",
        "",
    ]
    for batch_size, measured in results.items():
        lines += [*table(batch_size, measured, references), ""]
    return lines


def table(batch_size: int, measured: dict[str, Measured], references: Sequence[str]) -> list[str]:
    """Returns the lines of the table of one batch size, and the ratios that have goals."""
    count = len(references)
    medians = {name: statistics.median(result.seconds) for name, result in measured.items()}
    lines = [
        f"## Batch {batch_size}",
        "",
        "| system | ms per sentence | fastest to slowest run | sentences/s | ratio | different "
        "outputs | BLEU |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, result in measured.items():
        unlike = sum(a != b for a, b in zip(result.outputs, measured[OURS].outputs, strict=True))
        fastest, slowest = (1000 * f(result.seconds) / count for f in (min, max))
        score = bleu.sacrebleu_score(result.outputs, references).value
        lines.append(
            f"| {name} | {1000 * medians[name] / count:.2f} | {fastest:.2f} to {slowest:.2f} | "
            f"{count / medians[name]:.1f} | {medians[name] / medians[OURS]:.2f} | {unlike} | "
            f"{score:.2f} |"
        )
    lines.append("")
    for compute_type in ("float32", "int8"):
        best = min(seconds for name, seconds in medians.items() if f" {compute_type}," in name)
        lines.append(
            f"CTranslate2 {compute_type}, with its better number of threads: "
            f"{best / medians[OURS]:.2f} times our time."
        )
    return lines


if __name__ == "__main__":
    main()

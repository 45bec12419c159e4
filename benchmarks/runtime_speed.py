"""How fast runs translate: LiteRT in float32 and int8, TensorFlow with XLA, and CTranslate2.

    python benchmarks/runtime_speed.py --source=test.en --reference=test.de --work=exports \\
        greedy=runs/teacher latent=runs/nat

Each system translates text to text: sentences alone (the median of milliseconds), and the whole
file with all cores (lines a second). Systems come in turn, several times, and the best of each
counts. Exports are made at first use, in the folder --work. CTranslate2 translates runs of
`transformer` greedily, with 1 and with 2 threads. Run it on an idle machine.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable, Iterator

from t2t_vqem import runtime
from t2t_vqem.constants import CTRANSLATE2, LITERT
from t2t_vqem.data.text_source import read_lines
from t2t_vqem.decoding.options import parse_options
from t2t_vqem.export import ctranslate2_model
from t2t_vqem.export.exporter import export_run
from t2t_vqem.inference.translate import load_translator
from t2t_vqem.metrics.bleu import sacrebleu_score
from t2t_vqem.output_dir import OutputDir
from t2t_vqem.runtime import manifest

Translate = Callable[[list[str]], list[str]]


def exported(run: OutputDir, folder: str, engine: str, quantize: str, options: str) -> str:
    """Exports a run where that is not done yet; returns the folder."""
    if not os.path.exists(os.path.join(folder, manifest.MANIFEST)):
        settings = {"engine": engine, "quantize": quantize, "options": parse_options(options)}
        export_run(run, folder, verify=False, phrases=False, **settings)
    return folder


def systems(name: str, path: str, work: str, options: str) -> Iterator[tuple[str, Translate]]:
    """Yields what translates with a run, by its name."""
    run = OutputDir(path)
    for quantize in ("none", "int8"):
        folder = os.path.join(work, f"{name}.litert.{quantize}")
        model = runtime.load(exported(run, folder, LITERT, quantize, options))
        yield f"{name}, LiteRT {quantize}", lambda lines, m=model: texts(m.translate(lines))
    translator = load_translator(run, None, parse_options(options))
    yield f"{name}, TensorFlow XLA", lambda lines: texts(translator.translate(lines))
    if run.hparams().model != "transformer" or options:
        return
    for quantize in ("none", "int8"):
        folder = os.path.join(work, f"{name}.ctranslate2.{quantize}")
        exported(run, folder, CTRANSLATE2, quantize, options)
        for threads in (1, 2):
            served = ctranslate2_model.Served(
                manifest.read(folder), run.vocabulary(), folder, threads=threads
            )
            title = f"{name}, CTranslate2 {quantize}, {threads} threads"
            yield title, lambda lines, s=served: texts(s.translate(lines))


def texts(found) -> list[str]:
    return [hypothesis.text for hypothesis in found]


def milliseconds(translate: Translate, lines: list[str]) -> float:
    """Returns the median time of a sentence alone."""
    times = []
    for line in lines:
        begin = time.perf_counter()
        translate([line])
        times.append(1000 * (time.perf_counter() - begin))
    return statistics.median(times)


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("runs", nargs="+", help="NAME=OUTPUT_DIR or NAME=OUTPUT_DIR:OPTIONS")
    parser.add_argument("--source", required=True)
    parser.add_argument("--reference", required=True)
    parser.add_argument("--work", required=True)
    parser.add_argument("--alone", type=int, default=100, help="sentences that are timed alone")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    lines, references = (
        [line.decode() for line in read_lines(path)] for path in (args.source, args.reference)
    )
    found: dict[str, Translate] = {}
    for given in args.runs:
        name, _, where = given.partition("=")
        path, _, options = where.partition(":")
        found |= dict(systems(name, path, args.work, options))
    alone = {name: [] for name in found}
    whole = {name: [] for name in found}
    scores = {}
    for _ in range(args.rounds):
        for name, translate in found.items():
            translate(lines[: args.alone])  # so that nothing is compiled below
            milliseconds(translate, lines[: args.alone])
            alone[name].append(milliseconds(translate, lines[: args.alone]))
            begin = time.perf_counter()
            scores[name] = sacrebleu_score(translate(lines), references)
            whole[name].append(len(lines) / (time.perf_counter() - begin))
    print("| system | ms a sentence, alone | lines a second | BLEU |\n|---|---|---|---|")
    for name in found:
        print(
            f"| {name} | {min(alone[name]):.2f} | {max(whole[name]):.0f} | "
            f"{scores[name].value:.2f} |"
        )
    print(f"\n{next(iter(scores.values())).signature}")


if __name__ == "__main__":
    main()

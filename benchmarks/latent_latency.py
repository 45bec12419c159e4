"""Latency of the latent model, greedy search, beam search and CTranslate2, on a CPU or GPU.

    python benchmarks/latent_latency.py --teacher_dir=runs/multi30k --latent_dir=runs/nat \\
        --data_dir=data --base_text=newstest2014.en --base_vocabulary=data/translate_ende_wmt14 \\
        --results=benchmarks/results/latent_latency.md

All systems translate the same sentences from text to text, one at a time and in batches, in
alternation, on the GPU if there is one. First come the trained models on the test set, then models
of base size with random weights on --base_text. The latter never predict EOS, so each sentence
takes as many tokens as its source and one more. Needs `pip install ctranslate2`, even if
--no-peers leaves it out. Compiled code uses memory maps: twelve systems on a CPU use 57,000 of the
65,530 that Linux allows by default, so with more models call the script once per batch size.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any

import ctranslate2
import keras
import numpy as np
import report
import tensorflow as tf
from decoding_speed import BATCH_SIZES, MAX_POSITIONS, THREADS, Measured, Translate, measure, peer

from t2t_vqem import registry
from t2t_vqem.data.lines import read_lines
from t2t_vqem.data.vocabulary import Vocabulary
from t2t_vqem.decoding.latent_search import Latents
from t2t_vqem.decoding.options import DecodeOptions
from t2t_vqem.export import ctranslate2_model
from t2t_vqem.inference.translate import Translator
from t2t_vqem.metrics import bleu
from t2t_vqem.models.transformer_nat import TransformerNAT
from t2t_vqem.output_dir import OutputDir

GREEDY = "transformer, greedy"
CANDIDATES = 9
HALVINGS = (2, 3, 4)
BASE_LENGTHS = range(25, 33)  # source tokens with EOS


def main() -> None:
    """Measures and writes the results."""
    args = parse_arguments()
    if args.intra_op_threads:
        tf.config.threading.set_intra_op_parallelism_threads(args.intra_op_threads)
    lines = report.header(
        "Latency of the latent Transformer",
        ["t2t-vqem", "tensorflow", "ctranslate2", "sentencepiece"],
    )
    lines += [
        f"Text to text, float32 unless the name says int8. Each time is the median of {args.runs} "
        "runs; the systems alternate. Ratio: time of our compiled greedy search divided by the "
        "system's; above 1, the system is faster. Threads per operation of ours: "
        f"{args.intra_op_threads or 'all'}. Device: {', '.join(gpus()) or 'the CPU'}. "
        f"XLA_FLAGS: {os.environ.get('XLA_FLAGS') or 'none'}.",
        "",
    ]
    if args.teacher_dir:
        lines += trained(args)
    if args.base_text:
        lines += base(args)
    report.write(lines, args.results)


def parse_arguments() -> argparse.Namespace:
    """Returns the command's arguments."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--teacher_dir", help="run of a transformer")
    parser.add_argument(
        "--latent_dir", action="append", default=[], help="run of transformer_nat; may be repeated"
    )
    parser.add_argument(
        "--student_dir",
        action="append",
        default=[],
        help="further autoregressive run; may be repeated",
    )
    parser.add_argument("--data_dir", help="generated data of the teacher's problem")
    parser.add_argument("--base_text", help="sentences for models of base size")
    parser.add_argument("--base_vocabulary", help="folder of generated data, for its vocab.model")
    parser.add_argument("--num_sentences", type=int, default=100, help="sentences of the test set")
    parser.add_argument("--base_sentences", type=int, default=32, help="sentences of --base_text")
    parser.add_argument(
        "--peers",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="measure CTranslate2, too",
    )
    parser.add_argument("--batch_sizes", type=int, nargs="+", default=BATCH_SIZES)
    parser.add_argument(
        "--runs", type=int, default=5, help="timed runs over all sentences, for each system"
    )
    parser.add_argument(
        "--intra_op_threads", type=int, help="threads per operation of ours; default: all cores"
    )
    parser.add_argument("--results", help="file to write")
    return parser.parse_args()


def trained(args: argparse.Namespace) -> list[str]:
    """Measures the trained models on the test set; returns their part of the report."""
    teacher_dir = OutputDir(args.teacher_dir)
    vocabulary = teacher_dir.vocabulary()
    dataset = teacher_dir.problem().open(args.data_dir)
    sources = dataset.sources("test")[: args.num_sentences]
    references = dataset.references("test")[: args.num_sentences]
    max_length = teacher_dir.hparams().max_length
    teacher = restored(teacher_dir)
    make = translators(vocabulary, max_length, extra_length=50)
    systems = {
        GREEDY: make(teacher, beam_size=1),
        "transformer, beam 4": make(teacher, beam_size=4),
    }
    latent_models = {}
    for path in args.student_dir:
        systems[f"{os.path.basename(path)}, greedy"] = make(restored(OutputDir(path)), beam_size=1)
    for path in args.latent_dir:
        model = restored(OutputDir(path))
        latent_models[os.path.basename(path)] = model
        systems |= latent_systems(make, model, teacher, os.path.basename(path))
    with tempfile.TemporaryDirectory() as scratch:
        if args.peers:
            systems |= peers(teacher, vocabulary, max_length, 50, scratch)
        lines = [
            f"## Trained models, {len(sources)} sentences of {dataset.problem.name}'s test set",
            "",
        ]
        for batch_size in args.batch_sizes:
            found = measure(systems, sources, vocabulary, batch_size, args.runs)
            lines += [*table(batch_size, found, references), ""]
    for name, model in latent_models.items():
        lines += [*profile(model, name, vocabulary, sources, args.runs), ""]
    return lines


def base(args: argparse.Namespace) -> list[str]:
    """Measures models of base size with random weights; returns their part of the report."""
    vocabulary = Vocabulary(os.path.join(args.base_vocabulary, "vocab.model"))
    text = [line.decode() for line in read_lines(args.base_text)]
    # One length, so one compiled shape per system: there are many systems, and large ones.
    sources = [line for line in text if len(vocabulary.encode(line)) + 1 in BASE_LENGTHS]
    sources = sources[: args.base_sentences]
    keras.utils.set_random_seed(1)
    teacher = built("transformer_base", vocabulary)
    make = translators(vocabulary, 256, extra_length=1)
    systems = {
        GREEDY: make(teacher, beam_size=1),
        "transformer, beam 4": make(teacher, beam_size=4),
        "transformer 12+1 layers, greedy": make(
            built("transformer_deep_shallow", vocabulary), beam_size=1
        ),
    }
    latent_models = {}
    for halvings in HALVINGS:
        name = f"transformer_nat_base, n_c={halvings}"
        # The teacher's filter size, so that both do the same work per token.
        model = built("transformer_nat_base", vocabulary, num_halvings=halvings, filter_size=2048)
        latent_models[name] = model
        systems |= latent_systems(make, model, teacher, name)
    mean = np.mean([len(ids) + 1 for ids in vocabulary.encode(sources)])
    lines = [
        "## Base size, random weights",
        "",
        f"Width 512, filter 2048, 6 encoder and 6 decoder layers, a predictor of 2; "
        f"{vocabulary.size:,} ids; {len(sources)} sentences of {mean:.1f} tokens on average, with "
        "EOS.",
        "",
    ]
    with tempfile.TemporaryDirectory() as scratch:
        if args.peers:
            systems |= peers(teacher, vocabulary, 256, 1, scratch)
        for batch_size in args.batch_sizes:
            found = measure(systems, sources, vocabulary, batch_size, args.runs)
            lines += [*table(batch_size, found, None), ""]
    for name, model in latent_models.items():
        lines += [*profile(model, name, vocabulary, sources, args.runs), ""]
    return lines


def restored(output_dir: OutputDir) -> Any:
    """Returns the model of a run with its best weights."""
    model = output_dir.build_model()
    output_dir.restore_for_inference(model)
    return model


def built(hparams_set: str, vocabulary: Vocabulary, **changes: Any) -> Any:
    """Returns a model with random weights."""
    hparams = dataclasses.replace(registry.hparams_sets.get(hparams_set)(), **changes)
    model = registry.models.get(hparams.model)(hparams, vocab_size=vocabulary.size)
    model.build_variables()
    return model


def translators(
    vocabulary: Vocabulary, max_length: int, *, extra_length: int
) -> Callable[..., Translate]:
    """Returns a function that makes a system from a model and options."""

    def make(model: Any, rescorer: Any = None, **options: Any) -> Translate:
        translator = Translator(
            model,
            vocabulary,
            DecodeOptions(extra_length=extra_length, **options),
            max_length=max_length,
            rescorer=rescorer,
        )
        return lambda lines: [result.text for result in translator.translate(lines)]

    return make


def latent_systems(
    make: Callable[..., Translate], model: Any, teacher: Any, name: str
) -> dict[str, Translate]:
    """Returns a latent model with one candidate, and with several to choose from."""
    several = {"num_candidates": CANDIDATES, "beam_size": CANDIDATES}
    return {
        name: make(model),
        f"{name}, best of {CANDIDATES}, chosen by the model": make(model, **several),
        f"{name}, best of {CANDIDATES}, chosen by the teacher": make(model, teacher, **several),
    }


def peers(
    teacher: Any, vocabulary: Vocabulary, max_length: int, extra_length: int, scratch: str
) -> dict[str, Translate]:
    """Returns CTranslate2 with the teacher's weights, for each type and number of threads."""
    ctranslate2_model.write(teacher, vocabulary, MAX_POSITIONS, scratch, "none")
    converted = os.path.join(scratch, ctranslate2_model.FOLDER)
    device, compute_types, threads = "cpu", ("float32", "int8"), THREADS
    if gpus():
        device, compute_types, threads = "cuda", ("float32", "float16", "int8_float16"), (1,)
    return {
        f"CTranslate2 {compute_type} greedy, {number} thread(s)": peer(
            ctranslate2.Translator(
                converted, compute_type=compute_type, intra_threads=number, device=device
            ),
            vocabulary,
            max_length,
            extra_length,
        )
        for compute_type in compute_types
        for number in threads
    }


def gpus() -> list[str]:
    """Returns the names of the GPUs; the first of them computes."""
    return [
        tf.config.experimental.get_device_details(gpu)["device_name"]
        for gpu in tf.config.list_physical_devices("GPU")
    ]


def table(batch_size: int, found: dict[str, Measured], references: list[str] | None) -> list[str]:
    """Returns the lines of the table of one batch size."""
    count = len(found[GREEDY].outputs)
    medians = {name: statistics.median(result.seconds) for name, result in found.items()}
    scored = references is not None
    lines = [
        f"### Batch {min(batch_size, count)}",
        "",
        "| system | ms per sentence | fastest to slowest run | ratio |"
        + (" BLEU |" if scored else ""),
        "|---|---|---|---|" + ("---|" if scored else ""),
    ]
    for name, result in found.items():
        fastest, slowest = (1000 * f(result.seconds) / count for f in (min, max))
        line = (
            f"| {name} | {1000 * medians[name] / count:.2f} | {fastest:.2f} to {slowest:.2f} | "
            f"{medians[GREEDY] / medians[name]:.2f} |"
        )
        if scored:
            line += f" {bleu.sacrebleu_score(result.outputs, references).value:.2f} |"
        lines.append(line)
    if scored:
        signature = bleu.sacrebleu_score(found[GREEDY].outputs, references).signature
        lines += ["", f"BLEU of these sentences alone: {signature}"]
    return lines


def profile(
    model: TransformerNAT, name: str, vocabulary: Vocabulary, sources: list[str], runs: int
) -> list[str]:
    """Times the parts of a latent model on a sentence of median length, each compiled alone."""
    length = int(np.median([len(ids) + 1 for ids in vocabulary.encode(sources)]))
    inputs = tf.constant(np.random.default_rng(0).integers(3, vocabulary.size, [1, length]))
    inputs = tf.cast(inputs, tf.int32)
    latents = -(-length // model.ratio)
    source = model.encode(inputs)

    def decoder(length: int) -> Callable:
        found = Latents(tf.zeros([1, length], tf.int32), tf.constant([length]), tf.zeros([1]))
        return lambda *source_parts: model._decode_latents(
            found, length, type(source)(*source_parts), keep_repeats=False
        )

    def predict(memory, bias):
        step, cache = model.predictor.step_fn(type(source)(memory, bias), latents)
        tokens = tf.ones([1], tf.int32)

        def body(position, tokens, cache):
            logits, cache = step(tokens, position, cache)
            return position + 1, tf.argmax(logits, -1, output_type=tf.int32), cache

        state = (tf.constant(0), tokens, cache)
        return tf.while_loop(lambda position, *_: position < latents, body, state)[1]

    parts = {
        "source encoder": (
            lambda x: tuple(model.encode(x)),
            (inputs,),
            length * kernels(model.encoder),
        ),
        f"latent predictor, {latents} steps": (
            predict,
            tuple(source),
            predictor_products(model, latents, length),
        ),
    }
    for label, count in (("parallel decoder", latents), ("the same", 2 * latents)):
        parts[f"{label}, {count * model.ratio} tokens"] = (
            decoder(count),
            tuple(source),
            decoder_products(model, count, length),
        )
    lines = [f"### Where the time goes: {name}, one sentence of {length} tokens", ""]
    lines += ["| part | ms | MFLOP | GFLOP/s |", "|---|---|---|---|"]
    for part, (function, arguments, products) in parts.items():
        compiled = tf.function(function, jit_compile=True, autograph=False)
        seconds = median_seconds(
            lambda c=compiled, a=arguments: tf.nest.map_structure(lambda x: x.numpy(), c(*a)), runs
        )
        rate = 2 * products / 1e9 / seconds
        lines.append(f"| {part} | {1000 * seconds:.2f} | {2 * products / 1e6:.0f} | {rate:.0f} |")
    lines += [
        "",
        "Each time includes the call of the function. MFLOP counts the products with weights.",
    ]
    return [*lines, "", *matrix_products(model.hparams, runs)]


def matrix_products(hparams: Any, runs: int) -> list[str]:
    """Returns the speed of a product with the weights of a layer, in XLA and in NumPy."""
    width, filter_size = hparams.hidden_size, hparams.filter_size
    lines = [
        f"| rows (weights of {width} x {filter_size}) | XLA, GFLOP/s | NumPy, GFLOP/s |",
        "|---|---|---|",
    ]
    rng = np.random.default_rng(0)
    # Several layers, because those of a model do not all stay in the fastest cache either.
    shapes = [(width, filter_size), (filter_size, width)] * 6
    matrices = [(rng.normal(size=s) / s[0] ** 0.5).astype(np.float32) for s in shapes]
    weights = [tf.constant(matrix) for matrix in matrices]

    def chain(x, factors):
        for factor in factors:
            x = x @ factor
        return x

    compiled = tf.function(chain, jit_compile=True, autograph=False)
    for rows in (1, 4, 16, 32, 512):
        x = rng.normal(size=(rows, width)).astype(np.float32)
        gflop = 2 * rows * sum(matrix.size for matrix in matrices) / 1e9
        xs = tf.constant(x)
        ours = median_seconds(lambda a=xs: compiled(a, weights).numpy(), runs)
        numpys = median_seconds(lambda a=x: chain(a, matrices), runs)
        lines.append(f"| {rows} | {gflop / ours:.0f} | {gflop / numpys:.0f} |")
    return lines


def median_seconds(function: Callable[[], Any], runs: int) -> float:
    """Returns the median time of a function, after some calls that are not timed."""
    times = []
    for number in range(20 * runs + 5):
        started = time.perf_counter()
        function()
        if number >= 5:
            times.append(time.perf_counter() - started)
    return statistics.median(times)


def kernels(*layers: Any) -> int:
    """Returns the number of weights in the matrices of layers."""
    return sum(
        int(np.prod(weight.shape))
        for layer in layers
        for weight in layer.trainable_weights
        if weight.name == "kernel"
    )


def memory_kernels(stack: Any) -> int:
    """Returns the number of a decoder's weights that are applied to the source."""
    return kernels(*(block.cross.key_value for block in stack.blocks))


def predictor_products(model: TransformerNAT, latents: int, length: int) -> int:
    """Returns the number of multiplications with weights in `latents` predictor steps."""
    predictor = model.predictor
    memory = memory_kernels(predictor.stack)
    each = kernels(predictor.stack) - memory + int(np.prod(predictor.embedding.table.shape))
    return latents * each + length * memory


def decoder_products(model: TransformerNAT, latents: int, length: int) -> int:
    """Returns the number of multiplications with weights in the parallel decoder."""
    memory = memory_kernels(model.decoder)
    each = kernels(model.decoder) - memory + int(np.prod(model.embedding.table.shape))
    total = latents * kernels(model.from_latent) + length * memory
    for number, (convolution, residual) in enumerate(
        zip(model.lengthen.convolutions, model.lengthen.residuals, strict=True)
    ):
        total += latents * 2**number * (kernels(convolution) + 2 * kernels(residual))
    return total + latents * model.ratio * each


if __name__ == "__main__":
    main()

"""What t2t-decoder does with a run of text: it translates."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterable, Iterator
from typing import Any

from absl import flags

from t2t_vqem import __version__
from t2t_vqem.constants import UsageError
from t2t_vqem.data.progress import Progress
from t2t_vqem.inference.resume import translate_to_file
from t2t_vqem.inference.text_files import LineList, Lines, TextFile, read_lines, read_stream
from t2t_vqem.metrics import bleu


def run(values: flags.FlagValues) -> None:
    """Translates what the flags of t2t-decoder name."""
    _check(values)
    if values.decode_interactive:
        _interact(_translator(values)[0])
        return
    source, references = _source_and_references(values)
    translator, identity = _translator(values)
    with Progress("translating", source.num_lines, "lines") as progress:
        hypotheses = _translate(translator, source, values.decode_to_file, identity, progress)
    if references is not None:
        # Translations on standard output are not to be mixed with scores.
        report = sys.stderr if values.decode_to_file == "-" else sys.stdout
        print(bleu.sacrebleu_score(hypotheses, references), file=report)
        print(bleu.chrf_score(hypotheses, references), file=report)


def _check(values: flags.FlagValues) -> None:
    modes = ("decode_from_file", "decode_split", "decode_interactive")
    chosen = [f"--{mode}" for mode in modes if values[mode].value]
    if len(chosen) != 1:
        raise UsageError(
            f"expected exactly one of --{', --'.join(modes)}, got {' and '.join(chosen) or 'none'}"
        )
    if values.score_file and not values.decode_from_file:
        raise UsageError(f"--score_file goes with --decode_from_file, not with {chosen[0]}")


def _source_and_references(values: flags.FlagValues) -> tuple[Lines, list[str] | None]:
    """Reads and checks the texts before anything slow starts."""
    if values.decode_split:
        from t2t_vqem.output_dir import OutputDir

        output_dir = OutputDir(values.output_dir)
        problem = output_dir.problem()
        data_dir = values.data_dir or output_dir.settings().data_dir
        source = LineList(problem.sources(data_dir, values.decode_split))
        return source, problem.references(data_dir, values.decode_split)
    if values.decode_from_file == "-":
        source = LineList(list(read_stream(sys.stdin.buffer, "standard input")))
    else:
        source = TextFile(values.decode_from_file)
    if not values.score_file:
        return source, None
    references = read_lines(values.score_file)
    if len(references) != source.num_lines:
        raise UsageError(
            f"--score_file={values.score_file} has {len(references)} lines but "
            f"--decode_from_file={values.decode_from_file} has {source.num_lines}; line i of one "
            "must answer line i of the other"
        )
    return source, references


def _translator(values: flags.FlagValues) -> tuple[Any, dict[str, Any]]:
    """Returns the translator of the run, and all that its translations depend on."""
    # Imports TensorFlow, which takes seconds; errors in flags and files come before.
    import tensorflow as tf

    from t2t_vqem.decoding.options import DecodeOptions
    from t2t_vqem.inference.translate import DEFAULT_BATCH_TOKENS, WINDOW_LINES, load_translator
    from t2t_vqem.output_dir import OutputDir, checkpoint_hash

    options = DecodeOptions(
        beam_size=values.beam_size,
        alpha=values.alpha,
        extra_length=values.extra_length,
        sampling_temperature=values.sampling_temp or 0.0,
        sampling_top_k=values.sampling_keep_top_k,
    )
    output_dir = OutputDir(values.output_dir)
    checkpoint = output_dir.find_checkpoint(values.checkpoint)
    settings = {
        "batch_tokens": values.batch_size or DEFAULT_BATCH_TOKENS,
        "seed": values.seed,
        "xla": values.xla,
    }
    translator = load_translator(output_dir, checkpoint, options, **settings)
    identity = {
        "checkpoint": checkpoint_hash(checkpoint),
        "max_length": output_dir.hparams().max_length,
        **dataclasses.asdict(options),
        **settings,
        "t2t_vqem": __version__,
        "tensorflow": tf.__version__,
        "window": WINDOW_LINES,
    }
    return translator, identity


def _translate(
    translator: Any, source: Lines, path: str, identity: dict[str, Any], progress: Progress
) -> list[str]:
    """Writes the translations of all lines and returns them."""

    def translate(lines: Iterable[str], first_index: int = 0) -> Iterator[Any]:
        return translator.translate(lines, first_index=first_index, progress=progress.advance)

    if path == "-":
        hypotheses = []
        for hypothesis in translate(source.lines()):
            print(hypothesis.text, flush=True)
            hypotheses.append(hypothesis.text)
        return hypotheses
    translate_to_file(
        translate,
        source,
        path,
        identity=identity,
        window=identity["window"],
        on_resume=lambda num_lines: progress.advance(num_lines, skipped=True),
    )
    return read_lines(path)


def _interact(translator: Any) -> None:
    """Answers each line of standard input before the next is read."""
    prompt = "> " if sys.stdin.isatty() else ""
    print(prompt, end="", file=sys.stderr, flush=True)
    for index, line in enumerate(read_stream(sys.stdin.buffer, "standard input")):
        for hypothesis in translator.translate([line], first_index=index):
            print(hypothesis.text, flush=True)
        print(prompt, end="", file=sys.stderr, flush=True)

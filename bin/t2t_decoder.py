"""Translates with a trained model: a file, a dataset split, or lines as they are typed.

    t2t-decoder --output_dir=runs/base --decode_from_file=newstest2014.en \\
        --decode_to_file=out.de --score_file=newstest2014.de --beam_size=4
    t2t-decoder --output_dir=runs/base --data_dir=data --decode_split=test
    t2t-decoder --output_dir=runs/base --decode_interactive

Line i of the output answers line i of the input; only \\n ends a line. Problem, model, hparams and
vocabulary are those of the output directory. A run that was killed goes on where it was when it is
started again. Files that end in .gz are compressed; "-" is standard input or output.
"""

import dataclasses
import hashlib
import logging
import sys
from collections.abc import Iterable, Iterator
from typing import Any

from absl import flags

from t2t_vqem import __version__, registry
from t2t_vqem.bin import _main
from t2t_vqem.constants import DEV, TEST, UsageError
from t2t_vqem.data.progress import Progress
from t2t_vqem.inference.resume import translate_to_file
from t2t_vqem.inference.text_files import LineList, Lines, TextFile, read_lines, read_stream
from t2t_vqem.metrics import bleu

_logger = logging.getLogger(__name__)
FLAGS = flags.FlagValues()
flags.DEFINE_string("output_dir", None, "The run: what t2t-trainer wrote to.", flag_values=FLAGS)
flags.DEFINE_string(
    "checkpoint",
    None,
    "'best', 'latest', 'averaged' (by t2t-avg-all) or a checkpoint's path; default: best, or "
    "latest where there is no best.",
    flag_values=FLAGS,
)
flags.DEFINE_string("decode_from_file", None, "File to translate.", flag_values=FLAGS)
flags.DEFINE_string("decode_to_file", "-", "Where translations go.", flag_values=FLAGS)
flags.DEFINE_bool(
    "decode_interactive",
    False,
    "Translate standard input, each line as soon as it is there.",
    flag_values=FLAGS,
)
flags.DEFINE_enum(
    "decode_split",
    None,
    [DEV, TEST],
    "Translate and score this split of the run's problem.",
    flag_values=FLAGS,
)
flags.DEFINE_string(
    "data_dir",
    None,
    "Generated data, for --decode_split; default: where the run was trained from.",
    flag_values=FLAGS,
)
flags.DEFINE_string(
    "score_file", None, "Reference translations: print BLEU and chrF.", flag_values=FLAGS
)
flags.DEFINE_integer(
    "beam_size", 1, "Hypotheses of beam search; 1 is greedy.", lower_bound=1, flag_values=FLAGS
)
flags.DEFINE_float(
    "alpha", 0.6, "Exponent of beam search's length penalty.", lower_bound=0.0, flag_values=FLAGS
)
flags.DEFINE_integer(
    "extra_length",
    50,
    "A translation has at most this many tokens more than its source.",
    lower_bound=1,
    flag_values=FLAGS,
)
flags.DEFINE_float(
    "sampling_temp",
    0.0,
    "Sample at this temperature instead of searching; 0 does not.",
    lower_bound=0.0,
    flag_values=FLAGS,
)
flags.DEFINE_integer(
    "sampling_keep_top_k",
    0,
    "Sample among the most probable tokens only; 0 among all.",
    lower_bound=0,
    flag_values=FLAGS,
)
flags.DEFINE_integer(
    "seed",
    0,
    "Of sampling: the same seed, line number and text give the same translation.",
    lower_bound=0,
    upper_bound=2**31 - 1,
    flag_values=FLAGS,
)
flags.DEFINE_integer(
    "batch_size",
    4096,
    "Source tokens of a batch, with padding, counted once for each hypothesis of a beam.",
    lower_bound=1,
    flag_values=FLAGS,
)
flags.DEFINE_bool(
    "xla",
    True,
    "Compile with XLA: faster, but some seconds more to start for each of a few batch shapes.",
    flag_values=FLAGS,
)
flags.DEFINE_string(
    "t2t_usr_dir", None, "Folder with your own problems, as a package.", flag_values=FLAGS
)


def main(argv: list[str]) -> None:
    """Translates what the flags name."""
    del argv
    _check_flags()
    sys.stdout.reconfigure(encoding="utf-8", newline="\n")  # whatever the locale says
    registry.load_plugins(FLAGS.t2t_usr_dir)
    if FLAGS.decode_interactive:
        _interact(_translator()[0])
        return
    source, references = _source_and_references()
    translator, identity = _translator()
    with Progress("translating", source.num_lines, "lines") as progress:
        hypotheses = _translate(translator, source, identity, progress)
    if references is not None:
        # Translations on standard output are not to be mixed with scores.
        report = sys.stderr if FLAGS.decode_to_file == "-" else sys.stdout
        print(bleu.sacrebleu_score(hypotheses, references), file=report)
        print(bleu.chrf_score(hypotheses, references), file=report)


def _check_flags() -> None:
    if not FLAGS.output_dir:
        raise UsageError("--output_dir is missing: the run that t2t-trainer wrote")
    modes = ("decode_from_file", "decode_split", "decode_interactive")
    chosen = [f"--{mode}" for mode in modes if FLAGS[mode].value]
    if len(chosen) != 1:
        raise UsageError(
            f"expected exactly one of --{', --'.join(modes)}, got {' and '.join(chosen) or 'none'}"
        )
    if FLAGS.score_file and not FLAGS.decode_from_file:
        raise UsageError(f"--score_file goes with --decode_from_file, not with {chosen[0]}")


def _source_and_references() -> tuple[Lines, list[str] | None]:
    """Reads and checks the texts before anything slow starts."""
    if FLAGS.decode_split:
        from t2t_vqem.output_dir import OutputDir

        output_dir = OutputDir(FLAGS.output_dir)
        problem = output_dir.problem()
        data_dir = FLAGS.data_dir or output_dir.settings().data_dir
        source = LineList(problem.sources(data_dir, FLAGS.decode_split))
        return source, problem.references(data_dir, FLAGS.decode_split)
    if FLAGS.decode_from_file == "-":
        source = LineList(list(read_stream(sys.stdin.buffer, "standard input")))
    else:
        source = TextFile(FLAGS.decode_from_file)
    if not FLAGS.score_file:
        return source, None
    references = read_lines(FLAGS.score_file)
    if len(references) != source.num_lines:
        raise UsageError(
            f"--score_file={FLAGS.score_file} has {len(references)} lines but "
            f"--decode_from_file={FLAGS.decode_from_file} has {source.num_lines}; line i of one "
            "must answer line i of the other"
        )
    return source, references


def _translator() -> tuple[Any, dict[str, Any]]:
    """Returns the translator of the run, and all that its translations depend on."""
    # Imports TensorFlow, which takes seconds; errors in flags and files come before.
    import tensorflow as tf

    from t2t_vqem.decoding.options import DecodeOptions
    from t2t_vqem.inference.translate import WINDOW_LINES, Translator
    from t2t_vqem.output_dir import OutputDir

    options = DecodeOptions(
        beam_size=FLAGS.beam_size,
        alpha=FLAGS.alpha,
        extra_length=FLAGS.extra_length,
        sampling_temperature=FLAGS.sampling_temp,
        sampling_top_k=FLAGS.sampling_keep_top_k,
    )
    output_dir = OutputDir(FLAGS.output_dir)
    vocabulary = output_dir.vocabulary()
    if vocabulary is None:
        raise UsageError(
            f"the run in {FLAGS.output_dir} is of problem {output_dir.settings().problem}, which "
            "is not text: t2t-decoder translates text"
        )
    model = output_dir.build_model()
    checkpoint = output_dir.restore_for_inference(model, FLAGS.checkpoint)
    _logger.info("weights of %s", checkpoint)
    settings = {
        "max_length": output_dir.hparams().max_length,
        "batch_tokens": FLAGS.batch_size,
        "seed": FLAGS.seed,
        "xla": FLAGS.xla,
    }
    translator = Translator(model, vocabulary, options, **settings)
    with open(f"{checkpoint}.index", "rb") as file:  # has a checksum of each weight
        weights = hashlib.sha256(file.read()).hexdigest()
    versions = {"t2t_vqem": __version__, "tensorflow": tf.__version__, "window": WINDOW_LINES}
    identity = {"checkpoint": weights, **dataclasses.asdict(options), **settings, **versions}
    return translator, identity


def _translate(
    translator: Any, source: Lines, identity: dict[str, Any], progress: Progress
) -> list[str]:
    """Writes the translations of all lines and returns them."""

    def translate(lines: Iterable[str], first_index: int = 0) -> Iterator[Any]:
        return translator.translate(lines, first_index=first_index, progress=progress.advance)

    if FLAGS.decode_to_file == "-":
        hypotheses = []
        for hypothesis in translate(source.lines()):
            print(hypothesis.text, flush=True)
            hypotheses.append(hypothesis.text)
        return hypotheses
    translate_to_file(
        translate,
        source,
        FLAGS.decode_to_file,
        identity=identity,
        window=identity["window"],
        on_resume=lambda num_lines: progress.advance(num_lines, skipped=True),
    )
    return read_lines(FLAGS.decode_to_file)


def _interact(translator: Any) -> None:
    """Answers each line of standard input before the next is read."""
    prompt = "> " if sys.stdin.isatty() else ""
    print(prompt, end="", file=sys.stderr, flush=True)
    for index, line in enumerate(read_stream(sys.stdin.buffer, "standard input")):
        for hypothesis in translator.translate([line], first_index=index):
            print(hypothesis.text, flush=True)
        print(prompt, end="", file=sys.stderr, flush=True)


def entry_point() -> None:
    """Runs the command."""
    _main.run(main, FLAGS)


if __name__ == "__main__":
    entry_point()

"""Scores files of translations against files of references: sacreBLEU, chrF and TER.

    t2t-bleu --translation=out.de --reference=newstest2014.de --compound_split
    t2t-bleu --translation=a.de --translation=b.de --reference=newstest2014.de --paired

Each file has one detokenised sentence on each line, plain or compressed (gzip, xz, bzip2). With
--paired, significance tests compare each system with the first one. --compound_split also prints
the compound-split tokenised BLEU that papers on WMT'14 English-German report. That is a different
measure: it is over a point higher on the same output, and not comparable with sacreBLEU.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NoReturn

from absl import flags

from t2t_vqem.bin import _main
from t2t_vqem.constants import AUTO_TOKENIZER, BLEU_TOKENIZERS, UsageError

FLAGS = flags.FlagValues()
flags.DEFINE_multi_string(
    "translation", [], "File of translations; repeat it for several systems.", flag_values=FLAGS
)
flags.DEFINE_multi_string(
    "reference",
    [],
    "File of references; repeat it if each sentence has several references.",
    flag_values=FLAGS,
)
flags.DEFINE_list(
    "metrics",
    ["bleu", "chrf"],
    "Metrics: bleu, chrf, ter.",
    flag_values=FLAGS,
    allow_overwrite=False,
)
flags.DEFINE_bool(
    "paired",
    False,
    "Compare each system with the first: paired bootstrap and approximate randomization.",
    flag_values=FLAGS,
)
flags.DEFINE_integer(
    "paired_samples",
    0,
    "Samples of each test; default: sacreBLEU's 1,000 for the bootstrap, 10,000 for the other.",
    lower_bound=0,
    flag_values=FLAGS,
)
flags.DEFINE_bool(
    "compound_split",
    False,
    "Also print the compound-split tokenised BLEU of the WMT'14 En-De literature "
    "(needs pip install 't2t-vqem[bleu]').",
    flag_values=FLAGS,
)
flags.DEFINE_string(
    "language",
    None,
    "Language code of the text, for BLEU's tokenizer; default: German for --compound_split, "
    "otherwise guessed from the script of the references.",
    flag_values=FLAGS,
)
flags.DEFINE_enum(
    "bleu_tokenizer",
    AUTO_TOKENIZER,
    BLEU_TOKENIZERS,
    "sacreBLEU's tokenizer; auto: the one for the language. The signature of the score names it.",
    flag_values=FLAGS,
)


def main(argv: list[str]) -> None:
    """Prints the scores of each --translation against --reference."""
    del argv
    from t2t_vqem.metrics import bleu  # imported here, so that --help answers at once

    _check(bleu.METRICS)
    systems = {path: _read(path) for path in FLAGS.translation}
    references = [_read(path) for path in FLAGS.reference]
    _check_lengths({**systems, **dict(zip(FLAGS.reference, references, strict=True))})
    language = FLAGS.language or bleu.guess_language(references[0])
    tokenizer = bleu.choose_tokenizer(FLAGS.bleu_tokenizer, language)
    if FLAGS.paired:
        from t2t_vqem.metrics.comparison import compare_systems

        for name in FLAGS.metrics:
            metric = bleu.make_metric(name, tokenizer)
            print(compare_systems(systems, references, metric, num_samples=FLAGS.paired_samples))
        return
    for path, hypotheses in systems.items():
        if len(systems) > 1:
            print(path)
        for name in FLAGS.metrics:
            print(bleu.score(name, hypotheses, *references, tokenizer=tokenizer))
        if FLAGS.compound_split:
            print(bleu.compound_split_bleu(hypotheses, references[0], FLAGS.language or "de"))


def _check(metrics: Sequence[str]) -> None:
    for name in ("translation", "reference"):
        if not FLAGS[name].value:
            raise UsageError(f"--{name} is missing: expected --translation and --reference")
        twice = [path for path, count in Counter(FLAGS[name].value).items() if count > 1]
        if twice:
            raise UsageError(f"--{name}={twice[0]} is given twice: expected different files")
    unknown = [name for name in FLAGS.metrics if name not in metrics]
    if unknown or not FLAGS.metrics:
        raise UsageError(
            f"--metrics={','.join(FLAGS.metrics)}: expected some of {', '.join(metrics)}"
        )
    if FLAGS.paired and len(FLAGS.translation) < 2:
        raise UsageError("--paired compares systems: give --translation two times or more")
    if FLAGS["paired_samples"].present and not FLAGS.paired:
        raise UsageError("--paired_samples is only for --paired: give both, or neither")
    if FLAGS.compound_split and (FLAGS.paired or len(FLAGS.reference) > 1):
        raise UsageError(
            "--compound_split is only for a single reference, without --paired: omit one of them"
        )


def _read(path: str) -> list[str]:
    from t2t_vqem.inference.text_files import read_lines

    return read_lines(path)


def _check_lengths(lines: Mapping[str, Sequence[str]]) -> None:
    (first, expected), *others = lines.items()
    for path, found in others:
        if len(found) != len(expected):
            raise UsageError(
                f"cannot score: {first} has {len(expected)} lines but {path} has {len(found)}; "
                "line i of one must correspond to line i of the other (only \\n ends a line here)"
            )


def entry_point(argv: list[str] | None = None) -> NoReturn:
    """Runs the command; `argv` is as in `_main.run`."""
    _main.run(main, FLAGS, argv)


if __name__ == "__main__":
    entry_point()

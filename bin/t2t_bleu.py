"""Scores a file of translations against a file of references: sacreBLEU and chrF.

    t2t-bleu --translation=out.de --reference=newstest2014.de --compound_split

Both files hold one detokenised sentence on each line, plain or gzip (.gz). With --compound_split
also the compound-split tokenised figure that papers on WMT'14 English-German report: a different
measure, over a point higher on the same output, and not to be compared with sacreBLEU.
"""

from typing import NoReturn

from absl import flags

from t2t_vqem.bin import _main
from t2t_vqem.constants import AUTO_TOKENIZER, BLEU_TOKENIZERS, UsageError

FLAGS = flags.FlagValues()
flags.DEFINE_string("translation", None, "File of translations.", flag_values=FLAGS)
flags.DEFINE_string("reference", None, "File of references.", flag_values=FLAGS)
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
    "Code of the language of the text, for the tokenizer of BLEU; default: German for "
    "--compound_split, else what the letters of the references tell.",
    flag_values=FLAGS,
)
flags.DEFINE_enum(
    "bleu_tokenizer",
    AUTO_TOKENIZER,
    BLEU_TOKENIZERS,
    "sacreBLEU's tokenizer; auto: the one for the language. The signature says which it was.",
    flag_values=FLAGS,
)


def main(argv: list[str]) -> None:
    """Prints the scores of --translation against --reference."""
    from t2t_vqem.inference.text_files import read_lines  # here, so that --help answers at once
    from t2t_vqem.metrics import bleu

    del argv
    for name in ("translation", "reference"):
        if not FLAGS[name].value:
            raise UsageError(f"--{name} is missing: t2t-bleu needs --translation and --reference")
    hypotheses = read_lines(FLAGS.translation)
    references = read_lines(FLAGS.reference)
    if len(hypotheses) != len(references):
        raise UsageError(
            f"cannot score: {FLAGS.translation} has {len(hypotheses)} lines but "
            f"{FLAGS.reference} has {len(references)}; line i of one must answer line i of the "
            "other (only \\n ends a line here)"
        )
    language = FLAGS.language or bleu.guess_language(references)
    tokenizer = bleu.choose_tokenizer(FLAGS.bleu_tokenizer, language)
    print(bleu.sacrebleu_score(hypotheses, references, tokenizer=tokenizer))
    print(bleu.chrf_score(hypotheses, references))
    if FLAGS.compound_split:
        print(bleu.compound_split_bleu(hypotheses, references, FLAGS.language or "de"))


def entry_point(argv: list[str] | None = None) -> NoReturn:
    """Runs the command; `argv` is as in `_main.run`."""
    _main.run(main, FLAGS, argv)


if __name__ == "__main__":
    entry_point()

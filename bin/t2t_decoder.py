"""Uses a trained model: translates text; samples, reconstructs and encodes images.

    t2t-decoder --output_dir=runs/base --decode_from_file=newstest2014.en \\
        --decode_to_file=out.de --score_file=newstest2014.de --beam_size=4
    t2t-decoder --output_dir=runs/base --data_dir=data --decode_split=test
    t2t-decoder --output_dir=runs/base --decode_interactive

Line i of the output is the translation of line i of the input; only \\n ends a line. After a kill,
the same command continues from the finished lines. Files that end in .gz, .xz, .bz2 or .zst are
compressed; "-" is standard input or output.

    t2t-decoder --output_dir=runs/vqvae --decode_to_file=samples.png --num_samples=64 --seed=1
    t2t-decoder --output_dir=runs/vqvae --decode_split=test --decode_to_file=test.png
    t2t-decoder --output_dir=runs/vqvae --decode_split=test --search_passes=1
    t2t-decoder --output_dir=runs/vqvae --decode_from_file=photos --encode_to_file=codes.npz
    t2t-decoder --output_dir=runs/vqvae --decode_from_file=codes.npz --decode_to_file=images.npy

A model of images samples new images, unless images are given: a split, an image file, a folder of
image files, or arrays of 8-bit values [images, height, width, channels]. Given images are encoded
into codes and decoded again, and the metrics of the model are printed: bits per dimension, PSNR and
more. A .png shows images in a grid, reconstructions to the right of their originals; a .npy holds
images or reconstructions, a .npz both ("images" and "reconstructions"). A file that
--encode_to_file wrote holds codes, which the same model decodes to the same reconstructions.
--search_passes searches for the same number of codes that reconstruct images more accurately.

    t2t-decoder --output_dir=runs/nat --decode_from_file=newstest2014.en --decode_to_file=out.de \\
        --num_candidates=9 --rescore_dir=runs/base

    t2t-decoder --output_dir=runs/nat --codes_report=codes

A latent model decodes its best sequences of latents in one batch and returns the best translation.

Problem, model, hparams and vocabulary are taken from the output directory.
"""

import importlib
import os
import sys
from typing import NoReturn

from absl import flags

from t2t_vqem import registry
from t2t_vqem.bin import _main, _outputs, _report_codes
from t2t_vqem.capabilities import ImageModel, TranslationModel
from t2t_vqem.constants import (
    BLEU_TOKENIZERS,
    DEV,
    MAX_SAMPLING_SEED,
    TEST,
    TEXT_FORMATS,
    UsageError,
)
from t2t_vqem.inference.run_problem import problem_of_run

FLAGS = flags.FlagValues()
flags.DEFINE_string("output_dir", None, "The run: t2t-trainer's folder.", flag_values=FLAGS)
flags.DEFINE_string(
    "checkpoint",
    None,
    "'best', 'latest', 'averaged' (by t2t-avg-all) or a checkpoint's path; default: best, or "
    "latest if there is no best.",
    flag_values=FLAGS,
)
flags.DEFINE_string(
    "decode_from_file",
    None,
    "File to translate; images: a file or folder of images, arrays (.npy, .npz), or codes (.npz).",
    flag_values=FLAGS,
)
flags.DEFINE_string(
    "decode_to_file",
    "-",
    "Output file for translations; images: a picture (.png) or arrays (.npy, .npz).",
    flag_values=FLAGS,
)
flags.DEFINE_string(
    "encode_to_file", None, "Images: output file for codes, a .npz.", flag_values=FLAGS
)
flags.DEFINE_integer(
    "search_passes",
    0,
    "Images: number of passes over the codes of an image that replace codes by others with a "
    "smaller error; 0: the nearest codes. A pass takes 36 decodings and 9 gradients of a decoding "
    "for each codebook.",
    lower_bound=0,
    flag_values=FLAGS,
)
flags.DEFINE_integer(
    "num_samples",
    64,
    "Images: number of samples; for a split or files, number of images to show in a .png.",
    lower_bound=1,
    flag_values=FLAGS,
)
flags.DEFINE_bool(
    "decode_interactive",
    False,
    "Translate standard input, each line as soon as it arrives.",
    flag_values=FLAGS,
)
flags.DEFINE_enum(
    "decode_split",
    None,
    [DEV, TEST],
    "Translate and score this split of the run's problem; images: reconstruct and measure it.",
    flag_values=FLAGS,
)
flags.DEFINE_string(
    "data_dir",
    None,
    "Generated data, for --decode_split; default: the folder that the run was trained with.",
    flag_values=FLAGS,
)
flags.DEFINE_string(
    "score_file", None, "Reference translations: print BLEU and chrF.", flag_values=FLAGS
)
flags.DEFINE_enum(
    "bleu_tokenizer",
    None,
    BLEU_TOKENIZERS,
    "sacreBLEU's tokenizer; auto: the one for the target language; default: as in training.",
    flag_values=FLAGS,
)
flags.DEFINE_integer(
    "beam_size",
    1,
    "Number of hypotheses of beam search; 1: greedy search.",
    lower_bound=1,
    flag_values=FLAGS,
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
    None,
    "Sample with this temperature; default: 0 for text, which searches instead of sampling, and 1 "
    "for images.",
    lower_bound=0.0,
    flag_values=FLAGS,
)
flags.DEFINE_integer(
    "sampling_keep_top_k",
    0,
    "Sample only among this many most probable tokens or codes; 0: all.",
    lower_bound=0,
    flag_values=FLAGS,
)
flags.DEFINE_integer(
    "num_candidates",
    1,
    "Latent models: number of translations to choose from, decoded from the best latents of a beam "
    "search of that size; with --sampling_temp, from greedy latents and sampled latents.",
    lower_bound=1,
    flag_values=FLAGS,
)
flags.DEFINE_string(
    "rescore_dir",
    None,
    "Latent models: run of a transformer, such as the teacher, that chooses among the candidates; "
    "default: the model itself chooses.",
    flag_values=FLAGS,
)
flags.DEFINE_bool(
    "return_latents",
    False,
    "Latent models: write each sentence's codes and a tab before its translation.",
    flag_values=FLAGS,
)
flags.DEFINE_string(
    "prefix_file",
    None,
    "Models that translate token by token: file with the text that the translation of each line "
    "must begin with; an empty line for none.",
    flag_values=FLAGS,
)
flags.DEFINE_list(
    "ensemble_dirs",
    [],
    "Models that translate token by token: further runs with the same vocabulary, whose "
    "probabilities are averaged with those of --output_dir.",
    flag_values=FLAGS,
    allow_overwrite=False,
)
flags.DEFINE_bool(
    "return_alignment",
    False,
    "Models that translate token by token: write after each translation the word alignment by "
    "attention, 'SOURCE-TARGET' from 0.",
    flag_values=FLAGS,
)
flags.DEFINE_integer(
    "num_best",
    1,
    "Number of translations to write for each line, best first, with scores: those of beam search, "
    "or the best of --num_candidates.",
    lower_bound=1,
    flag_values=FLAGS,
)
flags.DEFINE_bool(
    "score",
    False,
    "Score the translations in --score_file, or those of --decode_split, instead of translating.",
    flag_values=FLAGS,
)
flags.DEFINE_bool(
    "score_tokens",
    False,
    "With --score: write the log-probability of each token too.",
    flag_values=FLAGS,
)
flags.DEFINE_enum(
    "output_format",
    None,
    TEXT_FORMATS,
    "Format of translations and scores; default: that of the ending of --decode_to_file (.tsv, "
    ".jsonl), or else text. See docs/your_data.md.",
    flag_values=FLAGS,
)
flags.DEFINE_bool(
    "keep_repeats",
    False,
    "Latent models: keep tokens that repeat the token before them.",
    flag_values=FLAGS,
)
flags.DEFINE_string(
    "codes_report",
    None,
    "Models with codes: write to this folder what each code stands for in the training data, or in "
    "--decode_split: its count, its most frequent phrases or some image patches, and its nearest "
    "codes (codes.jsonl and codes.html).",
    flag_values=FLAGS,
)
flags.DEFINE_integer(
    "seed",
    0,
    "Seed of sampling: the same seed, line number and text give the same translation; the same "
    "seed and image number give the same image.",
    lower_bound=0,
    upper_bound=MAX_SAMPLING_SEED,
    flag_values=FLAGS,
)
flags.DEFINE_integer(
    "batch_size",
    None,
    "Number of source tokens in a batch, including padding, counted once for each hypothesis of a "
    "beam (default 16384), or number of images (default 64).",
    lower_bound=1,
    flag_values=FLAGS,
)
flags.DEFINE_enum(
    "engine",
    "auto",
    ["auto", "litert", "tensorflow"],
    "Text: the engine that computes. litert: an export of the run, made at first use and stored in "
    "the run, which starts quickly; auto: litert if there is no GPU or TPU, unless --noxla is "
    "given.",
    flag_values=FLAGS,
)
flags.DEFINE_bool(
    "int8",
    False,
    "Text, with litert: 8-bit weights, several times as fast, nearly the same translations.",
    flag_values=FLAGS,
)
flags.DEFINE_bool(
    "xla",
    True,
    "Compile with XLA: faster, after some seconds of compilation for each of a few batch shapes.",
    flag_values=FLAGS,
)
flags.DEFINE_integer(
    "intra_op_threads",
    None,
    "Number of threads of an operation; default: the number of cores. Single short sentences and a "
    "small model are faster with 1.",
    lower_bound=1,
    flag_values=FLAGS,
)
flags.DEFINE_string(
    "t2t_usr_dir",
    None,
    "Folder of a plug-in, as a package; needed for a run with a plug-in that you did not train "
    "here.",
    flag_values=FLAGS,
)
LATENT_TEXT_ONLY = ("num_candidates", "rescore_dir", "return_latents", "keep_repeats")
TEXT_ONLY = (
    *("decode_interactive", "score_file", "bleu_tokenizer", "beam_size", "alpha", "extra_length"),
    *("num_best", "score", "score_tokens", "output_format", "engine", "int8"),
    *("prefix_file", "ensemble_dirs", "return_alignment"),
    *LATENT_TEXT_ONLY,
)
OUTPUTS = ("decode_to_file", "encode_to_file")
INPUTS = ("decode_from_file", "score_file", "prefix_file")
IMAGES_ONLY = ("encode_to_file", "search_passes", "num_samples")


def main(argv: list[str]) -> None:
    """Carries out what the flags ask for, with the run in --output_dir."""
    del argv
    if not FLAGS.output_dir:
        raise UsageError("--output_dir is missing: expected the folder of a run")
    sys.stdout.reconfigure(encoding="utf-8", newline="\n")  # in every locale
    if FLAGS.intra_op_threads:  # TensorFlow, which is not initialised yet, reads this
        os.environ["TF_NUM_INTRAOP_THREADS"] = str(FLAGS.intra_op_threads)
    registry.load_plugins(FLAGS.t2t_usr_dir)
    problem = problem_of_run(FLAGS.output_dir)
    images = problem.needs_a(ImageModel)
    if not images and not problem.needs_a(TranslationModel):
        raise UsageError(
            f"the run in {FLAGS.output_dir} is of the problem {problem.name!r}, which is neither "
            "text nor images, so t2t-decoder cannot use it. For its metrics on dev, run "
            f"t2t-trainer --output_dir={FLAGS.output_dir} --schedule=evaluate"
        )
    if FLAGS.codes_report:
        _report_codes.run(FLAGS, images)
        return
    for name in TEXT_ONLY if images else IMAGES_ONLY:
        if FLAGS[name].present:
            kinds = ("text", "images") if images else ("images", "text")
            raise UsageError(
                f"--{name} is only for runs of {kinds[0]}, and the one in {FLAGS.output_dir} is of "
                f"{kinds[1]} (problem {problem.name}): omit it"
            )
    decode = importlib.import_module(f"t2t_vqem.bin._decode_{'images' if images else 'text'}")
    with _outputs.reserved(FLAGS, OUTPUTS, INPUTS):
        decode.run(FLAGS)


def entry_point(argv: list[str] | None = None) -> NoReturn:
    """Runs the command; `argv` is as in `_main.run`."""
    _main.run(
        main,
        FLAGS,
        argv,
        after_interrupt="With --decode_to_file, the same command continues from the finished lines",
    )


if __name__ == "__main__":
    entry_point()

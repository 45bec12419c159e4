"""Uses a trained model: translates text; samples, reconstructs and encodes images.

    t2t-decoder --output_dir=runs/base --decode_from_file=newstest2014.en \\
        --decode_to_file=out.de --score_file=newstest2014.de --beam_size=4
    t2t-decoder --output_dir=runs/base --data_dir=data --decode_split=test
    t2t-decoder --output_dir=runs/base --decode_interactive

Line i of the output answers line i of the input; only \\n ends a line. A run that was killed goes
on where it was when it is started again. Files that end in .gz are compressed; "-" is standard
input or output.

    t2t-decoder --output_dir=runs/vqvae --decode_to_file=samples.png --num_samples=64 --seed=1
    t2t-decoder --output_dir=runs/vqvae --decode_split=test --decode_to_file=test.png
    t2t-decoder --output_dir=runs/vqvae --decode_split=test --search_passes=1
    t2t-decoder --output_dir=runs/vqvae --decode_from_file=photos --encode_to_file=codes.npz
    t2t-decoder --output_dir=runs/vqvae --decode_from_file=codes.npz --decode_to_file=images.npy

A run of images samples new ones, unless it is given images: a split, an image file, a folder of
them, or arrays of 8-bit values [images, height, width, channels]. These are encoded into codes and
decoded again, and the figures of the model are printed: bits per dimension, PSNR and more. A .png
shows images in a grid, reconstructions to the right of their originals; .npy holds images or
reconstructions, .npz ("images" and "reconstructions") both. A file that --encode_to_file wrote
holds codes, which are decoded to the same reconstructions by the model that made them. What
--search_passes finds are other codes of the same model, as many, whose images are nearer.

    t2t-decoder --output_dir=runs/nat --decode_from_file=newstest2014.en --decode_to_file=out.de \\
        --num_candidates=9 --rescore_dir=runs/base

A latent model translates the best of its latents in one batch and takes the best translation.

Problem, model, hparams and vocabulary are those of the output directory.
"""

import importlib
import json
import os
import sys
from typing import NoReturn

from absl import flags

from t2t_vqem import registry
from t2t_vqem.bin import _main, _outputs
from t2t_vqem.capabilities import ImageModel, TranslationModel
from t2t_vqem.constants import (
    BLEU_TOKENIZERS,
    DEV,
    MAX_SAMPLING_SEED,
    TEST,
    TEXT_FORMATS,
    UsageError,
)

FLAGS = flags.FlagValues()
flags.DEFINE_string("output_dir", None, "The run: what t2t-trainer wrote to.", flag_values=FLAGS)
flags.DEFINE_string(
    "checkpoint",
    None,
    "'best', 'latest', 'averaged' (by t2t-avg-all) or a checkpoint's path; default: best, or "
    "latest where there is no best.",
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
    "Where translations go; images: a picture (.png) or arrays (.npy, .npz).",
    flag_values=FLAGS,
)
flags.DEFINE_string(
    "encode_to_file", None, "Images: where their codes go, a .npz.", flag_values=FLAGS
)
flags.DEFINE_integer(
    "search_passes",
    0,
    "Images: go this often through the codes of an image, each time replacing those for which "
    "others make it nearer; 0 takes the nearest codes. A pass takes 36 decodings and 9 "
    "gradients of one for each codebook.",
    lower_bound=0,
    flag_values=FLAGS,
)
flags.DEFINE_integer(
    "num_samples",
    64,
    "Images: how many to sample; of a split or of files, how many to show in a .png.",
    lower_bound=1,
    flag_values=FLAGS,
)
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
    "Translate and score this split of the run's problem; images: reconstruct and measure it.",
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
flags.DEFINE_enum(
    "bleu_tokenizer",
    None,
    BLEU_TOKENIZERS,
    "sacreBLEU's tokenizer; auto: the one for the target language; default: as in training.",
    flag_values=FLAGS,
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
    None,
    "Sample at this temperature; default: text is searched for, not sampled (0), and images are "
    "sampled at 1.",
    lower_bound=0.0,
    flag_values=FLAGS,
)
flags.DEFINE_integer(
    "sampling_keep_top_k",
    0,
    "Sample among the most probable tokens or codes only; 0 among all.",
    lower_bound=0,
    flag_values=FLAGS,
)
flags.DEFINE_integer(
    "num_candidates",
    1,
    "Latent models: translations to choose from, those of the best latents of a beam search of "
    "that size; with --sampling_temp, of greedy latents and of samples.",
    lower_bound=1,
    flag_values=FLAGS,
)
flags.DEFINE_string(
    "rescore_dir",
    None,
    "Latent models: run of a transformer, such as the teacher, that chooses among the candidates; "
    "default: the model itself does.",
    flag_values=FLAGS,
)
flags.DEFINE_bool(
    "return_latents",
    False,
    "Latent models: put each sentence's codes and a tab before its translation.",
    flag_values=FLAGS,
)
flags.DEFINE_integer(
    "num_best",
    1,
    "Translations of each line to write, best first, with scores: of beam search, or the best of "
    "--num_candidates.",
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
    "How translations and scores are written; default: as --decode_to_file ends (.tsv, .jsonl), or "
    "else text. See docs/your_data.md.",
    flag_values=FLAGS,
)
flags.DEFINE_bool(
    "keep_repeats",
    False,
    "Latent models: keep tokens that repeat the one before them.",
    flag_values=FLAGS,
)
flags.DEFINE_integer(
    "seed",
    0,
    "Of sampling: the same seed, line number and text give the same translation, the same seed "
    "and number the same image.",
    lower_bound=0,
    upper_bound=MAX_SAMPLING_SEED,
    flag_values=FLAGS,
)
flags.DEFINE_integer(
    "batch_size",
    None,
    "Source tokens of a batch, with padding, counted once for each hypothesis of a beam (default "
    "16384), or images (default 64).",
    lower_bound=1,
    flag_values=FLAGS,
)
flags.DEFINE_enum(
    "engine",
    "auto",
    ["auto", "litert", "tensorflow"],
    "Text: what computes. litert: an export of the run, made at first use and kept in it, which "
    "starts at once; auto: litert where there is no GPU or TPU, unless --noxla is given.",
    flag_values=FLAGS,
)
flags.DEFINE_bool(
    "int8",
    False,
    "Text, with litert: weights of 8 bits, several times as fast, nearly the same translations.",
    flag_values=FLAGS,
)
flags.DEFINE_bool(
    "xla",
    True,
    "Compile with XLA: faster, but some seconds more to start for each of a few batch shapes.",
    flag_values=FLAGS,
)
flags.DEFINE_integer(
    "intra_op_threads",
    None,
    "Threads of a single operation; default: one for each core. Single short sentences of a small "
    "model take less time with 1.",
    lower_bound=1,
    flag_values=FLAGS,
)
flags.DEFINE_string(
    "t2t_usr_dir", None, "Folder with your own problems, as a package.", flag_values=FLAGS
)
LATENT_TEXT_ONLY = ("num_candidates", "rescore_dir", "return_latents", "keep_repeats")
TEXT_ONLY = (
    *("decode_interactive", "score_file", "bleu_tokenizer", "beam_size", "alpha", "extra_length"),
    *("num_best", "score", "score_tokens", "output_format", "engine", "int8"),
    *LATENT_TEXT_ONLY,
)
OUTPUTS = ("decode_to_file", "encode_to_file")
INPUTS = ("decode_from_file", "score_file")
IMAGES_ONLY = ("encode_to_file", "search_passes", "num_samples")


def main(argv: list[str]) -> None:
    """Does what the flags name with the run in --output_dir."""
    del argv
    if not FLAGS.output_dir:
        raise UsageError("--output_dir is missing: the run that t2t-trainer wrote")
    sys.stdout.reconfigure(encoding="utf-8", newline="\n")  # whatever the locale says
    if FLAGS.intra_op_threads:  # read by TensorFlow, which nothing has used so far
        os.environ["TF_NUM_INTRAOP_THREADS"] = str(FLAGS.intra_op_threads)
    registry.load_plugins(FLAGS.t2t_usr_dir)
    problem = _problem_of_run()
    problem_class = registry.problems.get(problem)
    images = problem_class.needs_a(ImageModel)
    if not images and not problem_class.needs_a(TranslationModel):
        raise UsageError(
            f"the run in {FLAGS.output_dir} is of the problem {problem!r}, which is neither text "
            "nor images: t2t-decoder does nothing with it. Its figures on dev are shown by "
            f"t2t-trainer --output_dir={FLAGS.output_dir} --schedule=evaluate"
        )
    for name in TEXT_ONLY if images else IMAGES_ONLY:
        if FLAGS[name].present:
            kinds = ("text", "images") if images else ("images", "text")
            raise UsageError(
                f"--{name} is for runs of {kinds[0]}, and the one in {FLAGS.output_dir} is of "
                f"{kinds[1]} (problem {problem}). Leave it out"
            )
    decode = importlib.import_module(f"t2t_vqem.bin._decode_{'images' if images else 'text'}")
    with _outputs.reserved(FLAGS, OUTPUTS, INPUTS):
        decode.run(FLAGS)


def _problem_of_run() -> str:
    """Returns the name of the run's problem, with the run's plug-ins loaded.

    Without TensorFlow, whose import takes seconds, unless something is wrong with the run.
    """
    path = os.path.join(os.path.expanduser(FLAGS.output_dir), "flags.json")
    try:
        with open(path, encoding="utf-8") as file:
            settings = json.load(file)
        problem, usr_dir = settings["problem"], settings.get("t2t_usr_dir")
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        from t2t_vqem.output_dir import OutputDir

        return OutputDir(FLAGS.output_dir).settings().problem  # says what is wrong
    registry.load_plugins(usr_dir)
    return problem


def entry_point(argv: list[str] | None = None) -> NoReturn:
    """Runs the command; `argv` is as in `_main.run`."""
    _main.run(
        main,
        FLAGS,
        argv,
        after_interrupt="With --decode_to_file, the same command goes on from the finished lines",
    )


if __name__ == "__main__":
    entry_point()

"""The chapters of t2t-demo: for each model, the commands that train and use it."""

import os
from collections.abc import Sequence
from typing import NamedTuple

from t2t_vqem.bin._demo_report import Command, TestFiles, Translations

PROBLEM = "translate_ende_cldr"
IMAGE_PROBLEM = "image_digits"


class Picture(NamedTuple):
    """An image file that a chapter writes, and its title."""

    title: str
    path: str


class Chapter(NamedTuple):
    """One model of the demo: the commands that train it and the outputs of its use."""

    commands: list[Command]
    translations: Sequence[Translations] = ()
    pictures: Sequence[Picture] = ()

    def decodings(self) -> list[Command]:
        """Returns the commands that write the translations."""
        return [found.command for found in self.translations]


def data_of(folder: str) -> str:
    """Returns the folder of all data of the demo in `folder`."""
    return os.path.join(folder, "data")


def data_chapter(folder: str, seed: int, train_size: int) -> Chapter:
    """Generates the sentences, their vocabulary and records."""
    params = f"seed={seed},train_size={train_size}"
    settings = {"problem": PROBLEM, "problem_params": params, "data_dir": data_of(folder)}
    title = (
        f"Data: {train_size:,} English-German sentence pairs for training, 500 each for dev and "
        "test, with dates, numbers, units and names"
    )
    return Chapter([Command(title, "t2t-datagen", settings)])


def transformer_chapter(folder: str, test: TestFiles, seed: int, train_steps: int) -> Chapter:
    """An autoregressive Transformer, with greedy decoding and beam search."""
    run_dir = os.path.join(folder, "transformer")
    train = training(
        "Training: a small Transformer, from scratch",
        problem=PROBLEM,
        model="transformer",
        hparams_set="transformer_cldr",
        data_dir=data_of(folder),
        output_dir=run_dir,
        train_steps=train_steps,
        save_checkpoints_steps=500,
        seed=seed,
    )
    greedy = decoding(
        "Translating the test sentences with greedy decoding",
        run_dir,
        test,
        os.path.join(folder, "transformer.greedy.de"),
    )
    beam = decoding(
        "Translating them again with beam search (beam size 4)",
        run_dir,
        test,
        os.path.join(folder, "transformer.beam4.de"),
        beam_size=4,
    )
    return Chapter([train], [Translations("greedy", greedy), Translations("beam 4", beam)])


def latent_chapter(folder: str, test: TestFiles, seed: int, train_steps: int) -> Chapter:
    """A latent Transformer trained on the translations of the autoregressive one."""
    teacher_dir, run_dir = (os.path.join(folder, name) for name in ("transformer", "latent"))
    problem = f"{PROBLEM}_distilled"
    data = {
        "problem": problem,
        "problem_params": "beam_size=1",  # faster than beam search, and as good for this task
        "teacher_dir": teacher_dir,
        "data_dir": data_of(folder),
    }
    train = training(
        "Training: a latent Transformer, on these translations",
        problem=problem,
        model="transformer_nat",
        hparams_set="transformer_nat_cldr",
        warm_start_from=teacher_dir,
        data_dir=data_of(folder),
        output_dir=run_dir,
        train_steps=train_steps,
        save_checkpoints_steps=300,
        seed=seed,
    )
    latent = decoding(
        "Translating the test sentences: a few codes autoregressively, then all words in parallel",
        run_dir,
        test,
        os.path.join(folder, "latent.de"),
    )
    title = "Data: the Transformer's translations of the training sentences"
    distilled = Command(title, "t2t-datagen", data)
    return Chapter([distilled, train], [Translations("latent", latent)])


def training(title: str, **settings: object) -> Command:
    """Returns a training command without evaluation: the demo evaluates on the test split."""
    return Command(title, "t2t-trainer", {**settings, "schedule": "train"})


def decoding(title: str, run_dir: str, test: TestFiles, path: str, **options: object) -> Command:
    """Returns a command that translates the test split and computes its BLEU."""
    files = {"decode_from_file": test.source, "decode_to_file": path, "score_file": test.reference}
    return Command(title, "t2t-decoder", {"output_dir": run_dir, **files, **options})


def digits_chapter(folder: str, seed: int, train_steps: int) -> Chapter:
    """A VQ-VAE of digits, with a prior over its codes."""
    run_dir = os.path.join(folder, "digits")
    train = training(
        "Training: an autoencoder with discrete codes, and a prior over the codes",
        problem=IMAGE_PROBLEM,
        model="vqvae",
        hparams_set="vqvae_digits",
        data_dir=data_of(folder),
        output_dir=run_dir,
        train_steps=train_steps,
        save_checkpoints_steps=500,
        seed=seed,
    )
    reconstructions, samples = (
        os.path.join(folder, f"digits.{name}.png") for name in ("reconstructions", "samples")
    )
    return Chapter(
        [
            Command(
                "Data: 1,797 images of handwritten digits",
                "t2t-datagen",
                {"problem": IMAGE_PROBLEM, "data_dir": data_of(folder)},
            ),
            train,
            Command(
                "Reconstructing test digits from their codes",
                "t2t-decoder",
                {"output_dir": run_dir, "decode_split": "test", "decode_to_file": reconstructions},
            ),
            Command(
                "Sampling new digits",
                "t2t-decoder",
                {
                    "output_dir": run_dir,
                    "decode_to_file": samples,
                    "sampling_temp": 0.7,  # favours probable codes: fewer malformed digits
                    "seed": seed,
                },
            ),
        ],
        pictures=[
            Picture("Test digits, each with its reconstruction", reconstructions),
            Picture("Digits sampled from the model", samples),
        ],
    )

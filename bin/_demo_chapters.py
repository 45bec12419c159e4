"""The chapters of t2t-demo: of each model, the commands that make and use it."""

import os
from collections.abc import Sequence
from typing import NamedTuple

from t2t_vqem.bin._demo_report import Command, TestFiles, Translations

PROBLEM = "translate_ende_cldr"
IMAGE_PROBLEM = "image_digits"


class Picture(NamedTuple):
    """A file that a chapter made, and what it shows."""

    title: str
    path: str


class Chapter(NamedTuple):
    """One model of the demo: the commands that make it, and those that use it."""

    commands: list[Command]
    translations: Sequence[Translations] = ()
    pictures: Sequence[Picture] = ()

    def decodings(self) -> list[Command]:
        """The commands of the translations."""
        return [found.command for found in self.translations]


def data_chapter(data_dir: str, seed: int, train_size: int) -> Chapter:
    """The sentences, their vocabulary and records."""
    params = f"seed={seed},train_size={train_size}"
    settings = {"problem": PROBLEM, "problem_params": params, "data_dir": data_dir}
    title = (
        f"Data: {train_size:,} English-German sentences to train on, 500 to choose and 500 to test "
        "by, around dates, numbers, units and names"
    )
    return Chapter([Command(title, "t2t-datagen", settings)])


def transformer_chapter(
    folder: str, data_dir: str, test: TestFiles, seed: int, train_steps: int
) -> Chapter:
    """An autoregressive Transformer; decoded greedily and with a beam."""
    run_dir = os.path.join(folder, "transformer")
    train = training(
        "Training: a small Transformer, from scratch",
        problem=PROBLEM,
        model="transformer",
        hparams_set="transformer_cldr",
        data_dir=data_dir,
        output_dir=run_dir,
        train_steps=train_steps,
        save_checkpoints_steps=500,
        seed=seed,
    )
    greedy = decoding(
        "Translating the test sentences, the best word each time",
        run_dir,
        test,
        os.path.join(folder, "transformer.greedy.de"),
    )
    beam = decoding(
        "Translating them again, searching with a beam of 4",
        run_dir,
        test,
        os.path.join(folder, "transformer.beam4.de"),
        beam_size=4,
    )
    return Chapter([train], [Translations("greedy", greedy), Translations("beam 4", beam)])


def latent_chapter(
    folder: str, data_dir: str, test: TestFiles, seed: int, train_steps: int
) -> Chapter:
    """A latent Transformer that learns from the translations of the other."""
    teacher_dir, run_dir = (os.path.join(folder, name) for name in ("transformer", "latent"))
    problem = f"{PROBLEM}_distilled"
    data = {
        "problem": problem,
        "problem_params": "beam_size=1",  # as good here, and faster
        "teacher_dir": teacher_dir,
        "data_dir": data_dir,
    }
    train = training(
        "Training: a latent Transformer that learns from them",
        problem=problem,
        model="transformer_nat",
        hparams_set="transformer_nat_cldr",
        warm_start_from=teacher_dir,
        data_dir=data_dir,
        output_dir=run_dir,
        train_steps=train_steps,
        save_checkpoints_steps=300,
        seed=seed,
    )
    latent = decoding(
        "Translating the test sentences: a few codes one by one, then all words at once",
        run_dir,
        test,
        os.path.join(folder, "latent.de"),
    )
    distilled = Command("Data: the Transformer's own translations", "t2t-datagen", data)
    return Chapter([distilled, train], [Translations("latent", latent)])


def training(title: str, **settings: object) -> Command:
    """Trains without looking at the dev split: what was learned is seen on the test split."""
    return Command(title, "t2t-trainer", {**settings, "schedule": "train"})


def decoding(title: str, run_dir: str, test: TestFiles, path: str, **options: object) -> Command:
    """Translates the test split, and scores it."""
    files = {"decode_from_file": test.source, "decode_to_file": path, "score_file": test.reference}
    return Command(title, "t2t-decoder", {"output_dir": run_dir, **files, **options})


def digits_chapter(folder: str, data_dir: str, seed: int, train_steps: int) -> Chapter:
    """A vector-quantised autoencoder of digits and the prior over its codes."""
    run_dir = os.path.join(folder, "digits")
    train = training(
        "Training: an autoencoder with discrete codes, and a prior over the codes",
        problem=IMAGE_PROBLEM,
        model="vqvae",
        hparams_set="vqvae_digits",
        data_dir=data_dir,
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
                {"problem": IMAGE_PROBLEM, "data_dir": data_dir},
            ),
            train,
            Command(
                "Encoding test digits into codes, and decoding the codes",
                "t2t-decoder",
                {"output_dir": run_dir, "decode_split": "test", "decode_to_file": reconstructions},
            ),
            Command(
                "Drawing new digits",
                "t2t-decoder",
                {
                    "output_dir": run_dir,
                    "decode_to_file": samples,
                    "sampling_temp": 0.7,  # likelier codes more often: fewer strange digits
                    "seed": seed,
                },
            ),
        ],
        pictures=[
            Picture("Digits that were not trained on, each beside its copy", reconstructions),
            Picture("Digits that the model drew", samples),
        ],
    )

"""Data and a teacher for tests of distillation: real files, and the model of tests/echo_teacher."""

from __future__ import annotations

import contextlib
import os
import pathlib
from collections.abc import Iterator
from typing import NamedTuple

from t2t_vqem import config, registry
from t2t_vqem.data.lines import read_lines
from t2t_vqem.text_problem import TextDataset
from tests.conftest import write_toy_text

ECHO = str(pathlib.Path(__file__).parent / "echo_teacher")
# Sources that begin with one of these make the model fail. Each is a piece of the vocabulary.
MARKS = {"empty": "0", "loop": "1", "cut": "2"}


class Distillable(NamedTuple):
    """Data of translate_text and a run of the echo model on them; "best" reverses the source.

    Attributes:
        data_dir: folder of the data.
        teacher_dir: folder of the run.
        dataset: the data of the base problem, opened where they were made.
        train: the source lines of the records of train, in their order.
    """

    data_dir: str
    teacher_dir: str
    dataset: TextDataset
    train: list[str]


@contextlib.contextmanager
def echo_registered() -> Iterator[None]:
    """Registers the echo model for a time."""
    with registry.models.temporary(), registry.model_hparams.temporary():
        registry.load_plugins(ECHO)
        if "echo" not in registry.models.names():  # the plug-in was imported before
            import echo_teacher

            registry.models.register()(echo_teacher.Echo)
            registry.model_hparams.register()(echo_teacher.EchoHParams)
        yield


def make_distillable(folder: pathlib.Path, *, train: int = 300, max_length: int = 32):
    """Writes text, records and the teacher's run; the echo model must be registered.

    Args:
        folder: where to.
        train: toy pairs to train on; for each mark one more is put among them.
        max_length: of the teacher, in tokens with EOS.
    """
    write_toy_text(folder / "text", train=train)
    sources = _insert(folder / "text/train.en", [f"{mark} one two" for mark in MARKS.values()])
    _insert(folder / "text/train.de", ["eins zwei"] * len(MARKS))
    problem_class = registry.problems.get("translate_text")
    problem = problem_class(problem_class.Config(vocab_size=320, max_length=32))
    data_dir = str(folder / "data")
    dataset = problem.generate(
        data_dir, source_dir=str(folder / "text"), num_workers=1, progress=False
    )
    vocabulary = dataset.vocabulary
    usual = set(vocabulary.encode("9 one two"))
    marks = {
        f"{name}_id": next(i for i in vocabulary.encode(f"{mark} one two") if i not in usual)
        for name, mark in MARKS.items()
    }
    teacher_dir = str(folder / "teacher")
    write_echo_run(teacher_dir, dataset, max_length=max_length, **marks)
    return Distillable(data_dir, teacher_dir, dataset, sources)


def _insert(path: pathlib.Path, lines: list[str]) -> list[str]:
    """Puts lines among those of a file, far from each other; returns all of them."""
    there = [line.decode() for line in read_lines(str(path))]
    for number, line in enumerate(lines):
        there.insert(7 + 90 * number, line)
    path.write_text("".join(f"{line}\n" for line in there), encoding="utf-8")
    return there


def write_echo_run(path: str, dataset: TextDataset, **hparams) -> None:
    """Writes an output directory as t2t-trainer does, with two checkpoints."""
    import tensorflow as tf

    from t2t_vqem.output_dir import OutputDir, RunSettings, named_weights

    problem, vocabulary = dataset.problem, dataset.vocabulary
    resolved = config.resolve(problem=problem.name, model="echo")
    settings = RunSettings(
        problem=problem.name,
        problem_config=problem.config,
        hparams=type(resolved.hparams)(**hparams),
        gin_text="",
        data_dir=os.path.dirname(dataset.directory),
        data_source=dataset.manifest["source"],
        vocabulary=vocabulary.hash,
        seed=0,
        train_steps=0,
        t2t_usr_dir=ECHO,
    )
    output_dir = OutputDir(path)
    output_dir.save(settings, vocabulary)
    for folder, reverse, step in (("best", 1.0, 70), ("checkpoints", 0.0, 80)):
        model = output_dir.build_model()
        model.reverse.assign(reverse)
        checkpoint = tf.train.Checkpoint(model=named_weights(model), step=tf.Variable(step))
        manager = tf.train.CheckpointManager(checkpoint, output_dir.join(folder), max_to_keep=1)
        manager.save(checkpoint_number=step)

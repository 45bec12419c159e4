"""Shared fixtures."""

from __future__ import annotations

import os
import pathlib
import random
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest

from t2t_vqem.registry import problems
from t2t_vqem.text_problem import TextDataset

_WORDS = {
    "one": "eins",
    "two": "zwei",
    "three": "drei",
    "four": "vier",
    "five": "fünf",
    "six": "sechs",
    "seven": "sieben",
    "eight": "acht",
    "nine": "neun",
    "ten": "zehn",
}


class TinyText(NamedTuple):
    """A toy translation task: number words, translated word by word and in reverse order.

    Attributes:
        data_dir: folder of its records, made by t2t-datagen's own code.
        source_dir: folder with {train,dev,test}.{en,de}.
        problem_name: registered name of the problem.
        problem_params: value of --problem_params.
        dataset: the data, opened.
    """

    data_dir: str
    source_dir: str
    problem_name: str
    problem_params: str
    dataset: TextDataset


def toy_pair(rng: random.Random) -> tuple[str, str]:
    """Returns a sentence of one to eight number words, and its translation."""
    words = rng.choices(list(_WORDS), k=rng.randint(1, 8))
    return " ".join(words), " ".join(_WORDS[word] for word in reversed(words))


def write_toy_text(
    folder: pathlib.Path, *, train: int, dev: int = 40, test: int = 30, seed: int = 0
) -> None:
    """Writes {train,dev,test}.{en,de} with the given numbers of toy pairs."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = random.Random(seed)
    for split, count in (("train", train), ("dev", dev), ("test", test)):
        pairs = [toy_pair(rng) for _ in range(count)]
        for side, language in enumerate(("en", "de")):
            text = "".join(pair[side] + "\n" for pair in pairs)
            (folder / f"{split}.{language}").write_bytes(text.encode())


def wait_until(
    happened: Callable[[], Any],
    what: str,
    *,
    process: subprocess.Popen | None = None,
    seconds: float = 300,
) -> None:
    """Waits until another process or thread has done something; fails after a time limit.

    Args:
        happened: returns whether it is done.
        what: description of what is waited for, for the message.
        process: if this process has ended, waiting is in vain and the test fails at once.
        seconds: time limit; far more than needed, even on a busy machine.
    """
    deadline = time.monotonic() + seconds
    while not happened():
        assert process is None or process.poll() is None or happened(), (
            f"the process ended with status {process.returncode} before {what}"
        )
        assert time.monotonic() < deadline, f"waited {seconds} s in vain for {what}"
        time.sleep(0.005)


@pytest.fixture(scope="session", autouse=True)
def state_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keeps what the trainer remembers of its runs out of the user's own folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield


@pytest.fixture(scope="session")
def tiny_text_data(tmp_path_factory: pytest.TempPathFactory) -> TinyText:
    """Toy text with 2,000 training pairs, generated once for all tests; must not be changed."""
    folder = tmp_path_factory.mktemp("tiny_text")
    write_toy_text(folder / "text", train=2000)
    settings = {"vocab_size": 320, "max_length": 32}
    problem_class = problems.get("translate_text")
    problem = problem_class(problem_class.Config(**settings))
    data_dir = str(folder / "data")
    dataset = problem.generate(
        data_dir, source_dir=str(folder / "text"), num_workers=1, progress=False
    )
    params = ",".join(f"{name}={value}" for name, value in settings.items())
    return TinyText(data_dir, str(folder / "text"), "translate_text", params, dataset)


@pytest.fixture(scope="session")
def untrained_run(tiny_text_data: TinyText) -> Callable[..., Any]:
    """Returns a function that makes a run with random weights on the toy text.

    Its translations are meaningless, but differ from line to line. Arguments: the folder, the
    hyperparameters, and a seed for each checkpoint folder.
    """
    import tensorflow as tf  # most tests do not need it

    from t2t_vqem.output_dir import OutputDir, RunSettings, named_weights

    def make(path: pathlib.Path, hparams: Any, **seeds: int) -> OutputDir:
        vocabulary = tiny_text_data.dataset.vocabulary
        settings = RunSettings(
            problem=tiny_text_data.problem_name,
            problem_config=tiny_text_data.dataset.problem.config,
            hparams=hparams,
            gin_text="",
            data_dir=tiny_text_data.data_dir,
            data_source=tiny_text_data.dataset.manifest["source"],
            vocabulary=vocabulary.hash,
            seed=0,
            train_steps=0,
        )
        output_dir = OutputDir(str(path))
        output_dir.save(settings, vocabulary)
        for folder, seed in (seeds or {"best": 1}).items():
            tf.keras.utils.set_random_seed(seed)
            model = output_dir.build_model()
            tf.train.Checkpoint(model=named_weights(model)).save(output_dir.join(folder, "ckpt"))
        return output_dir

    return make


@pytest.fixture(scope="session")
def real_data() -> pathlib.Path:
    """Folder with real data sets, named by T2T_VQEM_DATA; skips the test if there is none."""
    folder = os.environ.get("T2T_VQEM_DATA")
    if not folder:
        pytest.skip("T2T_VQEM_DATA is not set: no folder with real data to test on")
    return pathlib.Path(folder)


def _unpacked(archive: str, factory: pytest.TempPathFactory) -> pathlib.Path:
    folder = factory.mktemp("exports")
    with tarfile.open(pathlib.Path(__file__).with_name("stored") / archive) as opened:
        opened.extractall(folder, filter="data")
    return folder


@pytest.fixture(scope="session")
def stored_exports(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Folder with the exports that stored/make_exports.py lists; not to be changed."""
    return _unpacked("exports_1.tar.xz", tmp_path_factory)


@pytest.fixture(scope="session")
def page_exports(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Folder with the exports that stored/make_page.py lists; not to be changed."""
    return _unpacked("page_1.tar.xz", tmp_path_factory)

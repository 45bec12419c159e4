"""The example of docs/your_model.md, as a reader would copy it."""

import contextlib
import importlib.util
import json
import os
import pathlib
import re
import shlex
import subprocess
import sys

import pytest

import t2t_vqem as t2t
from t2t_vqem import registry
from t2t_vqem.constants import UsageError
from t2t_vqem.problem import Dataset
from t2t_vqem.training import trainer

PAGE = pathlib.Path(__file__).resolve().parents[2] / "docs" / "your_model.md"


def blocks(language: str) -> list[str]:
    text = PAGE.read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.M | re.S)


def write_modules(folder: pathlib.Path) -> list[str]:
    """Writes the blocks that begin with the name of a file."""
    written = []
    for block in blocks("python"):
        name = re.match(r"# (mine/\w+\.py)\n", block)
        if name:
            (folder / "mine").mkdir(exist_ok=True)
            (folder / name[1]).write_text(block, encoding="utf-8")
            written.append(name[1])
    return written


def commands() -> list[list[str]]:
    text = re.sub(r"\\\n\s*", " ", "".join(blocks("bash")))
    return [shlex.split(line) for line in text.splitlines() if line]


def quick(command: list[str]) -> list[str]:
    """Spares a training of two steps the compiling, which takes far longer than they do."""
    return [*command, "--noxla"] if "--train_steps=2" in command else command


def run(command: list[str], folder: pathlib.Path) -> str:
    script = pathlib.Path(sys.executable).parent / command[0]  # as installed
    finished = subprocess.run(
        [str(script), *command[1:]],
        cwd=folder,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert finished.returncode == 0, f"{shlex.join(command)}\n{finished.stderr[-3000:]}"
    return finished.stdout


def test_page_has_the_example(tmp_path):
    assert write_modules(tmp_path) == [
        "mine/__init__.py",
        "mine/roman.py",
        "mine/word_dropout.py",
        "mine/series.py",
    ]
    assert [command[0] for command in commands()][:5] == [
        "t2t-trainer",
        "t2t-trainer",
        "t2t-datagen",
        "t2t-trainer",
        "t2t-decoder",
    ]


@pytest.mark.slow
def test_example_runs_and_learns(tmp_path):
    write_modules(tmp_path)
    listing, help_text, *others = (run(quick(command), tmp_path) for command in commands())
    assert re.search(r"roman_numerals +Numbers up to a largest one", listing)
    assert re.search(r"word_dropout +Transformer that drops some source words", listing)
    assert "probability to drop a source word" in help_text
    assert "0.02" in help_text
    assert "dev: 100 examples" in others[5]
    assert float(re.search(r", dev: loss .* accuracy ([\d.]+)", others[7])[1]) > 0.95, others[7]
    bleu = re.search(r"BLEU = ([\d.]+)", others[2])
    assert float(bleu[1]) > 80, others[2]
    translations = (tmp_path / "roman.txt").read_text(encoding="utf-8").splitlines()
    references = (tmp_path / "data" / "roman_numerals" / "test.la").read_text("utf-8").splitlines()
    right = sum(map(str.__eq__, translations, references))
    assert right > 0.6 * len(references), f"{right} of {len(references)}"
    assert sorted(os.listdir(tmp_path / "runs")) == ["again", "more", "roman", "series"]


def test_a_problem_of_files(tmp_path):
    names = {"__name__": "corpus", "t2t": t2t}
    exec(next(block for block in blocks("python") if "class MyCorpus" in block), names)
    for split in ("train", "dev", "test"):
        for side in "ab":
            (tmp_path / f"{split}.{side}").write_text(f"{split} {side} some words\n" * 30)
    problem = names["MyCorpus"](t2t.TextConfig(vocab_size=300))
    with pytest.raises(
        UsageError, match="my_corpus needs --source_dir, the folder with your files"
    ):
        problem.generate(str(tmp_path / "data"))
    dataset = problem.generate(str(tmp_path / "data"), source_dir=str(tmp_path), progress=False)
    assert dataset.references("test")[0] == "test b some words"


def test_a_problem_of_another_kind_is_learned(tmp_path):
    """Neither text nor images: the page's sequences, in this process."""
    write_modules(tmp_path)
    registries = (registry.problems, registry.models, registry.model_hparams, registry.hparams_sets)
    with contextlib.ExitStack() as stack:
        for one in registries:
            stack.enter_context(one.temporary())
        spec = importlib.util.spec_from_file_location("series", tmp_path / "mine" / "series.py")
        module = importlib.util.module_from_spec(spec)
        sys.modules["series"] = module  # dataclasses look their module up
        stack.callback(sys.modules.pop, "series")
        spec.loader.exec_module(module)
        data_dir, run = str(tmp_path / "data"), str(tmp_path / "run")
        dataset = module.Series().generate(data_dir, progress=False)
        assert type(dataset) is Dataset
        lengths = dataset.lengths("dev")[:, 0]
        assert (lengths.min(), lengths.max()) == (4, 19)
        trainer.run(
            trainer.Request(
                output_dir=run,
                problem="series",
                hparams_set="next_number_tiny",
                data_dir=data_dir,
                train_steps=150,
                local_eval_frequency=150,
                xla=False,
            )
        )
    lines = pathlib.Path(run, "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    accuracy = next(f["accuracy"] for f in map(json.loads, lines) if f["kind"] == "eval")
    assert accuracy > 0.9  # of the first numbers, without the two before them: 1 in 9

import dataclasses
import logging
import os
import pathlib
import shutil

import numpy as np
import pytest

from t2t_vqem.constants import EOS_ID, FILL_ID, INPUTS, PAD_ID, TARGETS, UsageError
from t2t_vqem.data import building
from t2t_vqem.data.records import Field, RecordWriter, Schema
from t2t_vqem.data.text_source import GeneratedPairs
from t2t_vqem.fields import Config, option
from t2t_vqem.hparams.transformer import TransformerHParams
from t2t_vqem.hparams.transformer_nat import TransformerNATHParams
from t2t_vqem.problem import Problem
from t2t_vqem.registry import problems
from t2t_vqem.text_problem import TextConfig, TextDataset, TextProblem


class Echo(TextProblem):
    """Each target is its source twice; a problem as a user would write one."""

    samples_version = "1"

    def generate_samples(self, split):
        return [(f"a{n} b", f"a{n} b a{n} b") for n in range(50)]


class Squares(Problem):
    """Images of one colour: a problem that is not text."""

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Config(Config):
        """Settings."""

        size: int = option(4, "pixels of a side", minimum=1)

    def source(self, flags):
        return GeneratedPairs("squares", {})

    def build(self, directory, scratch, source, *, num_workers, progress):
        schema = Schema([Field("image", "uint8", (self.config.size, self.config.size, 3))])
        with RecordWriter(os.path.join(directory, "train-0"), schema) as writer:
            for colour in range(10):
                image = np.full((self.config.size, self.config.size, 3), colour)
                writer.write({"image": image})
        return {
            "schema": schema.to_json(),
            "splits": {"train": {"shards": ["train-0"], "num_examples": 10}},
        }

    def make_batch(self, records, length):
        empty = np.zeros((self.config.size, self.config.size, 3), np.uint8)
        return {"image": np.stack([empty if r is None else r["image"] for r in records])}


def test_a_problem_with_its_own_build_is_not_made_in_shards(tmp_path):
    with pytest.raises(UsageError, match="squares cannot be made in shards, .* own `build`"):
        Squares().generate_shard(str(tmp_path), shard=0, num_shards=2)


class Counts(Problem):
    """A problem of plain samples."""

    schema = Schema([Field("number", "int32", (None,))])

    def generate_samples(self, split):
        return [{"number": np.arange(n)} for n in range({"train": 9, "dev": 3, "test": 2}[split])]


@pytest.mark.parametrize("problem", [Counts(), Echo(TextConfig(vocab_size=280))])
def test_any_problem_is_made_in_shards(tmp_path, problem):
    whole = problem.generate(str(tmp_path / "whole"), progress=False)
    for shard in (1, 0):
        words = problem.generate_shard(
            str(tmp_path / "shards"), shard=shard, num_shards=2, num_workers=1, progress=False
        )
    assert "3 of 3 parts are done." in words
    combined = problem.generate(str(tmp_path / "shards"), progress=False)
    for path in pathlib.Path(whole.directory).iterdir():
        assert (pathlib.Path(combined.directory) / path.name).read_bytes() == path.read_bytes()
    words = problem.generate_shard(str(tmp_path / "shards"), shard=0, num_shards=2)
    assert words.endswith("is ready: nothing to do.")


def test_the_name_is_the_class_name_unless_given():
    class Named(Echo):
        name = "other"

    assert (Echo.name, Named.name) == ("echo", "other")


@pytest.mark.parametrize("name", problems.names())
def test_registered_problems_know_their_names(name):
    assert problems.get(name).name == name
    problems.get(name)()


def test_batches_have_every_pair_of_the_text_once(tiny_text_data):
    dataset = tiny_text_data.dataset
    vocabulary = dataset.vocabulary
    examples = dataset.examples("dev", TransformerHParams(batch_size=64), seed=0, epochs=1)
    seen = []
    with examples.read() as reader:
        for _, batch in reader:
            for source, target in zip(batch[INPUTS], batch[TARGETS], strict=True):
                if source.any():
                    seen.append((vocabulary.decode(source), vocabulary.decode(target)))
                else:
                    assert not target.any()
    expected = zip(dataset.sources("dev"), dataset.references("dev"), strict=True)
    assert sorted(seen) == sorted(expected)
    assert len(seen) == 40
    assert {batch[INPUTS].dtype, batch[TARGETS].dtype} == {np.dtype(np.int32)}


def test_grouped_batches_have_whole_words_and_the_same_text(tiny_text_data):
    dataset = tiny_text_data.dataset
    vocabulary = dataset.vocabulary
    hparams = TransformerNATHParams(batch_size=128, num_halvings=2, whole_words=True)
    examples = dataset.examples("dev", hparams, seed=0, epochs=1)
    found = {}
    lengths = dataset.lengths("dev", 4)
    with examples.read() as reader:
        for step, batch in reader:
            for index, source, target in zip(
                examples.plan.batch(step)[0], batch[INPUTS], batch[TARGETS], strict=True
            ):
                if index < 0:
                    assert not (source.any() or target.any())
                    continue
                found[int(index)] = vocabulary.decode(source), vocabulary.decode(target)
                assert (source != PAD_ID).sum() == lengths[index, 0]
                assert (target != PAD_ID).sum() == lengths[index, 1]
                after_fill = np.flatnonzero(target[:-1] == FILL_ID) + 1
                begins = [p for p in after_fill if target[p] != FILL_ID]
                assert all(p % 4 == 0 and vocabulary.word_starts[target[p]] for p in begins)
    pairs = zip(dataset.sources("dev"), dataset.references("dev"), strict=True)
    assert found == dict(enumerate(pairs))
    assert (lengths[:, 1] > dataset.lengths("dev")[:, 1]).any()


def test_references_are_the_original_lines(tiny_text_data):
    text = pathlib.Path(tiny_text_data.source_dir, "test.de").read_bytes().decode()
    lines = tiny_text_data.dataset.references("test")
    assert "".join(line + "\n" for line in lines) == text
    with pytest.raises(UsageError, match="text of the train split is not kept"):
        tiny_text_data.dataset.references("train")


def test_make_batch_pads_appends_eos_and_cuts():
    records = [
        {INPUTS: np.array([5, 6], np.uint16), TARGETS: np.array([], np.uint16)},
        None,
        {INPUTS: np.arange(7, 20), TARGETS: np.arange(30, 33)},
    ]
    batch = Echo().make_batch(records, 4)
    np.testing.assert_array_equal(
        batch[INPUTS], [[5, 6, EOS_ID, PAD_ID], [PAD_ID] * 4, [7, 8, 9, EOS_ID]]
    )
    np.testing.assert_array_equal(
        batch[TARGETS],
        [[EOS_ID, PAD_ID, PAD_ID, PAD_ID], [PAD_ID] * 4, [30, 31, 32, EOS_ID]],
    )


def test_plan_logs_how_many_examples_it_cuts(tiny_text_data, caplog):
    hparams = TransformerHParams(max_length=6, batch_size=12, num_buckets=2)
    dataset = tiny_text_data.dataset
    plan = dataset.plan("test", hparams, seed=0)
    cut = (dataset.lengths("test").max(axis=1) > 6).sum()
    assert (
        f"test: {cut} of 30 examples are longer than max_length=6 and are truncated" in caplog.text
    )
    assert plan.shapes == [(3, 4), (2, 6)]
    caplog.clear()
    dataset.plan("test", TransformerHParams(), seed=0)
    assert not caplog.records


def test_generates_once(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    first = Echo().generate(str(tmp_path), progress=False).manifest
    caplog.clear()
    assert Echo().generate(str(tmp_path), progress=False).manifest == first
    assert "already generated" in caplog.text
    with pytest.raises(UsageError, match="config: vocab_size was 8000, now 300"):
        Echo(TextConfig(vocab_size=300)).generate(str(tmp_path))
    newer = type("Echo", (Echo,), {"samples_version": "2", "name": "echo"})
    with pytest.raises(UsageError, match="source: generator was '1', now '2'"):
        newer().generate(str(tmp_path))


def test_missing_data_names_the_command(tmp_path):
    with pytest.raises(
        UsageError, match=r"no data of echo in .* t2t-datagen --problem=echo --data_dir="
    ):
        Echo().open(str(tmp_path))


@pytest.fixture
def echo_data(tmp_path) -> TextDataset:
    return Echo().generate(str(tmp_path), num_workers=1, progress=False)


def test_an_unknown_split_is_an_error(echo_data):
    for read in (echo_data.records, echo_data.lengths, echo_data.references):
        with pytest.raises(
            UsageError, match="unknown split 'valid'. Expected one of: train, dev, test"
        ):
            read("valid")


def test_another_vocabulary_is_an_error(echo_data, tiny_text_data):
    other = tiny_text_data.dataset.directory
    shutil.copy(f"{other}/vocab.model", f"{echo_data.directory}/vocab.model")
    with pytest.raises(
        UsageError, match="is not the vocabulary that the records were written with"
    ):
        _ = echo_data.vocabulary


def test_damaged_lengths_are_an_error(echo_data):
    path = f"{echo_data.directory}/lengths.dev.npy"
    np.save(path, np.zeros((3, 2)))
    with pytest.raises(UsageError, match=r"lengths.dev.npy: shape \(3, 2\), expected \(50, 6\)"):
        echo_data.lengths("dev")
    with open(path, "wb"):
        pass
    with pytest.raises(UsageError, match=r"lengths.dev.npy: cannot be read"):
        echo_data.lengths("dev")


def test_data_of_another_format_is_an_error(echo_data):
    building.write_manifest(echo_data.directory, {**echo_data.manifest, "format": 0})
    with pytest.raises(UsageError, match="has format 0, expected 2. Delete it and run t2t-datagen"):
        Echo().open(os.path.dirname(echo_data.directory))


@pytest.mark.parametrize("code", ["english", "EN", "", "e", "en/de", "../x"])
def test_an_unknown_language_is_an_error(code):
    with pytest.raises(UsageError, match=f"unknown language '{code}': expected a code such as en"):
        TextConfig(source_language=code)


def test_language_codes_may_have_parts_but_must_differ():
    assert TextConfig(source_language="pt-BR", target_language="zh_Hans").target_language
    with pytest.raises(UsageError, match="are both 'de', expected two codes"):
        TextConfig(source_language="de")


def test_a_problem_without_text(tmp_path):
    problem = Squares(Squares.Config(size=2))
    dataset = problem.generate(str(tmp_path), progress=False)
    examples = dataset.examples("train", TransformerHParams(batch_size=4), seed=0, epochs=1)
    assert examples.plan.shapes == [(4, 1)]
    assert dataset.lengths("train") is None
    with examples.read() as reader:
        batches = [batch["image"] for _, batch in reader]
    assert [batch.shape for batch in batches] == [(4, 2, 2, 3)] * 3
    colours = np.concatenate(batches)[:, 0, 0, 0]
    assert sorted(colours) == [0, 0, *range(10)]  # two rows are empty
    assert dataset.report == "train: 10 examples"


def test_few_functions_are_told_where_data_lies():
    """What was made is handed around as a data set, not as the folder that it is in."""
    root = pathlib.Path(__file__).resolve().parents[2]
    places = [
        f"{path.relative_to(root)}: {line.strip()}"
        for folder in ("t2t_vqem", "problems", "bin")
        for path in sorted((root / folder).rglob("*.py"))
        for line in path.read_text(encoding="utf-8").splitlines()
        if "data_dir: str" in line
    ]
    assert len(places) <= 12, "\n".join(places)

import dataclasses
import logging
import os
import pathlib
import shutil

import numpy as np
import pytest

from t2t_vqem.constants import EOS_ID, FILL_ID, INPUTS, PAD_ID, SPLITS, TARGETS, UsageError
from t2t_vqem.data import building
from t2t_vqem.data.reader import BatchReader
from t2t_vqem.data.records import Field, RecordWriter, Schema
from t2t_vqem.data.text_source import GeneratedPairs
from t2t_vqem.fields import Config, option
from t2t_vqem.hparams.transformer import TransformerHParams
from t2t_vqem.hparams.transformer_nat import TransformerNATHParams
from t2t_vqem.problem import Problem
from t2t_vqem.registry import problems
from t2t_vqem.text_problem import TextConfig, TextProblem


class Echo(TextProblem):
    """Says everything twice; a problem as a user would write one."""

    version = "1"

    def source(self, *, source_dir, tfds_dir):
        pairs = [(f"a{n} b", f"a{n} b a{n} b") for n in range(50)]
        return GeneratedPairs(self.version, dict.fromkeys(SPLITS, lambda: pairs))


class Squares(Problem):
    """Images of one colour: a problem that is no text."""

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Config(Config):
        """Settings."""

        size: int = option(4, "pixels of a side", minimum=1)

    def source(self, *, source_dir, tfds_dir):
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


def test_the_name_is_the_class_name_unless_given():
    class Named(Echo):
        name = "other"

    assert (Echo.name, Named.name) == ("echo", "other")


@pytest.mark.parametrize("name", problems.names())
def test_registered_problems_know_their_names(name):
    assert problems.get(name).name == name
    problems.get(name)()


def test_batches_hold_every_pair_once_and_as_the_text_says(tiny_text_data):
    problem, data_dir = tiny_text_data.problem, tiny_text_data.data_dir
    vocabulary = problem.vocabulary(data_dir)
    plan = problem.plan(data_dir, "dev", TransformerHParams(batch_size=64), seed=0, epochs=1)
    seen = []
    records = problem.records(data_dir, "dev")
    with BatchReader(records, plan, problem.make_batch, start_step=0) as reader:
        for _, batch in reader:
            for source, target in zip(batch[INPUTS], batch[TARGETS], strict=True):
                if source.any():
                    seen.append((vocabulary.decode(source), vocabulary.decode(target)))
                else:
                    assert not target.any()
    expected = zip(
        problem.sources(data_dir, "dev"), problem.references(data_dir, "dev"), strict=True
    )
    assert sorted(seen) == sorted(expected)
    assert len(seen) == 40
    assert {batch[INPUTS].dtype, batch[TARGETS].dtype} == {np.dtype(np.int32)}


def test_batches_in_groups_hold_whole_words_and_say_the_same(tiny_text_data):
    problem, data_dir = tiny_text_data.problem, tiny_text_data.data_dir
    vocabulary = problem.vocabulary(data_dir)
    hparams = TransformerNATHParams(batch_size=128, num_halvings=2, whole_words=True)
    plan = problem.plan(data_dir, "dev", hparams, seed=0, epochs=1)
    found = {}
    records = problem.records(data_dir, "dev")
    make_batch = problem.batch_maker(data_dir, hparams)
    lengths = problem.lengths(data_dir, "dev", 4)
    with BatchReader(records, plan, make_batch, start_step=0) as reader:
        for step, batch in reader:
            for index, source, target in zip(
                plan.batch(step)[0], batch[INPUTS], batch[TARGETS], strict=True
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
    pairs = zip(problem.sources(data_dir, "dev"), problem.references(data_dir, "dev"), strict=True)
    assert found == dict(enumerate(pairs))
    assert (lengths[:, 1] > problem.lengths(data_dir, "dev")[:, 1]).any()


def test_references_are_the_lines_given(tiny_text_data):
    text = pathlib.Path(tiny_text_data.source_dir, "test.de").read_bytes().decode()
    lines = tiny_text_data.problem.references(tiny_text_data.data_dir, "test")
    assert "".join(line + "\n" for line in lines) == text
    with pytest.raises(UsageError, match="text of the train split is not kept"):
        tiny_text_data.problem.references(tiny_text_data.data_dir, "train")


def test_make_batch_pads_ends_and_cuts():
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


def test_plan_counts_and_tells_what_it_cuts(tiny_text_data, caplog):
    hparams = TransformerHParams(max_length=6, batch_size=12, num_buckets=2)
    problem, data_dir = tiny_text_data.problem, tiny_text_data.data_dir
    plan = problem.plan(data_dir, "test", hparams, seed=0)
    cut = (problem.lengths(data_dir, "test").max(axis=1) > 6).sum()
    assert f"test: {cut} of 30 examples are longer than max_length=6 and are cut" in caplog.text
    assert plan.shapes == [(3, 4), (2, 6)]
    caplog.clear()
    problem.plan(data_dir, "test", TransformerHParams(), seed=0)
    assert not caplog.records


def test_generates_once(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    first = Echo().generate(str(tmp_path), progress=False)
    caplog.clear()
    assert Echo().generate(str(tmp_path), progress=False) == first
    assert "already generated" in caplog.text
    with pytest.raises(UsageError, match="config: vocab_size was 8000, now 300"):
        Echo(TextConfig(vocab_size=300)).generate(str(tmp_path))
    newer = type("Echo", (Echo,), {"version": "2", "name": "echo"})
    with pytest.raises(UsageError, match="source: generator was '1', now '2'"):
        newer().generate(str(tmp_path))


def test_missing_data_names_the_command(tmp_path):
    with pytest.raises(
        UsageError, match=r"no data of echo in .* t2t-datagen --problem=echo --data_dir="
    ):
        Echo().records(str(tmp_path), "train")


@pytest.fixture
def echo_data(tmp_path) -> str:
    Echo().generate(str(tmp_path), num_workers=1, progress=False)
    return str(tmp_path)


def test_an_unknown_split_is_an_error(echo_data):
    for read in (Echo().records, Echo().lengths, Echo().references):
        with pytest.raises(
            UsageError, match="unknown split 'valid', expected one of train, dev, test"
        ):
            read(echo_data, "valid")


def test_another_vocabulary_is_an_error(echo_data, tiny_text_data):
    other = tiny_text_data.problem.dir(tiny_text_data.data_dir)
    shutil.copy(f"{other}/vocab.model", f"{echo_data}/echo/vocab.model")
    with pytest.raises(
        UsageError, match="is not the vocabulary that the records were written with"
    ):
        Echo().vocabulary(echo_data)


def test_damaged_lengths_are_an_error(echo_data):
    path = f"{echo_data}/echo/lengths.dev.npy"
    np.save(path, np.zeros((3, 2)))
    with pytest.raises(UsageError, match=r"lengths.dev.npy: shape \(3, 2\), expected \(50, 6\)"):
        Echo().lengths(echo_data, "dev")
    with open(path, "wb"):
        pass
    with pytest.raises(UsageError, match=r"lengths.dev.npy: cannot be read"):
        Echo().lengths(echo_data, "dev")


def test_data_of_another_format_is_an_error(echo_data):
    manifest = building.read_manifest(f"{echo_data}/echo")
    building.write_manifest(f"{echo_data}/echo", {**manifest, "format": 0})
    with pytest.raises(UsageError, match="has format 0, expected 2. Delete it and run t2t-datagen"):
        Echo().vocabulary(echo_data)


@pytest.mark.parametrize("code", ["english", "EN", "", "e", "en/de", "../x"])
def test_an_unknown_language_is_an_error(code):
    with pytest.raises(UsageError, match=f"unknown language '{code}', expected a code such as en"):
        TextConfig(source_language=code)


def test_codes_may_have_parts_but_must_differ():
    assert TextConfig(source_language="pt-BR", target_language="zh_Hans").target_language
    with pytest.raises(UsageError, match="are both 'de', expected two"):
        TextConfig(source_language="de")


def test_a_problem_need_not_be_text(tmp_path):
    problem = Squares(Squares.Config(size=2))
    problem.generate(str(tmp_path), progress=False)
    hparams = TransformerHParams(batch_size=4)
    plan = problem.plan(str(tmp_path), "train", hparams, seed=0, epochs=1)
    assert plan.shapes == [(4, 1)]
    assert problem.lengths(str(tmp_path), "train") is None
    records = problem.records(str(tmp_path), "train")
    with BatchReader(records, plan, problem.make_batch, start_step=0) as reader:
        batches = [batch["image"] for _, batch in reader]
    assert [batch.shape for batch in batches] == [(4, 2, 2, 3)] * 3
    colours = np.concatenate(batches)[:, 0, 0, 0]
    assert sorted(colours) == [0, 0, *range(10)]  # two rows are empty
    assert problem.report(str(tmp_path)) == "train: 10 examples"

"""translate_ende_cldr as a problem: generated, read back, refused flags."""

import os
import sys

import numpy as np
import pytest

from t2t_vqem import registry
from t2t_vqem.constants import DEV, SPLITS, TEST, TRAIN, UsageError
from t2t_vqem.problems.cldr_text import phrases

SIZES = {TRAIN: 700, DEV: 23, TEST: 31}


def problem(**settings):
    cls = registry.problems.get("translate_ende_cldr")
    sizes = {f"{split}_size": size for split, size in SIZES.items()}
    return cls(cls.Config(**{"vocab_size": 700, "max_ratio": 0.0, **sizes, **settings}))


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory) -> str:
    path = str(tmp_path_factory.mktemp("data"))
    problem().generate(path, num_workers=1, progress=False)
    return path


def test_splits_have_their_sizes(data_dir):
    splits = problem().manifest(data_dir)["splits"]
    assert {split: splits[split]["num_examples"] for split in SPLITS} == SIZES


def test_records_hold_the_sentences(data_dir):
    expected = phrases.generate(SIZES, seed=0)
    made = problem()
    vocabulary = made.vocabulary(data_dir)
    for split in SPLITS:
        records = made.records(data_dir, split).read(np.arange(SIZES[split]))
        for record, phrase in zip(records, expected[split], strict=True):
            assert vocabulary.decode(record["inputs"].tolist()) == phrase.source
            assert vocabulary.decode(record["targets"].tolist()) == phrase.target


def test_text_of_dev_and_test_is_kept(data_dir):
    expected = phrases.generate(SIZES, seed=0)
    for split in (DEV, TEST):
        assert problem().sources(data_dir, split) == [p.source for p in expected[split]]
        assert problem().references(data_dir, split) == [p.target for p in expected[split]]


def test_made_twice_the_files_are_the_same(data_dir, tmp_path):
    problem().generate(str(tmp_path), num_workers=1, progress=False)
    for name in ("vocab.model", "lengths.train.npy", "test.de"):
        first = os.path.join(problem().dir(data_dir), name)
        with open(first, "rb") as a, open(problem().dir(str(tmp_path)) + "/" + name, "rb") as b:
            assert a.read() == b.read(), name


def test_another_seed_gives_other_sentences():
    first, second = (
        list(problem(seed=seed).source(source_dir=None, tfds_dir=None).pairs(TEST))
        for seed in (0, 1)
    )
    assert len(first) == len(second) == SIZES[TEST]
    assert first != second


@pytest.mark.parametrize("flag", ["source_dir", "tfds_dir"])
def test_folders_are_refused(flag):
    with pytest.raises(UsageError, match=f"--{flag}=here: .* generates its text"):
        problem().source(**{"source_dir": None, "tfds_dir": None, flag: "here"})


def test_other_languages_are_refused():
    with pytest.raises(
        UsageError, match=r"\(en\) to German \(de\) only, got .*target_language='fr'"
    ):
        problem(target_language="fr")


def test_missing_babel_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "babel", None)
    with pytest.raises(UsageError, match=r"pip install 't2t-vqem\[demo\]'"):
        problem().source(source_dir=None, tfds_dir=None)

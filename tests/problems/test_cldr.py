"""translate_ende_cldr as a problem: generating, reading, and flags that it does not take."""

import os
import sys

import numpy as np
import pytest

from t2t_vqem import registry
from t2t_vqem.constants import DEV, SPLITS, TEST, TRAIN, UsageError
from t2t_vqem.problems.cldr_text import phrases
from t2t_vqem.text_problem import TextDataset

SIZES = {TRAIN: 700, DEV: 23, TEST: 31}


def problem(**settings):
    cls = registry.problems.get("translate_ende_cldr")
    sizes = {f"{split}_size": size for split, size in SIZES.items()}
    return cls(cls.Config(**{"vocab_size": 700, "max_ratio": 0.0, **sizes, **settings}))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> TextDataset:
    path = str(tmp_path_factory.mktemp("data"))
    return problem().generate(path, num_workers=1, progress=False)


def test_splits_have_their_sizes(dataset):
    splits = dataset.manifest["splits"]
    assert {split: splits[split]["num_examples"] for split in SPLITS} == SIZES


def test_records_hold_the_sentences(dataset):
    expected = phrases.generate(SIZES, seed=0)
    vocabulary = dataset.vocabulary
    for split in SPLITS:
        records = dataset.records(split).read(np.arange(SIZES[split]))
        for record, phrase in zip(records, expected[split], strict=True):
            assert vocabulary.decode(record["inputs"].tolist()) == phrase.source
            assert vocabulary.decode(record["targets"].tolist()) == phrase.target


def test_text_of_dev_and_test_is_kept(dataset):
    expected = phrases.generate(SIZES, seed=0)
    for split in (DEV, TEST):
        assert dataset.sources(split) == [p.source for p in expected[split]]
        assert dataset.references(split) == [p.target for p in expected[split]]


def test_generating_twice_gives_the_same_files(dataset, tmp_path):
    other = problem().generate(str(tmp_path), num_workers=1, progress=False)
    for name in ("vocab.model", "lengths.train.npy", "test.de"):
        paths = [os.path.join(made.directory, name) for made in (dataset, other)]
        with open(paths[0], "rb") as a, open(paths[1], "rb") as b:
            assert a.read() == b.read(), name


def test_another_seed_gives_other_sentences():
    first, second = (list(problem(seed=seed).generate_samples(TEST)) for seed in (0, 1))
    assert len(first) == len(second) == SIZES[TEST]
    assert first != second


@pytest.mark.parametrize("flag", ["source_dir", "tfds_dir"])
def test_folders_are_refused(flag, tmp_path):
    with pytest.raises(
        UsageError, match=f"--{flag}=here: translate_ende_cldr is made by the problem its"
    ):
        problem().generate(str(tmp_path), **{flag: "here"})


def test_other_languages_are_refused():
    with pytest.raises(UsageError, match=r"got .*target_language='fr', expected 'en' and 'de'"):
        problem(target_language="fr")


def test_missing_babel_names_the_extra(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "babel", None)
    with pytest.raises(UsageError, match=r"pip install 't2t-vqem\[demo\]'"):
        problem().generate(str(tmp_path))

import gzip
import itertools
import pathlib
import random
from types import SimpleNamespace

import numpy as np
import pytest
import sentencepiece

from t2t_vqem.config import resolve
from t2t_vqem.constants import UsageError
from t2t_vqem.hparams.transformer import TransformerHParams
from t2t_vqem.registry import problems


def make(name: str, **settings):
    problem_class = problems.get(name)
    return problem_class(problem_class.Config(**settings))


def write_text(folder: pathlib.Path, names: dict[str, int], languages=("en", "de")) -> str:
    folder.mkdir(exist_ok=True)
    for stem, count in names.items():
        for language in languages:
            lines = [f"{language} number {n} {n % 7}" for n in range(count)]
            (folder / f"{stem}.{language}").write_text("\n".join(lines))
    return str(folder)


def test_multi30k_accepts_the_published_file_names(tmp_path):
    text = write_text(tmp_path / "text", {"train": 30, "val": 5, "test_2016_flickr": 4})
    problem = make("translate_ende_multi30k", vocab_size=300)
    dataset = problem.generate(str(tmp_path / "data"), source_dir=text, progress=False)
    sizes = {name: split["num_examples"] for name, split in dataset.manifest["splits"].items()}
    assert sizes == {"train": 30, "dev": 5, "test": 4}
    assert dataset.references("dev")[3] == "de number 3 3"


@pytest.mark.parametrize("name", ["translate_ende_multi30k", "translate_ende_wmt14"])
def test_plain_file_names_are_also_accepted(tmp_path, name):
    text = write_text(tmp_path / "text", {"train": 30, "dev": 5, "test": 4})
    problem = make(name, vocab_size=300)
    dataset = problem.generate(str(tmp_path / "data"), source_dir=text, progress=False)
    assert dataset.sources("test")[0] == "en number 0 0"


def test_vocabulary_sizes():
    assert make("translate_ende_multi30k").config.vocab_size == 4000
    assert make("translate_ende_wmt14").config.vocab_size == 32768
    assert make("translate_text").config.vocab_size == 8000


def test_settings_choose_any_languages_and_files(tmp_path):
    text = write_text(tmp_path / "text", {"dev": 5, "test": 4}, ("fi", "sv"))
    (tmp_path / "text" / "corpus.finnish.gz").write_bytes(gzip.compress(b"yksi\nkaksi\n" * 20))
    (tmp_path / "elsewhere").write_bytes(b"ett\ntv\xc3\xa5\n" * 20)
    params = (
        "source_language=fi,target_language=sv,vocab_size=300,train_source=corpus.finnish.gz,"
        f"train_target='{tmp_path}/elsewhere'"
    )
    config = resolve(problem="translate_text", problem_params=params).problem_config
    problem = problems.get("translate_text")(config)
    dataset = problem.generate(str(tmp_path / "data"), source_dir=text, progress=False)
    assert dataset.manifest["splits"]["train"]["num_examples"] == 40
    assert dataset.references("test")[1] == "sv number 1 1"


def test_subword_sampling_is_for_training_alone_and_resumes(tmp_path):
    text = write_text(tmp_path / "text", {"train": 30, "dev": 5, "test": 4})
    problem = make("translate_text", vocab_size=290)
    dataset = problem.generate(str(tmp_path / "data"), source_dir=text, progress=False)

    def batches(split, start=0, count=6, **order):
        hparams = TransformerHParams(batch_size=128, num_buckets=1, **order.pop("hparams", {}))
        examples = dataset.examples(split, hparams, seed=2, **order)
        with examples.read(start) as reader:
            return [batch["targets"] for _, batch in itertools.islice(reader, count)]

    sampled = {"subword_nbest": 16, "subword_alpha": 0.0}
    plain, drawn = batches("train"), batches("train", hparams=sampled)
    assert any(not np.array_equal(a, b) for a, b in zip(plain, drawn, strict=True))
    for plain_rows, drawn_rows in zip(plain, drawn, strict=True):
        texts = [[dataset.vocabulary.decode(r) for r in b] for b in (plain_rows, drawn_rows)]
        assert texts[0] == texts[1]
    for again, batch in zip(batches("train", 4, 2, hparams=sampled), drawn[4:], strict=True):
        np.testing.assert_array_equal(again, batch)
    for order in ({}, {"hparams": sampled}):
        (dev,) = batches("dev", shuffle=False, epochs=1, **order)
        np.testing.assert_array_equal(dev, batches("dev", shuffle=False, epochs=1)[0])


def test_each_split_may_have_its_own_format(tmp_path):
    (tmp_path / "train.tsv.gz").write_bytes(gzip.compress(b"one\teins\ntwo\tzwei\n" * 20))
    (tmp_path / "dev.jsonl").write_text('{"de": "drei", "en": "three"}\n')
    sides = "".join(f'<tuv xml:lang="{c}"><seg>{c}</seg></tuv>' for c in ("de-CH", "en"))
    (tmp_path / "test.tmx").write_text(f"<tmx><body><tu>{sides}</tu></body></tmx>")
    problem = make("translate_text", vocab_size=300)
    dataset = problem.generate(str(tmp_path / "data"), source_dir=str(tmp_path), progress=False)
    assert dataset.manifest["splits"]["train"]["num_examples"] == 40
    assert dataset.sources("dev") + dataset.references("test") == ["three", "de-CH"]
    (tmp_path / "dev.jsonl").write_text('{"de": "vier", "en": "three"}\n')
    with pytest.raises(UsageError, match=r"source: dev text was '\w+', now '\w+'"):
        problem.generate(str(tmp_path / "data"), source_dir=str(tmp_path))
    (tmp_path / "train.tsv.gz").write_bytes(gzip.compress(b"one\teins\ntwo\n"))
    with pytest.raises(UsageError, match=r"train\.tsv\.gz, line 2: 1 columns, expected 2"):
        problem.generate(str(tmp_path / "new"), source_dir=str(tmp_path), progress=False)
    assert not (tmp_path / "new/translate_text").exists()


def test_corpora_with_weights(tmp_path):
    text = write_text(tmp_path / "text", {"train": 30, "dev": 5, "test": 4})
    (tmp_path / "text/more.tsv").write_text("one\teins\n\tempty\n" * 10 + "two\tzwei\n")
    params = "vocab_size=300,dev=dev.en|dev.de,train=[more.tsv*0.5, train.en|train.de*2]"
    config = resolve(problem="translate_text", problem_params=params).problem_config
    problem = problems.get("translate_text")(config)
    dataset = problem.generate(str(tmp_path / "data"), source_dir=text, progress=False)
    corpora = dataset.manifest["splits"]["train"]["corpora"]
    assert [tuple(c.values())[1:] for c in corpora] == [(0.5, 21, 11), (2.0, 30, 30)]
    assert f"11 of 21 with weight 0.5 from {text}/more.tsv" in dataset.report
    hparams = SimpleNamespace(batch_size=64, max_length=64, num_buckets=1, group_size=1)
    plan = dataset.plan("train", hparams, seed=0)
    indices = np.concatenate([plan.batch(step).indices for step in range(plan.steps_per_epoch)])
    counts = np.bincount(indices[indices >= 0], minlength=41)
    assert counts[:11].sum() == 6
    assert counts[11:].tolist() == [2] * 30
    # The weights are part of the settings, like the files.
    other = make("translate_text", **{**vars(config), "train": ("more.tsv", "train.en|train.de")})
    with pytest.raises(UsageError, match=r"train was \['more.tsv\*0.5'"):
        other.generate(str(tmp_path / "data"), source_dir=text)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"train": ("a.tsv",)}, r"missing file: train is .*/a\.tsv"),
        ({"train": ("a.en",)}, "'a.en': expected SOURCE"),
        ({"dev": "train.en|train.de*2"}, "only corpora of train have weights"),
        ({"dev": "train.en|train.de", "dev_source": "x"}, "got dev and dev_source or dev_target"),
    ],
)
def test_corpora_that_are_refused(tmp_path, settings, message):
    text = write_text(tmp_path / "text", {"train": 3, "dev": 3, "test": 3})
    with pytest.raises(UsageError, match=message):
        make("translate_text", **settings).generate(str(tmp_path / "data"), source_dir=text)


def test_two_language_pairs_share_a_users_own_vocabulary(tmp_path):
    text = write_text(tmp_path / "text", {"train": 30, "dev": 3, "test": 3}, ("en", "de", "fr"))
    (tmp_path / "text/dev.de").write_text("de number \u00bd\nde number \u6f22\u5b57\nde number 1\n")
    model = tmp_path / "own.model"
    with open(model, "wb") as file:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(["en de fr number 0123456789 \u2044"] * 9),
            model_writer=file,
            vocab_size=30,
            model_type="bpe",
            minloglevel=2,
        )
    made = []
    for target in ("de", "fr"):
        problem = make("translate_text", sentencepiece_model=str(model), target_language=target)
        data_dir = str(tmp_path / target)
        made.append(problem.generate(data_dir, source_dir=text, progress=False))
    german, french = made
    assert german.vocabulary.hash == french.vocabulary.hash
    assert german.vocabulary.size == 30 - 3 + 3 + 256  # three special pieces replaced by ours
    records = german.records("dev").read(range(3))
    decoded = [german.vocabulary.decode(record["targets"]) for record in records]
    # NFKC makes three characters of the half; two characters have no piece.
    assert decoded == ["de number 1\u20442", "de number \u6f22\u5b57", "de number 1"]
    assert german.references("dev")[0] == "de number \u00bd"
    altered = {"characters in bytes": 2, "lines with bytes": 1, "changed lines": 1}
    assert german.manifest["splits"]["dev"]["altered"]["targets"] == altered
    assert (
        "de: 2 characters without a piece are spelt in bytes, in 1 lines; the vocabulary "
        "normalises 1 lines to other text"
    ) in german.report
    # Converted already, it is taken as it is.
    again = make("translate_text", sentencepiece_model=f"{german.directory}/vocab.model")
    other = again.generate(str(tmp_path / "again"), source_dir=text, progress=False)
    assert other.vocabulary.model == german.vocabulary.model
    model.write_bytes(b"")
    with pytest.raises(UsageError, match=r"source: sentencepiece_model was '\w+', now '\w+'"):
        problem.generate(str(tmp_path / "fr"), source_dir=text)


def test_without_a_source_dir_all_files_must_be_named(tmp_path):
    text = write_text(tmp_path / "text", {"a": 30, "b": 3, "c": 3}, ("en", "de"))
    files = {
        f"{split}_{side}": f"{text}/{stem}.{language}"
        for split, stem in (("train", "a"), ("dev", "b"), ("test", "c"))
        for side, language in (("source", "en"), ("target", "de"))
    }
    problem = make("translate_text", vocab_size=300, **files)
    problem.generate(str(tmp_path / "data"), progress=False)
    (tmp_path / "text/a.de").write_text("something else\n" * 30)
    with pytest.raises(UsageError, match=r"source: train target was '\w+', now '\w+'"):
        problem.generate(str(tmp_path / "data"))
    del files["dev_source"]
    with pytest.raises(
        UsageError, match=r"dev_source='' and dev_target='.*b\.de': give both or neither"
    ):
        make("translate_text", **files).generate(str(tmp_path / "data2"))
    del files["dev_target"]
    with pytest.raises(UsageError, match="translate_text needs --source_dir"):
        make("translate_text", **files).generate(str(tmp_path / "data2"))


def test_a_named_file_that_is_missing_is_an_error(tmp_path):
    problem = make("translate_text", train_source="x.en", train_target="x.de")
    with pytest.raises(UsageError, match=r"missing file: train_source is .*text/x\.en"):
        problem.generate(str(tmp_path / "data"), source_dir=str(tmp_path / "text"))


def test_errors_about_the_source_of_text(tmp_path):
    with pytest.raises(UsageError, match="translate_ende_multi30k needs --source_dir"):
        make("translate_ende_multi30k").generate(str(tmp_path))
    with pytest.raises(
        UsageError, match="--tfds_dir=x: translate_ende_multi30k is made from --source_dir. Omit"
    ):
        make("translate_ende_multi30k").generate(str(tmp_path), tfds_dir="x")
    with pytest.raises(UsageError, match="are given, expected only one"):
        make("translate_ende_wmt14").generate(str(tmp_path), tfds_dir="x", source_dir="y")
    with pytest.raises(
        UsageError, match=r"no prepared data set there, looked for \S*de-en/VERSION"
    ):
        make("translate_ende_wmt14").generate(str(tmp_path), tfds_dir=str(tmp_path))


def test_generated_data_needs_no_source(tmp_path):
    text = write_text(tmp_path / "text", {"train": 30, "dev": 5, "test": 4})
    problem = make("translate_ende_wmt14", vocab_size=300)
    dataset = problem.generate(str(tmp_path / "data"), source_dir=text, progress=False)
    assert (
        problem.generate(str(tmp_path / "data")).manifest == dataset.manifest
    )  # and downloads nothing
    with pytest.raises(UsageError, match="config: vocab_size was 300, now 301"):
        make("translate_ende_wmt14", vocab_size=301).generate(str(tmp_path / "data"))


def prepare_tfds(folder: pathlib.Path, splits: dict[str, dict[str, list[str]]]) -> None:
    """Writes parallel text in the layout of TFDS for wmt14_translate/de-en."""
    tf = pytest.importorskip("tensorflow")
    tfds = pytest.importorskip("tensorflow_datasets")
    tfds.dataset_builders.store_as_tfds_dataset(
        name="wmt14_translate",
        config="de-en",
        version="1.0.0",
        features=tfds.features.Translation(languages=("de", "en")),
        split_datasets={
            name: tf.data.Dataset.from_tensor_slices(text) for name, text in splits.items()
        },
        data_dir=str(folder),
    )


@pytest.mark.slow
def test_wmt14_from_a_prepared_tfds_directory(tmp_path):
    def text(count, seed):
        rng = random.Random(seed)
        numbers = [rng.randrange(1000) for _ in range(count)]
        return {"de": [f"Zahl {n}\u2028." for n in numbers], "en": [f"no\n{n}." for n in numbers]}

    splits = {"train": text(3000, 0), "validation": text(7, 1), "test": text(5, 2)}
    prepare_tfds(tmp_path / "tfds", splits)
    problem = make("translate_ende_wmt14", vocab_size=400)
    data_dir = str(tmp_path / "data")
    tfds_dir = str(tmp_path / "tfds")
    dataset = problem.generate(data_dir, tfds_dir=tfds_dir, progress=False)
    assert dataset.manifest["splits"]["train"]["num_examples"] == 3000
    vocabulary = dataset.vocabulary
    records = dataset.records("train").read(range(3000))
    pairs = [(vocabulary.decode(r["inputs"]), vocabulary.decode(r["targets"])) for r in records]
    # TFDS shuffles the examples. A line feed inside a sentence becomes a space.
    english = [line.replace("\n", " ") for line in splits["train"]["en"]]
    assert sorted(pairs) == sorted(zip(english, splits["train"]["de"], strict=True))
    assert sorted(dataset.references("dev")) == sorted(splits["validation"]["de"])
    assert problem.generate(data_dir, tfds_dir=tfds_dir).manifest == dataset.manifest
    other = make("translate_ende_wmt14", source_language="fr")
    with pytest.raises(UsageError, match="unknown language 'fr': .* has de, en"):
        other.generate(str(tmp_path / "other"), tfds_dir=tfds_dir)


@pytest.mark.slow
def test_any_translation_set_of_tfds(tmp_path):
    def text(count):
        return {"de": [f"Zahl {n}" for n in range(count)], "en": [f"no {n}" for n in range(count)]}

    prepare_tfds(tmp_path / "tfds", {"train": text(40), "test": text(5)})
    params = (
        "name=wmt14_translate/de-en:1.0.0,source_language=de,target_language=en,vocab_size=300,"
        "train_split=train[:80%],dev_split=train[80%:]"
    )
    config = resolve(problem="translate_tfds", problem_params=params).problem_config
    problem = problems.get("translate_tfds")(config)
    tfds_dir = str(tmp_path / "tfds")
    dataset = problem.generate(str(tmp_path / "data"), tfds_dir=tfds_dir, progress=False)
    assert dataset.manifest["splits"]["train"]["num_examples"] == 32
    records = dataset.records("train").read(range(32))
    sources = [dataset.vocabulary.decode(record["inputs"]) for record in records]
    assert sorted([*sources, *dataset.sources("dev")]) == sorted(text(40)["de"])
    assert [f"Zahl {line[3:]}" for line in dataset.references("test")] == dataset.sources("test")
    assert problems.get("translate_tfds_distilled").base is problems.get("translate_tfds")
    with pytest.raises(
        UsageError, match=r"no split 'validation' .* It has train \(40\), test \(5\)"
    ):
        cls = problems.get("translate_tfds")
        other = cls(cls.Config(name="wmt14_translate/de-en"))
        other.generate(str(tmp_path / "other"), tfds_dir=tfds_dir, progress=False)


@pytest.mark.slow
def test_wmt14_sample(tmp_path, real_data):
    def lines(name):
        return (
            gzip.open(real_data / "wmt14" / f"{name}.gz").read().decode().rstrip("\n").split("\n")
        )

    names = {"train": "europarl_20k", "validation": "news_dev_1k", "test": "newstest2014"}
    splits = {
        split: {code: lines(f"{name}.{code}") for code in ("de", "en")}
        for split, name in names.items()
    }
    prepare_tfds(tmp_path / "tfds", splits)
    problem = make("translate_ende_wmt14", vocab_size=4000)
    data_dir = str(tmp_path / "data")
    dataset = problem.generate(data_dir, tfds_dir=str(tmp_path / "tfds"), progress=False)
    train = dataset.manifest["splits"]["train"]
    assert train["num_examples"] + sum(train["dropped"].values()) == 20_000
    assert train["num_examples"] > 19_000
    vocabulary = dataset.vocabulary
    records = dataset.records("test").read(range(3003))
    pairs = [(vocabulary.decode(r["inputs"]), vocabulary.decode(r["targets"])) for r in records]
    assert pairs == list(zip(dataset.sources("test"), dataset.references("test"), strict=True))
    assert sorted(pairs) == sorted(zip(splits["test"]["en"], splits["test"]["de"], strict=True))


@pytest.mark.slow
def test_multi30k_whole(tmp_path, real_data):
    problem = make("translate_ende_multi30k")
    data_dir = str(tmp_path / "data")
    dataset = problem.generate(data_dir, source_dir=str(real_data / "multi30k"), progress=False)
    assert dataset.manifest["vocabulary"]["size"] == 4000
    splits = dataset.manifest["splits"]
    assert splits["train"]["num_examples"] + sum(splits["train"]["dropped"].values()) == 29_000
    assert (splits["dev"]["num_examples"], splits["test"]["num_examples"]) == (1014, 1000)
    # About 1.5 tokens per word with a vocabulary of this size.
    assert 14 < splits["test"]["target_tokens"] / 1000 < 22
    vocabulary = dataset.vocabulary
    for split in ("dev", "test"):
        reader = dataset.records(split)
        records = reader.read(range(len(reader)))
        texts = [vocabulary.decode(record["targets"]) for record in records]
        assert texts == dataset.references(split)

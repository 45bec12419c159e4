"""Distilled problems in one process, with the echo model as the teacher."""

import dataclasses
import gzip
import json
import pathlib
import shutil

import numpy as np
import pytest
import sacrebleu

from t2t_vqem.constants import DEV, EOS_ID, TEST, TRAIN, UsageError
from t2t_vqem.data import building
from t2t_vqem.distilled_problem import DistilledProblem, distilled
from t2t_vqem.hparams.transformer import TransformerHParams
from t2t_vqem.inference import distillation, translate
from t2t_vqem.inference.teacher import Teacher
from t2t_vqem.problem import SourceFlags
from t2t_vqem.registry import problems
from t2t_vqem.text_problem import TextDataset, TextProblem
from tests.distillable import MARKS, Distillable, echo_registered, make_distillable

NAME = "translate_text_distilled"
BASE = "translate_text"


@pytest.fixture(scope="module", autouse=True)
def echo():
    with echo_registered():
        yield


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Distillable:
    """Data and teacher, which must not be changed; `copy` gives each test its own data."""
    return make_distillable(tmp_path_factory.mktemp("distillable"))


@pytest.fixture
def copy(made, tmp_path) -> Distillable:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / BASE).symlink_to(made.dataset.directory)
    return made._replace(data_dir=str(tmp_path / "data"))


@pytest.fixture
def small_parts(monkeypatch):
    monkeypatch.setattr(translate, "WINDOW_LINES", 32)
    monkeypatch.setattr(distillation, "WINDOW_LINES", 32)


def make(data: Distillable, **settings) -> DistilledProblem:
    cls = problems.get(NAME)
    start = cls.starting_config(data.data_dir)
    return cls(dataclasses.replace(start, **{"xla": False, "beam_size": 1, **settings}))


def generate(data: Distillable, problem=None, **arguments) -> TextDataset:
    arguments = {"teacher_dir": data.teacher_dir, "progress": False, "num_workers": 1, **arguments}
    return (problem or make(data)).generate(data.data_dir, **arguments)


def training_pairs(dataset: TextDataset) -> list[tuple[str, str]]:
    vocabulary = dataset.vocabulary
    reader = dataset.records(TRAIN)
    return [
        tuple(vocabulary.decode(record[side]) for side in ("inputs", "targets"))
        for record in reader.read(range(len(reader)))
    ]


def contents(data: Distillable, name: str = NAME) -> dict[str, bytes]:
    folder = pathlib.Path(data.data_dir) / name
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_training_targets_are_the_teachers_and_the_rest_is_the_base_data(copy, small_parts):
    base, dataset = copy.dataset, generate(copy)
    vocabulary = dataset.vocabulary
    assert vocabulary.hash == base.vocabulary.hash
    kept = [line for line in copy.train if line[0] not in MARKS.values()]
    expected = [(line, vocabulary.decode(vocabulary.encode(line)[::-1])) for line in kept]
    reader = dataset.records(TRAIN)
    records = reader.read(range(len(reader)))
    assert [tuple(vocabulary.decode(r[s]) for s in ("inputs", "targets")) for r in records] == [
        pair for pair in expected if vocabulary.encode(pair[1])
    ]
    for record, (source, target) in zip(records, expected, strict=True):  # as text is encoded
        assert record["inputs"].tolist() == vocabulary.encode(source)
        assert record["targets"].tolist() == vocabulary.encode(target)
    lengths = dataset.lengths(TRAIN)
    sizes = [[len(record[side]) + 1 for side in ("inputs", "targets")] for record in records]
    np.testing.assert_array_equal(lengths, sizes)

    distilled_files, base_files = contents(copy), contents(copy, BASE)
    for split in (DEV, TEST):
        assert dataset.sources(split) == base.sources(split)
        assert dataset.references(split) == base.references(split)
        shard = f"{split}-00000-of-00001.array_record"
        assert distilled_files[shard] == base_files[shard]
    names = set(base_files) | {"failures.jsonl"}
    assert set(distilled_files) == names
    assert [path.name for path in pathlib.Path(copy.data_dir).iterdir() if path.name != NAME] == [
        BASE
    ]


@pytest.mark.parametrize(("margin", "num"), [(0.5, 2), (0.1, 1)])
def test_several_translations_of_a_source_within_a_margin(copy, small_parts, margin, num):
    problem = make(copy, beam_size=4, num_translations=3, score_margin=margin)
    dataset = generate(copy, problem)
    manifest, vocabulary = dataset.manifest, dataset.vocabulary
    expected = []
    for line in copy.train:
        failed = line[0] in MARKS.values()
        targets = [] if failed else [vocabulary.decode(vocabulary.encode(line)[::-1])]
        if num > 1:
            targets.append(line)
        expected += [(line, target) for target in dict.fromkeys(targets)]
    assert training_pairs(dataset) == expected
    # A source with one usable translation has not failed; dev is scored by the best one.
    assert sum(manifest["teacher"]["failed"].values()) == (0 if num > 1 else 3)
    single = make(copy)
    shutil.rmtree(pathlib.Path(copy.data_dir) / NAME)
    assert generate(copy, single).manifest["teacher"]["dev_bleu"] == manifest["teacher"]["dev_bleu"]


def write_extra(folder: pathlib.Path, lines: list[str]) -> str:
    path = folder / "extra.en.gz"
    path.write_bytes(gzip.compress("".join(f"{line}\n" for line in lines).encode()))
    return str(path)


def test_extra_sources_are_also_translated(copy, small_parts, tmp_path):
    lines = [f"{'three ' * (n % 5)}two{' four' * (n % 7)}" for n in range(70)]
    lines[40] = ""
    lines[41] = f"{MARKS['loop']} one two"
    problem = make(copy, extra_sources=write_extra(tmp_path, lines))
    dataset = generate(copy, problem)
    manifest, vocabulary = dataset.manifest, dataset.vocabulary
    failed = tuple(MARKS.values())
    expected = [
        (line, vocabulary.decode(vocabulary.encode(line)[::-1]))
        for line in [*copy.train, *lines]
        if line and not line.startswith(failed)
    ]
    assert training_pairs(dataset) == expected
    assert manifest["teacher"]["failed"] == {
        "empty": 2,
        "repetition": 2,
        "cut": 1,
        "long source": 0,
    }
    assert f"teacher failed on 5 of {len(copy.train) + 70} training sources" in dataset.report
    failures = [json.loads(line) for line in contents(copy)["failures.jsonl"].splitlines()]
    extra = [(f["number"], f["source"]) for f in failures if f["split"] == "extra"]
    assert extra == [(40, ""), (41, lines[41])]
    assert [f["split"] for f in failures] == ["train"] * 3 + ["extra"] * 2

    write_extra(tmp_path, lines[:-1])
    with pytest.raises(UsageError, match="source: extra sources was"):
        generate(copy, problem)


def test_extra_sources_in_shards_and_after_a_kill(copy, small_parts, tmp_path):
    extra = write_extra(tmp_path, [f"three two{' four' * (n % 7)}" for n in range(70)])
    generate(copy, make(copy, extra_sources=extra))
    whole = contents(copy)
    shutil.rmtree(pathlib.Path(copy.data_dir) / NAME)
    problem = make(copy, extra_sources=extra)
    words = [
        problem.generate_shard(
            copy.data_dir,
            teacher_dir=copy.teacher_dir,
            shard=shard,
            num_shards=2,
            progress=False,
        )
        for shard in (1, 0)
    ]
    assert "15 of 15 parts" in words[1]  # 2 of dev, 10 of train, 3 of the file
    part = next(pathlib.Path(f"{copy.data_dir}/{NAME}.partial").rglob("extra-000000032.*.json"))
    part.unlink()
    generate(copy, problem)
    assert contents(copy) == whole


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "extra.en: cannot be read"),
        (b"", "extra.en is empty, expected one source sentence on each line"),
        (b"one\ntw\xff\n", "extra.en, line 2: not UTF-8"),
    ],
)
def test_unusable_extra_sources_are_errors(copy, tmp_path, content, message):
    path = tmp_path / "extra.en"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError, match=message):
        generate(copy, make(copy, extra_sources=str(path)))
    assert not (pathlib.Path(copy.data_dir) / NAME).exists()


def test_more_translations_than_the_beam_size_are_an_error(copy):
    with pytest.raises(UsageError, match="num_translations=5 with beam_size=4: expected at most"):
        make(copy, beam_size=4, num_translations=5)


def test_manifest_and_report(copy, small_parts):
    dataset = generate(copy)
    manifest, vocabulary = dataset.manifest, dataset.vocabulary
    teacher = manifest["teacher"]
    assert {key: teacher[key] for key in ("problem", "model", "step")} == {
        "problem": "translate_text",
        "model": "echo",
        "step": 70,
    }
    assert teacher["weights"] == manifest["source"]["teacher weights"]
    assert teacher["decoding"]["beam_size"] == manifest["config"]["beam_size"] == 1
    dev = dataset.sources(DEV)
    translations = [vocabulary.decode(vocabulary.encode(line)[::-1]) for line in dev]
    metric = sacrebleu.BLEU()
    score = metric.corpus_score(translations, [dataset.references(DEV)]).score
    assert teacher["dev_bleu"]["value"] == pytest.approx(score)
    assert teacher["dev_bleu"]["signature"] == str(metric.get_signature())
    assert teacher["failed"] == {"empty": 1, "repetition": 1, "cut": 1, "long source": 0}

    report = dataset.report
    assert f"teacher on dev: BLEU = {score:.2f}  (nrefs:1|case:mixed" in report
    assert "teacher: echo on translate_text, step 70, weights " in report
    assert (
        f"teacher failed on 3 of {len(copy.train)} training sources, which are dropped "
        "(see failures.jsonl): 1 empty translation, 1 endless repetition, 1 cut by the length "
        "limit, 0 source cut, longer than the teacher's max_length"
    ) in report
    assert "empty: '0 one two' gave ''" in report
    count = len(copy.train) - 3
    assert f"train: {count} pairs of {count} lines" in report
    failures = [json.loads(line) for line in contents(copy)["failures.jsonl"].splitlines()]
    assert [failure["source"] for failure in failures] == [f"{m} one two" for m in MARKS.values()]
    assert [failure["reason"] for failure in failures] == ["empty", "repetition", "cut"]
    assert [copy.train[failure["number"]] for failure in failures] == [
        failure["source"] for failure in failures
    ]


def test_sources_longer_than_the_teachers_maximum_are_dropped(tmp_path):
    data = make_distillable(tmp_path, max_length=8)
    vocabulary = data.dataset.vocabulary
    too_long = [line for line in data.train if len(vocabulary.encode(line)) + 1 > 8]
    assert 0 < len(too_long) < 100
    manifest = generate(data).manifest
    assert manifest["teacher"]["failed"]["long source"] == len(too_long)


def test_translations_are_filtered_as_the_base_data_are(copy, monkeypatch):
    """Pairs of very different lengths are dropped from the base data, and from the distilled."""
    pairs = distillation.Distillation.pairs

    def doubled(self, split):
        for number, (source, target) in enumerate(pairs(self, split)):
            yield source, b" ".join([target] * (20 if number == 0 else 1))

    monkeypatch.setattr(distillation.Distillation, "pairs", doubled)
    dropped = generate(copy).manifest["splits"][TRAIN]["dropped"]
    assert dropped["too long"] + dropped["ratio"] == 1


def test_combined_shards_equal_the_whole(made, copy, small_parts, tmp_path, monkeypatch):
    generate(copy)
    whole = contents(copy)
    other = copy._replace(data_dir=str(tmp_path / "sharded"))
    pathlib.Path(other.data_dir).mkdir()
    (tmp_path / "sharded" / BASE).symlink_to(made.dataset.directory)
    done = []
    for shard in (2, 0, 1, 1):
        words = make(other).generate_shard(
            other.data_dir,
            teacher_dir=other.teacher_dir,
            shard=shard,
            num_shards=3,
            progress=False,
        )
        done.append(int(words.split()[6]))
        assert words.startswith(f"shard {shard} of 3 is done. ")
        assert words.endswith("run the command without --shard to combine them.")
        assert not (tmp_path / "sharded" / NAME).exists()
    assert done[-1] == done[-2] == 12  # 2 of dev, 10 of train
    monkeypatch.setattr(Teacher, "translator", None)  # everything is translated already
    generate(other)
    assert contents(other) == whole
    words = make(other).generate_shard(
        other.data_dir, teacher_dir=other.teacher_dir, shard=0, num_shards=3
    )
    assert words.endswith("is ready: nothing to do.")
    assert sorted(path.name for path in (tmp_path / "sharded").iterdir()) == [
        BASE,
        NAME,
    ]


def test_missing_shards_are_translated_when_shards_are_combined(copy, small_parts):
    problem = make(copy)
    problem.generate_shard(
        copy.data_dir, teacher_dir=copy.teacher_dir, shard=1, num_shards=2, progress=False
    )
    assert generate(copy).manifest["splits"][TRAIN]["num_examples"] == len(copy.train) - 3


def test_other_settings_or_weights_are_errors_if_parts_exist(copy, small_parts):
    arguments = {"teacher_dir": copy.teacher_dir, "shard": 0, "num_shards": 2, "progress": False}
    make(copy).generate_shard(copy.data_dir, **arguments)
    parts = sorted(pathlib.Path(f"{copy.data_dir}/{NAME}.partial").rglob("*"))
    message = r"_distilled\.partial was generated differently:\n  config: beam_size was 1, now 2"
    with pytest.raises(UsageError, match=message):
        make(copy, beam_size=2).generate_shard(copy.data_dir, **{**arguments, "shard": 1})
    with pytest.raises(UsageError, match=message):
        generate(copy, make(copy, beam_size=2))
    with pytest.raises(UsageError, match="(?s)source: teacher weights was .*delete that folder"):
        generate(copy, checkpoint="latest")
    assert sorted(pathlib.Path(f"{copy.data_dir}/{NAME}.partial").rglob("*")) == parts


def test_a_shard_is_locked_and_blocks_the_whole(copy, small_parts):
    problem = make(copy)
    arguments = {"teacher_dir": copy.teacher_dir, "num_shards": 2, "progress": False}
    identity = problem._identity(
        problem.source(SourceFlags(copy.data_dir, teacher_dir=copy.teacher_dir))
    )
    with building.shared_work(f"{copy.data_dir}/{NAME}", identity, "shard-0-of-2"):
        with pytest.raises(UsageError, match="shard-0-of-2 of .* is being generated by another"):
            problem.generate_shard(copy.data_dir, shard=0, **arguments)
        with pytest.raises(UsageError, match=f"{NAME} is being generated by another process"):
            generate(copy)
        assert "shard 1 of 2 is done" in problem.generate_shard(copy.data_dir, shard=1, **arguments)
    assert "12 of 12" in problem.generate_shard(copy.data_dir, shard=0, **arguments)


def test_data_without_a_newer_setting_has_its_default(copy, small_parts):
    problem = make(copy)
    arguments = {"teacher_dir": copy.teacher_dir, "num_shards": 2, "progress": False}
    problem.generate_shard(copy.data_dir, shard=0, **arguments)
    path = pathlib.Path(f"{copy.data_dir}/{NAME}.partial/scratch/identity.json")
    identity = json.loads(path.read_text())
    del identity["config"]["num_translations"]
    path.write_text(json.dumps(identity))
    problem.generate_shard(copy.data_dir, shard=1, **arguments)

    manifest = generate(copy).manifest
    del manifest["config"]["num_translations"]
    building.write_manifest(f"{copy.data_dir}/{NAME}", manifest)
    assert generate(copy).manifest == manifest
    assert generate(copy, teacher_dir=None).manifest == manifest
    problem.open(copy.data_dir)
    other = make(copy, num_translations=2, beam_size=2)
    message = "beam_size was 1, now 2\n.*num_translations was 1, now 2"
    with pytest.raises(UsageError, match=message):
        generate(copy, other)
    with pytest.raises(UsageError, match=message):
        other.open(copy.data_dir)


def test_generated_data_is_not_changed(copy):
    manifest = generate(copy).manifest
    files = contents(copy)
    assert generate(copy).manifest == manifest
    assert generate(copy, teacher_dir=None).manifest == manifest
    with pytest.raises(UsageError, match="config: alpha was 0.6, now 1.0"):
        generate(copy, make(copy, alpha=1.0))
    with pytest.raises(UsageError, match="config: alpha was 0.6, now 1.0"):
        generate(copy, make(copy, alpha=1.0), teacher_dir=None)
    with pytest.raises(UsageError, match="source: teacher weights was"):
        generate(copy, checkpoint="latest")
    assert contents(copy) == files


def test_the_best_checkpoint_is_used_unless_another_is_named(copy):
    dataset = generate(copy, checkpoint="latest")  # this one does not reverse
    record = dataset.records(TRAIN).read([0])[0]
    np.testing.assert_array_equal(record["inputs"], record["targets"])


def test_errors_about_teacher_and_source_folders(copy):
    message = "is made from the data of translate_text in .*, and needs --teacher_dir, the output"
    with pytest.raises(UsageError, match=message):
        generate(copy, teacher_dir=None)
    message = "--source_dir=somewhere: .*_distilled is made from --teacher_dir. Omit the flag."
    with pytest.raises(UsageError, match=message):
        generate(copy, source_dir="somewhere")
    generate(copy)
    with pytest.raises(UsageError, match="--tfds_dir=somewhere: .* is made from --teacher_dir"):
        generate(copy, teacher_dir=None, tfds_dir="somewhere")


def test_missing_base_data_is_an_error(tmp_path):
    message = (
        "no data of translate_text in .*, from which .*_distilled is made.*t2t-datagen --problem=tr"
    )
    with pytest.raises(UsageError, match=message):
        problems.get(NAME).starting_config(str(tmp_path))
    problem = problems.get(NAME)(problems.get(NAME).Config())
    with pytest.raises(UsageError, match="no data of translate_text in .*Make it with: t2t-datag"):
        problem.generate(str(tmp_path), teacher_dir="nowhere")
    with pytest.raises(UsageError, match=r"Make it with: .*_distilled .* --teacher_dir=DIR"):
        problem.open(str(tmp_path))


def test_settings_are_those_of_the_base_data(copy):
    problem = make(copy, max_ratio=2.0)
    with pytest.raises(UsageError, match="config: max_ratio was 4.0, now 2.0"):
        generate(copy, problem)


def change_flags(data: Distillable, folder: pathlib.Path, **values) -> str:
    """Copies the teacher's run with other flags; returns the new folder."""
    shutil.copytree(data.teacher_dir, folder)
    flags = json.loads((folder / "flags.json").read_text())
    (folder / "flags.json").write_text(json.dumps({**flags, **values}))
    return str(folder)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"problem": "translate_ende_wmt14", "problem_config": {}},
            "was trained on translate_ende_wmt14: expected a run of translate_text",
        ),
        ({"vocabulary": "0" * 64}, r"not that of .*translate_text: its hash is 000000000000, exp"),
        ({"vocabulary": None}, "its hash is None, expected"),
        (
            {"data_source": {"train source": "x"}},
            r"was trained on other text .*: \{'train source': 'x'\}, expected .*train a teacher on",
        ),
    ],
)
def test_a_teacher_of_other_data_is_an_error(copy, tmp_path, values, message):
    teacher_dir = change_flags(copy, tmp_path / "other", **values)
    with pytest.raises(UsageError, match=message):
        generate(copy, teacher_dir=teacher_dir)
    assert not (pathlib.Path(copy.data_dir) / f"{NAME}.partial").exists()


def test_a_teacher_that_does_not_translate_is_an_error(copy, tmp_path):
    teacher_dir = change_flags(copy, tmp_path / "other", model="vqvae")
    (tmp_path / "other/hparams.json").write_text("{}")
    message = "the model 'vqvae' does not fit the problem 'translate_text', which needs a model"
    with pytest.raises(UsageError, match=message):
        generate(copy, teacher_dir=teacher_dir)
    assert not (pathlib.Path(copy.data_dir) / f"{NAME}.partial").exists()


def test_a_teacher_folder_without_a_run_or_weights_is_an_error(copy, tmp_path):
    with pytest.raises(UsageError, match="is not an output directory of t2t-trainer"):
        generate(copy, teacher_dir=str(tmp_path))
    with pytest.raises(UsageError, match="there is no checkpoint 'averaged'"):
        generate(copy, checkpoint="averaged")


def test_a_teacher_that_always_fails_is_an_error_with_the_report(copy, tmp_path):
    folder = tmp_path / "hopeless"
    change_flags(copy, folder)
    hparams = json.loads((folder / "hparams.json").read_text())
    (folder / "hparams.json").write_text(json.dumps({**hparams, "empty_id": EOS_ID}))
    with pytest.raises(UsageError, match="(?s)failed on every training source:.*: 302 empty"):
        generate(copy, teacher_dir=str(folder))
    assert not (pathlib.Path(copy.data_dir) / NAME).exists()


@pytest.mark.parametrize(("shard", "num_shards"), [(2, 2), (-1, 2), (0, 0)])
def test_shards_out_of_range(copy, shard, num_shards):
    with pytest.raises(UsageError, match=f"shard {shard} of {num_shards}: expected a number from"):
        make(copy).generate_shard(
            copy.data_dir, teacher_dir=copy.teacher_dir, shard=shard, num_shards=num_shards
        )


def test_every_registered_text_problem_has_a_distilled_problem():
    twins = [n for n in problems.names() if issubclass(problems.get(n), DistilledProblem)]
    bases = [
        name
        for name in problems.names()
        if issubclass(problems.get(name), TextProblem) and name not in twins
    ]
    assert twins == [f"{name}_distilled" for name in bases]
    for name in bases:
        twin = problems.get(f"{name}_distilled")
        base = problems.get(name).Config()
        config = twin.Config()
        for field in dataclasses.fields(base):
            assert getattr(config, field.name) == getattr(base, field.name), field.name
        assert (config.beam_size, config.alpha) == (4, 0.6)
    with pytest.raises(UsageError, match="beam_size=0 is out of range"):
        problems.get(NAME).Config(beam_size=0)
    with pytest.raises(UsageError, match=r"has only English to German"):
        problems.get("translate_ende_cldr_distilled").Config(target_language="fr")


def test_a_user_problem_without_settings():
    class Mine(TextProblem):
        def generate_samples(self, split):
            return [("a", "b")]

    twin = distilled(Mine)
    assert twin.name == "mine_distilled"
    assert twin.Config(vocab_size=300, beam_size=2).vocab_size == 300


@pytest.mark.slow
def test_engines_translate_alike_and_are_told_apart(tiny_text_data, untrained_run, tmp_path):
    sizes = {"hidden_size": 8, "filter_size": 8, "num_heads": 2, "max_length": 32}
    hparams = TransformerHParams(num_encoder_layers=1, num_decoder_layers=1, **sizes)
    run = untrained_run(tmp_path / "teacher", hparams)
    cls = problems.get(NAME)
    start = cls.starting_config(tiny_text_data.data_dir)
    texts, decoding = [], []
    for engine in ("litert", "tensorflow"):
        config = dataclasses.replace(start, engine=engine, xla=False, beam_size=2, extra_length=4)
        flags = SourceFlags(tiny_text_data.data_dir, teacher_dir=run.path)
        teacher = cls(config).source(flags).teacher
        lines = tiny_text_data.dataset.sources(DEV)
        texts.append([found.text for found in teacher.translator().translate(lines)])
        decoding.append(teacher.to_json()["decoding"])
    assert texts[0] == texts[1]
    assert len(set(texts[0])) > 1
    assert [found["engine"] for found in decoding] == ["litert", "tensorflow"]
    assert decoding[0]["precision"] == "none"


def test_automatic_engine_is_tensorflow_where_litert_cannot_translate(made):
    decoding = make(made, xla=True).source(SourceFlags(made.data_dir, teacher_dir=made.teacher_dir))
    assert decoding.teacher.to_json()["decoding"]["engine"] == "tensorflow"
    for settings, message in (
        ({"engine": "litert"}, "the model Echo cannot be exported"),
        ({"int8": True}, "int8 is only for LiteRT, and TensorFlow would translate"),
    ):
        with pytest.raises(UsageError, match=message):
            make(made, **settings).source(SourceFlags(made.data_dir, teacher_dir=made.teacher_dir))

"""Where the values of a run come from, and what is refused on the way."""

import dataclasses
import json
import logging
import subprocess
import sys

import hypothesis
import hypothesis.strategies as st
import pytest

from t2t_vqem import registry
from t2t_vqem.config import (
    Config,
    HParams,
    Resolved,
    from_json,
    hparams_class,
    option,
    resolve,
    to_json,
)
from t2t_vqem.constants import UsageError
from t2t_vqem.hparams.transformer import TransformerHParams


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings(Config):
    """Settings of a problem for these tests."""

    source_language: str = option("en", "language of the source")
    vocabulary_size: int = option(100, "entries", minimum=2)


@pytest.fixture(autouse=True)
def registered():
    """A problem `toy` and a set `toy_set`."""
    with (
        registry.problems.temporary(),
        registry.model_hparams.temporary(),
        registry.hparams_sets.temporary(),
    ):
        registry.problems.register("toy")(type("Toy", (), {"Config": Settings}))

        @registry.hparams_sets.register()
        def toy_set():
            return TransformerHParams(hidden_size=64, filter_size=64, num_heads=4, dropout=0.25)

        yield


def toy(**overrides) -> TransformerHParams:
    return resolve(hparams_set="toy_set", **overrides).hparams


def test_the_set_alone():
    assert toy() == TransformerHParams(hidden_size=64, filter_size=64, num_heads=4, dropout=0.25)


def test_later_sources_win_one_by_one(tmp_path):
    first, second = tmp_path / "first.gin", tmp_path / "second.gin"
    names = ("dropout", "attention_dropout", "relu_dropout", "label_smoothing")
    first.write_text("\n".join(f"transformer.{name} = 0.11" for name in names))
    second.write_text("\n".join(f"transformer.{name} = 0.12" for name in names[1:]))
    hparams = toy(
        gin_files=[str(first), str(second)],
        gin_params=[f"transformer.{name} = 0.13" for name in names[2:]],
        hparams="label_smoothing=0.14",
    )
    assert hparams.dropout == 0.11
    assert hparams.attention_dropout == 0.12
    assert hparams.relu_dropout == 0.13
    assert hparams.label_smoothing == 0.14
    assert hparams.hidden_size == 64  # the set's


def test_gin_and_hparams_are_the_same_override():
    by_flag = resolve(hparams_set="toy_set", hparams="num_heads=2,dtype=bfloat16,clip_norm=1")
    by_gin = resolve(
        hparams_set="toy_set",
        gin_params=[
            "transformer.num_heads = 2",
            "transformer.dtype = 'bfloat16'",
            "transformer.clip_norm = 1",
        ],
    )
    assert by_flag.hparams == by_gin.hparams
    assert isinstance(by_gin.hparams.clip_norm, float)


def test_macros_reach_fields():
    assert toy(gin_params=["width = 32", "transformer.hidden_size = %width"]).hidden_size == 32
    # A macro may have a field's name, as long as it is used.
    hparams = toy(gin_params=["dropout = 0.4", "transformer.relu_dropout = %dropout"])
    assert (hparams.dropout, hparams.relu_dropout) == (0.25, 0.4)


def test_nothing_is_left_over_from_an_earlier_call():
    toy(gin_params=["transformer.num_heads = 2"])
    assert toy().num_heads == 4


def test_settings_of_a_problem():
    resolved = resolve(
        problem="toy",
        gin_params=["toy.source_language = 'de'", "toy.vocabulary_size = 7"],
        problem_params="vocabulary_size=9",
    )
    assert resolved.problem_config == Settings(source_language="de", vocabulary_size=9)
    assert resolved.hparams is None


def test_the_gin_text_gives_the_same_again(tmp_path):
    first = resolve(
        problem="toy",
        hparams_set="toy_set",
        problem_params="source_language='a\"\\',b'",
        hparams="learning_rate=0.1234567890123456789,adam_epsilon=1e-300",
    )
    path = tmp_path / "config.gin"
    path.write_text(first.gin_text)
    assert "toy.vocabulary_size = 100" in first.gin_text  # defaults too, because they may change
    again = resolve(problem="toy", hparams_set="transformer_big", gin_files=[str(path)])
    assert again.hparams == first.hparams
    assert again.problem_config == first.problem_config


def test_a_run_goes_on_with_what_it_was_started_with():
    base = resolve(problem="toy", hparams_set="toy_set", problem_params="vocabulary_size=9")
    again = resolve(problem="toy", base=base, hparams="dropout=0")
    assert again.problem_config == base.problem_config
    assert again.hparams == dataclasses.replace(base.hparams, dropout=0)
    other = resolve(problem="toy", hparams_set="transformer_tiny", base=base)
    assert other.hparams == registry.hparams_sets.get("transformer_tiny")()


def test_a_model_alone_gives_its_defaults():
    assert resolve(model="transformer").hparams == TransformerHParams()
    assert resolve() == Resolved(None, None, resolve().gin_text)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"hparams_set": "toy_se"}, r"unknown hparams set 'toy_se'. Did you mean toy_set\?"),
        ({"problem": "toi"}, r"unknown problem 'toi'. Did you mean toy\?"),
        ({"hparams": "num_haeds=2"}, "--hparams: unknown field .* Did you mean num_heads"),
        ({"hparams": "num_heads=many"}, "--hparams: num_heads=many: expected int"),
        ({"hparams": "dropout=1"}, "--hparams: dropout=1.0 is out of range"),
        ({"hparams": "num_heads=7"}, "expected hidden_size to be a multiple of num_heads"),
        ({"gin_params": ["transformer.num_haeds = 2"]}, "gin: .* Did you mean num_heads"),
        ({"gin_params": ["transformer.num_heads = '2'"]}, "gin: .* is of type str, expected int"),
        ({"gin_params": ["transformer.num_heads = 0"]}, "gin: .* num_heads=0 is out of range"),
        (
            {"gin_params": ["transfomer.num_heads = 2"]},
            r"Did you mean transformer or transformer_nat\?",
        ),
        ({"gin_params": ["num_heads = 2"]}, "write transformer.num_heads = ..."),
        (
            {"gin_params": ["eval/transformer.num_heads = 2"]},
            "eval/transformer is bound in a scope",
        ),
        ({"gin_params": ["transformer.num_heads 2"]}, "gin: Couldn't parse statement"),
        (
            {"gin_params": ["transformer.num_heads = %two"]},
            "gin: transformer: %two is used, but not defined",
        ),
        ({"gin_files": ["no_such.gin"]}, "--gin_file=no_such.gin: there is no such file"),
        ({"problem_params": "a=1"}, "--problem_params='a=1' needs --problem"),
        ({"hparams_set": None, "hparams": "a=1"}, "--hparams='a=1' needs --hparams_set or --model"),
        ({"model": "vqvae"}, "--hparams_set=toy_set is for the model 'transformer'"),
        ({"problem": "toy", "problem_params": "source_languge=de"}, "mean source_language"),
    ],
)
def test_what_is_refused(arguments, message):
    with pytest.raises(UsageError, match=message):
        resolve(**{"hparams_set": "toy_set", **arguments})


def test_a_gin_file_may_begin_with_a_byte_order_mark(tmp_path):
    path = tmp_path / "a.gin"
    path.write_bytes("\ufefftransformer.hidden_size = 96".encode())
    assert resolve(model="transformer", gin_files=[str(path)]).hparams.hidden_size == 96
    path.write_bytes("transformer.hidden_size = 96".encode("utf-16"))
    with pytest.raises(UsageError, match=f"^--gin_file={path}: not UTF-8"):
        resolve(model="transformer", gin_files=[str(path)])


def test_the_place_in_a_gin_file_is_named(tmp_path):
    path = tmp_path / "mine.gin"
    path.write_text("# a comment\ntransfomer.num_heads = 2\n")
    with pytest.raises(UsageError, match=r'In file ".*mine.gin", line 2'):
        toy(gin_files=[str(path)])


GIN_NAMES = "transformer toy vqvae nobody macro singleton gin scope import include os.system x"
GIN_SIGNS = "a/ @ % .hidden_size .dropout .source_language .nothing . = () ( ) \" ' [ ] { } : # ä"
GIN_VALUES = "1 64 0.1 -1 1e999 None True 'x'"
GIN_SPACE = (" ", " = ", "\n", "\n\n", "\\\n", "\t", "\0")
GIN_WORDS = st.sampled_from(
    [*GIN_NAMES.split(), *GIN_SIGNS.split(), *GIN_VALUES.split(), *GIN_SPACE]
)


@hypothesis.settings(
    deadline=None, max_examples=300, suppress_health_check=list(hypothesis.HealthCheck)
)
@hypothesis.given(st.lists(GIN_WORDS, max_size=12).map("".join), st.booleans())
def test_any_gin_is_read_or_refused_with_a_message(tmp_path, text, in_file):
    path = tmp_path / "any.gin"
    path.write_text(text)
    given = {"gin_files": [str(path)]} if in_file else {"gin_params": [text]}
    try:
        resolved = resolve(hparams_set="toy_set", problem="toy", **given)
    except UsageError as error:
        assert str(error)
        return
    again = tmp_path / "again.gin"
    again.write_text(resolved.gin_text)
    assert resolve(hparams_set="toy_set", problem="toy", gin_files=[str(again)])[:2] == resolved[:2]


@hypothesis.settings(deadline=None)
@hypothesis.given(st.binary(max_size=40))
def test_any_gin_file_is_read_or_refused_with_a_message(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("gin") / "any.gin"
    path.write_bytes(content)
    try:
        resolve(hparams_set="toy_set", gin_files=[str(path)])
    except UsageError as error:
        assert str(error)


def test_bindings_of_another_problem_are_ignored_with_a_warning(caplog):
    with caplog.at_level(logging.WARNING):
        assert toy(gin_params=["toy.vocabulary_size = 5"]) == toy()
    assert "gin sets vocabulary_size of 'toy', which is not part of this run" in caplog.text


def test_a_required_field_is_asked_for():
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Strict(Config):
        language: str = dataclasses.field(metadata={"meaning": "the language"})

    registry.problems.register("strict")(type("Strict", (), {"Config": Strict}))
    with pytest.raises(UsageError, match="strict needs language: the language"):
        resolve(problem="strict")
    assert resolve(problem="strict", problem_params="language=de").problem_config.language == "de"


def test_hparams_class_finds_the_class_of_a_plug_in():
    @registry.model_hparams.register("mine_of_tests")
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class MineHParams(HParams):
        depth: int = option(2, "layers", minimum=1)

    assert hparams_class("mine_of_tests") is MineHParams
    resolved = resolve(model="mine_of_tests", gin_params=["mine_of_tests.depth = 5"])
    assert resolved.hparams == MineHParams(depth=5)
    assert resolved.hparams.model == "mine_of_tests"


def test_hparams_of_a_set_have_to_be_registered():
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class LostHParams(TransformerHParams):
        pass

    registry.hparams_sets.register("lost")(LostHParams)
    with pytest.raises(UsageError, match="LostHParams .* is not registered as a model"):
        resolve(hparams_set="lost")


def test_a_model_without_hyperparameters_is_refused():
    with registry.models.temporary():
        registry.models.register("bare")(object)
        with pytest.raises(UsageError, match="the model 'bare' has no registered hyperparameters"):
            resolve(model="bare")
    with pytest.raises(UsageError, match=r"unknown model 'transfomer'. Did you mean transformer"):
        resolve(model="transfomer")


def test_json_of_hparams():
    hparams = TransformerHParams(dropout=0.3)
    assert from_json(TransformerHParams, json.loads(json.dumps(to_json(hparams)))) == hparams


def test_every_field_has_a_meaning():
    for field in dataclasses.fields(TransformerHParams):
        assert field.metadata.get("meaning"), field.name


def test_no_tensorflow_is_imported():
    program = (
        "import sys, t2t_vqem.config as c; c.resolve(hparams_set='transformer_base')\n"
        "assert 'tensorflow' not in sys.modules and 'keras' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)

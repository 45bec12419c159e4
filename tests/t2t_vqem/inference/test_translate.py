import logging

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from t2t_vqem.constants import EOS_ID, PAD_ID, UsageError
from t2t_vqem.data.lines import one_line
from t2t_vqem.data.vocabulary import Vocabulary
from t2t_vqem.decoding.greedy import Decoded
from t2t_vqem.decoding.options import DecodeOptions
from t2t_vqem.hparams.transformer import TransformerHParams
from t2t_vqem.inference import translate
from t2t_vqem.inference.translate import Translator
from t2t_vqem.models.transformer import Transformer

SENTENCES = [
    "A man in a blue shirt is standing on a ladder.",
    "Ein Mann in einem blauen Hemd steht auf einer Leiter.",
    "Two dogs run.",
    "Zwei Hunde laufen über die grüne Wiese und ein Kind schaut ihnen zu.",
]
WILD_CHARACTERS = "ab \t\r\x00\x07\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029\u200b\ufeff▁äß中😀"


class CopyModel:
    """Translates a line to itself; records the shapes and row ids of its calls."""

    def __init__(self):
        self.shapes = []

    def infer(self, inputs, options, *, max_length, seed, row_ids):
        del options, seed
        self.shapes.append((*inputs.shape, max_length))  # runs once for each traced shape
        padding = [[0, 0], [0, max_length - inputs.shape[1]]]
        tokens = tf.pad(inputs, padding, constant_values=PAD_ID)
        return Decoded(tokens, tf.cast(row_ids, tf.float32))


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory):
    path = tmp_path_factory.mktemp("vocabulary") / "vocab.model"
    return Vocabulary.train(SENTENCES * 5, 330, str(path), seed=1)


@pytest.fixture(scope="module")
def transformer(vocabulary):
    tf.keras.utils.set_random_seed(3)
    return build(vocabulary, hidden_size=16, filter_size=24)


def build(vocabulary, **sizes):
    hparams = TransformerHParams(num_encoder_layers=1, num_decoder_layers=1, num_heads=2, **sizes)
    model = Transformer(hparams, vocab_size=vocabulary.size)
    model.build_variables()
    return model


def make(model, vocabulary, *, max_length=64, **kwargs):
    options = DecodeOptions(
        **{
            name: kwargs.pop(name)
            for name in list(kwargs)
            if name in DecodeOptions.__dataclass_fields__
        }
    )
    kwargs.setdefault("xla", False)
    return Translator(model, vocabulary, options, max_length=max_length, **kwargs)


@pytest.fixture(scope="module")
def copier(vocabulary):
    return make(CopyModel(), vocabulary, max_length=256, batch_tokens=512)


def test_the_n_best_of_a_beam_come_with_the_best(transformer, vocabulary):
    one = make(transformer, vocabulary, beam_size=4, extra_length=6)
    several = make(transformer, vocabulary, beam_size=4, num_best=3, extra_length=6)
    for single, best in zip(
        one.translate([*SENTENCES, ""]), several.translate([*SENTENCES, ""]), strict=True
    ):
        assert best.score >= single.score - 1e-5  # the search takes more steps
        scores = [best.score, *(other.score for other in best.others)]
        assert scores == sorted(scores, reverse=True)
        assert len(best.others) == (2 if single.text else 0)
        assert not any(other.others for other in best.others)
    alone = next(several.translate(SENTENCES[2:3]))
    together = list(several.translate(SENTENCES))[2]
    assert [h.text for h in (alone, *alone.others)] == [
        h.text for h in (together, *together.others)
    ]


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    st.lists(
        st.one_of(
            st.text(WILD_CHARACTERS, max_size=40),
            st.text(st.characters(exclude_characters="\n", exclude_categories=["Cs"]), max_size=8),
            st.sampled_from(SENTENCES),
        ),
        max_size=50,
    )
)
def test_line_i_answers_line_i(copier, lines):
    results = list(copier.translate(lines, first_index=1000))
    expected = [one_line(line) if line.strip() else "" for line in lines]
    assert [result.text for result in results] == expected
    ids = [1000 + i if line.strip() else 0 for i, line in enumerate(lines)]
    assert [result.score for result in results] == ids


def test_order_is_kept_across_windows(copier, monkeypatch):
    monkeypatch.setattr(translate, "WINDOW_LINES", 7)
    rng = np.random.default_rng(4)
    lines = ["" if i % 5 == 0 else "ab " * int(rng.integers(1, 20)) + str(i) for i in range(50)]
    done = []
    results = list(copier.translate(iter(lines), progress=done.append))
    assert [result.text for result in results] == lines
    assert sum(done) == len(lines)


def test_lines_are_read_one_window_ahead_only(copier, monkeypatch):
    monkeypatch.setattr(translate, "WINDOW_LINES", 3)
    taken = []

    def lines():
        for i in range(100):
            taken.append(i)
            yield str(i)

    results = copier.translate(lines())
    assert next(results).text == "0"
    assert taken == [0, 1, 2]


def test_blank_lines_never_reach_the_model(vocabulary):
    model = CopyModel()
    results = list(make(model, vocabulary).translate(["", " ", "\u2028 \x85", "\t\r"]))
    assert results == [translate.Hypothesis("", 0.0)] * 4
    assert model.shapes == []
    assert list(make(model, vocabulary).translate([])) == []


def test_long_lines_are_cut_with_one_warning_that_counts_them(vocabulary, caplog):
    translator = make(CopyModel(), vocabulary, max_length=9)
    lines = ["x" * 10_000, "a b", "y" * 10_000, "", "z" * 7]
    with caplog.at_level(logging.WARNING):
        results = list(translator.translate(lines))
    # Eight ids and EOS; the first id is the space that SentencePiece inserts before a line.
    assert lines[0].startswith(results[0].text) and 0 < len(results[0].text) < 100
    assert [result.text for result in results[1::3]] == ["a b", "z" * 7]
    assert len(vocabulary.encode(results[0].text)) == 8
    assert [record.getMessage() for record in caplog.records] == [
        "2 input line(s) had more than max_length=9 tokens and were truncated; "
        "their translations end early"
    ]
    assert translator.num_cut == 2


def test_one_function_for_each_shape(vocabulary):
    model = CopyModel()
    translator = make(model, vocabulary, batch_tokens=64, extra_length=5)
    lines = ["ab" * n for n in (1, 2, 3) for _ in range(20)]
    for _ in range(2):
        list(translator.translate(lines))
    assert len(set(model.shapes)) == len(model.shapes)
    assert set(model.shapes) == {(8, 8, 16)}


def test_hypotheses_are_single_lines(vocabulary):
    """A model may produce a separator that its input does not contain."""

    class Separators(CopyModel):
        def infer(self, inputs, options, *, max_length, seed, row_ids):
            ids = [*vocabulary.encode("a\u2028b\x85c\rd"), EOS_ID]
            tokens = tf.constant([ids + [PAD_ID] * (max_length - len(ids))] * inputs.shape[0])
            return Decoded(tokens, tf.zeros([inputs.shape[0]]))

    assert [r.text for r in make(Separators(), vocabulary).translate(["x"])] == ["a b c d"]


def infer(model, vocabulary, line, **options):
    """Returns the model's own output for a single line without padding."""
    inputs = tf.constant([[*vocabulary.encode(line), EOS_ID]])
    options = DecodeOptions(**options)
    decoded = model.infer(inputs, options, max_length=inputs.shape[1] + options.extra_length)
    return one_line(vocabulary.decode(decoded.tokens.numpy()[0])), decoded.scores.numpy()[0]


@pytest.mark.parametrize(
    "options",
    [
        {"extra_length": 3},
        {"beam_size": 3, "alpha": 0.0, "extra_length": 3},
        {"beam_size": 3, "alpha": 2.0, "extra_length": 3},
    ],
)
def test_batches_and_padding_change_nothing(transformer, vocabulary, options):
    results = list(make(transformer, vocabulary, **options).translate(SENTENCES))
    for line, result in zip(SENTENCES, results, strict=True):
        text, score = infer(transformer, vocabulary, line, **options)
        assert result.text == text
        assert result.score == pytest.approx(score, rel=1e-4)


def test_xla_gives_the_same_translations(transformer, vocabulary):
    plain = list(make(transformer, vocabulary, extra_length=4).translate(SENTENCES))
    compiled = list(make(transformer, vocabulary, extra_length=4, xla=True).translate(SENTENCES))
    assert [r.text for r in compiled] == [r.text for r in plain]


def test_options_reach_the_search(transformer, vocabulary):
    def texts(**options):
        translator = make(transformer, vocabulary, **options)
        return [result.text for result in translator.translate(SENTENCES)]

    greedy = texts(extra_length=4)
    assert texts(sampling_temperature=1.0, extra_length=4) != greedy
    assert texts(sampling_temperature=1.0, sampling_top_k=1, extra_length=4) == greedy
    longer = texts(extra_length=40)
    assert all(map(str.startswith, longer, greedy)) and longer != greedy


def test_samples_depend_on_seed_and_line_but_not_on_the_batch(transformer, vocabulary):
    def texts(lines, first_index=0, seed=5, **kwargs):
        translator = make(
            transformer, vocabulary, sampling_temperature=1.0, extra_length=4, seed=seed, **kwargs
        )
        return [result.text for result in translator.translate(lines, first_index=first_index)]

    lines = SENTENCES + SENTENCES[:1]
    together = texts(lines)
    assert together == texts(lines)
    assert together == texts(lines, batch_tokens=16)
    assert together[2:] == texts(lines[2:], first_index=2)
    assert together != texts(lines, seed=6)
    assert together[0] != together[4], "the same text on another line is another sample"


def test_new_weights_are_used_immediately(vocabulary):
    tf.keras.utils.set_random_seed(8)
    model = build(vocabulary, hidden_size=8, filter_size=8)
    translator = make(model, vocabulary, extra_length=4)
    before = [r.text for r in translator.translate(SENTENCES)]
    for variable in model.trainable_variables:
        variable.assign(tf.random.stateless_normal(variable.shape, [1, 2]))
    after = [r.text for r in translator.translate(SENTENCES)]
    assert after != before
    assert after == [infer(model, vocabulary, line, extra_length=4)[0] for line in SENTENCES]


def test_errors_of_the_model_reach_the_caller(vocabulary):
    class Broken:
        def infer(self, *args, **kwargs):
            raise RuntimeError("broken model")

    with pytest.raises(RuntimeError, match="broken model"):
        list(make(Broken(), vocabulary).translate(["a"] * 3))


@pytest.mark.parametrize("name", ["max_length", "batch_tokens", "concurrency"])
def test_numbers_out_of_range_are_errors(vocabulary, name):
    with pytest.raises(UsageError, match=f"{name} must be at least .*, got 0"):
        make(CopyModel(), vocabulary, **{name: 0})

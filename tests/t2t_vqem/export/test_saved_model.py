"""The tokeniser in the graph does what the vocabulary does, byte for byte."""

import re

import numpy as np
import pytest
import sentencepiece
import tensorflow as tf

from t2t_vqem.constants import EOS_ID, FILL_ID, UsageError
from t2t_vqem.data import sentencepiece_model
from t2t_vqem.data.lines import one_line
from t2t_vqem.data.vocabulary import Vocabulary
from t2t_vqem.export.saved_model import TextModel
from t2t_vqem.runtime.manifest import Manifest

pytest.importorskip("tensorflow_text")
TEXTS = [
    *(
        "one two three",
        " one",
        "  one  two ",
        "",
        " ",
        "\u2581",
        "a\u2581\u2581b \u2581",
        "five\tone",
    ),
    *(
        "\U0001f600 emoji \U0001f468\u200d\U0001f469",
        "\x00\x01",
        "a\x00b",
        "a\u2028b\x85c",
        "e\u0301",
    ),
    "ünë " * 40,
]


# A vocabulary of this package, and users' own ones, which normalise.
OWN = {
    "exact": None,
    "bpe": {"model_type": "bpe"},
    "no prefix": {"model_type": "unigram", "add_dummy_prefix": False, "hard_vocab_limit": False},
    "spaces": {"model_type": "bpe", "add_dummy_prefix": False, "remove_extra_whitespaces": False},
}


@pytest.fixture(scope="module", params=OWN)
def vocabulary(request, stored_exports, tmp_path_factory):
    if OWN[request.param] is None:
        return Vocabulary(str(stored_exports / "exact" / "vocab.model"))
    path = tmp_path_factory.mktemp("own") / "vocab.model"
    with open(path, "wb") as file:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(["one two three five emoji  one"] * 9),
            model_writer=file,
            vocab_size=40,
            minloglevel=2,
            **OWN[request.param],
        )
    path.write_bytes(sentencepiece_model.convert(str(path)))
    return Vocabulary(str(path))


@pytest.fixture(scope="module")
def model(vocabulary):
    manifest = Manifest(kind="text", engine="saved_model", model="x", files={}, max_length=50)
    return TextModel(None, vocabulary, manifest)


def test_ids_are_those_of_the_vocabulary(model, vocabulary):
    found = tf.function(model.ids)(tf.constant(TEXTS)).numpy()
    for text, row in zip(TEXTS, found, strict=True):
        assert row[row > 0].tolist() == [*vocabulary.encode(text)[:49], EOS_ID], repr(text)


def test_texts_are_those_of_the_vocabulary(model, vocabulary):
    rng = np.random.default_rng(0)
    rows = [[*vocabulary.encode(text), EOS_ID, 5] for text in TEXTS]
    rows += [[FILL_ID, *vocabulary.encode("one"), FILL_ID, EOS_ID]]
    rows += rng.integers(3, vocabulary.size, [40, 6]).tolist()  # bytes that are no UTF-8
    longest = max(map(len, rows))
    padded = np.array([row + [0] * (longest - len(row)) for row in rows], np.int32)
    texts = tf.function(model.text)(tf.constant(padded)).numpy()
    for row, text in zip(rows, texts, strict=True):
        # TensorFlow makes one U+FFFD of several bytes that are no UTF-8, SentencePiece one of each.
        found, expected = (
            re.sub("\ufffd+", "\ufffd", one)
            for one in (text.decode(), one_line(vocabulary.decode(row)))
        )
        assert found == expected, row


def test_what_a_format_cannot_hold_is_refused(untrained_run, tmp_path):
    from t2t_vqem.export.exporter import export_run
    from t2t_vqem.hparams.transformer_nat import TransformerNATHParams

    hparams = TransformerNATHParams(
        num_encoder_layers=1, num_decoder_layers=1, num_target_encoder_layers=1, hidden_size=8,
        num_predictor_layers=1, filter_size=8, num_heads=2, num_codes=9, code_size=4, max_length=32,
    )  # fmt: skip
    run = untrained_run(tmp_path / "run", hparams)
    for settings, message in (
        (
            {"engine": "ctranslate2"},
            "is only for runs of 'transformer', .* expected --format=litert",
        ),
        ({"engine": "saved_model", "quantize": "int8"}, "TensorFlow computes in float32"),
    ):
        with pytest.raises(UsageError, match=message):
            export_run(run, str(tmp_path / "export"), **settings)
        assert not (tmp_path / "export").exists()

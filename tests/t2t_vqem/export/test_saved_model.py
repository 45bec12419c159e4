"""The tokeniser in the graph does what the vocabulary does, byte for byte."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import sentencepiece
import tensorflow as tf

from t2t_vqem.constants import EOS_ID, FILL_ID, UsageError
from t2t_vqem.data import sentencepiece_model
from t2t_vqem.data.lines import one_line
from t2t_vqem.data.vocabulary import Vocabulary
from t2t_vqem.export.saved_model import Served, TextModel
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
    # The first and last bytes of each range, in any order: most rows have valid and other ones.
    limits = bytes.fromhex("00 7f 80 8f 90 9f a0 bf c0 c1 c2 df e0 e1 ec ed ee ef f0 f1 f4 f5 ff")
    near = [vocabulary.encode("\ue000")[-3:][0] - 0xEE + byte for byte in limits]
    rows += [[int(id_) for id_ in rng.choice(near, size)] for size in rng.integers(1, 9, 600)]
    rows += [[near[-6], FILL_ID, near[4], near[2], 0, near[3]]]  # one character, with gaps
    longest = max(map(len, rows))
    padded = np.array([row + [0] * (longest - len(row)) for row in rows], np.int32)
    texts = tf.function(model.text)(tf.constant(padded)).numpy()
    for row, text in zip(rows, texts, strict=True):
        assert text.decode() == one_line(vocabulary.decode(row)), row


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


PROGRAM = """
import json, sys
import numpy as np
import tensorflow as tf
import tensorflow_text

assert "t2t_vqem" not in sys.modules
model = tf.saved_model.load(sys.argv[1])
texts = [text.encode() for text in json.loads(sys.argv[2])]
found = model.signatures["serving_default"](text=tf.constant(texts))
ids = tf.constant([[5, 7, 1]])
given = {"inputs": ids, "extra_length": tf.constant(4), "alpha": tf.constant(0.6)}
specs = model.signatures["translate"].structured_input_signature[1]
of_ids = model.signatures["translate"](**{name: given[name] for name in specs})
print(json.dumps({
    "texts": [text.decode() for text in found["text"][:, 0].numpy()],
    "scores": found["scores"][:, 0].numpy().tolist(),
    "shape": of_ids["tokens"].shape.as_list(),
}))
"""


@pytest.mark.slow
def test_moved_folder_translates_in_a_fresh_process(untrained_run, tmp_path):
    from t2t_vqem.decoding.options import DecodeOptions
    from t2t_vqem.export.exporter import export_run
    from t2t_vqem.hparams.transformer import TransformerHParams

    sizes = {"hidden_size": 8, "filter_size": 8, "num_heads": 2, "max_length": 32}
    run = untrained_run(
        tmp_path / "run", TransformerHParams(num_encoder_layers=1, num_decoder_layers=1, **sizes)
    )
    options = DecodeOptions(beam_size=2, extra_length=4)
    folder = tmp_path / "made"
    manifest = export_run(run, str(folder), engine="saved_model", options=options)
    assert manifest.about["verification"]["equal_texts"] == 40  # so it does what the run does
    here = list(Served(str(folder)).translate(TEXTS))
    moved = folder.rename(tmp_path / "moved")
    shutil.rmtree(run.path)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(moved / "saved_model"), json.dumps(TEXTS)],
        capture_output=True, text=True, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["texts"] == [hypothesis.text for hypothesis in here]
    assert found["scores"] == pytest.approx([h.score for h in here], rel=1e-4, abs=1e-4)
    assert found["shape"][0] == 1
    blank = [text for text, line in zip(found["texts"], TEXTS, strict=True) if not line.strip()]
    assert blank == ["", ""]


@pytest.mark.parametrize("vocabulary", ["exact"], indirect=True)
def test_bytes_that_are_no_utf_8_are_read_as_replacements(model, vocabulary):
    """One for each byte, as in the output; t2t-decoder refuses such a file.

    The other vocabularies normalise a U+FFFD of the text to a space, but not that of a byte.
    """
    given = [
        b"one \xff\xfe two",
        b"\xe2\x96 one",
        b"\xf4\x90\x80\x80",
        b"\xed\xa0\x80",
        b"\xc0\x80",
    ]
    expected = ["one \ufffd\ufffd two", "\ufffd\ufffd one", *("\ufffd" * n for n in (4, 3, 2))]
    found = tf.function(model.ids)(tf.constant(given)).numpy()
    for text, row in zip(expected, found, strict=True):
        assert row[row > 0].tolist() == [*vocabulary.encode(text), EOS_ID], text

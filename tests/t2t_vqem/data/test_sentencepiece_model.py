"""A user's own SentencePiece model becomes a vocabulary without changing how text is split."""

from __future__ import annotations

import pathlib

import pytest
import sentencepiece

from t2t_vqem.constants import EOS_ID, PAD_ID, UNK_ID, UsageError
from t2t_vqem.data.sentencepiece_model import convert
from t2t_vqem.data.vocabulary import Vocabulary

TEXT = [
    "A dog runs across the grass.",
    "Ein Hund rennt über das Gras.",
    "Two men are talking; one of them laughs.",
    "Zwei Männer unterhalten sich, einer lacht.",
] * 20
HARD = [
    "",
    "  a  b  ",
    "漢字 Ωx",
    "\x00",
    "ﬁ ½ Ａ",
    "<pad>A</s><s> <unk>",
    "👩‍👩‍👧",
    "e\u0301 \u00e9",
    "qqq\u2028q",
]
MODELS = {
    "unigram": {"model_type": "unigram"},
    "bpe": {"model_type": "bpe"},
    "bytes": {"model_type": "bpe", "byte_fallback": True, "vocab_size": 320},
    "identity": {
        "model_type": "unigram",
        "normalization_rule_name": "identity",
        "remove_extra_whitespaces": False,
    },
    "folding": {"model_type": "unigram", "normalization_rule_name": "nfkc_cf"},
    "symbols": {
        "model_type": "unigram",
        "user_defined_symbols": ["<pad>", "<0x41>", "</s>", "dog runs"],
        "eos_id": -1,
    },
    "languages": {
        "model_type": "bpe",
        "control_symbols": ["<2de>", "<2en>"],
        "pad_id": 3,
        "unk_id": 1,
        "bos_id": -1,
        "eos_id": 0,
        "character_coverage": 0.98,
    },
    "no prefix": {"model_type": "unigram", "add_dummy_prefix": False},
}


def train(path: pathlib.Path, **options) -> str:
    with open(path, "wb") as file:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(TEXT),
            model_writer=file,
            minloglevel=2,
            **{"vocab_size": 80, "hard_vocab_limit": options["model_type"] != "unigram", **options},
        )
    return str(path)


@pytest.mark.parametrize("name", MODELS)
def test_text_is_split_as_by_the_model_itself(tmp_path, name):
    path = train(tmp_path / "own.model", **MODELS[name])
    original = sentencepiece.SentencePieceProcessor(model_file=path)
    (tmp_path / "vocab.model").write_bytes(convert(path))
    vocabulary = Vocabulary(str(tmp_path / "vocab.model"))
    for line in [*TEXT[:4], *HARD]:
        expected = []
        for piece in original.encode(line, out_type=str):
            unknown = original.piece_to_id(piece) == original.unk_id()
            expected += [f"<0x{b:02X}>" for b in piece.encode()] if unknown else [piece]
        ids = vocabulary.encode(line)
        assert [vocabulary.piece(id_) for id_ in ids] == expected
        assert not {PAD_ID, EOS_ID, UNK_ID} & set(ids)
        normalised = original.normalize(line).replace("\u2581", " ")
        prefix = MODELS[name].get("add_dummy_prefix", True)
        assert vocabulary.decode(ids) == (normalised[1:] if prefix else normalised)
    # One id for each piece of the text, the three special ones, and the 256 bytes.
    own = range(original.get_piece_size())
    kept = sum(not original.is_control(id_) and not original.is_unknown(id_) for id_ in own)
    added = 0 if MODELS[name].get("byte_fallback") else 256
    replaced = name == "symbols"  # "<0x41>" was a piece of the text
    assert vocabulary.size == kept + 3 + added - replaced


def test_a_vocabulary_of_this_package_stays_byte_equal(tmp_path):
    own = Vocabulary.train(TEXT, 350, str(tmp_path / "vocab.model"), seed=0)
    assert convert(str(tmp_path / "vocab.model")) == own.model
    path = train(tmp_path / "foreign.model", **MODELS["bpe"])
    (tmp_path / "once.model").write_bytes(convert(path))
    assert convert(str(tmp_path / "once.model")) == (tmp_path / "once.model").read_bytes()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model_type": "word"}, "a model of type word with .* expected a unigram or BPE model"),
        ({"model_type": "unigram", "treat_whitespace_as_suffix": True}, "begin with the space"),
    ],
)
def test_other_models_are_refused(tmp_path, options, message):
    limit = {} if options["model_type"] == "unigram" else {"vocab_size": 20}
    path = train(tmp_path / "own.model", **options, **limit)
    with pytest.raises(UsageError, match=message):
        convert(path)


def test_other_files_are_refused(tmp_path):
    with pytest.raises(UsageError, match=r"none\.model: cannot be read \(No such file"):
        convert(str(tmp_path / "none.model"))
    (tmp_path / "m.vocab").write_text("<unk>\t0\n\u2581the\t-3.1\n")
    with pytest.raises(UsageError, match=r"m\.vocab: not a SentencePiece model.*ends in \.model"):
        convert(str(tmp_path / "m.vocab"))
    (tmp_path / "empty.model").write_bytes(b"")
    with pytest.raises(UsageError, match="with 0 pieces"):
        convert(str(tmp_path / "empty.model"))

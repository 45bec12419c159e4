import hashlib
import random

import hypothesis
import pytest
from hypothesis import strategies as st

from t2t_vqem.constants import EOS_ID, PAD_ID, UNK_ID, UsageError
from t2t_vqem.data.vocabulary import Vocabulary

MARK = "\u2581"  # SentencePiece's representation of a space
TEXT = [
    "A dog runs across the grass.",
    "Ein Hund rennt über das Gras.",
    "Two men are talking; one of them  laughs.",
    "Zwei Männer unterhalten sich, einer lacht.",
] * 20
HARD = [
    "",
    " ",
    "  a  b  ",
    MARK,
    f"a{MARK}b {MARK}{MARK} ",
    f"{MARK} {MARK}",
    "\t\r\x0b\x0c\x1c\x85\u2028\u2029",
    "\x00\x01",
    "\ufeffa\ufffd",
    "\u2585 \u2047",
    "<s></s><unk><pad><0x41>",
    "👩‍👩‍👧 🇩🇪",
    "\U0010fffd\U0010ffff\U00100000",
    "e\u0301 \u00e9",
    "a" * 3000,
]


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory) -> Vocabulary:
    path = tmp_path_factory.mktemp("vocabulary") / "vocab.model"
    return Vocabulary.train(TEXT, 350, str(path), seed=0)


lines = st.text(
    st.one_of(
        st.characters(exclude_characters="\n", exclude_categories=["Cs"]),
        st.sampled_from([*MARK, " ", *"aehnrst", "\U0010fffd"]),
    ),
    max_size=40,
)


@hypothesis.settings(max_examples=300)
@hypothesis.given(line=lines)
def test_decode_inverts_encode(vocabulary, line):
    ids = vocabulary.encode(line)
    assert vocabulary.decode(ids) == line
    assert not {PAD_ID, EOS_ID, UNK_ID} & set(ids)
    assert all(0 <= id_ < vocabulary.size for id_ in ids)


@pytest.mark.parametrize("line", HARD, ids=ascii)
def test_decode_inverts_encode_on_hard_lines(vocabulary, line):
    assert vocabulary.decode(vocabulary.encode(line)) == line


@hypothesis.given(st.lists(lines, max_size=12))  # long and short lists use different code
def test_a_list_is_encoded_line_by_line(vocabulary, batch):
    assert vocabulary.encode(batch) == [vocabulary.encode(line) for line in batch]


def test_the_space_mark_hardly_changes_the_encoding_of_other_text(vocabulary):
    ids = vocabulary.encode(f"A dog runs{MARK}")
    assert ids[: len(vocabulary.encode("A dog runs"))] == vocabulary.encode("A dog runs")
    assert len(ids) == len(vocabulary.encode("A dog runs")) + 3


def test_pieces_are_longer_than_letters(vocabulary):
    text = "A dog runs across the grass."
    assert len(vocabulary.encode(text)) < 0.75 * len(text)


def test_decode_stops_at_eos_and_drops_pad(vocabulary):
    ids = vocabulary.encode("A dog")
    assert vocabulary.decode([PAD_ID, *ids, PAD_ID, EOS_ID, *ids]) == "A dog"
    assert vocabulary.decode([]) == vocabulary.decode([EOS_ID, *ids]) == ""


def test_decode_gives_one_line_for_any_ids(vocabulary):
    assert vocabulary.decode(vocabulary.encode("a\nb\n")) == "a b "
    half_a_character = vocabulary.encode("\u20ac")[:-1]
    assert "\ufffd" in vocabulary.decode(half_a_character)


def test_decode_rejects_an_unknown_id(vocabulary):
    with pytest.raises(IndexError, match=f"id {vocabulary.size} is not in .* {vocabulary.size} "):
        vocabulary.decode([vocabulary.size])
    with pytest.raises(IndexError, match="id -1 is not in"):
        vocabulary.decode([-1])


@pytest.mark.parametrize(
    "text", ["a\ud800b", ["fine", "a\ud800b"], [*["fine"] * 10, "a\ud800b"]], ids=ascii
)
def test_encode_rejects_text_that_utf8_cannot_encode(vocabulary, text):
    with pytest.raises(UsageError, match=r"'a\\ud800b' is not valid Unicode"):
        vocabulary.encode(text)


def test_training_is_reproducible(vocabulary, tmp_path):
    again = Vocabulary.train(TEXT, 350, str(tmp_path / "again"), seed=0)
    assert again.model == vocabulary.model
    assert again.hash == hashlib.sha256((tmp_path / "again").read_bytes()).hexdigest()
    other = Vocabulary.train(TEXT[::2], 350, str(tmp_path / "other"), seed=0)
    assert other.hash != vocabulary.hash


def test_a_small_text_gives_a_smaller_vocabulary(tmp_path):
    assert 259 < Vocabulary.train(TEXT, 50_000, str(tmp_path / "v"), seed=0).size < 1000


def test_training_copes_with_long_and_unusual_lines(tmp_path):
    odd = ["", " ", "x" * 100_000, "\x00", "\u2581", *TEXT]
    assert Vocabulary.train(odd, 350, str(tmp_path / "v"), seed=0).size > 300


@pytest.mark.parametrize(
    ("sentences", "size", "message"),
    [
        ([], 300, "no text to train the vocabulary on"),
        (["", ""], 300, "no text to train the vocabulary on"),
        (TEXT, 270, r"vocab_size 270 is too small: the text needs at least 2\d\d"),
    ],
)
def test_training_rejects(tmp_path, sentences, size, message):
    with pytest.raises(UsageError, match=message):
        Vocabulary.train(sentences, size, str(tmp_path / "v"), seed=0)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_or_broken_model_is_an_error(tmp_path):
    with pytest.raises(UsageError, match=r"v\.model: vocabulary cannot be read \(No such file"):
        Vocabulary(str(tmp_path / "v.model"))
    (tmp_path / "v.model").write_bytes(random.Random(0).randbytes(100))
    with pytest.raises(UsageError, match=r"v\.model: not a SentencePiece model"):
        Vocabulary(str(tmp_path / "v.model"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, r"special ids \{'PAD': -1, 'EOS': 2, 'UNK': 0\}, expected PAD 0, EOS 1, UNK 2"),
        (
            {"pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1},
            "has no pieces for single bytes",
        ),
    ],
)
def test_a_foreign_model_is_an_error(tmp_path, options, message):
    import sentencepiece

    with open(tmp_path / "v.model", "wb") as file:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(TEXT),
            model_writer=file,
            vocab_size=45,
            minloglevel=2,
            **options,
        )
    with pytest.raises(UsageError, match=message):
        Vocabulary(str(tmp_path / "v.model"))

"""Draws of segmentations, compared with an enumeration of all segmentations."""

import itertools
import math
import random
from collections import Counter

import numpy as np
import pytest
import sentencepiece

from t2t_vqem.constants import UsageError
from t2t_vqem.data.groups import group_words
from t2t_vqem.data.sentencepiece_model import convert
from t2t_vqem.data.subword_sampling import SubwordSampler
from t2t_vqem.data.vocabulary import Vocabulary

_RNG = random.Random(0)
TEXT = [
    " ".join(
        "".join(_RNG.choices(["an", "ba", "na", "lan", "go"], k=_RNG.randint(1, 3)))
        for _ in range(6)
    )
    for _ in range(200)
]


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory) -> Vocabulary:
    path = tmp_path_factory.mktemp("vocabulary") / "vocab.model"
    return Vocabulary.train(TEXT, 330, str(path), seed=0)


def sampler(vocabulary, **settings) -> SubwordSampler:
    defaults = {"num_best": 8, "alpha": 0.3, "seed": 3, "group_size": 1}
    return SubwordSampler(vocabulary, **{**defaults, **settings})


def records(vocabulary, *pairs):
    return [
        pair and {
            side: np.array(vocabulary.encode(text), np.uint16)
            for side, text in zip(("inputs", "targets"), pair, strict=True)
        }
        for pair in pairs
    ]  # fmt: skip


def enumerated(vocabulary: Vocabulary, text: str) -> dict[tuple[int, ...], float]:
    """Returns the log-probability of every segmentation, by trying all cuts."""
    processor = sentencepiece.SentencePieceProcessor(model_proto=vocabulary.model)
    text = "\u2581" + text.replace(" ", "\u2581")
    found = {}
    for cuts in itertools.product([False, True], repeat=len(text) - 1):
        bounds = [0, *(n + 1 for n, cut in enumerate(cuts) if cut), len(text)]
        ids = [processor.piece_to_id(text[a:b]) for a, b in itertools.pairwise(bounds)]
        if processor.unk_id() not in ids:
            found[tuple(ids)] = math.fsum(processor.get_score(id_) for id_ in ids)
    return found


@pytest.mark.parametrize("alpha", [0.0, 0.4, 1.0])
def test_draws_follow_the_probabilities(vocabulary, alpha):
    exact = enumerated(vocabulary, "banana go")
    assert len(exact) > 8
    best = dict(sorted(exact.items(), key=lambda item: -item[1])[:8])
    weights = {ids: math.exp(alpha * score) for ids, score in best.items()}
    draw = sampler(vocabulary, alpha=alpha)
    batch, count = records(vocabulary, ("banana go", "lango ba")), 1500
    drawn = [draw(batch, np.array([7]), step, 99)[0]["inputs"] for step in range(count)]
    counts = Counter(tuple(ids.tolist()) for ids in drawn)
    assert set(counts) <= set(best)
    for ids, weight in weights.items():
        p = weight / math.fsum(weights.values())
        assert abs(counts[ids] - count * p) < 5 * math.sqrt(count * p * (1 - p)) + 1


def test_draws_depend_on_seed_step_and_example_alone(vocabulary):
    draw = sampler(vocabulary)
    batch = records(vocabulary, (TEXT[0], TEXT[1]), None, (TEXT[1], TEXT[0]))
    whole = draw(batch, np.array([4, -1, 9]), 5, 99)
    assert whole[1] is None
    (alone,) = sampler(vocabulary)(batch[2:], np.array([9]), 5, 99)
    for side in ("inputs", "targets"):
        np.testing.assert_array_equal(whole[2][side], alone[side])
        assert vocabulary.decode(alone[side]) == vocabulary.decode(batch[2][side])
    others = [
        draw(batch[2:], np.array([9]), 6, 99),
        draw(batch[2:], np.array([8]), 5, 99),
        sampler(vocabulary, seed=4)(batch[2:], np.array([9]), 5, 99),
    ]
    assert all(other[0]["inputs"].tolist() != alone["inputs"].tolist() for other in others)


@pytest.mark.parametrize("group_size", [1, 2, 4])
def test_what_does_not_fit_is_not_drawn(vocabulary, group_size):
    draw = sampler(vocabulary, num_best=64, alpha=0.0, group_size=group_size)
    batch = records(vocabulary, ("lango ba", TEXT[0]))
    targets = batch[0]["targets"]
    if group_size > 1:
        targets = group_words([targets], vocabulary.word_starts, group_size)[0][:-1]
    length = len(targets) + 2  # one position more than the best segmentation needs
    lengths = set()
    for step in range(60):
        ids = draw(batch, np.array([0]), step, length)[0]["targets"]
        laid_out = group_words([ids], vocabulary.word_starts, group_size)[0]
        assert len(laid_out if group_size > 1 else [*ids, 1]) <= length
        lengths.add(len(ids))
    assert len(lengths) > 1
    # A sentence that is truncated anyway stays as it is.
    short = draw(batch, np.array([0]), 0, 3)[0]["targets"]
    np.testing.assert_array_equal(short, batch[0]["targets"])


def test_hard_text_stays_the_same_text(vocabulary):
    draw = sampler(vocabulary, num_best=32, alpha=0.0)
    for text in ["", " ", "  a  b ", "\u2581 a", "漢字 x", "\x00\u2028"]:
        batch = records(vocabulary, (text, text))
        for step in range(5):
            ids = draw(batch, np.array([0]), step, 99)[0]["inputs"]
            assert vocabulary.decode(ids) == text


def test_a_bpe_vocabulary_is_refused(tmp_path):
    with open(tmp_path / "bpe.model", "wb") as file:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(TEXT), model_writer=file, vocab_size=60, model_type="bpe",
            minloglevel=2,
        )  # fmt: skip
    (tmp_path / "vocab.model").write_bytes(convert(str(tmp_path / "bpe.model")))
    with pytest.raises(UsageError, match="subword_nbest=8 needs a unigram vocabulary, got .* bpe"):
        sampler(Vocabulary(str(tmp_path / "vocab.model")))

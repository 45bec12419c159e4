"""What codes stood for: counted over pairs, most frequent first."""

import collections

from t2t_vqem import runtime
from t2t_vqem.export.phrases import count_phrases, most_frequent

LONG = ("one two three four five", "fünf vier drei zwei eins")
PAIRS = [LONG, ("five", "fünf"), LONG]


def test_phrases_are_those_of_the_scored_tokens(stored_exports):
    model = runtime.load(str(stored_exports / "latent"), interpreters=1)
    counts = count_phrases(model, PAIRS)
    found = most_frequent(counts.phrases)
    assert len(found) == 12

    expected = [collections.Counter() for _ in range(12)]
    codes = collections.Counter()
    for score in model.score(PAIRS):
        codes.update(score.codes)
        pieces = collections.defaultdict(str)
        for token in score.tokens:
            if token.piece not in ("</s>", "<unk>"):
                pieces[token.latent] += token.piece
        for latent, text in pieces.items():
            expected[score.codes[latent]][text.replace("\u2581", " ").strip()] += 1
    assert [dict(phrases) for phrases in found] == expected
    assert counts.codes.tolist() == [codes[code] for code in range(12)]
    for phrases in found:
        counts = [count for _, count in phrases]
        assert counts == sorted(counts, reverse=True)
    assert sum(count for phrases in found for _, count in phrases) >= 5

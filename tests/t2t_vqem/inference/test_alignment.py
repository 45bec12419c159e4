import numpy as np

from t2t_vqem.inference.alignment import word_alignment


def test_each_word_goes_to_the_word_that_its_pieces_attend_to_most(tiny_text_data):
    vocabulary = tiny_text_data.dataset.vocabulary
    source = [*vocabulary.encode("seven  Katzen two"), 1]
    target = [*vocabulary.encode("zwei Bäume €"), 1, 0, 0]
    ends = [len(vocabulary.encode(text)) for text in ("seven", "seven  Katzen")]
    assert ends[1] > ends[0] + 3  # spaces, then several pieces
    weights = np.full([len(target), len(source)], 0.01)
    first, second = (len(vocabulary.encode(text)) for text in ("zwei", "zwei Bäume"))
    weights[:first, -2] = 0.9  # "two"
    weights[:, -1] = 5.0  # EOS, which is no word
    # Most pieces of the second word look at the second source word, each at another piece.
    for row, column in zip(range(first, second), [*range(ends[0], ends[1])] * 9, strict=False):
        weights[row, column] = 0.4
    weights[first, 0] = 9.0  # a space alone, which belongs to no word
    assert vocabulary.piece(target[first]) == "\u2581"
    weights[second : len(target) - 3, 0] = 0.3  # the bytes of the last word
    assert word_alignment(source, target, weights, vocabulary) == ((2, 0), (1, 1), (0, 2))


def test_nothing_is_aligned_to_nothing(tiny_text_data):
    vocabulary = tiny_text_data.dataset.vocabulary
    word = [*vocabulary.encode("two"), 1]
    ones = np.ones([9, 9])
    assert word_alignment([1], word, ones, vocabulary) == ()
    assert word_alignment(word, [1, 0], ones, vocabulary) == ()

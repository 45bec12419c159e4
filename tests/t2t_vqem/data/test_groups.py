"""Groups of whole words, compared with a loop over words, and properties of any layout."""

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from t2t_vqem.constants import EOS_ID, FILL_ID
from t2t_vqem.data.groups import GROUP_SIZES, group_words, grouped_lengths

# Ids from 10 on begin words; those from 3 to 9 continue one.
STARTS = np.arange(20) >= 10
sentences = st.lists(st.lists(st.integers(3, 19), max_size=25), max_size=6)


def by_words(ids, size):
    """Groups words one by one; the EOS belongs to the last of them."""
    words = []
    for token in [*ids, EOS_ID]:
        if STARTS[token] or not words:
            words.append([])
        words[-1].append(token)
    groups = [[]]
    for word in words:
        if groups[-1] and len(groups[-1]) + len(word) > size:
            groups[-1] += [FILL_ID] * (size - len(groups[-1]))
            groups.append([])
        for token in word:
            if len(groups[-1]) == size:
                groups.append([])
            groups[-1].append(token)
    return [token for group in groups for token in group]


@hypothesis.given(sentences, st.sampled_from(GROUP_SIZES))
def test_groups_are_those_of_a_loop(batch, size):
    found = group_words(batch, STARTS, size)
    assert [row.tolist() for row in found] == [by_words(ids, size) for ids in batch]


@hypothesis.given(sentences, st.sampled_from(GROUP_SIZES))
def test_no_id_is_lost_and_no_word_that_fits_is_split(batch, size):
    for ids, row in zip(batch, group_words(batch, STARTS, size), strict=True):
        assert [token for token in row if token != FILL_ID] == [*ids, EOS_ID]
        begins = [place for place, token in enumerate(row) if place == 0 or STARTS[token]]
        for begin, end in zip(begins, [*begins[1:], len(row)], strict=True):
            word = [place for place in range(begin, end) if row[place] != FILL_ID]
            assert word[-1] // size == begin // size or len(word) > size
        # Two neighbours hold more than one group could: less than twice as many groups.
        assert len(row) < 2 * (len(ids) + 1) + size


@hypothesis.given(sentences)
def test_lengths_are_those_of_the_groups(batch):
    found = grouped_lengths(batch, STARTS)
    assert found.shape == (len(batch), len(GROUP_SIZES))
    for column, size in zip(found.T, GROUP_SIZES, strict=True):
        assert column.tolist() == [len(row) for row in group_words(batch, STARTS, size)]


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        ([10, 11, 12, 13, 3], [10, 11, 12, 2, 13, 3, 1]),  # the last word does not fit
        (
            [10, 3, 4, 5, 6, 11],
            [10, 3, 4, 5, 6, 11, 1],
        ),  # longer than a group: its rest shares a group
        (
            [10, 11, 3, 4, 5, 6],
            [10, 2, 2, 2, 11, 3, 4, 5, 6, 1],
        ),  # longer than a group: begins a new one
        ([], [1]),
    ],
)
def test_examples(ids, expected):
    assert group_words([ids], STARTS, 4)[0].tolist() == expected

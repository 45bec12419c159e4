import pytest

from t2t_vqem.inference.failures import FAILURES, find_failure, is_repetitive


def brute_force(ids: list[int]) -> bool:
    """By definition: some sequence of ids occurs four times in succession."""
    return any(
        ids[start : start + 4 * size] == 4 * ids[start : start + size]
        for size in range(1, len(ids) + 1)
        for start in range(len(ids) - 4 * size + 1)
    )


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        ([], False),
        ([7], False),
        ([7, 7, 7], False),
        ([7, 7, 7, 7], True),
        ([1, 7, 7, 7, 7, 2], True),
        ([7, 7, 8, 7, 7, 8, 7, 7], False),
        ([5, 6] * 4, True),
        ([5, 6] * 3 + [5], False),
        ([3] + [4, 5, 6] * 4, True),
        ([1, 2, 3, 4] * 4 + [9], True),
        ([1, 2, 3, 4, 5, 6, 7, 8, 9, 10] * 4, True),
        ([1, 2, 3, 4, 5, 6, 7, 8, 9, 10] * 3, False),
        ([7, 1, 7, 2, 7, 3, 7, 4, 7], False),  # often, but not in succession
        ([7, 7, 1, 7, 7, 1, 7, 7, 1], False),
    ],
)
def test_repetition_in_hand_made_sequences(ids, expected):
    assert brute_force(ids) == expected
    assert is_repetitive(ids) == expected


def test_repetition_is_what_its_definition_says():
    """All sequences of up to ten ids of two kinds."""
    for length in range(11):
        for bits in range(1 << length):
            ids = [bits >> place & 1 for place in range(length)]
            assert is_repetitive(ids) == brute_force(ids), ids


GOOD = [10, 11, 12]
LOOP = [20, 7, 7, 7, 7]


@pytest.mark.parametrize(
    ("source", "translation", "cut", "expected"),
    [
        (GOOD, GOOD, False, None),
        (GOOD, [], False, "empty"),
        (GOOD, [], True, "empty"),
        (GOOD, LOOP, False, "repetition"),
        (GOOD, LOOP, True, "repetition"),  # the reason for the truncation
        (GOOD, GOOD, True, "cut"),
        (LOOP, LOOP, False, None),  # a source with repetitions may have such a translation
        (LOOP, LOOP, True, "cut"),
        ([1] + [2, 3] * 4, LOOP, False, None),
        (list(range(9)), GOOD, False, None),  # ten ids including EOS
        (list(range(10)), GOOD, False, "long source"),
        (list(range(10)), [], False, "long source"),
    ],
)
def test_failures_in_hand_made_pairs(source, translation, cut, expected):
    assert find_failure(source, translation, cut=cut, max_length=10) == expected
    assert expected is None or expected in FAILURES

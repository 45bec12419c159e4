"""Detects failed translations of a teacher without a reference."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

# Reasons not to train on a translation, with descriptions.
FAILURES = {
    "empty": "empty translation",
    "repetition": "endless repetition",
    "cut": "cut by the length limit",
    "long source": "source cut, longer than the teacher's max_length",
}
# A phrase that occurs this many times in succession counts as an endless repetition. Two times is
# common (dates, "very very"), and three times occurs in numbers ("000000000").
MIN_REPEATS = 4


def find_failure(
    source: Sequence[int], translation: Sequence[int], *, cut: bool, max_length: int
) -> str | None:
    """Returns the reason not to train on a translation, a key of `FAILURES`, or None.

    Args:
        source: ids of the source, without EOS.
        translation: ids of the translation, without EOS.
        cut: whether the length limit ended the translation.
        max_length: the largest number of source ids, with EOS, that the teacher reads.
    """
    if len(source) + 1 > max_length:
        return "long source"
    if not translation:
        return "empty"
    # The translation of a repetitive source may be repetitive.
    if is_repetitive(translation) and not is_repetitive(source):
        return "repetition"
    return "cut" if cut else None


def is_repetitive(ids: Sequence[int]) -> bool:
    """Returns whether `ids` contains a sequence MIN_REPEATS times in succession."""
    if max(Counter(ids).values(), default=0) < MIN_REPEATS:
        return False
    for size in range(1, len(ids) // MIN_REPEATS + 1):
        equal = 0
        for left, right in zip(ids, ids[size:], strict=False):
            equal = equal + 1 if left == right else 0
            if equal == (MIN_REPEATS - 1) * size:
                return True
    return False

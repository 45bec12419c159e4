"""Translations that are none: how a teacher fails, told without a reference."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

# Why a translation is not fit to learn from, and what that means.
FAILURES = {
    "empty": "empty translation",
    "repetition": "endless repetition",
    "cut": "cut by the length limit",
    "long source": "source cut, longer than the teacher's max_length",
}
# A phrase that stands so many times in a row is taken for an endless repetition. Twice is usual
# (dates, "very very"); three times occurs in numbers ("000000000").
MIN_REPEATS = 4


def find_failure(
    source: Sequence[int], translation: Sequence[int], *, cut: bool, max_length: int
) -> str | None:
    """Returns why a translation is not fit to learn from, a key of `FAILURES`; None if it is.

    Args:
        source: ids of the source, without EOS.
        translation: ids of the translation, without EOS.
        cut: whether the limit of its length ended the translation.
        max_length: ids of a source, with EOS, that the teacher reads.
    """
    if len(source) + 1 > max_length:
        return "long source"
    if not translation:
        return "empty"
    # What the source says again and again a translation may say again and again.
    if is_repetitive(translation) and not is_repetitive(source):
        return "repetition"
    return "cut" if cut else None


def is_repetitive(ids: Sequence[int]) -> bool:
    """Returns whether some row of ids stands in `ids` MIN_REPEATS times, one after the other."""
    if max(Counter(ids).values(), default=0) < MIN_REPEATS:
        return False
    for size in range(1, len(ids) // MIN_REPEATS + 1):
        equal = 0
        for left, right in zip(ids, ids[size:], strict=False):
            equal = equal + 1 if left == right else 0
            if equal == (MIN_REPEATS - 1) * size:
                return True
    return False

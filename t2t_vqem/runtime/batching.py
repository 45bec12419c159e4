"""Batches of lines of similar length. They depend only on the lengths, so they never differ."""

from __future__ import annotations

from collections.abc import Sequence


def batches_by_length(lengths: Sequence[int], max_tokens: int, max_rows: int) -> list[list[int]]:
    """Divides lines into batches, the longest first.

    Args:
        lengths: number of tokens of each line.
        max_tokens: the largest number of tokens in a batch, including padding; a longer line is a
            batch of its own.
        max_rows: the largest number of lines in a batch.

    Returns:
        Indices of lines; each occurs once.
    """
    order = sorted(range(len(lengths)), key=lambda index: -lengths[index])
    batches: list[list[int]] = []
    for index in order:
        if batches:
            last = batches[-1]
            longest = max(1, lengths[last[0]])
            if len(last) < max_rows and (len(last) + 1) * longest <= max_tokens:
                last.append(index)
                continue
        batches.append([index])
    return batches

"""Lines of similar length together. Pure functions of the lengths, so that batches never differ."""

from __future__ import annotations

from collections.abc import Sequence


def batches_by_length(lengths: Sequence[int], max_tokens: int, max_rows: int) -> list[list[int]]:
    """Divides lines into batches, the longest first.

    Args:
        lengths: tokens of each line, all of its sides together.
        max_tokens: of a batch, padding counted; a longer line is alone.
        max_rows: lines of a batch.

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

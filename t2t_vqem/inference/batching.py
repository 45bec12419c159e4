"""Packs lines of any length into batches of a few static shapes.

Decoding is compiled once for each shape, which takes longer than decoding hundreds of sentences. So
there are few shapes: source lengths are rounded up to `LENGTH_BUCKETS`, and the number of rows is
the largest power of two within the token budget at that length. The last lines, which do not fill
a batch, are decoded in the previous shape. If all lines together do not fill one batch, they are
divided among the batches that run concurrently.

The packing is a pure function of the lengths. So a decoder that was killed and started again puts
every line into the same batch as one that was not killed, and gets the same result to the last bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

LENGTH_BUCKETS = (8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)


class PackedBatch(NamedTuple):
    """The lines of a batch, and the shape that they are padded to."""

    members: np.ndarray  # int64 [n], indices of lines, longest first; n <= rows
    rows: int
    length: int  # source positions, including EOS


def length_bucket(length: int) -> int:
    """Returns the number of padded source positions for a source of `length` ids with EOS."""
    for bucket in LENGTH_BUCKETS:
        if length <= bucket:
            return bucket
    step = LENGTH_BUCKETS[-1]
    return -(-length // step) * step


def full_rows(length: int, batch_tokens: int) -> int:
    """Returns the number of rows of a full batch: the largest power of two within the budget."""
    return 1 << (max(1, batch_tokens // length).bit_length() - 1)


def pack(lengths: Sequence[int], batch_tokens: int, concurrency: int = 1) -> list[PackedBatch]:
    """Packs lines into batches, longest lines first.

    Args:
      lengths: number of source ids of each line, including EOS.
      batch_tokens: the largest number of padded source positions (rows times length) in a batch. A
        single longer row may exceed it.
      concurrency: number of batches that run concurrently.

    Returns:
      Batches that contain every line once. Lines of equal length keep their order.
    """
    order = np.argsort(-np.asarray(lengths, np.int64), kind="stable")
    batches: list[PackedBatch] = []
    start = 0
    while start < len(order):
        length = length_bucket(int(lengths[order[start]]))
        rows = full_rows(length, batch_tokens)
        if len(order) - start < rows:
            if batches:
                _, rows, length = batches[-1]
            else:
                rows = 1 << (-(-len(order) // concurrency) - 1).bit_length()
        members = order[start : start + rows]
        batches.append(PackedBatch(members, rows, length))
        start += len(members)
    return batches

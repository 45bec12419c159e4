"""Packing lines of any length into batches of a handful of static shapes.

Decoding compiles once for each shape, which takes longer than decoding hundreds of sentences, so
shapes are few: source lengths are rounded up to `LENGTH_BUCKETS`, and a batch has as many rows (a
power of two) as fill the token budget at that length. What is left over at the end is decoded in
the shape before; what would fill no batch at all is divided into as many as run at the same time.

The packing is a pure function of the lengths: a decoder that is killed and started again gives
every line the same neighbours, and so the same low bits, as one that was not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

LENGTH_BUCKETS = (8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)


class PackedBatch(NamedTuple):
    """Which lines go together, and the shape that they are padded to."""

    members: np.ndarray  # int64 [n], indices of lines, longest first; n <= rows
    rows: int
    length: int  # source positions, EOS included


def length_bucket(length: int) -> int:
    """Returns the number of padded source positions for a source of `length` ids with EOS."""
    for bucket in LENGTH_BUCKETS:
        if length <= bucket:
            return bucket
    step = LENGTH_BUCKETS[-1]
    return -(-length // step) * step


def full_rows(length: int, batch_tokens: int) -> int:
    """Returns the rows of a full batch: the largest power of two within the token budget."""
    return 1 << (max(1, batch_tokens // length).bit_length() - 1)


def pack(lengths: Sequence[int], batch_tokens: int, concurrency: int = 1) -> list[PackedBatch]:
    """Packs lines into batches, longest lines first.

    Args:
      lengths: source ids of each line, EOS included.
      batch_tokens: padded source positions of a batch (rows times length) not to exceed, except
        by a single row that is longer.
      concurrency: batches that run at the same time.

    Returns:
      Batches in which every line occurs once. Lines of equal length keep their order.
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

"""The sequence of batches as a pure function of the step.

The examples of a batch depend only on the lengths of all examples, the settings, the seed and the
step. So training resumes at the right batch without reading the earlier ones, and the batches are
the same on one machine and on sixteen.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

_MULTIPLE = 4  # bucket lengths are multiples of this


class Batch(NamedTuple):
    """The examples of one step.

    Attributes:
        indices: indices of the examples, int64 [rows]; -1 marks an empty row.
        length: the length that every row is padded to.
    """

    indices: np.ndarray
    length: int


def bucket_lengths(lengths: np.ndarray, max_length: int, num_buckets: int) -> list[int]:
    """Chooses the bucket lengths that give the least padding.

    Args:
        lengths: length of each example [n], at most `max_length`.
        max_length: the longest bucket length. The others are multiples of 4.
        num_buckets: the largest number of buckets.

    Returns:
        Bucket lengths in ascending order. The last one fits the longest example.
    """
    rounded = np.minimum(-(-np.maximum(lengths, 1) // _MULTIPLE) * _MULTIPLE, max_length)
    candidates, counts = np.unique(rounded, return_counts=True)
    totals = np.concatenate([[0], np.cumsum(counts)])
    num = len(candidates)
    # cost[j]: the fewest padded positions for the first j candidates with the buckets used so far,
    # if the last bucket has the length of candidate j-1.
    cost = np.full(num + 1, np.inf)
    cost[0] = 0
    choices = []
    for _ in range(min(num_buckets, num)):
        # options[i, j]: the cost if one more bucket takes candidates i..j.
        options = cost[:-1, None] + (totals[None, 1:] - totals[:-1, None]) * candidates[None, :]
        options[np.tril_indices(num, -1)] = np.inf
        choice = options.argmin(axis=0)
        best = options[choice, np.arange(num)]
        cost = np.concatenate([[np.inf], best])
        choices.append((best[-1], choice))
    used = min(range(len(choices)), key=lambda k: choices[k][0]) + 1
    bounds = []
    last = num - 1
    for _, choice in reversed(choices[:used]):
        bounds.append(int(candidates[last]))
        last = choice[last] - 1
    return bounds[::-1]


class _Pool(NamedTuple):
    """Examples of one length and one corpus."""

    examples: np.ndarray
    copies: int  # how often an epoch has each of them
    some: int  # how many of them it has once more; others in each epoch, all of them equally often

    @property
    def count(self) -> int:
        return self.copies * len(self.examples) + self.some

    def take(self, epoch: int) -> np.ndarray:
        """Returns the examples of an epoch."""
        if not self.some:
            return np.tile(self.examples, self.copies)
        more = (epoch * self.some + np.arange(self.some)) % len(self.examples)
        return np.concatenate([np.tile(self.examples, self.copies), self.examples[more]])


class BatchPlan:
    """Maps each step to its batch: examples of similar length, shuffled again in each epoch.

    Every example occurs exactly once in an epoch, except with `corpora`: an example of a corpus of
    weight 2 occurs twice, and one of weight 0.5 in every other epoch. Every batch of a bucket has
    the same number of rows; the last one is padded with empty rows. So there are few shapes, and
    every epoch has the same number of steps.

    Args:
        lengths: length of each example [n]; longer ones are cut to `max_length`.
        batch_size: positions in a batch, including padding: rows x length. A batch has no more rows
            than there are examples.
        max_length: the longest length of a row.
        num_buckets: the largest number of different lengths.
        seed: seed of the shuffling.
        shuffle: if False, every epoch has the examples in their order, bucket by bucket.
        epochs: number of epochs; None if the plan is endless.
        corpora: (number of examples, weight) of consecutive parts of the examples, which make up
            all of them; has no effect without `shuffle`. Empty: one part of weight 1.

    Raises:
        ValueError: there is no example, a setting is below 1, or `corpora` are other examples.
    """

    def __init__(
        self,
        lengths: np.ndarray,
        *,
        batch_size: int,
        max_length: int,
        num_buckets: int,
        seed: int,
        shuffle: bool = True,
        epochs: int | None = None,
        corpora: Sequence[tuple[int, float]] = (),
    ):
        if corpora and sum(size for size, _ in corpora) != len(lengths):
            raise ValueError(f"corpora {corpora} have other than {len(lengths)} examples.")
        for name, value in (
            ("number of examples", len(lengths)),
            ("batch_size", batch_size),
            ("max_length", max_length),
            ("num_buckets", num_buckets),
        ):
            if value < 1:
                raise ValueError(f"{name} is {value}, expected at least 1.")
        lengths = np.minimum(np.asarray(lengths), max_length)
        self._seed = seed
        self._shuffle = shuffle
        self._epochs = epochs
        bounds = bucket_lengths(lengths, max_length, num_buckets)
        rows = [max(1, min(batch_size // bound, len(lengths))) for bound in bounds]
        bucket = np.searchsorted(bounds, lengths)
        # The examples sorted by bucket; within a bucket they are in the order of the data.
        self._by_bucket = np.argsort(bucket, kind="stable").astype(np.int32)
        self._pools = self._make_pools(
            np.split(self._by_bucket, np.cumsum(np.bincount(bucket, minlength=len(bounds)))[:-1]),
            corpora if shuffle else (),
        )
        counts = [sum(pool.count for pool in pools) for pools in self._pools]
        self._starts = np.concatenate([[0], np.cumsum(counts)]).tolist()
        self._steps = [math.ceil(count / r) for count, r in zip(counts, rows, strict=True)]
        self.shapes: list[tuple[int, int]] = list(zip(rows, bounds, strict=True))
        self.num_examples = len(lengths)
        self.steps_per_epoch = sum(self._steps)
        self._lock = threading.Lock()
        # The orders of two epochs: the reader may be in the next epoch while training is in this.
        self._orders: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    def _make_pools(
        self, buckets: list[np.ndarray], corpora: Sequence[tuple[int, float]]
    ) -> list[list[_Pool]]:
        """Returns for each bucket the pools that its examples are taken from."""
        if not corpora:
            return [[_Pool(examples, 1, 0)] for examples in buckets]
        starts = np.cumsum([size for size, _ in corpora])[:-1]
        pools: list[list[_Pool]] = [[] for _ in buckets]
        for number, examples in enumerate(buckets):
            parts = np.split(examples, np.searchsorted(examples, starts))
            for corpus, (part, (_, weight)) in enumerate(zip(parts, corpora, strict=True)):
                copies, share = divmod(weight, 1)
                some = max(1, round(share * len(part))) if share and len(part) else 0
                # In a fixed random order, from which each epoch takes the next ones.
                rng = np.random.Generator(np.random.PCG64([self._seed, number, corpus, 1]))
                pools[number].append(
                    _Pool(rng.permutation(part) if some else part, int(copies), some)
                )
        return pools

    @property
    def num_steps(self) -> int | None:
        """Number of steps in all epochs; None if the plan is endless."""
        return None if self._epochs is None else self._epochs * self.steps_per_epoch

    @property
    def positions_per_epoch(self) -> int:
        """Number of positions in the batches of an epoch, including padding and empty rows."""
        return sum(
            steps * rows * length
            for steps, (rows, length) in zip(self._steps, self.shapes, strict=True)
        )

    def batch(self, step: int) -> Batch:
        """Returns the batch of a step, counted from 0.

        Raises:
            IndexError: the plan has no such step.
        """
        if step < 0 or (self._epochs is not None and step >= self._epochs * self.steps_per_epoch):
            raise IndexError(f"step {step} is not in the plan, which has {self.num_steps} steps.")
        epoch, position = divmod(step, self.steps_per_epoch)
        examples, batches = self._epoch(epoch if self._shuffle else 0)
        number = int(batches[position])
        bucket = 0
        while number >= self._steps[bucket]:
            number -= self._steps[bucket]
            bucket += 1
        rows, length = self.shapes[bucket]
        start = self._starts[bucket] + number * rows
        taken = examples[start : min(start + rows, self._starts[bucket + 1])]
        indices = np.full(rows, -1, np.int64)
        indices[: len(taken)] = taken
        return Batch(indices, length)

    def _epoch(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns the examples [n], by bucket, and the order of the batches [steps_per_epoch]."""
        with self._lock:
            if epoch not in self._orders:
                examples, batches = self._by_bucket, np.arange(self.steps_per_epoch)
                if self._shuffle:
                    rng = np.random.Generator(np.random.PCG64([self._seed, epoch]))
                    examples = np.concatenate(
                        [
                            rng.permutation(np.concatenate([pool.take(epoch) for pool in pools]))
                            for pools in self._pools
                        ]
                    )
                    batches = rng.permutation(batches)
                before = {e: order for e, order in self._orders.items() if e == epoch - 1}
                self._orders = {**before, epoch: (examples, batches)}
            return self._orders[epoch]

"""The sequence of batches as a pure function of the step.

The examples of a batch depend only on the lengths of all examples, the settings, the seed and the
step. So training resumes at the right batch without reading the earlier ones, and the batches are
the same on one machine and on sixteen.
"""

from __future__ import annotations

import math
import threading
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


class BatchPlan:
    """Maps each step to its batch: examples of similar length, shuffled again in each epoch.

    Every example occurs exactly once in an epoch. Every batch of a bucket has the same number of
    rows; the last one is padded with empty rows. So there are few shapes, and every epoch has the
    same number of steps.

    Args:
        lengths: length of each example [n]; longer ones are cut to `max_length`.
        batch_size: positions in a batch, including padding: rows x length. A batch has no more rows
            than there are examples.
        max_length: the longest length of a row.
        num_buckets: the largest number of different lengths.
        seed: seed of the shuffling.
        shuffle: if False, every epoch has the examples in their order, bucket by bucket.
        epochs: number of epochs; None if the plan is endless.

    Raises:
        ValueError: there is no example, or a setting is below 1.
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
    ):
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
        counts = np.bincount(bucket, minlength=len(bounds)).tolist()
        self._starts = np.concatenate([[0], np.cumsum(counts)]).tolist()
        self._steps = [math.ceil(count / r) for count, r in zip(counts, rows, strict=True)]
        self.shapes: list[tuple[int, int]] = list(zip(rows, bounds, strict=True))
        self.num_examples = len(lengths)
        self.steps_per_epoch = sum(self._steps)
        self._lock = threading.Lock()
        # The orders of two epochs: the reader may be in the next epoch while training is in this.
        self._orders: dict[int, tuple[np.ndarray, np.ndarray]] = {}

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
                            rng.permutation(examples[start:end])
                            for start, end in zip(self._starts, self._starts[1:], strict=False)
                        ]
                    )
                    batches = rng.permutation(batches)
                before = {e: order for e, order in self._orders.items() if e == epoch - 1}
                self._orders = {**before, epoch: (examples, batches)}
            return self._orders[epoch]

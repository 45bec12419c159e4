"""Codebooks: their state, how EM updates it, and their upkeep.

Shapes: N vectors, D width, C codebooks, K codes of each.
"""

from typing import Any, NamedTuple

import keras
import tensorflow as tf

from t2t_vqem.constants import UsageError
from t2t_vqem.layers.common import Layer
from t2t_vqem.ops import quantization

KINDS = ("vq", "hard_em", "soft_em")
_RAREST = 0.01  # share of the mean use; what is used less is not made to look nearer than that
# Times the horizon of the codes over which `balance` looks at their use. The counts that codes are
# made of are too few: their noise would move vectors to and fro between codes.
_LONGER = 10
_FADED = 1e-12  # a count that decays no further, so that sums over counts stay what they are


class Statistics(NamedTuple):
    """What a batch says about the codebooks; float32, the sum over batches and replicas counts."""

    counts: tf.Tensor  # [C, K], vectors that each code was given
    sums: tf.Tensor  # [C, K, D/C], their sum; no codes under "vq", which learns by gradient
    distance: tf.Tensor  # [C], squared distances to the nearest codes, summed
    weight: tf.Tensor  # [], real vectors
    candidates: tf.Tensor  # [C, K, D/C], for each code a vector that may replace it
    candidate_weights: tf.Tensor  # [K], 1 where there is one, 0 where padding was drawn; sums too


class Codebooks(Layer):
    """C codebooks of K codes: variables, and new values for them from the statistics of a batch.

    Attributes:
      codebooks: float32 [C, K, D/C].
    """

    def __init__(
        self,
        num_codes: int,
        width: int,
        *,
        kind: str,
        num_codebooks: int,
        decay: float,
        revive_below: float,
        balance: float,
        normalize: bool,
        **kwargs: Any,
    ):
        """Makes the variables; the arguments are those of `VectorQuantizer`."""
        super().__init__(**kwargs)
        if kind not in KINDS:
            raise UsageError(f"kind={kind!r}: expected one of {', '.join(KINDS)}")
        if width % num_codebooks:
            raise UsageError(
                f"width={width} with num_codebooks={num_codebooks}: expected a width that "
                f"num_codebooks divides"
            )
        self.num_codes, self.width, self.kind = num_codes, width, kind
        self.num_codebooks = num_codebooks
        self.decay, self.revive_below = decay, revive_below
        self.balance, self.normalize = balance, normalize
        self._slice_width = width // num_codebooks
        self._make_variables()

    def _make_variables(self) -> None:
        slice_shape = (self.num_codebooks, self.num_codes, self._slice_width)
        normal = keras.initializers.RandomNormal(stddev=1.0)
        # Gradients move the codes of "vq". Under EM the codes are sums over counts, so that the
        # two never disagree.
        self._codes = self._sums = None
        if self.kind == "vq":
            self._codes = self.add_weight(shape=slice_shape, initializer=normal, name="codes")
        else:
            self._sums = self._add_state(slice_shape, normal, "sums")
        self._counts = self._add_state(slice_shape[:2], "ones", "counts")
        self._distance = self._add_state(slice_shape[:1], "ones", "distance")
        # How often each code is used, 1 for the mean, over a longer time than that of the counts.
        self._shares = self._add_state(slice_shape[:2], "ones", "shares")
        # Updates since there are codes that come from data; 0: there are none yet.
        self._age = self._add_state((), "zeros", "age")

    def _add_state(self, shape: tuple[int, ...], initializer: Any, name: str) -> keras.Variable:
        # The sum over replicas is taken before the assignment: each assigns the same.
        return self.add_weight(
            shape=shape,
            initializer=initializer,
            trainable=False,
            aggregation="only_first_replica",
            name=name,
        )

    @property
    def state(self) -> list[keras.Variable]:
        """The variables that `update` has new values for, in its order."""
        codes = self._codes if self._sums is None else self._sums
        return [codes, self._counts, self._distance, self._age, self._shares]

    @property
    def age(self) -> tf.Tensor:
        """float32 scalar, updates since there are codes that come from data."""
        return tf.convert_to_tensor(self._age)

    @property
    def distance(self) -> tf.Tensor:
        """float32 [C], running mean of the squared distance of vectors to their nearest codes."""
        return tf.convert_to_tensor(self._distance)

    @property
    def codebooks(self) -> tf.Tensor:
        """float32 [C, K, D/C]."""
        if self.kind == "vq":
            return self._direction(tf.convert_to_tensor(self._codes))
        counts = tf.convert_to_tensor(self._counts)
        return self._direction(tf.convert_to_tensor(self._sums) / counts[..., None])

    @property
    def penalties(self) -> tf.Tensor | None:
        """float32 [C, K], what is added to squared distances; None for nothing.

        A code in much use looks farther than it is, one in little use nearer, so that all are used
        more alike: a conscience (DeSieno 1988), in units of the running mean of the squared
        distance. The cells stay convex, those of a power diagram.
        """
        if not self.balance:
            return None
        shares = tf.maximum(tf.convert_to_tensor(self._shares), _RAREST)
        unit = self.distance[:, None]
        return self.balance * unit * tf.math.log(shares)

    def _direction(self, x: tf.Tensor) -> tf.Tensor:
        return tf.math.l2_normalize(x, -1, epsilon=1e-12) if self.normalize else x

    def look_up(self, ids: tf.Tensor) -> tf.Tensor:
        """Returns the vectors of codes: int32 [..., C] -> [..., D]."""
        offsets = tf.range(self.num_codebooks) * self.num_codes
        flat = tf.reshape(self.codebooks, [-1, self._slice_width])
        slices = tf.gather(flat, ids + offsets)
        vectors = tf.reshape(slices, tf.concat([tf.shape(ids)[:-1], [self.width]], 0))
        vectors.set_shape([*ids.shape[:-1], self.width])
        return tf.cast(vectors, self.compute_dtype)

    def update(
        self, values: list[tf.Tensor], statistics: Statistics
    ) -> tuple[list[tf.Tensor], dict[str, tf.Tensor]]:
        """The M step and the upkeep: returns new values of `state`; assigns nothing.

        Codes become moving means, codes that hardly anybody uses vectors of the batch. As long as
        no code comes from data, all become vectors of the batch.

        Args:
          values: current values of `state`.
          statistics: summed over the batches and replicas of an update.

        Returns:
          New values, and float32 scalars about the update: those of `describe`, "codes_moved" (the
          root mean square of the distances that codes moved) and "codes_revived" (their number).
        """
        codes, counts, distance, age, shares = values
        old_means = codes if self.kind == "vq" else codes / counts[..., None]
        decay = tf.where(counts > _FADED, self.decay, 1.0)
        counts = decay * counts + (1 - self.decay) * statistics.counts
        if self.kind != "vq":
            codes = decay[..., None] * codes + (1 - self.decay) * statistics.sums
        means = codes if self.kind == "vq" else codes / counts[..., None]
        moved = tf.reduce_mean(tf.reduce_sum(tf.square(means - old_means), -1))

        usual = tf.reduce_mean(counts, -1, keepdims=True)
        dead = (counts < self.revive_below * usual) | (age < 1)
        dead &= statistics.candidate_weights > 0
        counts = tf.where(dead, usual, counts)
        weight = 1.0 if self.kind == "vq" else counts[..., None]
        # Accumulated batches each bring a candidate, and their sum is no vector of the data.
        candidates = statistics.candidates / tf.maximum(statistics.candidate_weights, 1.0)[:, None]
        codes = tf.where(dead[..., None], candidates * weight, codes)

        used = statistics.counts / tf.maximum(tf.reduce_mean(statistics.counts, -1)[:, None], 1e-9)
        shares += (1 - self.decay) / _LONGER * (used - shares)
        shares = tf.where(dead, 1.0, shares)

        seen = statistics.distance / tf.maximum(statistics.weight, 1.0)
        fresh = age < 2  # until now distances were those to codes that did not come from data
        distance = tf.where(fresh, seen, self.decay * distance + (1 - self.decay) * seen)
        real = statistics.weight > 0  # a batch of nothing but padding changes nothing
        new = [codes, counts, distance, age + 1, shares]
        new = [tf.where(real, n, old) for n, old in zip(new, values, strict=True)]
        revived = tf.reduce_sum(tf.cast(dead & real, tf.float32))
        metrics = {"codes_moved": tf.sqrt(moved), "codes_revived": revived}
        return new, {**self.describe(statistics.counts), **metrics}

    def usage(self, ids: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
        """Counts how often codes occur: int32 [..., C], bool [...] -> float32 [C, K]."""
        weights = tf.reshape(tf.cast(mask, tf.float32), [-1, 1])
        flat = tf.reshape(ids, [-1, self.num_codebooks])
        flat += tf.range(self.num_codebooks) * self.num_codes
        size = self.num_codebooks * self.num_codes
        weights = tf.broadcast_to(weights, tf.shape(flat))
        counts = tf.math.unsorted_segment_sum(weights, flat, size)
        return tf.reshape(counts, [self.num_codebooks, self.num_codes])

    def describe(self, counts: tf.Tensor) -> dict[str, tf.Tensor]:
        """How the codes were used, float32 scalars, each the mean over the codebooks.

        Args:
          counts: [C, K], how often.

        Returns:
          "perplexity" (of K) and "codes_used" (share of the codes that were used at all).
        """
        return {
            "perplexity": tf.reduce_mean(quantization.perplexity(counts)),
            "codes_used": tf.reduce_mean(tf.cast(counts > 0, tf.float32)),
        }

    def start(self, vectors: tf.Tensor, *, seed: int = 0) -> None:
        """Sets the codes by K-means over real vectors, from a k-means++ start.

        Args:
          vectors: [N, D], several times as many as there are codes.
          seed: of k-means++.
        """
        flat = tf.reshape(tf.cast(vectors, tf.float32), [-1, self.num_codebooks, self._slice_width])
        codebooks, distances = [], []
        for index, part in enumerate(tf.unstack(self._direction(flat), axis=1)):
            codes, distance = quantization.kmeans(part, self.num_codes, seed + index)
            codebooks.append(codes)
            distances.append(distance)
        codes = tf.stack(codebooks)
        ones = tf.ones(codes.shape[:2])
        values = [codes, ones, tf.stack(distances), tf.constant(1.0), ones]
        for variable, value in zip(self.state, values, strict=True):
            variable.assign(value)

    @property
    def started(self) -> bool:
        """Whether the codes come from data."""
        return float(self._age.numpy()) > 0

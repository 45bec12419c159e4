"""Codebooks: their state, its EM updates, and the replacement of rarely used codes.

Shapes: N vectors, D width, C codebooks, K codes of each codebook, W width of a code: D/C under
product quantisation, D if the codebooks quantise residuals.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from t2t_vqem.layers.common import Layer
from t2t_vqem.ops import quantization
from t2t_vqem.quantizer_options import QuantizerOptions

_RAREST = 0.01  # share of the mean use, the lower limit of the use that `balance` assumes
# `balance` averages the use of codes over this many times the horizon of the codes. The moving
# counts of the codes are too noisy: vectors would move back and forth between codes.
_LONGER = 10
_FADED = 1e-12  # counts below this no longer decay, so that sums / counts stays constant


class CodebookState(NamedTuple):
    """The learned state of the codebooks: variables, or their values; float32."""

    codes: Any  # [C, K, W]; under EM the sums, codes times counts, so that both stay consistent
    counts: Any  # [C, K], moving means of the number of vectors of a batch assigned to each code
    distance: Any  # [C], running mean of the squared distance of vectors to their nearest codes
    age: Any  # [], number of updates since the codes were set from data; 0: they were not yet
    shares: Any  # [C, K], use of each code over a longer time than the counts, relative to the mean


class Statistics(NamedTuple):
    """Sufficient statistics of a batch for updating the codebooks; float32.

    All are sums: an update uses their sums over batches and replicas.
    """

    counts: tf.Tensor  # [C, K], number of vectors assigned to each code
    sums: tf.Tensor  # [C, K, W], sum of these vectors; unused by "vq", which learns by gradient
    distance: tf.Tensor  # [C], sum of the squared distances to the nearest codes
    weight: tf.Tensor  # [], number of real vectors
    candidates: tf.Tensor  # [C, K, W], for each code a vector that may replace it
    candidate_weights: tf.Tensor  # [K], 1 for a real vector, 0 if padding was drawn


class Codebooks(Layer):
    """C codebooks of K codes: the variables, and their update from the statistics of a batch.

    Attributes:
      options: sizes of the codebooks, and how codes are chosen and learned.
    """

    def __init__(self, options: QuantizerOptions, **kwargs: Any):
        """Makes the variables."""
        super().__init__(**kwargs)
        self.options = options
        shape = (options.num_codebooks, options.num_codes, options.code_width)
        normal = keras.initializers.RandomNormal(stddev=1.0)
        self._codes = self._sums = None
        if options.kind == "vq":  # trained by gradients
            self._codes = self.add_weight(
                shape=shape, initializer=normal, dtype="float32", name="codes"
            )
        else:
            self._sums = self._add_state(shape, normal, "sums")
        self._counts = self._add_state(shape[:2], "ones", "counts")
        self._distance = self._add_state(shape[:1], "ones", "distance")
        self._shares = self._add_state(shape[:2], "ones", "shares")
        self._age = self._add_state((), "zeros", "age")
        # Up to this age, [C], all codes are replaced by vectors of the batch. A residual codebook
        # gets no real residuals before the codebooks before it have codes from data.
        waits = np.arange(options.num_codebooks) if options.residual else 0
        self._set_until = np.full([options.num_codebooks], 2 + waits, np.float32)

    def _add_state(self, shape: tuple[int, ...], initializer: Any, name: str) -> keras.Variable:
        # Values are summed over replicas before the assignment, so each replica assigns the same.
        return self.add_weight(
            shape=shape,
            initializer=initializer,
            dtype="float32",  # in every precision: these are means of many small contributions
            trainable=False,
            aggregation="only_first_replica",
            name=name,
        )

    @property
    def state(self) -> CodebookState:
        """The variables for which `update` computes new values."""
        codes = self._codes if self._sums is None else self._sums
        return CodebookState(codes, self._counts, self._distance, self._age, self._shares)

    def read(self) -> CodebookState:
        """Returns the current values of `state`."""
        return tf.nest.map_structure(tf.convert_to_tensor, self.state)

    def assign(self, values: CodebookState) -> None:
        """Sets the variables of `state`."""
        tf.nest.map_structure(lambda variable, value: variable.assign(value), self.state, values)

    @property
    def distance(self) -> tf.Tensor:
        """float32 [C], running mean of the squared distance of vectors to their nearest codes."""
        return tf.convert_to_tensor(self.state.distance)

    @property
    def codebooks(self) -> tf.Tensor:
        """float32 [C, K, W]."""
        return self._codebooks(self.read())

    def _codebooks(self, state: CodebookState) -> tf.Tensor:
        return self._direction(self._means(state))

    def _means(self, state: CodebookState) -> tf.Tensor:
        """Returns the codes [C, K, W] before normalisation."""
        return state.codes if self.options.kind == "vq" else state.codes / state.counts[..., None]

    def _penalties(self, state: CodebookState) -> list[tf.Tensor | None]:
        """Returns what to add to squared distances, float32 [K] for each codebook, or None.

        The distance to a frequently used code is increased, that to a rarely used code decreased,
        so that use becomes more equal: a conscience (DeSieno 1988), in units of the running mean of
        the squared distance. The cells stay convex: they form a power diagram.
        """
        if not self.options.balance:
            return [None] * self.options.num_codebooks
        shares = tf.maximum(state.shares, _RAREST)
        return tf.unstack(self.options.balance * state.distance[:, None] * tf.math.log(shares))

    def _direction(self, x: tf.Tensor) -> tf.Tensor:
        return tf.math.l2_normalize(x, -1, epsilon=1e-12) if self.options.normalize else x

    def _parts(self, x: tf.Tensor) -> tf.Tensor:
        """Splits vectors [..., D] into what is quantised apart: [N, S, W] with S W = D.

        S is C slices under product quantisation, and 1 if the codebooks quantise residuals.
        """
        width = self.options.code_width
        return tf.reshape(x, [-1, self.options.width // width, width])

    def _join(self, vectors: list[tf.Tensor]) -> tf.Tensor:
        """Joins the codes [N, W] that the codebooks chose to vectors [N, S, W]."""
        return tf.add_n(vectors)[:, None] if self.options.residual else tf.stack(vectors, 1)

    def _in_turn(self, parts: tf.Tensor, quantize: Callable[[int, tf.Tensor], Any]) -> list[Any]:
        """Quantises vectors [N, S, W] with one codebook after the other.

        Args:
          parts: see `_parts`.
          quantize: gets the index of a codebook and what it quantises [N, W]; the attribute
            `vectors` of what it returns are the codes that it chose [N, W].

        Returns:
          What `quantize` returned for each codebook.
        """
        inputs, found = tf.unstack(parts, axis=1), []
        for index in range(self.options.num_codebooks):
            x = inputs[0 if self.options.residual else index]
            found.append(quantize(index, x))
            if self.options.residual:
                inputs = [x - tf.stop_gradient(found[-1].vectors)]
        return found

    def decode(self, ids: tf.Tensor) -> tf.Tensor:
        """Returns the vectors of codes: int32 [..., C] -> [..., D]."""
        options = self.options
        offsets = tf.range(options.num_codebooks) * options.num_codes
        flat = tf.reshape(self.codebooks, [-1, options.code_width])
        vectors = tf.gather(flat, ids + offsets)
        if options.residual:
            vectors = tf.reduce_sum(vectors, -2)
        vectors = tf.reshape(vectors, tf.concat([tf.shape(ids)[:-1], [options.width]], 0))
        vectors.set_shape([*ids.shape[:-1], options.width])
        return tf.cast(vectors, self.compute_dtype)

    def update(
        self,
        state: CodebookState,
        statistics: Statistics,
        before: CodebookState | None = None,
    ) -> tuple[CodebookState, dict[str, tf.Tensor]]:
        """The M step: returns new values of `state` without assigning them.

        Codes become moving means. Rarely used codes are replaced by vectors drawn from the batch.
        If the codes were not set from data yet, all of them are replaced.

        Args:
          state: current values.
          statistics: sums over the batches and replicas of an update.
          before: for "vq": values before the gradients of this update were applied to the codes;
            None if unknown.

        Returns:
          New values, and metrics of the update, float32 scalars: those of `describe`,
          "codes_revived" (the number of replaced codes) and "codes_moved" (the root mean square of
          the distances that codes moved), which under "vq" needs `before`.
        """
        learned = self._learn(state, statistics)
        new, dead = self._revive(learned, statistics)
        real = statistics.weight > 0  # a batch that is all padding changes nothing
        new = tf.nest.map_structure(lambda new, old: tf.where(real, new, old), new, state)
        figures = self.describe(statistics.counts)
        if self.options.kind != "vq" or before is not None:
            moved = self._means(learned) - self._means(before or state)
            moved = tf.reduce_mean(tf.reduce_sum(tf.square(moved), -1))
            figures["codes_moved"] = tf.sqrt(moved)
        figures["codes_revived"] = tf.reduce_sum(tf.cast(dead & real, tf.float32))
        return new, figures

    def _learn(self, state: CodebookState, statistics: Statistics) -> CodebookState:
        """Updates all moving means with one batch."""
        keep = self.options.decay
        decay = tf.where(state.counts > _FADED, keep, 1.0)
        codes = state.codes
        if self.options.kind != "vq":
            codes = decay[..., None] * codes + (1 - keep) * statistics.sums
        used = statistics.counts / tf.maximum(tf.reduce_mean(statistics.counts, -1)[:, None], 1e-9)
        seen = statistics.distance / tf.maximum(statistics.weight, 1.0)
        fresh = state.age < self._set_until  # distances were to codes that were not from data
        return CodebookState(
            codes=codes,
            counts=decay * state.counts + (1 - keep) * statistics.counts,
            distance=tf.where(fresh, seen, keep * state.distance + (1 - keep) * seen),
            shares=state.shares + (1 - keep) / _LONGER * (used - state.shares),
            age=state.age + 1,
        )

    def _revive(
        self, state: CodebookState, statistics: Statistics
    ) -> tuple[CodebookState, tf.Tensor]:
        """Replaces rarely used codes by vectors of the batch; also returns which, bool [C, K]."""
        usual = tf.reduce_mean(state.counts, -1, keepdims=True)
        dead = state.counts < self.options.revive_below * usual
        dead |= state.age < self._set_until[:, None]
        dead &= statistics.candidate_weights > 0
        counts = tf.where(dead, usual, state.counts)
        # Each accumulated batch contributes a candidate: their sum would lie far from the data.
        candidates = statistics.candidates / tf.maximum(statistics.candidate_weights, 1.0)[:, None]
        weight = 1.0 if self.options.kind == "vq" else counts[..., None]
        revived = state._replace(
            codes=tf.where(dead[..., None], candidates * weight, state.codes),
            counts=counts,
            shares=tf.where(dead, 1.0, state.shares),
        )
        return revived, dead

    def usage(self, ids: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
        """Counts how often codes occur: int32 [..., C], bool [...] -> float32 [C, K]."""
        weights = tf.reshape(tf.cast(mask, tf.float32), [-1, 1])
        shape = self.options.num_codebooks, self.options.num_codes
        flat = tf.reshape(ids, [-1, shape[0]]) + tf.range(shape[0]) * shape[1]
        weights = tf.broadcast_to(weights, tf.shape(flat))
        counts = tf.math.unsorted_segment_sum(weights, flat, shape[0] * shape[1])
        return tf.reshape(counts, shape)

    def describe(self, counts: tf.Tensor) -> dict[str, tf.Tensor]:
        """Returns metrics of the use of codes, float32 scalars, each the mean over the codebooks.

        Args:
          counts: [C, K], how many times each code was used.

        Returns:
          "perplexity" (at most K) and "codes_used" (share of the codes that were used at all).
        """
        return {
            "perplexity": tf.reduce_mean(quantization.perplexity(counts)),
            "codes_used": tf.reduce_mean(tf.cast(counts > 0, tf.float32)),
        }

    def start(self, vectors: tf.Tensor, *, seed: int = 0) -> None:
        """Sets the codes by K-means over real vectors, initialised by k-means++.

        Args:
          vectors: [N, D], with N several times K.
          seed: seed of k-means++.
        """
        options = self.options
        found = self._in_turn(
            self._direction(self._parts(tf.cast(vectors, tf.float32))),
            lambda index, x: quantization.kmeans(x, options.num_codes, seed + index),
        )
        ones = tf.ones([options.num_codebooks, options.num_codes])
        self.assign(
            CodebookState(
                codes=tf.stack([part.codes for part in found]),
                counts=ones,
                distance=tf.stack([part.distance for part in found]),
                shares=ones,
                age=tf.constant(self._set_until[-1] - 1),
            )
        )

    @property
    def started(self) -> bool:
        """Whether the codes were set from data."""
        return float(self.state.age.numpy()) > 0

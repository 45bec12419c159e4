"""The discrete bottleneck, which replaces vectors by codes, for our models and any Keras model.

Shapes: N vectors, D width, C codebooks, K codes of each codebook, W width of a code (see
`codebooks`), m samples.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from t2t_vqem.constants import UsageError
from t2t_vqem.layers.codebooks import Codebooks, CodebookState, Statistics
from t2t_vqem.ops import quantization
from t2t_vqem.ops.random import Rng, uniform_from_bits
from t2t_vqem.quantizer_options import QuantizerOptions

_OPTIONS = [field.name for field in dataclasses.fields(QuantizerOptions)]


class Quantized(NamedTuple):
    """The result of quantising vectors [..., D]."""

    vectors: tf.Tensor  # [..., D], with the straight-through gradient
    ids: tf.Tensor  # int32 [..., C], the nearest codes
    samples: tf.Tensor | None  # int32 [..., C, m], drawn codes; None if none were drawn
    loss: tf.Tensor  # float32 scalar, commitment and codebook loss, sum over real vectors
    statistics: Statistics | None  # None in inference


class PriorStates(NamedTuple):
    """The states of a learned prior at each vector, and its output tables; see `Prior` in `ops`."""

    states: tf.Tensor  # [..., C, H]
    table: tf.Tensor  # [C, V, H]
    bias: tf.Tensor | None  # float32 [C, V]
    first: int  # row of the table that belongs to code 0


class EStepPrior(NamedTuple):
    """A learned prior for the E step of training.

    A vector is assigned the code with the smallest d^2 - w u log p, or draws codes from the softmax
    of its negative / t. p is the code's probability, and u the running mean of the squared distance
    to the nearest code.
    """

    weight: tf.Tensor | float  # w
    of_codes: Callable[[tf.Tensor], PriorStates]  # nearest codes int32 [..., C] -> their prior


@keras.saving.register_keras_serializable("t2t_vqem")
class VectorQuantizer(Codebooks):
    """Replaces vectors by codes of a learned codebook.

    Kinds, as in "Theory and Experiments on Vector Quantized Autoencoders" (arXiv 1805.11063):

    - "vq": the nearest code; the codebook loss trains the codes (van den Oord et al. 2017).
    - "hard_em": the nearest code; codes are moving means of their assigned vectors, as in online
      K-means.
    - "soft_em": m codes are drawn from softmax(-d^2/t). The output is their mean, and the moving
      means use all m draws. With num_samples=0, both use the expectation over all codes instead.
      Inference uses the nearest code.

    In a Keras model, call it like any layer: with `training=True` it learns, adds its loss, and
    reports metrics. Our own models call `quantize_vectors`, which changes no state, sum the
    statistics over replicas, and pass them to `update`.

    Attributes:
      codebooks: float32 [C, K, W].
    """

    def __init__(self, num_codes: int, width: int, *, seed: int = 0, **kwargs: Any):
        """Makes the codebooks.

        Args:
          num_codes: K.
          width: D, size of the last axis of the vectors.
          seed: seed for drawing codes and replacement vectors when the layer is called.
          **kwargs: fields of `QuantizerOptions`, such as kind="soft_em", and Keras layer arguments.

        Raises:
          UsageError: an option is unknown or out of range.
        """
        options = {name: kwargs.pop(name) for name in _OPTIONS if name in kwargs}
        super().__init__(QuantizerOptions(num_codes=num_codes, width=width, **options), **kwargs)
        self.seed = seed
        self.supports_masking = True

    @property
    def temperature(self) -> tf.Tensor:
        """float32 scalar, in units of the running mean distance; it decays with the updates."""
        return self._temperature(self.read())

    def _temperature(self, state: CodebookState) -> tf.Tensor:
        options = self.options
        first, steps = options.temperature, options.temperature_steps
        progress = tf.minimum(state.age / steps, 1.0) if steps else 0.0
        return first * tf.pow(options.temperature_end / first, progress)

    def encode(self, x: tf.Tensor) -> tf.Tensor:
        """Returns the ids of the nearest codes: [..., D] -> int32 [..., C]; `decode` inverts it."""
        return self.quantize_vectors(tf.convert_to_tensor(x)).ids

    def quantize_vectors(
        self,
        x: tf.Tensor,
        mask: tf.Tensor | None = None,
        *,
        rng: Rng | None = None,
        prior: EStepPrior | None = None,
    ) -> Quantized:
        """Quantises vectors without changing the state.

        Args:
          x: [B, ..., D], of any type; the computation is in float32.
          mask: bool [B, ...], True for real vectors; loss and statistics ignore the others. None:
            all are real.
          rng: randomness of training; None for inference, which uses the nearest codes.
          prior: for training: a prior for choosing the codes.
        """
        return self._quantize(self.read(), x, mask, rng, prior)

    def _quantize(
        self,
        state: CodebookState,
        x: tf.Tensor,
        mask: tf.Tensor | None,
        rng: Rng | None,
        prior: EStepPrior | None = None,
    ) -> Quantized:
        """See `quantize_vectors`.

        `state` holds values that were read once, because a read of a variable that is assigned
        later in the same graph may return the new value in TensorFlow.
        """
        options = self.options
        weights = tf.ones(tf.shape(x)[:-1]) if mask is None else tf.cast(mask, tf.float32)
        weights = tf.reshape(weights, [-1])
        everything = real = self._direction(self._parts(tf.cast(x, tf.float32)))
        if mask is not None:  # a weight of 0 does not exclude NaN
            real = tf.where(weights[:, None, None] > 0, everything, 0.0)
        steps = self._steps(state, x, rng)
        if prior is not None:
            steps = self._with_prior(steps, real, prior, state, x)
        parts = self._in_turn(
            real, lambda i, x: self._quantize_part(x, steps[i], weights, training=rng is not None)
        )
        vectors = self._join([part.vectors for part in parts])
        vectors = quantization.straight_through(everything, vectors)
        samples = None
        if self._draws(rng):
            samples = tf.stack([part.samples for part in parts], 1)
            samples = _shaped(samples, x, options.num_codebooks, options.num_samples)
        return Quantized(
            vectors=tf.cast(_shaped(vectors, x, options.width), self.compute_dtype),
            ids=_shaped(tf.stack([part.ids for part in parts], 1), x, options.num_codebooks),
            samples=samples,
            loss=tf.add_n([part.loss for part in parts]),
            statistics=None if rng is None else self._statistics(parts, weights, rng, tf.shape(x)),
        )

    def _steps(self, state: CodebookState, x: tf.Tensor, rng: Rng | None) -> list["_EStep"]:
        """Returns the inputs of the E step of each codebook."""
        temperatures = self._temperature(state) * tf.maximum(state.distance, 1e-12)
        values = zip(
            tf.unstack(self._codebooks(state)),
            self._penalties(state),
            tf.unstack(temperatures),
            self._uniforms(x, rng),
            strict=True,
        )
        return [_EStep(*step) for step in values]

    def _statistics(
        self, parts: list["_Part"], weights: tf.Tensor, rng: Rng, shape: tf.Tensor
    ) -> Statistics:
        """Collects the statistics of all codebooks; `shape` is that of the vectors, [B, ..., D]."""
        inputs = tf.stop_gradient(tf.stack([part.x for part in parts], 1))
        candidates, found = self._candidates(inputs, weights, rng, shape[:-1])
        return Statistics(
            counts=tf.stack([part.statistics.counts for part in parts]),
            sums=tf.stack([part.statistics.sums for part in parts]),
            distance=tf.stack([tf.reduce_sum(part.distance * weights) for part in parts]),
            weight=tf.reduce_sum(weights),
            candidates=candidates,
            candidate_weights=found,
        )

    def _draws(self, rng: Rng | None) -> bool:
        """Returns whether codes are drawn."""
        return rng is not None and self.options.kind == "soft_em" and self.options.num_samples > 0

    def _uniforms(self, x: tf.Tensor, rng: Rng | None) -> list[tf.Tensor | None]:
        """Returns random numbers [N, m] for each codebook, or None for each if nothing is drawn."""
        num_codebooks, num_samples = self.options.num_codebooks, self.options.num_samples
        if not self._draws(rng):
            return [None] * num_codebooks
        shape = [*x.shape[:-1], num_codebooks * num_samples]
        if None in shape:
            shape = tf.concat([tf.shape(x)[:-1], shape[-1:]], 0)
        else:
            shape = tf.TensorShape(shape)
        bits = rng.bits(shape)
        numbers = uniform_from_bits(tf.reshape(bits, [-1, num_codebooks, num_samples]))
        return tf.unstack(numbers, axis=1)

    def _with_prior(
        self,
        steps: list["_EStep"],
        parts: tf.Tensor,
        prior: EStepPrior,
        state: CodebookState,
        x: tf.Tensor,
    ) -> list["_EStep"]:
        """Adds the prior of each vector, given the nearest codes of the vectors before it."""

        def nearest(index: int, x: tf.Tensor) -> _Nearest:
            found = steps[index].assign(x, draws=False)
            return _Nearest(tf.gather(steps[index].codes, found.nearest), found)

        plain = [part.found for part in self._in_turn(parts, nearest)]
        ids = tf.stack([found.nearest for found in plain], 1)
        found = prior.of_codes(_shaped(ids, x, self.options.num_codebooks))
        states = tf.unstack(tf.stop_gradient(found.states), axis=-2)
        tables = tf.unstack(tf.stop_gradient(found.table))
        biases = [None] * len(steps)
        if found.bias is not None:
            biases = tf.unstack(tf.stop_gradient(found.bias))
        weights = tf.unstack(prior.weight * state.distance)
        priors = [
            quantization.Prior(
                tf.reshape(states, [-1, states.shape[-1]]), table, bias, found.first, weight
            )
            for states, table, bias, weight in zip(states, tables, biases, weights, strict=True)
        ]
        return [
            step._replace(prior=prior, distance=nearest.distance)
            for step, prior, nearest in zip(steps, priors, plain, strict=True)
        ]

    def _quantize_part(
        self, x: tf.Tensor, step: "_EStep", weights: tf.Tensor, *, training: bool
    ) -> "_Part":
        """Quantises the vectors [N, W] of one codebook."""
        codes = step.codes
        fixed_x = tf.stop_gradient(x)
        found = step.assign(x)
        chosen = found.nearest[:, None] if found.samples is None else found.samples
        if training and self.options.kind == "soft_em" and not self.options.num_samples:
            vectors, statistics = quantization.expectation(
                fixed_x,
                tf.stop_gradient(codes),
                weights,
                step.temperature,
                step.penalties,
                step.prior,
            )
        else:
            vectors, statistics = quantization.mean_code(codes, chosen), None
        if training and statistics is None:
            statistics = quantization.sufficient_statistics(
                fixed_x, chosen, weights, self.options.num_codes
            )
        loss = self.options.beta * quantization.squared_error(x, tf.stop_gradient(vectors), weights)
        if self.options.kind == "vq":
            loss += quantization.squared_error(fixed_x, vectors, weights)
        distance = found.distance if step.distance is None else step.distance
        return _Part(x, vectors, found.nearest, found.samples, distance, loss, statistics)

    def _candidates(
        self, x: tf.Tensor, weights: tf.Tensor, rng: Rng, leading: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Draws a vector of the global batch for each code; each replica gives those that it holds.

        Args:
          x: [N, C, W].
          weights: [N], 1 for real vectors.
          rng: gives the position of these rows in the global batch.
          leading: [B, ...], the axes that were flattened to N.

        Returns:
          Vectors [C, K, W] and their weights [K], both 0 if another replica holds the vector.
        """
        num_vectors, row_size = tf.shape(x)[0], tf.reduce_prod(leading[1:])
        first = tf.cast(rng.row_offset, tf.int32) * row_size
        rows = leading[0] if rng.num_rows is None else tf.cast(rng.num_rows, tf.int32)
        total = tf.cast(tf.maximum(rows * row_size, 1), tf.uint32)
        local = tf.cast(rng.shared_bits(self.options.num_codes) % total, tf.int32) - first
        if x.shape[0] is None:  # a replica may have no vector, but gather needs at least one
            x = tf.pad(x, [[0, 1], [0, 0], [0, 0]])
            weights = tf.pad(weights, [[0, 1]])
        mine = (local >= 0) & (local < num_vectors)
        local = tf.clip_by_value(local, 0, tf.maximum(num_vectors - 1, 0))
        found = tf.where(mine, tf.gather(weights, local), 0.0)
        vectors = tf.gather(x, local) * found[:, None, None]
        return tf.transpose(vectors, [1, 0, 2]), found

    def build(self, input_shape: Any) -> None:
        """Makes the metrics, which are reported only in a Keras model."""
        width = self.options.width
        if input_shape[-1] != width:
            raise UsageError(
                f"{self.name}: got vectors of width {input_shape[-1]}, expected width={width}"
            )
        names = ["perplexity", "codes_used", "codes_moved", "codes_revived", "commitment_loss"]
        if self.options.kind == "vq":
            names.remove("codes_moved")  # the optimiser moves the codes, outside of this layer
        self._trackers = {
            name: _Figure(f"{self.name}_{name.removeprefix('codes_')}") for name in names
        }

    def call(
        self, x: tf.Tensor, mask: tf.Tensor | None = None, training: bool = False
    ) -> tf.Tensor:
        """Quantises [B, ..., D] and adds the loss; in training it learns, unless it is frozen.

        Learning ignores non-finite vectors, as if the mask excluded them.
        """
        finite = tf.reduce_all(tf.math.is_finite(tf.cast(x, tf.float32)), -1)
        mask = finite if mask is None else finite & mask
        learns = training and self.trainable
        state = self.read()
        output = self._quantize(state, x, mask, self._batch_rng(x, state) if learns else None)
        loss = output.loss / tf.maximum(tf.reduce_sum(tf.cast(mask, tf.float32)), 1.0)
        self.add_loss(tf.cast(_share(loss) if learns else loss, keras.config.floatx()))
        if learns:
            figures = self._learn_from(state, output.statistics)
        else:
            figures = self.describe(self.usage(output.ids, mask))
        for name, value in {**figures, "commitment_loss": loss}.items():
            self._trackers[name].see(value, at_once=learns)
        return output.vectors

    def _batch_rng(self, x: tf.Tensor, state: CodebookState) -> Rng:
        """Returns the randomness of a batch, which may be divided unequally among replicas."""
        context = tf.distribute.get_replica_context()
        rows, offset, total = tf.shape(x)[0], 0, None
        if context.num_replicas_in_sync > 1:
            replica = context.replica_id_in_sync_group
            parts = tf.one_hot(replica, context.num_replicas_in_sync) * tf.cast(rows, tf.float32)
            parts = context.all_reduce(tf.distribute.ReduceOp.SUM, parts)
            parts = tf.cast(parts, tf.int32)
            offset, total = tf.cumsum(parts, exclusive=True)[replica], tf.reduce_sum(parts)
        return Rng(self.seed, tf.cast(state.age, tf.int32), offset, total)

    def _learn_from(self, state: CodebookState, statistics: Statistics) -> dict[str, tf.Tensor]:
        """Updates the state with the statistics of all replicas; returns metrics."""
        context = tf.distribute.get_replica_context()
        total = context.all_reduce(tf.distribute.ReduceOp.SUM, tf.nest.flatten(statistics))
        values, figures = self.update(state, tf.nest.pack_sequence_as(statistics, total))
        self.assign(values)
        return figures

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Returns the shape of the input."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor."""
        return {**super().get_config(), **dataclasses.asdict(self.options), "seed": self.seed}


def _shaped(values: tf.Tensor, x: tf.Tensor, *last: int) -> tf.Tensor:
    """Reshapes values of the N vectors [B, ..., D] of x to [B, ..., *last]."""
    values = tf.reshape(values, tf.concat([tf.shape(x)[:-1], last], 0))
    values.set_shape([*x.shape[:-1], *last])
    return values


def _share(loss: tf.Tensor) -> tf.Tensor:
    """Returns the loss with its gradient, and with its value divided by the number of replicas.

    Keras divides the gradient by that number itself. But replicas that communicate in a call, as
    they do in learning, find the losses of all replicas in `losses`, and Keras adds up the values.
    """
    replicas = tf.distribute.get_replica_context().num_replicas_in_sync
    fixed = tf.stop_gradient(loss)
    return loss if replicas == 1 else fixed / replicas + (loss - fixed)


class _Figure(keras.metrics.Mean):
    """The mean of a metric over batches.

    Outside of training, a value is added only when the mean is read, as `evaluate` does after each
    batch. Predictions and exported models do not read it, and so write no variable.
    """

    def __init__(self, name: str):
        """Makes the metric, without values."""
        super().__init__(name=name, dtype="float32")
        self._waiting: dict[int | None, tf.Tensor] = {}  # by replica

    def see(self, value: tf.Tensor, *, at_once: bool) -> None:
        """Adds the value of a batch, at once or when the mean is read."""
        if at_once:
            self.update_state(value)
        else:
            self._waiting[_replica()] = value

    def result(self) -> tf.Tensor:
        """Returns the mean."""
        value = self._waiting.pop(_replica(), None)
        if value is not None and _is_of_this_graph(value):
            self.update_state(value)
        return super().result()

    def reset_state(self) -> None:
        """Removes all values."""
        self._waiting.clear()
        super().reset_state()


def _replica() -> int | None:
    """Returns the number of the current replica; None if there is none or it is unknown."""
    context = tf.distribute.get_replica_context()
    number = context and tf.get_static_value(context.replica_id_in_sync_group)
    return None if number is None else int(number)


def _is_of_this_graph(x: tf.Tensor) -> bool:
    if tf.is_symbolic_tensor(x):
        return not tf.executing_eagerly() and x.graph is tf.compat.v1.get_default_graph()
    return tf.executing_eagerly()


class _EStep(NamedTuple):
    """The inputs of the E step for one codebook, except its vectors."""

    codes: tf.Tensor  # [K, W]
    penalties: tf.Tensor | None  # [K]
    temperature: tf.Tensor  # scalar, of softmax(-d^2/t)
    uniforms: tf.Tensor | None  # [N, m]
    prior: quantization.Prior | None = None
    distance: tf.Tensor | None = None  # [N], to the nearest code, if a prior may choose another

    def assign(self, x: tf.Tensor, *, draws: bool = True) -> quantization.Assignment:
        """Finds the code of each vector, and draws codes if there are `uniforms`."""
        return quantization.assign(
            tf.stop_gradient(x),
            tf.stop_gradient(self.codes),
            temperature=self.temperature,
            uniforms=self.uniforms if draws else None,
            penalties=self.penalties,
            prior=self.prior,
        )


class _Nearest(NamedTuple):
    """The nearest codes."""

    vectors: tf.Tensor  # [N, W]
    found: quantization.Assignment


class _Part(NamedTuple):
    """The result of one codebook."""

    x: tf.Tensor  # [N, W], what it quantised
    vectors: tf.Tensor  # [N, W], the codes
    ids: tf.Tensor  # int32 [N]
    samples: tf.Tensor | None  # int32 [N, m]
    distance: tf.Tensor  # [N]
    loss: tf.Tensor  # scalar, summed
    statistics: quantization.SufficientStatistics | None  # None in inference

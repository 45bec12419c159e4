"""The discrete bottleneck: what replaces vectors by codes, in our models and in any Keras model.

Shapes: N vectors, D width, C codebooks, K codes of each, m samples.
"""

from typing import Any, NamedTuple

import keras
import tensorflow as tf

from t2t_vqem.constants import UsageError
from t2t_vqem.layers.codebooks import Codebooks, Statistics
from t2t_vqem.ops import quantization
from t2t_vqem.ops.random import Rng, uniform_from_bits


class Quantized(NamedTuple):
    """What the bottleneck makes of vectors [..., D]."""

    vectors: tf.Tensor  # [..., D], their gradient goes to the input unchanged
    ids: tf.Tensor  # int32 [..., C], nearest codes
    samples: tf.Tensor | None  # int32 [..., C, m], codes drawn; None if none were
    loss: tf.Tensor  # float32 scalar, commitment and codebook loss, summed over real vectors
    statistics: Statistics | None  # None in inference


@keras.saving.register_keras_serializable("t2t_vqem")
class VectorQuantizer(Codebooks):
    """Replaces vectors by codes of a learned codebook.

    Kinds, as in "Theory and Experiments on Vector Quantized Autoencoders" (arXiv 1805.11063):

    - "vq": nearest code; the codebook loss moves the codes (van den Oord et al. 2017).
    - "hard_em": nearest code; codes are moving means of what they are given, online K-means.
    - "soft_em": m codes drawn from softmax(-d^2/t), their mean is passed on, and moving means take
      all m draws; or, with num_samples=0, the expectation over all codes. Inference takes the
      nearest code.

    In a Keras model it is called as any layer: with `training=True` it learns, adds its loss, and
    reports metrics. Our own models call `quantize_vectors`, which changes nothing, add the
    statistics up over replicas, and pass them to `update`.

    Attributes:
      codebooks: float32 [C, K, D/C].
    """

    def __init__(
        self,
        num_codes: int,
        width: int,
        *,
        kind: str = "soft_em",
        num_codebooks: int = 1,
        num_samples: int = 10,
        temperature: float = 0.1,
        temperature_end: float = 0.02,
        temperature_steps: int = 10_000,
        beta: float = 0.25,
        decay: float = 0.9,
        revive_below: float = 0.02,
        balance: float = 0.0,
        normalize: bool = False,
        seed: int = 0,
        **kwargs: Any,
    ):
        """Makes the codebooks.

        Args:
          num_codes: K.
          width: D, the last axis of what is quantised.
          kind: "vq", "hard_em" or "soft_em".
          num_codebooks: C, slices of the vectors with a codebook each (product quantisation).
          num_samples: soft_em: m, codes drawn for each vector; 0 takes the expectation.
          temperature: soft_em: t, in units of the running mean of the squared distance to the
            nearest code, so that it means the same in any width and at any scale.
          temperature_end: soft_em: what the temperature falls to.
          temperature_steps: soft_em: updates in which it falls, by equal factors; 0: it stays.
          beta: weight of the commitment loss.
          decay: hard_em, soft_em: decay of the moving counts and sums. Codes have to follow an
            encoder that learns: 0.99 is for slow ones, and for batches of few vectors a code.
          revive_below: a code whose moving count is below this share of the mean count is moved to
            a vector of the batch, drawn at random; 0 never does.
          balance: how strongly codes are kept equally used, in training and in inference: a code
            used e times as often as the mean looks this times the running mean of the squared
            distance to the nearest code farther than it is. 1 or 2 take most of the inequality; 0
            looks at distances alone.
          normalize: scales vectors and codes to length 1, so that directions alone count.
          seed: of draws and of the choice of vectors, where the layer is called.
          **kwargs: Keras layer arguments.

        Raises:
          UsageError: an unknown kind, or a width that num_codebooks does not divide.
        """
        super().__init__(
            num_codes,
            width,
            kind=kind,
            num_codebooks=num_codebooks,
            decay=decay,
            revive_below=revive_below,
            balance=balance,
            normalize=normalize,
            **kwargs,
        )
        self.num_samples = num_samples
        self._temperatures = temperature, temperature_end, temperature_steps
        self.beta, self.seed = beta, seed

    @property
    def temperature(self) -> tf.Tensor:
        """float32 scalar, in units of the distance: falls from update to update."""
        first, last, steps = self._temperatures
        progress = tf.minimum(tf.convert_to_tensor(self._age) / steps, 1.0) if steps else 0.0
        return first * tf.pow(last / first, progress)

    def quantize_vectors(
        self, x: tf.Tensor, mask: tf.Tensor | None = None, *, rng: Rng | None = None
    ) -> Quantized:
        """Quantises vectors; changes no state.

        Args:
          x: [B, ..., D]; whatever the type, computed in float32.
          mask: bool [B, ...], True at real vectors: the others have no part in loss or statistics;
            None where all are real.
          rng: randomness of training; None for inference, which takes the nearest codes.
        """
        leading = tf.shape(x)[:-1]
        flat = tf.reshape(tf.cast(x, tf.float32), [-1, self.num_codebooks, self._slice_width])
        flat = self._direction(flat)
        weights = tf.ones(leading) if mask is None else tf.cast(mask, tf.float32)
        weights = tf.reshape(weights, [-1])
        draws = self._uniforms(x, rng)
        penalties = self.penalties
        penalties = [None] * self.num_codebooks if penalties is None else tf.unstack(penalties)
        parts = [
            self._quantize_slice(*slices, weights, training=rng is not None)
            for slices in zip(
                tf.unstack(flat, axis=1),
                tf.unstack(self.codebooks),
                draws,
                tf.unstack(tf.convert_to_tensor(self._distance)),
                penalties,
                strict=True,
            )
        ]
        vectors = quantization.straight_through(flat, tf.stack([p.vectors for p in parts], 1))
        statistics = None
        if rng is not None:
            statistics = Statistics(
                *map(tf.stack, zip(*[part.moments for part in parts], strict=True)),
                tf.stack([tf.reduce_sum(part.distance * weights) for part in parts]),
                tf.reduce_sum(weights),
                *self._candidates(tf.stop_gradient(flat), weights, rng, leading),
            )

        def shaped(values: tf.Tensor, *last: int) -> tf.Tensor:
            values = tf.reshape(values, tf.concat([leading, last], 0))
            values.set_shape([*x.shape[:-1], *last])
            return values

        samples = None
        if parts[0].samples is not None:
            samples = tf.stack([part.samples for part in parts], 1)
            samples = shaped(samples, self.num_codebooks, self.num_samples)
        return Quantized(
            vectors=tf.cast(shaped(vectors, self.width), self.compute_dtype),
            ids=shaped(tf.stack([part.ids for part in parts], 1), self.num_codebooks),
            samples=samples,
            loss=tf.add_n([part.loss for part in parts]),
            statistics=statistics,
        )

    def _uniforms(self, x: tf.Tensor, rng: Rng | None) -> list[tf.Tensor | None]:
        """Returns numbers [N, m] to draw with for each codebook, None where nothing is drawn."""
        if rng is None or self.kind != "soft_em" or not self.num_samples:
            return [None] * self.num_codebooks
        size = self.num_codebooks * self.num_samples
        rows = tf.shape(x)[0] if x.shape[0] is None else x.shape[0]
        bits = rng.bits(tf.TensorShape([*x.shape[:-1], size]), rows)
        numbers = uniform_from_bits(tf.reshape(bits, [-1, self.num_codebooks, self.num_samples]))
        return tf.unstack(numbers, axis=1)

    def _quantize_slice(
        self,
        x: tf.Tensor,
        codes: tf.Tensor,
        uniforms: tf.Tensor | None,
        distance: tf.Tensor,
        penalties: tf.Tensor | None,
        weights: tf.Tensor,
        *,
        training: bool,
    ) -> "_Slice":
        """Quantises x [N, D/C] by one codebook; `distance` is the unit of the temperature."""
        fixed_x, fixed = tf.stop_gradient(x), tf.stop_gradient(codes)
        temperature = self.temperature * tf.maximum(distance, 1e-12)
        found = quantization.assign(
            fixed_x, fixed, temperature=temperature, uniforms=uniforms, penalties=penalties
        )
        chosen = found.nearest[:, None] if found.samples is None else found.samples
        if training and self.kind == "soft_em" and not self.num_samples:
            vectors, moments = quantization.expectation(
                fixed_x, fixed, weights, temperature, penalties
            )
        else:
            vectors, moments = quantization.mean_code(codes, chosen), None
        if training and moments is None:
            moments = quantization.moments(fixed_x, chosen, weights, self.num_codes)
        loss = self.beta * quantization.squared_error(x, tf.stop_gradient(vectors), weights)
        if self.kind == "vq":
            loss += quantization.squared_error(fixed_x, vectors, weights)
        return _Slice(vectors, found.nearest, found.samples, found.distance, loss, moments)

    def _candidates(
        self, x: tf.Tensor, weights: tf.Tensor, rng: Rng, leading: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Draws a vector of the global batch for each code; each replica fills in its own.

        Args:
          x: [N, C, D/C].
          weights: [N], 1 for real vectors.
          rng: says which rows of the global batch these are.
          leading: [B, ...], the axes that N stands for.

        Returns:
          Vectors [C, K, D/C] and their weights [K], both 0 where another replica has the vector.
        """
        num_vectors, row_size = tf.shape(x)[0], tf.reduce_prod(leading[1:])
        first = tf.cast(rng.row_offset, tf.int32) * row_size
        rows = leading[0] if rng.num_rows is None else tf.cast(rng.num_rows, tf.int32)
        drawn = rng.shared_bits(self.num_codes) % tf.cast(rows * row_size, tf.uint32)
        local = tf.cast(drawn, tf.int32) - first
        mine = (local >= 0) & (local < num_vectors)
        local = tf.clip_by_value(local, 0, num_vectors - 1)
        found = tf.where(mine, tf.gather(weights, local), 0.0)
        vectors = tf.gather(x, local) * found[:, None, None]
        return tf.transpose(vectors, [1, 0, 2]), found

    def build(self, input_shape: Any) -> None:
        """Makes the metrics, which only a Keras model reports."""
        if input_shape[-1] != self.width:
            raise UsageError(
                f"{self.name}: got vectors of width {input_shape[-1]}, expected width={self.width}"
            )
        names = ("perplexity", "codes_used", "codes_moved", "codes_revived", "commitment_loss")
        self._trackers = {
            name: keras.metrics.Mean(name=f"{self.name}_{name.removeprefix('codes_')}")
            for name in names
        }

    def call(
        self, x: tf.Tensor, mask: tf.Tensor | None = None, training: bool = False
    ) -> tf.Tensor:
        """Quantises [B, ..., D]; in training adds the loss and learns."""
        if not training:
            return self.quantize_vectors(x, mask).vectors
        context = tf.distribute.get_replica_context()
        rows = tf.shape(x)[0]
        step = tf.cast(tf.convert_to_tensor(self._age), tf.int32)
        rng = Rng(
            self.seed,
            step,
            rows * tf.cast(context.replica_id_in_sync_group, tf.int32),
            rows * context.num_replicas_in_sync,
        )
        output = self.quantize_vectors(x, mask, rng=rng)
        loss = output.loss / tf.maximum(output.statistics.weight, 1.0)
        self.add_loss(loss)
        total = context.all_reduce(tf.distribute.ReduceOp.SUM, tf.nest.flatten(output.statistics))
        total = tf.nest.pack_sequence_as(output.statistics, total)
        values = [tf.convert_to_tensor(variable) for variable in self.state]
        values, metrics = self.update(values, total)
        for variable, value in zip(self.state, values, strict=True):
            variable.assign(value)
        for name, value in {**metrics, "commitment_loss": loss}.items():
            self._trackers[name].update_state(value)
        return output.vectors

    def compute_output_shape(self, input_shape: Any) -> Any:
        """The shape stays."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """Returns what the constructor was given."""
        first, last, steps = self._temperatures
        return {
            **super().get_config(),
            "num_codes": self.num_codes,
            "width": self.width,
            "kind": self.kind,
            "num_codebooks": self.num_codebooks,
            "num_samples": self.num_samples,
            "temperature": first,
            "temperature_end": last,
            "temperature_steps": steps,
            "beta": self.beta,
            "decay": self.decay,
            "revive_below": self.revive_below,
            "balance": self.balance,
            "normalize": self.normalize,
            "seed": self.seed,
        }


class _Slice(NamedTuple):
    """What one codebook makes of its slice of the vectors."""

    vectors: tf.Tensor  # [N, D/C]
    ids: tf.Tensor  # int32 [N]
    samples: tf.Tensor | None  # int32 [N, m]
    distance: tf.Tensor  # [N]
    loss: tf.Tensor  # scalar, summed
    moments: quantization.Moments | None  # None in inference

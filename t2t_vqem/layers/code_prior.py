"""An autoregressive Transformer over the codes of a latent grid.

Shapes: B batch, L positions of the grid, C codes at each position (codebooks), T = L C codes of a
row in order, position by position, K codes of a codebook, D width.
"""

import keras
import tensorflow as tf

from t2t_vqem.layers.attention import KeyValue
from t2t_vqem.layers.common import Layer
from t2t_vqem.layers.transformer import TransformerStack
from t2t_vqem.layers.vector_quantizer import PriorStates
from t2t_vqem.ops.masks import causal_bias
from t2t_vqem.ops.random import Rng, dropout
from t2t_vqem.ops.shapes import Size, reshaped, sizes


class CodePrior(Layer):
    """The distribution of each code given the codes before it, with learned positions.

    Each codebook has one embedding table, which is shared between input and output (Press and Wolf
    2017). The tables belong to the prior: training it does not change the codebooks.
    """

    def __init__(
        self,
        num_codes: int,
        num_codebooks: int,
        length: int,
        *,
        num_layers: int,
        width: int,
        filter_size: int,
        num_heads: int,
        dropout_rate: float,
        **kwargs,
    ):
        """Makes the layers.

        Args:
          num_codes: K.
          num_codebooks: C.
          length: L.
          num_layers: number of Transformer layers.
          width: D.
          filter_size: width inside the feed-forward layers.
          num_heads: attention heads per layer.
          dropout_rate: dropout probability of the embeddings, inside the feed-forward layers and of
            each layer's output.
          **kwargs: Keras layer arguments.
        """
        super().__init__(**kwargs)
        self.num_codes, self.num_codebooks = num_codes, num_codebooks
        self.length = length * num_codebooks
        self.width, self.dropout_rate = width, dropout_rate
        self.stack = TransformerStack(
            num_layers,
            width,
            filter_size,
            num_heads,
            residual_dropout=dropout_rate,
            relu_dropout=dropout_rate,
            name="stack",
            dtype=self.dtype_policy,
        )

    def build(self, input_shape):
        del input_shape
        vectors = keras.initializers.RandomNormal(stddev=self.width**-0.5)
        codes = (self.num_codebooks, self.num_codes)
        self.table = self.add_weight(shape=(*codes, self.width), initializer=vectors, name="table")
        self.bias = self.add_weight(shape=codes, initializer="zeros", name="bias")
        self.positions = self.add_weight(
            shape=(self.length, self.width), initializer=vectors, name="positions"
        )

    def call(self, ids: tf.Tensor, rng: Rng | None = None) -> tf.Tensor:
        """Computes the logits of all codes: int32 [B, L, C] -> float32 [B, L, C, K].

        The logits of a code depend only on the codes before it.
        """
        x = self._states(ids, rng)
        table = tf.cast(self.table, self.compute_dtype)
        return tf.cast(tf.einsum("blcd,ckd->blck", x, table), tf.float32) + self.bias

    def prior_states(self, ids: tf.Tensor) -> PriorStates:
        """Returns the states that predict each code of int32 [B, L, C] from those before it.

        Without dropout.
        """
        table = tf.cast(self.table, self.compute_dtype)
        return PriorStates(self._states(ids, None), table, tf.convert_to_tensor(self.bias), 0)

    def _states(self, ids: tf.Tensor, rng: Rng | None) -> tf.Tensor:
        """Computes the states [B, L, C, D], whose products with the table are the logits."""
        batch, positions, num_codebooks = sizes(ids)
        offsets = tf.range(num_codebooks) * self.num_codes
        vectors = self._embed(reshaped(ids + offsets, [batch, self.length]))
        shifted = tf.pad(vectors[:, :-1], [[0, 0], [1, 0], [0, 0]])
        x = dropout(self._place(shifted, self.positions), self.dropout_rate, rng)
        x = self.stack(x, causal_bias(self.length), rng=rng)
        return reshaped(x, [batch, positions, num_codebooks, self.width])

    def _embed(self, flat_ids: tf.Tensor) -> tf.Tensor:
        """Looks up int32 [...] -> [..., D], of unit variance; codebook c has the ids from c K."""
        table = tf.reshape(tf.convert_to_tensor(self.table), [-1, self.width])
        return tf.gather(table, flat_ids) * self.width**0.5

    def _place(self, vectors: tf.Tensor, positions: tf.Tensor) -> tf.Tensor:
        """Adds position embeddings, scaled like the vectors."""
        return tf.cast(vectors + positions * self.width**0.5, self.compute_dtype)

    def empty_cache(self, batch: Size) -> list[KeyValue]:
        """Returns an empty cache for all codes of `batch` rows."""
        return self.stack.empty_cache(batch, self.length)

    def step(
        self, before: tf.Tensor, position: tf.Tensor, cache: list[KeyValue]
    ) -> tuple[tf.Tensor, list[KeyValue]]:
        """Computes the logits of one code.

        Args:
          before: int32 [B], the previous code; ignored at position 0.
          position: int scalar in 0..T-1.
          cache: filled before `position`.

        Returns:
          float32 [B, K] and the cache with one more entry.
        """
        offset = (position - 1) % self.num_codebooks * self.num_codes
        is_first = position == 0
        vectors = self._embed(tf.where(is_first, 0, before + offset))
        vectors = tf.where(is_first, 0.0, vectors)
        own = tf.gather(tf.convert_to_tensor(self.positions), position)
        x, cache = self.stack.step(self._place(vectors, own)[:, None], cache, position)
        codebook = position % self.num_codebooks
        table = tf.cast(tf.gather(tf.convert_to_tensor(self.table), codebook), self.compute_dtype)
        logits = tf.cast(tf.matmul(tf.squeeze(x, 1), table, transpose_b=True), tf.float32)
        return logits + tf.gather(tf.convert_to_tensor(self.bias), codebook), cache

"""Pre-norm Transformer stacks: x + dropout(f(norm(x))) for each sub-layer, and a final norm."""

import tensorflow as tf

from t2t_vqem.layers.attention import CrossAttention, KeyValue, SelfAttention
from t2t_vqem.layers.common import FeedForward, Layer, LayerNorm
from t2t_vqem.ops.masks import prefix_bias
from t2t_vqem.ops.random import Rng, dropout
from t2t_vqem.ops.shapes import Size, reshaped, sizes


class TransformerBlock(Layer):
    """Self-attention, optional attention to a memory, feed-forward; each with norm and residual."""

    def __init__(
        self,
        width: int,
        filter_size: int,
        num_heads: int,
        *,
        cross_attention: bool = False,
        residual_dropout: float = 0.0,
        attention_dropout: float = 0.0,
        relu_dropout: float = 0.0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.residual_dropout = residual_dropout
        args = {"attention_dropout": attention_dropout, "dtype": self.dtype_policy}
        self.attention_norm = LayerNorm(name="attention_norm", dtype=self.dtype_policy)
        self.attention = SelfAttention(width, num_heads, name="attention", **args)
        self.cross_norm = self.cross = None
        if cross_attention:
            self.cross_norm = LayerNorm(name="cross_norm", dtype=self.dtype_policy)
            self.cross = CrossAttention(width, num_heads, name="cross", **args)
        self.feed_forward_norm = LayerNorm(name="feed_forward_norm", dtype=self.dtype_policy)
        self.feed_forward = FeedForward(
            width,
            filter_size,
            relu_dropout=relu_dropout,
            name="feed_forward",
            dtype=self.dtype_policy,
        )

    def fold(self) -> None:
        """Folds what is linear into one product, for an export: it cannot be trained afterwards."""
        self.attention.fold(self.attention_norm)
        if self.cross is not None:
            self.cross.fold(self.cross_norm)
        self.feed_forward_norm.fold_into(self.feed_forward.expand)

    def call(
        self,
        x: tf.Tensor,
        bias: tf.Tensor,
        memory: tf.Tensor | KeyValue | None = None,
        memory_bias: tf.Tensor | None = None,
        rng: Rng | None = None,
    ) -> tf.Tensor:
        """Applies the block to x [B, T, D], with memory [B, S, D] if it has cross-attention.

        Instead of the memory, its keys and values may be given.
        """
        attended = self.attention(self.attention_norm(x), bias, rng=rng)
        x += dropout(attended, self.residual_dropout, rng)
        if self.cross is not None:
            attended = self.cross(self.cross_norm(x), memory, memory_bias, rng=rng)
            x += dropout(attended, self.residual_dropout, rng)
        forward = self.feed_forward(self.feed_forward_norm(x), rng=rng)
        return x + dropout(forward, self.residual_dropout, rng)

    def step(
        self,
        x: tf.Tensor,
        cache: KeyValue,
        here: tf.Tensor,
        bias: tf.Tensor,
        memory: KeyValue | None = None,
        memory_bias: tf.Tensor | None = None,
    ) -> tuple[tf.Tensor, KeyValue]:
        """Applies the block to one position x [B, 1, D] in inference, and extends the cache."""
        attended, cache = self.attention.step(self.attention_norm(x), cache, here, bias)
        x += attended
        if self.cross is not None:
            x += self.cross(self.cross_norm(x), memory, memory_bias)
        return x + self.feed_forward(self.feed_forward_norm(x)), cache


class TransformerStack(Layer):
    """A stack of blocks with a final normalisation: an encoder, or with a memory a decoder."""

    def __init__(
        self,
        num_layers: int,
        width: int,
        filter_size: int,
        num_heads: int,
        *,
        rematerialize: bool = False,
        **kwargs,
    ):
        """Makes the stack.

        Args:
          num_layers: number of blocks.
          width: D.
          filter_size: inner size of the feed-forward layers.
          num_heads: H; must divide D.
          rematerialize: whether training computes each block again in the backward pass, instead of
            storing its activations (Chen et al. 2016).
          **kwargs: arguments of `TransformerBlock`, and Keras layer arguments.
        """
        layer_args = {key: kwargs.pop(key) for key in ("name", "dtype") if key in kwargs}
        super().__init__(**layer_args)
        self.rematerialize = rematerialize
        self.num_heads = num_heads
        self.head_dim = width // num_heads
        self.blocks = [
            TransformerBlock(
                width, filter_size, num_heads, name=f"block_{i}", dtype=self.dtype_policy, **kwargs
            )
            for i in range(num_layers)
        ]
        self.norm = LayerNorm(name="norm", dtype=self.dtype_policy)

    def call(
        self,
        x: tf.Tensor,
        bias: tf.Tensor,
        memory: tf.Tensor | list[KeyValue] | None = None,
        memory_bias: tf.Tensor | None = None,
        rng: Rng | None = None,
    ) -> tf.Tensor:
        """Applies all blocks to x [B, T, D].

        Args:
          x: [B, T, D].
          bias: of self-attention.
          memory: for cross-attention, [B, S, D] or the result of `project_memory`.
          memory_bias: of cross-attention.
          rng: randomness of dropout; None for inference.
        """
        memories = memory if isinstance(memory, list) else [memory] * len(self.blocks)
        for block, block_memory in zip(self.blocks, memories, strict=True):
            if self.rematerialize and rng is not None:
                x = _rematerialized(block, x, bias, block_memory, memory_bias, rng)
            else:
                x = block(x, bias, block_memory, memory_bias, rng=rng)
        return self.norm(x)

    def attention_weights(
        self, x: tf.Tensor, bias: tf.Tensor, memory: tf.Tensor, memory_bias: tf.Tensor, layer: int
    ) -> tf.Tensor:
        """Returns the mean over heads of a block's attention to memory: float32 [B, T, S].

        Args:
          x: [B, T, D], the input of the stack.
          bias: of self-attention.
          memory: [B, S, D].
          memory_bias: of cross-attention.
          layer: index of the block.
        """
        for block in self.blocks[:layer]:
            x = block(x, bias, memory, memory_bias)
        block = self.blocks[layer]
        x += block.attention(block.attention_norm(x), bias)
        return tf.reduce_mean(block.cross.weights_on(block.cross_norm(x), memory, memory_bias), 1)

    def project_memory(self, memory: tf.Tensor, times: int = 1) -> list[KeyValue]:
        """Returns the keys and values of memory [B, S, D] for each block, each row `times` times.

        They are computed once per row: rows b*times ... of the result belong to sentence b.
        """
        return [block.cross.project_memory(memory).repeat(times) for block in self.blocks]

    def empty_cache(self, batch: Size, length: Size) -> list[KeyValue]:
        """Returns an empty cache for `length` decoding steps, with one entry for each block."""
        zeros = tf.zeros([batch, self.num_heads, length, self.head_dim], self.compute_dtype)
        return [KeyValue(zeros, zeros) for _ in self.blocks]

    def step(
        self,
        x: tf.Tensor,
        caches: list[KeyValue],
        position: tf.Tensor,
        memories: list[KeyValue] | None = None,
        memory_bias: tf.Tensor | None = None,
    ) -> tuple[tf.Tensor, list[KeyValue]]:
        """Applies all blocks to one position x [B, 1, D]; returns the output and the caches."""
        length = sizes(caches[0].key)[2]
        bias = prefix_bias(position, length)
        here = tf.cast(tf.range(length) == position, self.compute_dtype)
        here = reshaped(here, [1, 1, length, 1])
        new_caches = []
        for i, block in enumerate(self.blocks):
            memory = memories[i] if memories is not None else None
            x, cache = block.step(x, caches[i], here, bias, memory, memory_bias)
            new_caches.append(cache)
        return self.norm(x), new_caches


def _rematerialized(
    block: TransformerBlock,
    x: tf.Tensor,
    bias: tf.Tensor,
    memory: tf.Tensor | KeyValue | None,
    memory_bias: tf.Tensor | None,
    rng: Rng,
) -> tf.Tensor:
    """Applies a block of which the backward pass computes the activations again.

    The second computation draws the same random numbers. So the gradients are those of the block
    itself, except for rounding where a compiler orders the operations in another way.
    """
    start = rng.copy()
    generators = [rng]  # of the forward pass; afterwards the list is empty

    def apply(x: tf.Tensor, *flat: tf.Tensor) -> tf.Tensor:
        own = generators.pop() if generators else start.copy()
        packed = tf.nest.pack_sequence_as(memory, flat) if flat else None
        return block(x, bias, packed, memory_bias, rng=own)

    # Gradients flow to the arguments and to the block's weights. Biases have none.
    flat = [] if memory is None else tf.nest.flatten(memory)
    return tf.recompute_grad(apply)(x, *flat)

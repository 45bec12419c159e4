"""Encodes a latent grid in several passes; each pass depends on the codes of earlier passes.

The error of an image depends on all its codes together. A code can compensate for the errors of its
neighbours only if it is chosen with knowledge of them, but nearest codes are chosen independently.
Replacing the codes of a trained VQ-VAE one by one, each by the code that minimises the error of the
image, changes many of them and gives more accurate images with the same weights.

Shapes: B batch, h and w height and width of the grid, ch channels, D width of a latent.
"""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from t2t_vqem.layers.common import Dense, Layer
from t2t_vqem.layers.convolution import SMALL, Conv, ResidualBlock

# For each number of passes, the pass of each position, as a pattern that is repeated over the grid.
# Positions of the same pass are not adjacent horizontally or vertically.
ORDERS = {1: [[0]], 2: [[0, 1], [1, 0]], 4: [[0, 2], [3, 1]]}


def passes_of(height: int, width: int, num_passes: int) -> np.ndarray:
    """Returns the index of the pass of each position, int [h, w]."""
    order = np.array(ORDERS[num_passes])
    repeats = (-(-height // len(order)), -(-width // len(order)))
    return np.tile(order, repeats)[:height, :width]


class EncodingPasses(Layer):
    """Corrects the latents of later passes, given the codes of earlier passes."""

    def __init__(
        self,
        width: int,
        *,
        num_passes: int,
        channels: int,
        num_blocks: int,
        residual_channels: int,
        **kwargs,
    ):
        """Makes the layer.

        Args:
          width: D.
          num_passes: number of passes, 2 or 4.
          channels: channels of the convolutions.
          num_blocks: number of residual blocks.
          residual_channels: channels inside the residual blocks.
          **kwargs: Keras layer arguments.
        """
        super().__init__(**kwargs)
        policy = self.dtype_policy
        self.num_passes = num_passes
        # Features already depend on their neighbourhood, so only the codes need a convolution.
        self.features_transform = Dense(channels, name="features", dtype=policy)
        self.codes_transform = Conv(channels, name="codes", dtype=policy)
        self.blocks = [
            ResidualBlock(channels, residual_channels, name=f"block_{i}", dtype=policy)
            for i in range(num_blocks)
        ]
        self.output_transform = Dense(width, scale=SMALL, name="output", dtype=policy)

    def call(
        self, features: tf.Tensor, latents: tf.Tensor, *, quantize: Callable[[tf.Tensor], tf.Tensor]
    ) -> tf.Tensor:
        """Adds a correction to each latent except those of the first pass.

        Args:
          features: [B, h, w, ch], features that the encoder computes from the images.
          latents: [B, h, w, D], the latents for encoding in a single pass.
          quantize: maps latents [B, h, w, D] to the vectors of their codes, of the same shape.

        Returns:
          [B, h, w, D].
        """
        passes = passes_of(*latents.shape[1:3], self.num_passes)[None, :, :, None]
        features = self.features_transform(features)
        corrected = latents
        for index in range(1, self.num_passes):
            known = tf.cast(passes < index, latents.dtype)
            codes = quantize(corrected) * known
            known *= tf.ones_like(codes[..., :1])
            x = features + self.codes_transform(tf.concat([codes, known], -1))
            for block in self.blocks:
                x = block(x)
            change = self.output_transform(tf.nn.relu(x))
            corrected = tf.where(tf.constant(passes == index), latents + change, corrected)
        return corrected

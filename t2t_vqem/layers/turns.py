"""Encoding a field of latents in turns, so that each turn knows the codes of those before it.

What an image loses is lost by all its codes together, and a code can make good what its neighbours
leave over only if it is chosen knowing them. Nearest codes are chosen apart: to go through those of
a trained VQ-VAE one by one, each replaced by what makes the image's error least, changes many of
them and makes nearer images with the same weights.

Shapes: B batch, h and w the height and width of the field, ch channels, D width of a latent.
"""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from t2t_vqem.layers.common import Dense, Layer
from t2t_vqem.layers.convolution import SMALL, Conv, ResidualBlock

# By the number of turns: which turn the places of a field have, repeated over it. Places of one
# turn do not touch each other's sides.
ORDERS = {1: [[0]], 2: [[0, 1], [1, 0]], 4: [[0, 2], [3, 1]]}


def turns_of(height: int, width: int, num_turns: int) -> np.ndarray:
    """Returns int [h, w], the turn of each place: 0 is first."""
    order = np.array(ORDERS[num_turns])
    repeats = (-(-height // len(order)), -(-width // len(order)))
    return np.tile(order, repeats)[:height, :width]


class Turns(Layer):
    """Corrects the latents of later turns, given the codes of earlier ones."""

    def __init__(
        self,
        width: int,
        *,
        num_turns: int,
        channels: int,
        num_blocks: int,
        residual_channels: int,
        **kwargs,
    ):
        """Makes the layer.

        Args:
          width: D of the latents.
          num_turns: 2 or 4.
          channels: of the convolutions.
          num_blocks: residual blocks.
          residual_channels: channels inside them.
          **kwargs: Keras layer arguments.
        """
        super().__init__(**kwargs)
        policy = self.dtype_policy
        self.num_turns = num_turns
        # Features have seen their surroundings; what a turn must look around for are codes.
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
        """Adds to each latent but those of the first turn what the codes before it ask for.

        Args:
          features: [B, h, w, ch], what the encoder makes of the images.
          latents: [B, h, w, D], what it would encode them to in one turn.
          quantize: latents to the vectors of their codes, [B, h, w, D] to the same.

        Returns:
          [B, h, w, D].
        """
        turns = turns_of(*latents.shape[1:3], self.num_turns)[None, :, :, None]
        features = self.features_transform(features)
        corrected = latents
        for turn in range(1, self.num_turns):
            known = tf.cast(turns < turn, latents.dtype)
            codes = quantize(corrected) * known
            known *= tf.ones_like(codes[..., :1])
            x = features + self.codes_transform(tf.concat([codes, known], -1))
            for block in self.blocks:
                x = block(x)
            change = self.output_transform(tf.nn.relu(x))
            corrected = tf.where(tf.constant(turns == turn), latents + change, corrected)
        return corrected

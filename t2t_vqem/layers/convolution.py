"""Convolutions over images and latent grids, channels last.

Shapes: B batch, H height, W width, ch channels. All convolutions have stride 1 and no dilation, in
the forward and the backward pass, because compilers have a fast path for these on every device. A
4x4 kernel of stride 2, which halves or doubles height and width, is computed as a 2x2 kernel over
blocks of 2x2 pixels. This is the same map, with the same number of products.
"""

import math

import keras
import tensorflow as tf

from t2t_vqem.layers.common import Dense, Layer

# Initial scale of the last layer of a residual branch, and of the latents. At full scale the sum
# grows from block to block, and the codes lie far from 0 around an uninformative mean. The
# autoencoder then needs several times as many steps for the same quality. The scale is not 0, so
# that all weights have a gradient from the start.
SMALL = 0.1
# Rearranging gives patches of up to 4x4, then convolutions downsample: each rearrangement
# multiplies the number of channels by 4.
_MAX_REARRANGED = 2


def _bordered(x: tf.Tensor) -> tf.Tensor:
    """Pads [B, H, W, ch] with one row of zeros on each side.

    Used for kernels of even size: if the convolution itself pads, XLA on a CPU has no fast path for
    the kernel's gradient and takes twenty times as long. For kernels of odd size it has one. There
    the convolution pads, so that no input gradient is computed for the zeros.
    """
    return tf.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]])


class _Convolution(Layer):
    """Base class of the convolutions: variables and the product."""

    def __init__(self, channels: int, **kwargs):
        super().__init__(**kwargs)
        self.channels = channels

    def _add_kernel(self, shape: tuple[int, ...], inputs_per_output: int) -> None:
        """Adds kernel and bias, initialised for ReLU inputs (He et al. 2015, equation 10)."""
        limit = math.sqrt(6.0 / inputs_per_output)
        uniform = keras.initializers.RandomUniform(-limit, limit)
        self.kernel = self.add_weight(shape=shape, initializer=uniform, name="kernel")
        self.bias = self.add_weight(shape=(self.channels,), initializer="zeros", name="bias")

    def _convolve(self, x: tf.Tensor, padding: str = "VALID") -> tf.Tensor:
        """Convolves x [B, H, W, in] with the kernel, without the bias."""
        return tf.nn.conv2d(x, tf.cast(self.kernel, x.dtype), strides=1, padding=padding)

    def _add_bias(self, x: tf.Tensor) -> tf.Tensor:
        return x + tf.cast(self.bias, x.dtype)


class Conv(_Convolution):
    """A zero-padded convolution of odd size that keeps height and width."""

    def __init__(self, channels: int, *, size: int = 3, **kwargs):
        """Makes the layer.

        Args:
          channels: number of output channels.
          size: height and width of the kernel, odd.
          **kwargs: Keras layer arguments.
        """
        super().__init__(channels, **kwargs)
        self.size = size

    def build(self, input_shape):
        inputs = input_shape[-1]
        self._add_kernel((self.size, self.size, inputs, self.channels), self.size**2 * inputs)

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """Maps [B, H, W, in] to [B, H, W, channels]."""
        return self._add_bias(self._convolve(x, "SAME"))


class Downsample(_Convolution):
    """A 4x4 convolution of stride 2 with padding 1, which halves height and width."""

    def build(self, input_shape):
        inputs = input_shape[-1]
        self._add_kernel((2, 2, 4 * inputs, self.channels), 16 * inputs)

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """Maps [B, 2H, 2W, in] to [B, H, W, channels]."""
        return self._add_bias(self._convolve(tf.nn.space_to_depth(_bordered(x), 2)))


class Upsample(_Convolution):
    """A transposed 4x4 convolution of stride 2 with padding 1, which doubles height and width."""

    def build(self, input_shape):
        inputs = input_shape[-1]
        self._add_kernel((2, 2, inputs, 4 * self.channels), 4 * inputs)

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """Maps [B, H, W, in] to [B, 2H, 2W, channels]."""
        return self._add_bias(tf.nn.depth_to_space(self._convolve(_bordered(x)), 2)[:, 1:-1, 1:-1])


class ResidualBlock(Layer):
    """x + f(x) with f: ReLU, 3x3, ReLU, 1x1 (van den Oord et al. 2017, section 4.1)."""

    def __init__(self, channels: int, inner_channels: int, **kwargs):
        """Makes the layer.

        Args:
          channels: number of input and output channels.
          inner_channels: number of channels between the two convolutions.
          **kwargs: Keras layer arguments.
        """
        super().__init__(**kwargs)
        self.contract = Conv(inner_channels, name="contract", dtype=self.dtype_policy)
        self.expand = Dense(channels, scale=SMALL, name="expand", dtype=self.dtype_policy)

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """Maps [B, H, W, ch] to the same shape."""
        return x + self.expand(tf.nn.relu(self.contract(tf.nn.relu(x))))


class ConvStack(Layer):
    """A 3x3 convolution and residual blocks, for encoder and decoder at the latent resolution."""

    def __init__(self, channels: int, num_blocks: int, residual_channels: int, **kwargs):
        """Makes the layer.

        Args:
          channels: number of output channels.
          num_blocks: number of residual blocks.
          residual_channels: number of channels inside the residual blocks.
          **kwargs: Keras layer arguments.
        """
        super().__init__(**kwargs)
        self.conv = Conv(channels, name="conv", dtype=self.dtype_policy)
        self.blocks = [
            ResidualBlock(channels, residual_channels, name=f"block_{i}", dtype=self.dtype_policy)
            for i in range(num_blocks)
        ]

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """Maps [B, H, W, in] to [B, H, W, channels]."""
        x = self.conv(x)
        for block in self.blocks:
            x = block(x)
        return tf.nn.relu(x)


class ConvEncoder(Layer):
    """Maps images to a latent grid: patches, downsampling, residual blocks, output layer.

    As in van den Oord et al. (2017, section 4.1), except that the first two downsampling steps only
    rearrange patches of 4x4 pixels into channels (Dosovitskiy et al. 2021, "An Image is Worth 16x16
    Words", section 3.1). Instead of convolutions at higher resolution, the same computation gives
    better quality as more channels and blocks at the latent resolution.
    """

    def __init__(
        self,
        width: int,
        *,
        channels: int,
        num_downsamplings: int,
        num_blocks: int,
        residual_channels: int,
        **kwargs,
    ):
        """Makes the layer.

        Args:
          width: D, width of the latents.
          channels: number of channels of the convolutions.
          num_downsamplings: n, how many times height and width are halved.
          num_blocks: number of residual blocks.
          residual_channels: number of channels inside the residual blocks.
          **kwargs: Keras layer arguments.
        """
        super().__init__(**kwargs)
        policy = self.dtype_policy
        self.num_rearranged = min(num_downsamplings, _MAX_REARRANGED)
        self.halvings = [
            Downsample(channels, name=f"halving_{i}", dtype=policy)
            for i in range(num_downsamplings - self.num_rearranged)
        ]
        self.stack = ConvStack(channels, num_blocks, residual_channels, name="stack", dtype=policy)
        self.output_transform = Dense(width, scale=SMALL, name="output", dtype=policy)

    def call(
        self, x: tf.Tensor, *, with_features: bool = False
    ) -> tf.Tensor | tuple[tf.Tensor, tf.Tensor]:
        """Maps images [B, H, W, ch] to latents [B, H / 2^n, W / 2^n, D].

        With `with_features` also returns the inputs of the output layer, of width `channels`.
        """
        for _ in range(self.num_rearranged):
            x = tf.nn.space_to_depth(x, 2)
        for halving in self.halvings:
            x = tf.nn.relu(halving(x))
        features = self.stack(x)
        latents = self.output_transform(features)
        return (latents, features) if with_features else latents


class ConvDecoder(Layer):
    """Maps a latent grid to a vector for each pixel: `ConvEncoder` in reverse order."""

    def __init__(
        self,
        width: int,
        *,
        channels: int,
        num_upsamplings: int,
        num_blocks: int,
        residual_channels: int,
        **kwargs,
    ):
        """Makes the layer.

        Args:
          width: width of the output for each pixel.
          channels: number of channels of the convolutions.
          num_upsamplings: n, how many times height and width are doubled.
          num_blocks: number of residual blocks.
          residual_channels: number of channels inside the residual blocks.
          **kwargs: Keras layer arguments.
        """
        super().__init__(**kwargs)
        policy = self.dtype_policy
        self.num_rearranged = min(num_upsamplings, _MAX_REARRANGED)
        self.stack = ConvStack(channels, num_blocks, residual_channels, name="stack", dtype=policy)
        self.doublings = [
            Upsample(channels, name=f"doubling_{i}", dtype=policy)
            for i in range(num_upsamplings - self.num_rearranged)
        ]
        patch = width * 4**self.num_rearranged
        self.output_transform = Dense(patch, name="output", dtype=policy)

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """Maps latents [B, h, w, D] to [B, 2^n h, 2^n w, width]."""
        x = self.stack(x)
        for doubling in self.doublings:
            x = tf.nn.relu(doubling(x))
        x = self.output_transform(x)
        for _ in range(self.num_rearranged):
            x = tf.nn.depth_to_space(x, 2)
        return x

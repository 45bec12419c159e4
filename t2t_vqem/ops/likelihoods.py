"""Discretised logistic mixture likelihood of 8-bit pixels, and a Gaussian likelihood of images.

All channels of a pixel share the mixture weights. Within a component each channel is logistic, and
its mean depends linearly on the values of the channels before it (in the order red, green, blue).
The probability of a value is that of its bin; the bins of the first and the last value extend to
infinity (Salimans et al. 2017, "PixelCNN++", sections 2.1 and 2.2).

Shapes: B batch, H height, W width, ch channels, M mixture components, P parameters of a pixel, and
N = B H W pixels. As in the paper, the values 0..255 are scaled to [-1, 1] internally. Pixels are
the last axis: with the few components as the last axis, the compiled loops are ten times slower on
a CPU.
"""

import math
from typing import NamedTuple

import tensorflow as tf

from t2t_vqem.ops.shapes import sizes

_HALF_BIN = 1 / 255
_ROUNDING = 1 / 12  # variance of the error of rounding to integers
# Bounds of the log-scale. exp(-7), the paper's bound, is a quarter of half a bin: with this scale
# the bin around the mean has all but 3% of the probability. With exp(7) the distribution is
# practically uniform.
_LOG_SCALES = (-7.0, 7.0)
# The log-scale for a parameter of 0: the logistic distribution is then as wide as the distribution
# of values in natural images (standard deviation 0.4 in [-1, 1]). With an initial scale of 1, a
# model spends its first hundreds of steps learning to narrow its distributions, and learns nothing
# about the images.
_COMMON_LOG_SCALE = -1.5


class _Mixture(NamedTuple):
    """The parameters of the mixture, each [M, N]."""

    logits: tf.Tensor
    means: list[tf.Tensor]  # one for each channel
    log_scales: list[tf.Tensor]  # one for each channel
    # [i][j]: how much the mean of channel i changes with the value of channel j < i
    couplings: list[list[tf.Tensor]]


def num_parameters(num_channels: int, num_mixtures: int) -> int:
    """Returns P, for each component a weight, and means, scales and couplings of the channels."""
    pairs = num_channels * (num_channels - 1) // 2
    return num_mixtures * (1 + 2 * num_channels + pairs)


def _split(parameters: tf.Tensor, num_channels: int) -> _Mixture:
    pairs = num_channels * (num_channels - 1) // 2
    rows = tf.reshape(tf.cast(parameters, tf.float32), [-1, parameters.shape[-1]])
    parts = iter(tf.split(tf.transpose(rows), 1 + 2 * num_channels + pairs))
    return _Mixture(
        logits=next(parts),
        means=[next(parts) for _ in range(num_channels)],
        log_scales=[
            tf.clip_by_value(next(parts) + _COMMON_LOG_SCALE, *_LOG_SCALES)
            for _ in range(num_channels)
        ],
        couplings=[[tf.tanh(next(parts)) for _ in range(i)] for i in range(num_channels)],
    )


def pixel_log_prob(parameters: tf.Tensor, images: tf.Tensor) -> tf.Tensor:
    """Log-probability of images, in nats, summed over pixels and channels.

    Args:
      parameters: [B, H, W, P], any float type; computed in float32.
      images: uint8 [B, H, W, ch].

    Returns:
      float32 [B].
    """
    values = tf.unstack(tf.reshape(tf.cast(images, tf.int32), [-1, images.shape[-1]]), axis=1)
    scaled = [tf.cast(value, tf.float32) / 127.5 - 1 for value in values]
    mixture = _split(parameters, len(values))
    log_probs = mixture.logits - tf.reduce_logsumexp(mixture.logits, 0)
    for value, x, mean, log_scale, couplings in zip(values, scaled, *mixture[1:], strict=True):
        for coupling, earlier in zip(couplings, scaled, strict=False):
            mean += coupling * earlier
        log_probs += _log_bin(x - mean, log_scale, is_first=value == 0, is_last=value == 255)
    log_probs = tf.reduce_logsumexp(log_probs, 0)
    return tf.reduce_sum(tf.reshape(log_probs, images.shape[:3]), [1, 2])


def _log_bin(
    centred: tf.Tensor, log_scale: tf.Tensor, *, is_first: tf.Tensor, is_last: tf.Tensor
) -> tf.Tensor:
    """Log of the logistic probability of the bin around a value.

    Let F be the logistic function and a > b the edges of the bin in units of the scale. Then

        F(a) - F(b) = F(a) F(-b) (1 - exp(b - a)).

    The logarithms of the factors are accurate far from the mean and for bins of any width, where
    the difference itself is 0 in float32. The first bin has no lower edge, so its probability is
    F(a); that of the last bin is F(-b).

    Args:
      centred: the value minus the mean.
      log_scale: of the same shape.
      is_first: whether the value is 0; broadcastable.
      is_last: whether the value is 255; broadcastable.
    """
    inverse = tf.exp(-log_scale)
    below_upper = tf.math.log_sigmoid((centred + _HALF_BIN) * inverse)
    above_lower = tf.math.log_sigmoid((_HALF_BIN - centred) * inverse)
    width = tf.math.log(-tf.math.expm1(-2 * _HALF_BIN * inverse))
    log_prob = tf.where(is_last, 0.0, below_upper) + tf.where(is_first, 0.0, above_lower)
    return log_prob + tf.where(is_first | is_last, 0.0, width)


def pixel_mean(parameters: tf.Tensor, num_channels: int) -> tf.Tensor:
    """Mean of the distribution of each pixel: the image with the least expected squared error.

    It is the mean of the continuous mixture, clipped to the range of values; it differs from the
    mean over the 256 discrete values by less than half a value. The mean of a channel is computed
    with the means of the channels before it in place of their values.

    Args:
      parameters: [B, H, W, P], any float type.
      num_channels: ch.

    Returns:
      float32 [B, H, W, ch] in 0..255, not rounded.
    """
    mixture = _split(parameters, num_channels)
    weights = tf.nn.softmax(mixture.logits, axis=0)
    means: list[tf.Tensor] = []
    for mean, log_scale, couplings in zip(*mixture[1:], strict=True):
        for coupling, earlier in zip(couplings, means, strict=True):
            mean += coupling * earlier
        # The mean of X + 1, clipped to [0, 2], is the integral of P(X > t) over [-1, 1].
        scale, inverse = tf.exp(log_scale), tf.exp(-log_scale)
        upper, lower = tf.nn.softplus((mean + 1) * inverse), tf.nn.softplus((mean - 1) * inverse)
        means.append(tf.clip_by_value(scale * (upper - lower) - 1, -1.0, 1.0))
    mixed = tf.stack([tf.reduce_sum(weights * mean, 0) for mean in means], -1)
    mixed = tf.reshape(mixed, [*sizes(parameters)[:-1], num_channels])
    return tf.clip_by_value((mixed + 1) * 127.5, 0.0, 255.0)


def gaussian_nats(means: tf.Tensor, images: tf.Tensor) -> tf.Tensor:
    """Gaussian negative log-likelihood of images, summed over pixels and channels.

    All dimensions of an image share one variance, set to its maximum-likelihood value. With n
    dimensions and a mean squared error v the result is n/2 log(2 pi e v), a linear function of the
    PSNR. (Rybkin et al. 2021, "Simple and effective VAE training with calibrated decoders", use the
    optimal variance of a batch.)

    Args:
      means: float32 [B, H, W, ch], in 0..255.
      images: uint8 [B, H, W, ch].

    Returns:
      float32 [B], nats.
    """
    difference = means - tf.cast(images, tf.float32)
    variance = tf.reduce_mean(tf.square(difference), [1, 2, 3]) + _ROUNDING
    dims = images.shape[1:].num_elements()
    return dims / 2 * (tf.math.log(variance) + math.log(2 * math.pi) + 1)

"""Discretised mixtures of logistic distributions: how probable the 8-bit values of a pixel are.

The values of all channels of a pixel share one mixture. Within a component each channel is
logistic, its location moved linearly by the values of the channels before it (red, green, blue);
a value has the probability of its bin, and the first and last value that of all beyond them too
(Salimans et al. 2017, "PixelCNN++", sections 2.1 and 2.2).

Shapes: B batch, H height, W width, ch channels, M mixed components, P parameters of a pixel, and
N = B H W pixels. Inside here values 0..255 are scaled to [-1, 1], as in the paper, and pixels are
the last axis: with the few components there, compiled loops for a CPU are ten times slower.
"""

import math
from typing import NamedTuple

import tensorflow as tf

from t2t_vqem.ops.shapes import sizes

_HALF_BIN = 1 / 255
_ROUNDING = 1 / 12  # variance that rounding to whole values adds
# exp(-7), the paper's bound, is a quarter of half a bin: the bin around the mean has all but 3% of
# the probability there. exp(7) is as good as flat.
_LOG_SCALES = (-7.0, 7.0)
# What a parameter of 0 stands for: a logistic as wide as the values of natural images lie (standard
# deviation 0.4 in [-1, 1]). From a scale of 1 a model first learns for hundreds of steps how narrow
# its distributions should be, and nothing of the images.
_COMMON_LOG_SCALE = -1.5


class _Mixture(NamedTuple):
    """Parameters by their meaning, each [M, N]."""

    logits: tf.Tensor
    means: list[tf.Tensor]  # one for each channel
    log_scales: list[tf.Tensor]  # one for each channel
    couplings: list[list[tf.Tensor]]  # [i][j]: what channel j < i adds to the mean of channel i


def num_parameters(num_channels: int, num_mixtures: int) -> int:
    """Returns P: a weight, means, scales and the couplings of each pair of channels."""
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

    With F the logistic function and a > b the bin's ends in units of the scale,

        F(a) - F(b) = F(a) F(-b) (1 - exp(b - a)),

    whose factors have exact logarithms far out and for bins of any width, where the difference
    itself is 0 in float32. The first bin has no lower end, so F(a) is left; the last one F(-b).

    Args:
      centred: the value minus the mean.
      log_scale: of the same shape.
      is_first: whether the value is the smallest; broadcastable.
      is_last: whether it is the largest; broadcastable.
    """
    inverse = tf.exp(-log_scale)
    below_upper = tf.math.log_sigmoid((centred + _HALF_BIN) * inverse)
    above_lower = tf.math.log_sigmoid((_HALF_BIN - centred) * inverse)
    width = tf.math.log(-tf.math.expm1(-2 * _HALF_BIN * inverse))
    log_prob = tf.where(is_last, 0.0, below_upper) + tf.where(is_first, 0.0, above_lower)
    return log_prob + tf.where(is_first | is_last, 0.0, width)


def pixel_mean(parameters: tf.Tensor, num_channels: int) -> tf.Tensor:
    """Mean of the distribution of each pixel, which is the image of the least squared error.

    It is that of the continuous mixture, what lies beyond the first or last value counted there;
    the sum over the 256 values differs by less than half a value. Channels move the later ones by
    their own means.

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
        # The integral of P(X > t) over [-1, 1] is the mean of X + 1 clipped to [0, 2].
        scale, inverse = tf.exp(log_scale), tf.exp(-log_scale)
        upper, lower = tf.nn.softplus((mean + 1) * inverse), tf.nn.softplus((mean - 1) * inverse)
        means.append(tf.clip_by_value(scale * (upper - lower) - 1, -1.0, 1.0))
    mixed = tf.stack([tf.reduce_sum(weights * mean, 0) for mean in means], -1)
    mixed = tf.reshape(mixed, [*sizes(parameters)[:-1], num_channels])
    return tf.clip_by_value((mixed + 1) * 127.5, 0.0, 255.0)


def gaussian_nats(means: tf.Tensor, images: tf.Tensor) -> tf.Tensor:
    """Minus the log-density of images under Gaussians around the means, summed over dimensions.

    One variance for all dimensions of an image, the one that fits it best: n/2 log(2 pi e v) for n
    dimensions and a mean squared error of v, which is PSNR in other units. (Rybkin et al. 2021,
    "Simple and effective VAE training with calibrated decoders", take the best one of a batch.)

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

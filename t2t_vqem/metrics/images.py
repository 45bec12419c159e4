"""How similar a reconstruction is to its original: PSNR and SSIM, one value for each image.

Shapes: B batch, H height, W width, ch channels.
"""

import math

import tensorflow as tf

_SSIM_WINDOW = 11  # with a standard deviation of 1.5: Wang et al. 2004, section III.C


def psnr(images: tf.Tensor, others: tf.Tensor) -> tf.Tensor:
    """Peak signal-to-noise ratio in dB, from the mean squared error over pixels and channels.

    Equal images would have an infinite PSNR and make every mean infinite. They get the PSNR of
    images in which one value differs by one.

    Args:
      images: uint8 [B, H, W, ch].
      others: of the same shape.

    Returns:
      float32 [B].
    """
    difference = tf.cast(images, tf.float32) - tf.cast(others, tf.float32)
    error = tf.reduce_mean(tf.square(difference), [1, 2, 3])
    smallest = 1 / images.shape[1:].num_elements()
    return 10 / math.log(10) * tf.math.log(255.0**2 / tf.maximum(error, smallest))


def ssim(images: tf.Tensor, others: tf.Tensor) -> tf.Tensor:
    """Structural similarity (Wang et al. 2004), the mean over windows and channels; 1 if equal.

    The window is a Gaussian of 11x11 pixels, or smaller to fit into the image.

    Args:
      images: uint8 [B, H, W, ch].
      others: of the same shape.

    Returns:
      float32 [B].
    """
    window = min(_SSIM_WINDOW, *images.shape[1:3])
    return tf.image.ssim(
        tf.cast(images, tf.float32), tf.cast(others, tf.float32), 255.0, filter_size=window
    )

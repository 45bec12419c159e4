"""Sizes of tensors, where some are not known before a graph runs.

In such graphs new axes are made by `tf.expand_dims`: LiteRT has no operation for a slice with a new
axis (`x[:, None]`) of a tensor with several unknown sizes.
"""

from collections.abc import Sequence

import tensorflow as tf

Size = int | tf.Tensor  # a number where it is known, else an int32 scalar


def sizes(x: tf.Tensor) -> list[Size]:
    """Returns the size of each axis of x, a number where it is known."""
    if x.shape.is_fully_defined():
        return x.shape.as_list()
    dynamic = tf.shape(x)
    return [dynamic[axis] if size is None else size for axis, size in enumerate(x.shape)]


def reshaped(x: tf.Tensor, shape: Sequence[Size]) -> tf.Tensor:
    """Reshapes x; a single size that is not known is left to be found."""
    unknown = [axis for axis, size in enumerate(shape) if not isinstance(size, int)]
    if len(unknown) == 1:  # so there is nothing to compute at run time
        shape = [-1 if axis in unknown else size for axis, size in enumerate(shape)]
    return tf.reshape(x, shape)


def smaller(left: Size, right: Size) -> Size:
    """Returns the smaller of two sizes, a number where both are known."""
    if isinstance(left, int) and isinstance(right, int):
        return min(left, right)
    return tf.minimum(left, right)


def larger(left: Size, right: Size) -> Size:
    """Returns the larger of two sizes, a number where both are known."""
    if isinstance(left, int) and isinstance(right, int):
        return max(left, right)
    return tf.maximum(left, right)


def rounded_up(size: Size, multiple: int) -> Size:
    """Returns the next multiple of a number."""
    return -(-size // multiple) * multiple

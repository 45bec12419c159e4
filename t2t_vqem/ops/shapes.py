"""Sizes of tensors, some of which may be unknown before a graph runs, and what runs the graph.

In such graphs, add new axes with `tf.expand_dims`: LiteRT has no operation for a slice with a new
axis (`x[:, None]`) of a tensor with several unknown sizes.
"""

import contextlib
import contextvars
from collections.abc import Iterator, Sequence

import tensorflow as tf

Size = int | tf.Tensor  # an int if the size is known, else an int32 scalar
_for_interpreter = contextvars.ContextVar("for_interpreter", default=False)


@contextlib.contextmanager
def building_for_interpreter() -> Iterator[None]:
    """Marks graphs that are built inside it as graphs to export.

    An interpreter has a fast kernel for each operation, but calls them one after the other. XLA
    compiles several operations into one, but has no fast kernel for some.
    """
    token = _for_interpreter.set(True)
    try:
        yield
    finally:
        _for_interpreter.reset(token)


def is_for_interpreter() -> bool:
    """Returns whether the graph that is being built is run by an interpreter, not by XLA."""
    return _for_interpreter.get()


def sizes(x: tf.Tensor) -> list[Size]:
    """Returns the size of each axis of x, as an int if it is known."""
    known = list(x.shape)
    if None not in known:
        return known
    dynamic = tf.shape(x)
    return [dynamic[axis] if size is None else size for axis, size in enumerate(known)]


def reshaped(x: tf.Tensor, shape: Sequence[Size]) -> tf.Tensor:
    """Reshapes x; infers the size of an axis if it is the only unknown one."""
    unknown = [axis for axis, size in enumerate(shape) if not isinstance(size, int)]
    if len(unknown) == 1:  # so there is nothing to compute at run time
        shape = [-1 if axis in unknown else size for axis, size in enumerate(shape)]
    return tf.reshape(x, shape)


def smaller(left: Size, right: Size) -> Size:
    """Returns the smaller of two sizes, as an int if both are known."""
    if isinstance(left, int) and isinstance(right, int):
        return min(left, right)
    return tf.minimum(left, right)


def larger(left: Size, right: Size) -> Size:
    """Returns the larger of two sizes, as an int if both are known."""
    if isinstance(left, int) and isinstance(right, int):
        return max(left, right)
    return tf.maximum(left, right)


def rounded_up(size: Size, multiple: int) -> Size:
    """Returns the next multiple of a number."""
    return -(-size // multiple) * multiple

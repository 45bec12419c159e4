"""Processes rows block by block, so that intermediate results fit into memory.

Shapes: N rows, R rows of a block. N may be unknown when a graph is built.
"""

from collections.abc import Callable, Sequence

import tensorflow as tf

LEAST_ROWS = 64  # R is at least this: matrix products of fewer rows are slow


def in_blocks(
    function: Callable[..., tuple[tf.Tensor, ...]],
    inputs: Sequence[tf.Tensor],
    outputs: Sequence[tuple[tf.DType, Sequence[int]]],
    numbers: int,
    *,
    block: int,
    most_rows: int | None = None,
) -> list[tf.Tensor]:
    """Applies a function to all rows, block by block.

    Args:
      function: takes a block [R, ...] of each input, returns a block of each output.
      inputs: tensors [N, ...].
      outputs: type and shape of each result of `function`, without the axis of rows.
      numbers: number of intermediate values for each row.
      block: the largest number of intermediate values in memory.
      most_rows: the largest N, for graphs in which it is unknown.

    Returns:
      The outputs, [N, ...] each.
    """
    rows = num_rows(inputs[0])
    blocks = num_blocks(rows, numbers, block=block)
    if isinstance(rows, int) and blocks <= 1:
        return list(function(*inputs))
    if not isinstance(rows, int):
        block_rows = max(LEAST_ROWS, block // numbers)
        if most_rows is not None and most_rows <= block_rows:
            return list(function(*inputs))
        return _in_blocks_of(block_rows, function, inputs, outputs, rows)
    block_rows = -(-rows // blocks)
    signature = [tf.TensorSpec([block_rows, *shape], dtype) for dtype, shape in outputs]
    results = tf.map_fn(
        lambda parts: function(*parts),
        tuple(divide(x, blocks) for x in inputs),
        parallel_iterations=1,
        fn_output_signature=tuple(signature),
    )
    return [tf.reshape(x, [-1, *x.shape[2:]])[:rows] for x in results]


def _in_blocks_of(
    block_rows: int,
    function: Callable[..., tuple[tf.Tensor, ...]],
    inputs: Sequence[tf.Tensor],
    outputs: Sequence[tuple[tf.DType, Sequence[int]]],
    rows: tf.Tensor,
) -> list[tf.Tensor]:
    """Applies a function to all rows in blocks of `block_rows`; the last block may be smaller.

    The loop appends to tensors, which is cheap for few blocks. `tf.map_fn` over an unknown number
    of blocks has no equivalent outside of TensorFlow.
    """

    def body(start: tf.Tensor, *done: tf.Tensor) -> tuple[tf.Tensor, ...]:
        stop = tf.minimum(start + block_rows, rows)
        new = function(*(x[start:stop] for x in inputs))
        both = zip(done, new, strict=True)
        return stop, *(tf.concat(pair, 0) for pair in both)

    empty = [tf.zeros([0, *shape], dtype) for dtype, shape in outputs]
    shapes = [tf.TensorShape([None, *shape]) for _, shape in outputs]
    return tf.while_loop(
        lambda start, *_: start < rows,
        body,
        (tf.constant(0), *empty),
        shape_invariants=(tf.TensorShape([]), *shapes),
    )[1:]


def num_rows(x: tf.Tensor) -> int | tf.Tensor:
    """Returns N of x [N, ...], as an int if it is known."""
    return tf.shape(x)[0] if x.shape[0] is None else x.shape[0]


def num_blocks(rows: int | tf.Tensor, numbers: int, *, block: int) -> int | tf.Tensor:
    """Returns the number of blocks into which `in_blocks` divides N rows, at least 1."""
    blocks = -(-rows // max(LEAST_ROWS, block // numbers))
    return max(blocks, 1) if isinstance(rows, int) else tf.maximum(blocks, 1)


def divide(x: tf.Tensor, blocks: int | tf.Tensor) -> tf.Tensor:
    """[N, ...] -> [blocks, R, ...], with zeros at the end of the last block."""
    rows = num_rows(x)
    block_rows = -(-rows // blocks)
    x = tf.pad(x, [[0, block_rows * blocks - rows]] + [[0, 0]] * (len(x.shape) - 1))
    return tf.reshape(x, [blocks, block_rows, *x.shape[1:]])

"""Counter-based random numbers that do not depend on how a batch is divided among replicas.

A random number is a hash of the seed, the step, the call site in the model, the row of the *global*
batch and the index within the row. So a dropout mask is the same on one replica and on sixteen,
before and after a restart, and in eager and compiled code. There is no generator state to save. The
hash is elementwise integer arithmetic, which XLA fuses into the operation that uses it; a Philox or
ThreeFry generator costs several times more on a CPU. The mixing function is Ellis and Wellons'
32-bit finaliser `lowbias32`, with the second key added between its two multiplications.
"""

import copy

import tensorflow as tf

_GOLDEN = 0x9E3779B9


def _xorshift(x: tf.Tensor, bits: int) -> tf.Tensor:
    return tf.bitwise.bitwise_xor(x, tf.bitwise.right_shift(x, tf.constant(bits, tf.uint32)))


def _uint32(value) -> tf.Tensor:
    if isinstance(value, int):
        return tf.constant(value % 2**32, tf.uint32)
    return tf.cast(value, tf.uint32)


def hash_bits(counter: tf.Tensor, key: tf.Tensor, key2: tf.Tensor) -> tf.Tensor:
    """Hashes `counter` with two keys.

    Args:
      counter: uint32, any shape.
      key: uint32, broadcastable to `counter`.
      key2: uint32, broadcastable to `counter`.

    Returns:
      uint32 of the broadcast shape, uniform over all 2^32 values.
    """
    x = _xorshift(counter + key, 16) * tf.constant(0x21F0AAAD, tf.uint32)
    x = (_xorshift(x, 15) + key2) * tf.constant(0xD35A2D97, tf.uint32)
    return _xorshift(x, 15)


def uniform_from_bits(bits: tf.Tensor) -> tf.Tensor:
    """Maps uint32 bits to float32 in the open interval (0, 1), so that logarithms are finite."""
    top = tf.cast(tf.bitwise.right_shift(bits, tf.constant(9, tf.uint32)), tf.float32)
    return (top + 0.5) * 2.0**-23


def row_uniform(seed, position, row_ids: tf.Tensor, size: int) -> tf.Tensor:
    """Draws uniform numbers that depend on the id of a row, not on its position in the batch.

    Args:
      seed: scalar int, the user's seed.
      position: scalar int, the decoding step.
      row_ids: int32 [B], the id of each row, such as a line number.
      size: how many numbers to draw for each row.

    Returns:
      float32 [B, size] in (0, 1).
    """
    key = hash_bits(_uint32(seed), _uint32(position), tf.constant(_GOLDEN, tf.uint32))
    row_key = hash_bits(_uint32(row_ids), key, _uint32(seed))[:, None]
    return uniform_from_bits(hash_bits(tf.cast(tf.range(size), tf.uint32)[None], row_key, key))


class Rng:
    """The random numbers of one training step, different for each call site in the model.

    Call sites are numbered in the order of the calls, so make a new `Rng` for each forward pass.
    `rng=None` means inference to a model: nothing is random.
    """

    def __init__(self, seed, step, row_offset=0, num_rows=None):
        """Makes the generator of one step.

        Args:
          seed: scalar int or integer tensor, the user's seed.
          step: scalar int or integer tensor, the index of the batch.
          row_offset: scalar int or integer tensor, the index of this replica's first row in the
            global batch.
          num_rows: scalar int or integer tensor, the number of rows of the global batch, without
            the empty rows appended so that it can be divided among replicas. None if this replica
            has all rows.
        """
        self.step = step
        self.row_offset = row_offset
        self.num_rows = num_rows
        self._key = hash_bits(_uint32(step), _uint32(seed), tf.constant(_GOLDEN, tf.uint32))
        self._row_offset = _uint32(row_offset)
        self._place = 0

    def copy(self) -> "Rng":
        """Returns a generator that from now on draws what this one draws."""
        return copy.copy(self)

    def _next_key(self) -> tf.Tensor:
        """Returns the key of the next call site, and increments `_place`, its number."""
        self._place += 1
        return hash_bits(_uint32(self._place * _GOLDEN), self._key, self._key)

    def bits(self, shape: tf.TensorShape | tf.Tensor) -> tf.Tensor:
        """Draws uint32 bits.

        Args:
          shape: of the bits. The first axis is the rows of the batch. An int32 tensor if it is not
            known when the graph is built.
        """
        key = self._next_key()
        key2 = hash_bits(_uint32(self._place), self._key, key)
        if isinstance(shape, tf.TensorShape):
            row_size = shape[1:].num_elements()
        else:
            row_size = tf.reduce_prod(shape[1:])
        counter = tf.range(shape[0] * row_size, dtype=tf.int32)
        counter = tf.cast(tf.reshape(counter, shape), tf.uint32)
        return hash_bits(counter + self._row_offset * _uint32(row_size), key, key2)

    def shared_bits(self, size: int) -> tf.Tensor:
        """Draws uint32 bits [size] that are the same on every replica."""
        key = self._next_key()
        return hash_bits(tf.cast(tf.range(size), tf.uint32), key, _uint32(self._place))

    def dropout(self, x: tf.Tensor, rate: float) -> tf.Tensor:
        """Zeroes each element of `x` [B, ...] with probability `rate` and scales up the others."""
        if not rate:
            return x
        keep = self.bits(x.shape) >= tf.constant(min(round(rate * 2**32), 2**32 - 1), tf.uint32)
        return tf.where(keep, x * tf.cast(1 / (1 - rate), x.dtype), tf.zeros([], x.dtype))


def dropout(x: tf.Tensor, rate: float, rng: Rng | None) -> tf.Tensor:
    """Applies `rng.dropout` in training (`rng` given); returns `x` in inference (`rng` is None)."""
    return x if rng is None else rng.dropout(x, rate)

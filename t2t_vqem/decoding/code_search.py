"""Searches for codes that reconstruct an image more accurately than its nearest codes.

The code nearest to a latent minimises the error of the latent, not the error of the image: an image
is decoded from all its codes together, and a code can compensate for errors of the codes around it.
Replacing each code in turn by the one with the smallest error of the image (iterated conditional
modes, Besag 1986) gives more accurate images with the same weights and the same number of bits.

Trying all codes at each position would need h w C K decodings. Here the gradient of the error
selects a few candidates. Positions whose 3x3 neighbourhoods do not overlap are changed at the same
time, and each change is judged by the error in its neighbourhood.

Shapes: B batch, h and w height and width of the latent grid, C codebooks, K codes of each codebook,
d width of a code, D = C d (D = d if codes are summed), M candidates for a position, H, W and ch
those of images.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

NUM_CANDIDATES = 4  # M; more candidates take more time than they are worth
_APART = 3  # distance of positions that change together: each is judged by its 3x3 neighbourhood


class _Search(NamedTuple):
    """The state of the search."""

    step: tf.Tensor  # int32 scalar, number of steps so far
    ids: tf.Tensor  # int32 [B, h, w, C], the best codes so far


def search_codes(
    images: tf.Tensor,
    ids: tf.Tensor,
    *,
    codebooks: tf.Tensor,
    steps: tf.Tensor,
    decode: Callable[[tf.Tensor], tf.Tensor],
    num_passes: int,
    residual: bool = False,
) -> tf.Tensor:
    """Replaces codes one by one if that reduces the error of their image.

    A pass processes all positions and codebooks once. It takes 9 C steps, each with one gradient
    and M decodings.

    Args:
      images: [B, H, W, ch], the images to reconstruct.
      ids: int32 [B, h, w, C], initial codes; h divides H, and w divides W.
      codebooks: float32 [C, K, d].
      steps: float32 [C], distance from a code at which to look for candidates. The distance of
        vectors to their codes is a good choice.
      decode: maps vectors [B, h, w, D] to float images [B, H, W, ch].
      num_passes: number of passes, at least 0.
      residual: whether a vector is the sum of its codes; False: they follow one another in it.

    Returns:
      int32 [B, h, w, C]; no image has a larger squared error than with `ids`.
    """
    images = tf.cast(images, tf.float32)
    _, height, width, num_codebooks = ids.shape
    pattern = tf.range(height)[:, None] % _APART * _APART + tf.range(width) % _APART

    def errors_of(ids: tf.Tensor) -> tf.Tensor:
        return _errors(images, decode(_look_up(codebooks, ids, residual)), [height, width])

    def improve(i: tf.Tensor, ids: tf.Tensor) -> _Search:
        part, c = i % _APART**2, i // _APART**2 % num_codebooks
        changes = (pattern == part)[..., None] & (tf.range(num_codebooks) == c)
        vectors = _look_up(codebooks, ids, residual)
        least, gradient = _errors_and_gradient(images, vectors, decode, ids.shape, residual)
        least = _around(least)
        found = ids
        own = functools.partial(_places_of, part=part)
        candidates = _candidates(
            own(ids[..., c]), own(gradient[..., c, :]), codes=codebooks[c], step=steps[c]
        )
        for candidate in tf.unstack(_spread(candidates, height, width), axis=-1):
            trial = tf.where(changes, candidate[..., None], ids)
            error = _around(errors_of(trial))
            found = tf.where(changes & (error < least)[..., None], trial, found)
            least = tf.minimum(least, error)
        return _Search(i + 1, found)

    num_steps = num_passes * _APART**2 * num_codebooks
    start = _Search(tf.constant(0), ids)
    found = _Search(*tf.while_loop(lambda i, _: i < num_steps, improve, start)).ids
    # The error far from a position was not considered when its code was chosen.
    improved = tf.reduce_sum(errors_of(found) - errors_of(ids), [1, 2]) < 0
    return tf.where(improved[:, None, None, None], found, ids)


def _look_up(codebooks: tf.Tensor, ids: tf.Tensor, residual: bool) -> tf.Tensor:
    """Looks up the vectors [B, h, w, D] of codes [B, h, w, C]."""
    codes = [tf.gather(codebooks[c], ids[..., c]) for c in range(ids.shape[-1])]
    return tf.add_n(codes) if residual else tf.concat(codes, -1)


def _errors(images: tf.Tensor, decoded: tf.Tensor, grid: list[int]) -> tf.Tensor:
    """Returns the squared error float32 [B, h, w] of the block of pixels at each position."""
    squares = tf.reduce_sum(tf.square(images - tf.cast(decoded, tf.float32)), -1)
    (batch, rows, columns), (height, width) = squares.shape, grid
    blocks = [batch, height, rows // height, width, columns // width]
    return tf.reduce_sum(tf.reshape(squares, blocks), [2, 4])


def _around(errors: tf.Tensor) -> tf.Tensor:
    """Returns the mean [B, h, w] over the 3x3 neighbourhood of each position, zero-padded."""
    padded = tf.pad(errors, [[0, 0], [1, 1], [1, 1]])
    return tf.nn.avg_pool2d(padded[..., None], _APART, 1, "VALID")[..., 0]


def _errors_and_gradient(
    images: tf.Tensor, vectors: tf.Tensor, decode: Callable, shape: tf.TensorShape, residual: bool
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the errors [B, h, w] and the gradient of their sum, [B, h, w, C, d]."""
    with tf.GradientTape() as tape:
        tape.watch(vectors)
        errors = _errors(images, decode(vectors), shape[1:3])
    gradient = tf.cast(tape.gradient(errors, vectors), tf.float32)
    if residual:
        return errors, tf.repeat(gradient[..., None, :], shape[-1], -2)
    return errors, tf.reshape(gradient, [*shape, vectors.shape[-1] // shape[-1]])


def _places_of(x: tf.Tensor, part: tf.Tensor) -> tf.Tensor:
    """Returns the values of x [B, h, w, ...] at the positions of a part, [B, h / 3, w / 3, ...].

    The sizes are rounded up, with zeros where the part has no position.
    """
    batch, height, width, *rest = x.shape
    sides = [[0, 0], [0, -height % _APART], [0, -width % _APART], *([[0, 0]] * len(rest))]
    blocks = [batch, -(-height // _APART), _APART, -(-width // _APART), _APART, *rest]
    return tf.reshape(tf.pad(x, sides), blocks)[:, :, part // _APART, :, part % _APART]


def _spread(x: tf.Tensor, height: int, width: int) -> tf.Tensor:
    """Spreads x [B, h / 3, w / 3, ...] of a part over all positions: [B, h, w, ...]."""
    return tf.repeat(tf.repeat(x, _APART, 1), _APART, 2)[:, :height, :width]


def _candidates(
    ids: tf.Tensor, gradient: tf.Tensor, *, codes: tf.Tensor, step: tf.Tensor
) -> tf.Tensor:
    """Returns the M codes nearest to a step against the gradient, without the current code.

    Args:
      ids: int32 [...], current codes.
      gradient: float32 [..., d], gradient of the error with respect to their vectors.
      codes: float32 [K, d].
      step: float32 scalar.

    Returns:
      int32 [..., M].
    """
    target = tf.gather(codes, ids) - step * tf.math.l2_normalize(gradient, -1, epsilon=1e-20)
    distances = tf.reduce_sum(tf.square(codes), -1) - 2 * tf.matmul(target, codes, transpose_b=True)
    distances += tf.where(ids[..., None] == tf.range(codes.shape[0]), distances.dtype.max, 0.0)
    return tf.math.top_k(-distances, min(NUM_CANDIDATES, codes.shape[0])).indices

"""Searching for codes that make an image nearer than its nearest codes do.

The code nearest to a latent makes the latent's error least. What an image loses is not that: all
its codes together make it, and a code can make good what those around it leave over. Going through
the codes and replacing each by what makes the image's error least (iterated conditional modes,
Besag 1986) finds nearer images with the same weights and as many bits.

Trying all codes at each place would take h w C K decodings. Here the gradient of the error says
which few are worth it, and places so far apart that what surrounds them does not overlap are
changed together, each judged by the error around it.

Shapes: B batch, h and w the height and width of the field of codes, C codebooks, K codes of each,
d width of a code, D = C d, M candidates of a place, H, W and ch those of images.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

NUM_CANDIDATES = 4  # M: more of them take longer than they are worth
_APART = 3  # places between those that change together: each is judged by the 3x3 around it


class _Search(NamedTuple):
    """The state of the search."""

    step: tf.Tensor  # int32 scalar, steps so far
    ids: tf.Tensor  # int32 [B, h, w, C], the best codes so far


def search_codes(
    images: tf.Tensor,
    ids: tf.Tensor,
    *,
    codebooks: tf.Tensor,
    steps: tf.Tensor,
    decode: Callable[[tf.Tensor], tf.Tensor],
    num_passes: int,
) -> tf.Tensor:
    """Replaces codes one by one, as long as images become nearer.

    A pass goes through all places and codebooks once, in 9 C steps of one gradient and M decodings.

    Args:
      images: [B, H, W, ch], what is to be made.
      ids: int32 [B, h, w, C], codes to begin with; h divides H, and w divides W.
      codebooks: float32 [C, K, d].
      steps: float32 [C], how far from a code to look for others: the distance of vectors to their
        codes is a good one.
      decode: vectors [B, h, w, D] to float images [B, H, W, ch].
      num_passes: at least 0.

    Returns:
      int32 [B, h, w, C]; no image has a larger squared error than with `ids`.
    """
    images = tf.cast(images, tf.float32)
    _, height, width, num_codebooks = ids.shape
    pattern = tf.range(height)[:, None] % _APART * _APART + tf.range(width) % _APART

    def errors_of(ids: tf.Tensor) -> tf.Tensor:
        return _errors(images, decode(_look_up(codebooks, ids)), [height, width])

    def improve(i: tf.Tensor, ids: tf.Tensor) -> _Search:
        part, c = i % _APART**2, i // _APART**2 % num_codebooks
        changes = (pattern == part)[..., None] & (tf.range(num_codebooks) == c)
        least, gradient = _errors_and_gradient(images, _look_up(codebooks, ids), decode, ids.shape)
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
    # What is far from a place was not looked at when its code was chosen.
    nearer = tf.reduce_sum(errors_of(found) - errors_of(ids), [1, 2]) < 0
    return tf.where(nearer[:, None, None, None], found, ids)


def _look_up(codebooks: tf.Tensor, ids: tf.Tensor) -> tf.Tensor:
    """Returns the vectors [B, h, w, D] of codes [B, h, w, C]."""
    slices = [tf.gather(codebooks[c], ids[..., c]) for c in range(ids.shape[-1])]
    return tf.concat(slices, -1)


def _errors(images: tf.Tensor, decoded: tf.Tensor, field: list[int]) -> tf.Tensor:
    """Returns the squared error float32 [B, h, w] of the pixels that each place stands for."""
    squares = tf.reduce_sum(tf.square(images - tf.cast(decoded, tf.float32)), -1)
    (batch, rows, columns), (height, width) = squares.shape, field
    blocks = [batch, height, rows // height, width, columns // width]
    return tf.reduce_sum(tf.reshape(squares, blocks), [2, 4])


def _around(errors: tf.Tensor) -> tf.Tensor:
    """Returns the mean [B, h, w] of the 3x3 around each place, which at an edge has zeros."""
    padded = tf.pad(errors, [[0, 0], [1, 1], [1, 1]])
    return tf.nn.avg_pool2d(padded[..., None], _APART, 1, "VALID")[..., 0]


def _errors_and_gradient(
    images: tf.Tensor, vectors: tf.Tensor, decode: Callable, shape: tf.TensorShape
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the errors [B, h, w], and their sum's gradient [B, h, w, C, d] by the vectors."""
    with tf.GradientTape() as tape:
        tape.watch(vectors)
        errors = _errors(images, decode(vectors), shape[1:3])
    gradient = tf.cast(tape.gradient(errors, vectors), tf.float32)
    return errors, tf.reshape(gradient, [*shape, vectors.shape[-1] // shape[-1]])


def _places_of(x: tf.Tensor, part: tf.Tensor) -> tf.Tensor:
    """Returns what x [B, h, w, ...] has at the places of a part, [B, h / 3, w / 3, ...].

    The sides are rounded up: where a row of places has fewer of the part, there are zeros.
    """
    batch, height, width, *rest = x.shape
    sides = [[0, 0], [0, -height % _APART], [0, -width % _APART], *([[0, 0]] * len(rest))]
    blocks = [batch, -(-height // _APART), _APART, -(-width // _APART), _APART, *rest]
    return tf.reshape(tf.pad(x, sides), blocks)[:, :, part // _APART, :, part % _APART]


def _spread(x: tf.Tensor, height: int, width: int) -> tf.Tensor:
    """Puts x [B, h / 3, w / 3, ...] of a part to its places, and around them: [B, h, w, ...]."""
    return tf.repeat(tf.repeat(x, _APART, 1), _APART, 2)[:, :height, :width]


def _candidates(
    ids: tf.Tensor, gradient: tf.Tensor, *, codes: tf.Tensor, step: tf.Tensor
) -> tf.Tensor:
    """Returns the M codes nearest to a step against the gradient, without the present ones.

    Args:
      ids: int32 [...], present codes.
      gradient: float32 [..., d], that of the error by their vectors.
      codes: float32 [K, d].
      step: float32 scalar.

    Returns:
      int32 [..., M].
    """
    target = tf.gather(codes, ids) - step * tf.math.l2_normalize(gradient, -1, epsilon=1e-20)
    distances = tf.reduce_sum(tf.square(codes), -1) - 2 * tf.matmul(target, codes, transpose_b=True)
    distances += tf.where(ids[..., None] == tf.range(codes.shape[0]), distances.dtype.max, 0.0)
    return tf.math.top_k(-distances, min(NUM_CANDIDATES, codes.shape[0])).indices

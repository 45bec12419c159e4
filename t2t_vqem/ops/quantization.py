"""Vector quantisation by EM as pure functions: assignment, statistics, losses, initialisation.

The codebook is a mixture of Gaussians with equal variances and a uniform prior ("Theory and
Experiments on Vector Quantized Autoencoders", arXiv 1805.11063, section 3). The E step assigns to
each vector the nearest code (hard EM, which is K-means), or m codes drawn from softmax(-d^2/t)
(soft EM). The M step sets each code to the mean of the vectors assigned to it.

Shapes: N vectors, K codes, D width, m samples. Only N may be unknown when a graph is built.

Distances are computed after the mean of the codes is subtracted from vectors and codes: differences
of the squares of large numbers would lose all precision. Assignment never stores all N x K
distances. It processes the vectors in blocks whose distances fit into the processor's cache. Within
a block it processes the codes in groups: operations that are expensive per distance (an index, a
running sum) are done once per group.
"""

from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from t2t_vqem.ops.blocks import divide, in_blocks, num_blocks, num_rows

_BLOCK = 2**21  # numbers (such as distances) for one block of vectors: 8 MiB fit into the cache
_GROUP = 64  # codes in a group
_LLOYD_ITERATIONS = 5  # after k-means++; training continues from there
_LEAST_LOG_PRIOR = -10.0  # a code that the prior rules out can still be chosen, and so learned
_FAR = 1e30  # the distance to the codes that pad the last group


class Assignment(NamedTuple):
    """The codes assigned to each vector."""

    nearest: tf.Tensor  # int32 [N], the nearest code
    distance: tf.Tensor  # float32 [N], squared distance to the nearest code
    samples: tf.Tensor | None  # int32 [N, m], drawn codes; None if nothing is drawn


class Prior(NamedTuple):
    """The probability of each code for each vector, as factors: N x K values are never stored."""

    states: tf.Tensor  # [N, H], state of the prior for each vector
    table: tf.Tensor  # [V, H], of the type of `states`; logits are the products of both
    bias: tf.Tensor | None  # float32 [V], added to the logits
    first: int  # row of the table that is code 0; rows of other tokens also have probability
    weight: tf.Tensor | float  # weight of -log p, in units of the squared distance

    def costs(self, states: tf.Tensor, num_codes: int) -> tf.Tensor:
        """Returns weight times -log p, cut at `_LEAST_LOG_PRIOR`: [R, H] -> float32 [R, K]."""
        logits = tf.cast(tf.matmul(states, self.table, transpose_b=True), tf.float32)
        if self.bias is not None:
            logits += self.bias
        log_probs = tf.nn.log_softmax(logits)[:, self.first : self.first + num_codes]
        return -self.weight * tf.maximum(log_probs, _LEAST_LOG_PRIOR)


class SufficientStatistics(NamedTuple):
    """The sufficient statistics of the M step. They are additive over batches and replicas."""

    counts: tf.Tensor  # float32 [K], number of vectors assigned to each code
    sums: tf.Tensor  # float32 [K, D], sum of these vectors


def assign(
    x: tf.Tensor,
    codes: tf.Tensor,
    *,
    temperature: tf.Tensor | float | None = None,
    uniforms: tf.Tensor | None = None,
    penalties: tf.Tensor | None = None,
    prior: Prior | None = None,
) -> Assignment:
    """The E step: finds the nearest code of each vector, and optionally draws codes.

    Among codes at the same distance, the first one is the nearest. With penalties p, the nearest
    code is the one with the smallest d^2 + p, and codes are drawn from softmax(-(d^2 + p)/t). The
    costs of a prior count as penalties.

    Args:
      x: float32 [N, D].
      codes: float32 [K, D].
      temperature: t in softmax(-d^2/t), float32 scalar; required for drawing.
      uniforms: float32 [N, m] in (0, 1), one for each draw; None draws nothing.
      penalties: float32 [K], added to the squared distances.
      prior: of each vector's codes.
    """
    centre, num_codes = tf.reduce_mean(codes, 0), codes.shape[0]
    half_norms, codes = _padded(codes - centre, penalties)
    if uniforms is None:
        uniforms = tf.zeros([num_rows(x), 0])

    def block(x, uniforms, *states):
        x -= centre
        scores = half_norms - tf.matmul(x, codes, transpose_b=True)  # (d^2 - |x|^2) / 2
        if prior is not None:
            costs = prior.costs(*states, num_codes)
            scores += tf.pad(costs, [[0, 0], [0, codes.shape[0] - num_codes]]) / 2
        grouped = tf.reshape(scores, [-1, codes.shape[0] // _GROUP, _GROUP])
        lowest = tf.reduce_min(grouped, -1)
        group = tf.argmin(lowest, -1, output_type=tf.int32)
        members = tf.gather(grouped, group, axis=1, batch_dims=1)
        nearest = group * _GROUP + tf.argmin(members, -1, output_type=tf.int32)
        lowest = tf.reduce_min(lowest, -1)
        distance = 2 * lowest + tf.reduce_sum(tf.square(x), -1)
        if penalties is not None:
            distance -= tf.gather(penalties, nearest)
        if prior is not None:
            distance -= tf.gather(costs, nearest, batch_dims=1)
        distance = tf.maximum(distance, 0.0)
        samples = _draw(grouped, lowest, uniforms, temperature)
        return nearest, distance, samples

    outputs = [(tf.int32, []), (tf.float32, []), (tf.int32, uniforms.shape[1:])]
    inputs, numbers = [x, uniforms], codes.shape[0]
    if prior is not None:
        inputs.append(prior.states)
        numbers += 2 * prior.table.shape[0]
    nearest, distance, samples = in_blocks(block, inputs, outputs, numbers, block=_BLOCK)
    return Assignment(nearest, distance, samples if uniforms.shape[1] else None)


def _padded(codes: tf.Tensor, penalties: tf.Tensor | None) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns half norms [1, K'] and codes [K', D], padded so that K' is a multiple of the group.

    For a vector x and a code e, the half norm minus x·e is (d^2 + p - |x|^2) / 2.
    """
    half_norms = _half_norms(codes, penalties)
    missing = -codes.shape[0] % _GROUP
    half_norms = tf.pad(half_norms, [[0, 0], [0, missing]], constant_values=_FAR)
    return half_norms, tf.pad(codes, [[0, missing], [0, 0]])


def _half_norms(codes: tf.Tensor, penalties: tf.Tensor | None) -> tf.Tensor:
    """Returns (|e|^2 + p) / 2 for each code e, [1, K]."""
    norms = tf.reduce_sum(tf.square(codes), -1)
    return (norms if penalties is None else norms + penalties)[None] / 2


def _draw(
    scores: tf.Tensor, lowest: tf.Tensor, uniforms: tf.Tensor, temperature: tf.Tensor | float | None
) -> tf.Tensor:
    """Draws codes by inverting the cumulative distribution: of groups, then within the group.

    Args:
      scores: [R, K/G, G], (d^2 + p) / 2 up to a constant for each row.
      lowest: [R], the minimum of each row.
      uniforms: [R, m].
      temperature: as in `assign`.

    Returns:
      int32 [R, m].
    """
    if not uniforms.shape[1]:
        return tf.cast(uniforms, tf.int32)
    rate = tf.constant(2.0) / temperature
    masses = tf.reduce_sum(tf.exp((lowest[:, None, None] - scores) * rate), -1)
    reached = _running_sum(masses)
    target = uniforms * reached[:, -1:]
    group = _first_above(reached, target)
    before = tf.gather(reached - masses, group, axis=1, batch_dims=1)
    members = tf.gather(scores, group, axis=1, batch_dims=1)  # [R, m, G]
    inside = _running_sum(tf.exp((lowest[:, None, None] - members) * rate))
    # Rounding must not put the target above the last sum, where there is no code.
    rest = tf.minimum(target - before, inside[..., -1] * (1 - 1e-6))
    return group * _GROUP + _first_above(inside, rest[..., None])[..., 0]


def _running_sum(x: tf.Tensor) -> tf.Tensor:
    """Running sums along the last axis, by a matrix product: XLA's own are much slower."""
    size = x.shape[-1]
    upper = tf.linalg.band_part(tf.ones([size, size]), 0, -1)
    return tf.reshape(tf.reshape(x, [-1, size]) @ upper, [-1, *x.shape[1:]])


def _first_above(rising: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
    """Index of the first element above each target: [..., n], [..., m] -> int32 [..., m]."""
    below = rising[..., None, :] <= target[..., None]
    index = tf.reduce_sum(tf.cast(below, tf.int32), -1)
    return tf.minimum(index, rising.shape[-1] - 1)


def sufficient_statistics(
    x: tf.Tensor, ids: tf.Tensor, weights: tf.Tensor, num_codes: int
) -> SufficientStatistics:
    """Counts and sums of the vectors assigned to each code; each of m draws has the weight 1/m.

    Args:
      x: float32 [N, D].
      ids: int32 [N, m].
      weights: float32 [N], 1 for a real vector, 0 for padding.
      num_codes: K.

    Returns:
      Statistics whose counts add up to the number of real vectors.
    """
    num_samples = ids.shape[1]
    weights = weights / num_samples
    weighted = x * weights[:, None]
    counts = tf.zeros([num_codes])
    sums = tf.zeros([num_codes, x.shape[1]])
    for sample in range(num_samples):  # a single call would need m copies of x in memory
        index = ids[:, sample, None]
        counts = tf.tensor_scatter_nd_add(counts, index, weights)
        sums = tf.tensor_scatter_nd_add(sums, index, weighted)
    return SufficientStatistics(counts, sums)


def mean_code(codes: tf.Tensor, ids: tf.Tensor) -> tf.Tensor:
    """Returns the mean of the codes assigned to each vector.

    With one code per vector, gradients reach the codes. With several codes, the mean is computed
    block by block, so that the N x m codes are never all in memory.

    Args:
      codes: float32 [K, D].
      ids: int32 [N, m].

    Returns:
      float32 [N, D].
    """
    num_samples, width = ids.shape[1], codes.shape[1]
    if num_samples == 1:
        return tf.gather(codes, ids[:, 0])

    def block(ids):
        picked = [tf.gather(codes, column) for column in tf.unstack(ids, axis=1)]
        return (tf.add_n(picked) / num_samples,)

    (mean,) = in_blocks(block, [ids], [(tf.float32, [width])], num_samples * width, block=_BLOCK)
    return mean


class Expectation(NamedTuple):
    """The result of an E step over all codes: the limit of infinitely many draws."""

    mean: tf.Tensor  # float32 [N, D], expected code of each vector
    statistics: SufficientStatistics


def expectation(
    x: tf.Tensor,
    codes: tf.Tensor,
    weights: tf.Tensor,
    temperature: tf.Tensor | float,
    penalties: tf.Tensor | None = None,
    prior: Prior | None = None,
) -> Expectation:
    """The E step with exact probabilities softmax(-d^2/t) instead of draws.

    Args:
      x: float32 [N, D].
      codes: float32 [K, D].
      weights: float32 [N], 1 for a real vector, 0 for padding.
      temperature: t, float32 scalar.
      penalties: float32 [K], added to the squared distances.
      prior: of each vector's codes; its costs are added too.
    """
    num_vectors, num_codes = num_rows(x), codes.shape[0]
    centre = tf.reduce_mean(codes, 0)
    centred = codes - centre
    half_norms = _half_norms(centred, penalties)
    numbers = num_codes if prior is None else num_codes + 2 * prior.table.shape[0]
    steps = num_blocks(num_vectors, numbers, block=_BLOCK)
    blocks, weights = divide(x, steps), divide(weights, steps)
    states = None if prior is None else divide(prior.states, steps)

    def body(i, means, total):
        block = blocks[i]
        scores = tf.matmul(block - centre, centred, transpose_b=True) - half_norms
        if prior is not None:
            scores -= prior.costs(states[i], num_codes) / 2
        shares = tf.nn.softmax(scores * (2.0 / temperature))
        means = means.write(i, shares @ codes)
        shares *= weights[i][:, None]
        sums = tf.matmul(shares, block, transpose_a=True)
        total = SufficientStatistics(total.counts + tf.reduce_sum(shares, 0), total.sums + sums)
        return i + 1, means, total

    means = tf.TensorArray(tf.float32, steps, element_shape=blocks.shape[1:])
    none = SufficientStatistics(tf.zeros([num_codes]), tf.zeros(codes.shape))
    start = tf.constant(0), means, none
    _, means, total = tf.while_loop(lambda i, *_: i < steps, body, start)
    return Expectation(tf.reshape(means.stack(), [-1, x.shape[1]])[:num_vectors], total)


@tf.custom_gradient
def straight_through(x: tf.Tensor, quantized: tf.Tensor) -> tuple[tf.Tensor, Callable]:
    """Returns `quantized`, with the gradient of x: the Jacobian for x is exactly the identity."""

    def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, None]:
        return upstream, None

    return tf.identity(quantized), gradient


def squared_error(x: tf.Tensor, y: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    """Weighted sum of the squared distances of vectors: [N, D], [N, D], [N] -> scalar.

    With a gradient only for x this is the commitment loss, and only for y the codebook loss (van
    den Oord et al. 2017, equation 3).
    """
    return tf.reduce_sum(tf.reduce_sum(tf.square(x - y), -1) * weights)


def perplexity(counts: tf.Tensor) -> tf.Tensor:
    """exp of the entropy of the distribution of codes: counts [..., K] -> [...].

    It is K if all codes are used equally often, and 1 if only one code is used, or none.
    """
    total = tf.reduce_sum(counts, -1, keepdims=True)
    shares = counts / tf.maximum(total, 1e-9)
    return tf.exp(-tf.reduce_sum(tf.math.xlogy(shares, shares), -1))


def kmeans_plus_plus(x: tf.Tensor, num_codes: int, seed: int) -> tf.Tensor:
    """Draws initial codes from the vectors, far apart (Arthur and Vassilvitskii 2007).

    Each code is a vector drawn with a probability proportional to its squared distance to the
    nearest code drawn before. If all vectors are codes already, vectors are drawn again.

    Args:
      x: float32 [N, D].
      num_codes: K.
      seed: seed of the draws.

    Returns:
      float32 [K, D].
    """
    num_vectors = num_rows(x)
    uniforms = tf.random.stateless_uniform([num_codes], [seed, num_codes])
    centred = x - tf.reduce_mean(x, 0)
    norms = tf.reduce_sum(tf.square(centred), -1)

    def body(i, distances, chosen):
        reached = tf.cumsum(distances)
        target = uniforms[i] * reached[-1]
        index = tf.searchsorted(reached, target[None], side="right")[0]
        index = tf.minimum(index, num_vectors - 1)
        distance = norms + norms[index] - 2 * tf.linalg.matvec(centred, centred[index])
        nearer = tf.minimum(distances, distance)
        distances = tf.maximum(tf.where(i > 0, nearer, distance), 0.0)
        return i + 1, distances, chosen.write(i, x[index])

    chosen = tf.TensorArray(tf.float32, num_codes, element_shape=x.shape[1:])
    start = tf.constant(0), tf.ones([num_vectors]), chosen  # the first code is drawn uniformly
    return tf.while_loop(lambda i, *_: i < num_codes, body, start)[2].stack()


def lloyd(x: tf.Tensor, codes: tf.Tensor, iterations: int) -> tf.Tensor:
    """Runs K-means on vectors [N, D] from initial codes [K, D]; unused codes do not change."""
    weights = tf.ones([num_rows(x)])
    for _ in range(iterations):
        found = sufficient_statistics(x, assign(x, codes).nearest[:, None], weights, codes.shape[0])
        means = found.sums / tf.maximum(found.counts, 1.0)[:, None]
        codes = tf.where(found.counts[:, None] > 0, means, codes)
    return codes


class KMeans(NamedTuple):
    """The result of K-means."""

    codes: tf.Tensor  # float32 [K, D]
    distance: tf.Tensor  # scalar, mean squared distance of the vectors to their nearest codes
    vectors: tf.Tensor  # [N, D], the nearest code of each vector


@tf.function(autograph=False)
def kmeans(x: tf.Tensor, num_codes: int, seed: int) -> KMeans:
    """Runs a few iterations of K-means after k-means++ initialisation.

    Args:
      x: float32 [N, D].
      num_codes: K.
      seed: seed of the initialisation.

    """
    codes = lloyd(x, kmeans_plus_plus(x, num_codes, seed), _LLOYD_ITERATIONS)
    found = assign(x, codes)
    return KMeans(codes, tf.reduce_mean(found.distance), tf.gather(codes, found.nearest))

"""Vector quantisation against its definition, in float64, one vector at a time."""

import math

import numpy as np
import pytest
import tensorflow as tf

from t2t_vqem.ops import blocks, quantization
from t2t_vqem.ops.quantization import (
    assign,
    expectation,
    kmeans_plus_plus,
    lloyd,
    perplexity,
    squared_error,
    straight_through,
    sufficient_statistics,
)

SIZES = [(37, 13, 5), (50, 130, 3), (3, 64, 7), (1, 2, 1)]  # N, K, D


def draw(num_vectors: int, num_codes: int, width: int, seed: int = 0) -> tuple:
    """Returns vectors and codes."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(num_vectors, width)).astype(np.float32)
    return x, rng.normal(size=(num_codes, width)).astype(np.float32)


def distances(x: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Squared distances [N, K] by their definition."""
    return np.array(
        [
            [sum((float(a) - float(b)) ** 2 for a, b in zip(v, c, strict=True)) for c in codes]
            for v in x
        ]
    )


@pytest.fixture(params=[2**21, 200], ids=["one block", "many blocks"])
def block(request, monkeypatch):
    """Sets the block size, so that few vectors need several blocks, the last one not full."""
    monkeypatch.setattr(quantization, "_BLOCK", request.param)
    few = 8 if request.param == 200 else 64
    monkeypatch.setattr(quantization, "_GROUP", few)
    monkeypatch.setattr(blocks, "LEAST_ROWS", few)


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("compiled", [False, True])
def test_nearest_codes(sizes, compiled, block):
    x, codes = draw(*sizes)
    found = tf.function(lambda x, codes: assign(x, codes)[:2], jit_compile=compiled)(x, codes)
    expected = distances(x, codes)
    two = np.sort(expected, 1)[:, :2]
    clear = two[:, 1] - two[:, 0] > 1e-4
    assert clear.mean() > 0.9
    np.testing.assert_array_equal(found[0].numpy()[clear], expected.argmin(1)[clear])
    np.testing.assert_allclose(found[1], expected.min(1), atol=1e-5)


def test_the_first_of_equal_codes_is_the_nearest():
    _, codes = draw(20, 70, 4)
    codes[33] = codes[2]
    codes[69] = codes[64]
    assert not np.isin([33, 69], assign(codes, codes).nearest.numpy()).any()


def test_distances_far_from_the_origin_are_not_negative():
    x = np.full([5, 3], 1000.1, np.float32)
    assert (assign(x, x).distance.numpy() >= 0).all()


@pytest.mark.parametrize("offset", [1000, 10_000])
def test_far_from_the_origin_the_nearest_codes_are_right(offset, block):
    rng = np.random.default_rng(1)
    x = rng.normal(size=(512, 16)).astype(np.float32) + offset
    codes = x[:32].copy() + rng.normal(size=(32, 16)).astype(np.float32) * 0.5
    found = assign(x, codes, temperature=2.0, uniforms=np.full([512, 1], 0.5, np.float32))
    expected = distances(x, codes)
    two = np.sort(expected, 1)[:, :2]
    clear = two[:, 1] - two[:, 0] > 1e-3
    assert clear.mean() > 0.9
    np.testing.assert_array_equal(found.nearest.numpy()[clear], expected.argmin(1)[clear])
    np.testing.assert_allclose(found.distance, expected.min(1), rtol=1e-4)
    shares = np.exp(-(expected - expected.min(1, keepdims=True)) / 2.0)
    shares /= shares.sum(1, keepdims=True)
    means = expectation(x, codes, tf.ones([512]), 2.0).mean
    np.testing.assert_allclose(means - offset, shares @ (codes.astype(float) - offset), atol=0.02)
    middle = (shares.cumsum(1) < 0.5).sum(1)
    sure = np.abs(shares.cumsum(1) - 0.5).min(1) > 1e-3
    assert sure.mean() > 0.8
    np.testing.assert_array_equal(found.samples.numpy()[sure, 0], middle[sure])


@pytest.mark.parametrize("offset", [0, 10_000])
def test_first_codes_are_drawn_by_squared_distance(offset):
    """Of two far clusters one has a vector in the other's place: never two codes of one."""
    x = np.repeat(np.float32([[0, 0], [3, 0], [0, 3]]), 40, 0) + np.float32(offset)
    for seed in range(5):
        codes = kmeans_plus_plus(x, 3, seed).numpy()
        assert len({tuple(code) for code in codes}) == 3


def test_number_of_vectors_unknown_when_the_graph_is_built(block):
    x, codes = draw(37, 13, 5)
    spec = tf.TensorSpec([None, 5], tf.float32)
    unknown = tf.function(lambda x: assign(x, codes).nearest, input_signature=[spec])
    np.testing.assert_array_equal(unknown(x), assign(x, codes).nearest)
    mean = tf.function(
        lambda x: expectation(x, codes, tf.ones(tf.shape(x)[:1]), 0.5).mean, input_signature=[spec]
    )
    np.testing.assert_allclose(
        mean(x), expectation(x, codes, tf.ones([37]), 0.5).mean, rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("compiled", [False, True])
def test_frequencies_of_draws(compiled, block):
    x, codes = draw(3, 70, 2)
    temperature, count = 0.7, 20_000
    uniforms = np.random.default_rng(1).uniform(size=(3, count)).astype(np.float32)
    function = tf.function(
        lambda u: assign(x, codes, temperature=temperature, uniforms=u).samples,
        jit_compile=compiled,
    )
    samples = function(uniforms).numpy()
    logits = -distances(x, codes) / temperature
    expected = np.exp(logits - logits.max(1, keepdims=True))
    expected /= expected.sum(1, keepdims=True)
    for row, shares in zip(samples, expected, strict=True):
        counts = np.bincount(row, minlength=70)
        sigma = np.sqrt(count * shares * (1 - shares))
        assert (np.abs(counts - count * shares) <= 5 * sigma + 1).all()


@pytest.mark.parametrize("compiled", [False, True])
def test_penalties_are_added_to_the_squared_distances(compiled, block):
    x, codes = draw(37, 13, 3)
    penalties = np.random.default_rng(5).normal(size=13).astype(np.float32)
    uniforms = np.random.default_rng(1).uniform(size=(37, 2000)).astype(np.float32)
    arguments = {"temperature": 0.5, "uniforms": uniforms, "penalties": penalties}
    found = tf.function(lambda: assign(x, codes, **arguments), jit_compile=compiled)()
    squared = distances(x, codes)
    penalised = squared + penalties
    nearest = penalised.argmin(1)
    assert (nearest != squared.argmin(1)).any()
    np.testing.assert_array_equal(found.nearest, nearest)
    np.testing.assert_allclose(found.distance, squared[np.arange(37), nearest], atol=1e-5)
    shares = np.exp(-penalised / 0.5) / np.exp(-penalised / 0.5).sum(1, keepdims=True)
    drawn = np.stack([np.bincount(row, minlength=13) for row in found.samples.numpy()])
    sigma = np.sqrt(2000 * shares * (1 - shares))
    assert (np.abs(drawn - 2000 * shares) <= 5 * sigma + 1).all()
    expected = tf.function(expectation, jit_compile=compiled)(
        x, codes, tf.ones([37]), 0.5, penalties
    )
    np.testing.assert_allclose(expected.mean, shares @ codes, atol=1e-5)
    np.testing.assert_allclose(expected.statistics.counts, shares.sum(0), rtol=1e-4)


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("first", [0, 2])
def test_prior_by_loops(compiled, first, block):
    """A code of probability p costs weight times -log p more, ten weights at most."""
    x, codes = draw(37, 13, 3)
    rng = np.random.default_rng(5)
    states = rng.normal(size=(37, 6)).astype(np.float32) * 2
    table, bias = rng.normal(size=(15, 6)).astype(np.float32), np.float32(rng.normal(size=15))
    prior = quantization.Prior(states, table, bias, first, 0.4)
    uniforms = rng.uniform(size=(37, 2000)).astype(np.float32)
    arguments = {"temperature": 0.5, "uniforms": uniforms, "prior": prior}
    found = tf.function(lambda: assign(x, codes, **arguments), jit_compile=compiled)()
    squared, costs = distances(x, codes), np.zeros([37, 13])
    for row, state in enumerate(states.astype(np.float64)):
        logits = [float(state @ entry) + float(b) for entry, b in zip(table, bias, strict=True)]
        log_sum = math.log(sum(map(math.exp, logits)))
        for code in range(13):
            costs[row, code] = 0.4 * min(10.0, log_sum - logits[first + code])
    assert (costs == 4.0).any() and (costs < 4.0).any()
    total = squared + costs
    nearest = total.argmin(1)
    assert (nearest != squared.argmin(1)).any()
    two = np.sort(total, 1)[:, :2]
    clear = two[:, 1] - two[:, 0] > 1e-4
    np.testing.assert_array_equal(found.nearest.numpy()[clear], nearest[clear])
    np.testing.assert_allclose(
        found.distance.numpy()[clear], squared[np.arange(37), nearest][clear], atol=1e-4
    )
    shares = np.exp(-total / 0.5) / np.exp(-total / 0.5).sum(1, keepdims=True)
    drawn = np.stack([np.bincount(row, minlength=13) for row in found.samples.numpy()])
    sigma = np.sqrt(2000 * shares * (1 - shares))
    assert (np.abs(drawn - 2000 * shares) <= 5 * sigma + 1).all()
    function = tf.function(
        lambda: expectation(x, codes, tf.ones([37]), 0.5, prior=prior), jit_compile=compiled
    )
    np.testing.assert_allclose(function().mean, shares @ codes, atol=1e-4)
    np.testing.assert_allclose(function().statistics.counts, shares.sum(0), rtol=1e-3)


def test_a_prior_is_never_held_for_all_vectors_and_codes():
    rows, num_codes = 4096, 16384
    specs = [
        tf.TensorSpec(shape, tf.float32)
        for shape in ([rows, 8], [num_codes, 8], [rows, 16], [num_codes + 2, 16])
    ]

    def function(x, codes, states, table):
        prior = quantization.Prior(states, table, None, 2, 0.5)
        return assign(x, codes, prior=prior).nearest

    concrete = tf.function(function, jit_compile=True).get_concrete_function(*specs)
    sizes = [
        tensor.shape.num_elements() or 0
        for graph in [concrete.graph, *map(_body, concrete.graph.get_operations())]
        if graph is not None
        for operation in graph.get_operations()
        for tensor in operation.outputs
    ]
    assert 64 * num_codes <= max(sizes) < rows * num_codes / 8


def _body(operation: tf.Operation) -> tf.Graph | None:
    """Returns the graph of a loop's body."""
    if operation.type not in ("While", "StatelessWhile"):
        return None
    return operation.graph._get_function(operation.get_attr("body").name).graph


def test_draws_at_extreme_temperatures(block):
    x, codes = draw(40, 13, 5)
    uniforms = np.random.default_rng(0).uniform(size=(40, 6)).astype(np.float32)
    cold = assign(x, codes, temperature=1e-4, uniforms=uniforms)
    np.testing.assert_array_equal(cold.samples, np.repeat(cold.nearest[:, None], 6, 1))
    hot = assign(x, codes, temperature=1e8, uniforms=uniforms)
    np.testing.assert_array_equal(hot.samples, np.floor(uniforms * 13).astype(int))


@pytest.mark.parametrize("edge", [1e-9, 1 - 2**-24])
def test_codes_of_probability_zero_are_never_drawn(edge):
    codes = np.array([[100.0], [0.0], [1.0], [100.0]], np.float32)
    uniforms = np.full([1, 2], edge, np.float32)
    drawn = assign(np.zeros([1, 1], np.float32), codes, temperature=1.0, uniforms=uniforms)
    assert np.isin(drawn.samples, [1, 2]).all()


def test_permuted_codes_permute_assignments():
    x, codes = draw(30, 20, 4)
    order = np.random.default_rng(0).permutation(20)
    np.testing.assert_array_equal(
        order[assign(x, codes[order]).nearest.numpy()], assign(x, codes).nearest
    )


def test_sufficient_statistics_by_loops():
    x, _ = draw(17, 1, 3)
    rng = np.random.default_rng(0)
    ids, weights = rng.integers(0, 5, (17, 3)), rng.integers(0, 2, 17).astype(np.float32)
    counts, sums = np.zeros(5), np.zeros((5, 3))
    for vector, chosen, weight in zip(x.astype(np.float64), ids, weights, strict=True):
        for code in chosen:
            counts[code] += weight / 3
            sums[code] += weight / 3 * vector
    found = sufficient_statistics(x, tf.constant(ids, tf.int32), weights, 5)
    np.testing.assert_allclose(found.counts, counts, rtol=1e-5)
    np.testing.assert_allclose(found.sums, sums, atol=1e-5)
    assert float(tf.reduce_sum(found.counts)) == pytest.approx(weights.sum())


@pytest.mark.parametrize("compiled", [False, True])
def test_expectation_over_all_codes(compiled, block):
    x, codes = draw(37, 13, 5)
    weights = (np.arange(37) % 4 > 0).astype(np.float32)
    found = tf.function(expectation, jit_compile=compiled)(x, codes, weights, 0.6)
    logits = -distances(x, codes) / 0.6
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    np.testing.assert_allclose(found.mean, shares @ codes, atol=1e-5)
    weighted = shares * weights[:, None]
    np.testing.assert_allclose(found.statistics.counts, weighted.sum(0), rtol=1e-4)
    np.testing.assert_allclose(found.statistics.sums, weighted.T @ x, atol=1e-4)


def test_many_draws_approach_the_expectation():
    x, codes = draw(8, 6, 2)
    count = 4000
    uniforms = np.random.default_rng(2).uniform(size=(8, count)).astype(np.float32)
    samples = assign(x, codes, temperature=1.0, uniforms=uniforms).samples
    drawn = sufficient_statistics(x, samples, tf.ones([8]), 6).counts
    exact = expectation(x, codes, tf.ones([8]), 1.0).statistics.counts
    # The variance of a sum of 8 shares, each of `count` draws, is at most 8/(4 count).
    assert np.abs(drawn - exact).max() < 5 * math.sqrt(8 / (4 * count))


def test_exact_em_never_lowers_the_likelihood_and_recovers_a_mixture():
    rng = np.random.default_rng(3)
    centres = np.array([[0, 0], [4, 0], [0, 4], [4, 4.0]])
    x = (centres[rng.integers(0, 4, 2000)] + rng.normal(size=(2000, 2)) * 0.5).astype(np.float32)
    variance = 0.25
    codes = centres.astype(np.float32) + rng.normal(size=(4, 2)).astype(np.float32)

    def log_likelihood(codes):
        """Log-likelihood of a mixture of equal Gaussians, up to a constant."""
        return np.log(np.exp(-distances(x, codes) / (2 * variance)).sum(1)).sum()

    reached = [log_likelihood(codes)]
    for _ in range(20):
        found = expectation(x, codes, tf.ones([2000]), 2 * variance).statistics
        codes = (found.sums / found.counts[:, None]).numpy()
        reached.append(log_likelihood(codes))
    assert (np.diff(reached) > -1e-2).all()  # float32 sums over 2000 vectors
    assert reached[-1] > reached[0] + 100
    # 500 vectors each: the standard error of a component's mean is 0.5 / sqrt(500) = 0.022.
    np.testing.assert_allclose(codes, centres, atol=5 * 0.022)


def test_kmeans_equals_scikit_learn():
    cluster = pytest.importorskip("sklearn.cluster")
    x, _ = draw(300, 1, 4)
    start = x[:7].copy()
    theirs = cluster.KMeans(7, init=start, n_init=1, max_iter=10, tol=0, algorithm="lloyd").fit(x)
    ours = lloyd(x, start, theirs.n_iter_)
    np.testing.assert_allclose(ours, theirs.cluster_centers_, atol=1e-4)


def test_kmeans_does_not_move_unused_codes():
    x, _ = draw(10, 1, 2)
    codes = np.array([[0, 0], [50, 50]], np.float32)
    np.testing.assert_array_equal(lloyd(x, codes, 2)[1], [50, 50])


def test_kmeans_plus_plus_finds_separate_clusters():
    rng = np.random.default_rng(0)
    label = rng.integers(0, 9, 500)
    x = (np.stack([label % 3, label // 3], 1) * 100 + rng.normal(size=(500, 2))).astype(np.float32)
    for seed in range(5):
        codes = kmeans_plus_plus(x, 9, seed).numpy()
        assert len({tuple(np.round(code / 100)) for code in codes}) == 9
        assert all((code == x).all(1).any() for code in codes)
    np.testing.assert_array_equal(kmeans_plus_plus(x, 9, 1), kmeans_plus_plus(x, 9, 1))


def test_kmeans_plus_plus_with_fewer_vectors_than_codes():
    x = np.array([[1, 2], [3, 4]], np.float32)
    codes = kmeans_plus_plus(x, 5, 0).numpy()
    assert {tuple(code) for code in codes} == {(1, 2), (3, 4)}


def test_straight_through_is_exactly_the_identity():
    x, q = draw(3, 3, 2)
    x = tf.constant(x)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        y = straight_through(x, q)
    np.testing.assert_array_equal(y, q)
    jacobian = tape.jacobian(y, x, experimental_use_pfor=False)
    np.testing.assert_array_equal(tf.reshape(jacobian, [6, 6]), np.eye(6))


def test_squared_error_and_its_gradient():
    x, y = draw(5, 5, 3)
    weights = np.array([1, 0, 1, 1, 0], np.float32)
    x = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        error = squared_error(x, y, weights)
    expected = sum(w * ((a - b) ** 2).sum() for a, b, w in zip(x.numpy(), y, weights, strict=True))
    assert float(error) == pytest.approx(expected, rel=1e-5)
    np.testing.assert_allclose(tape.gradient(error, x), 2 * (x - y) * weights[:, None], rtol=1e-5)


@pytest.mark.parametrize(
    "counts, expected", [([3, 3, 3, 3], 4), ([7, 0, 0], 1), ([0, 0], 1), ([2, 1, 1], 2**1.5)]
)
def test_perplexity(counts, expected):
    assert float(perplexity(tf.constant(counts, tf.float32))) == pytest.approx(expected, rel=1e-5)

"""The bottleneck against float64 loops, alone, in parts of a batch, and in a Keras model."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from t2t_vqem.constants import UsageError
from t2t_vqem.layers import VectorQuantizer
from t2t_vqem.layers.codebooks import CodebookState, Statistics
from t2t_vqem.ops.random import Rng

KINDS = ("vq", "hard_em", "soft_em")


def make(num_codes=6, width=4, *, codes=None, **kwargs) -> VectorQuantizer:
    """Returns a quantiser, with these codes [C, K, D/C] if given."""
    keras.utils.set_random_seed(0)
    layer = VectorQuantizer(
        num_codes, width, **{"kind": "hard_em", "revive_below": 0.0, "name": "q", **kwargs}
    )
    if codes is not None:
        ones = tf.ones(codes.shape[:2])
        age = float(len(codes)) if layer.options.residual else 1.0
        layer.assign(CodebookState(codes, ones, tf.ones(codes.shape[:1]), age, ones))
    return layer


def draw(*shape: int, seed: int = 0) -> np.ndarray:
    """Returns normal float32 numbers."""
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def learn(layer: VectorQuantizer, statistics: Statistics) -> dict[str, float]:
    """Updates the layer's state as training does."""
    values, metrics = layer.update(layer.read(), statistics)
    layer.assign(values)
    return {name: float(value) for name, value in metrics.items()}


def test_hard_em_over_several_steps_by_loops():
    layer = make(codes=draw(1, 6, 4), decay=0.8)
    counts, sums = np.ones(6), layer.codebooks[0].numpy().astype(np.float64)
    for step in range(4):
        x = draw(9, 3, 4, seed=step + 1)
        mask = np.random.default_rng(step).random((9, 3)) < 0.7
        output = layer.quantize_vectors(tf.constant(x), mask, rng=Rng(0, step))
        batch_counts, batch_sums, loss = np.zeros(6), np.zeros((6, 4)), 0.0
        codes = sums / counts[:, None]
        for vector in x[mask].astype(np.float64):
            errors = [((vector - code) ** 2).sum() for code in codes]
            nearest = int(np.argmin(errors))
            batch_counts[nearest] += 1
            batch_sums[nearest] += vector
            loss += 0.25 * errors[nearest]
        counts = 0.8 * counts + 0.2 * batch_counts
        sums = 0.8 * sums + 0.2 * batch_sums
        assert float(output.loss) == pytest.approx(loss, rel=1e-4)
        np.testing.assert_array_equal(output.statistics.counts[0], batch_counts)
        metrics = learn(layer, output.statistics)
        moved = ((sums / counts[:, None] - codes) ** 2).sum(1).mean() ** 0.5
        assert metrics["codes_moved"] == pytest.approx(moved, rel=1e-3)
        assert metrics["codes_used"] == pytest.approx((batch_counts > 0).mean())
        assert metrics["codes_revived"] == 0
        np.testing.assert_allclose(layer.codebooks[0], sums / counts[:, None], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_inference_takes_the_nearest_code(kind):
    layer = make(codes=draw(1, 6, 4), kind=kind)
    x = draw(5, 2, 4, seed=1)
    output = layer.quantize_vectors(tf.constant(x))
    errors = ((x[..., None, :] - layer.codebooks[0].numpy()) ** 2).sum(-1)
    np.testing.assert_array_equal(output.ids[..., 0], errors.argmin(-1))
    np.testing.assert_allclose(output.vectors, layer.codebooks[0].numpy()[errors.argmin(-1)])
    np.testing.assert_array_equal(layer.decode(output.ids), output.vectors)
    assert output.statistics is None and output.samples is None


def test_soft_em_draws_passes_on_the_mean_and_counts_every_draw():
    layer = make(codes=draw(1, 6, 4), kind="soft_em", num_samples=5, temperature=2.0)
    x = draw(7, 3, 4, seed=1)
    output = layer.quantize_vectors(tf.constant(x), rng=Rng(3, 0))
    samples = output.samples.numpy()
    assert samples.shape == (7, 3, 1, 5)
    assert len(np.unique(samples[0, 0, 0])) > 1  # warm enough that draws differ
    codes = layer.codebooks[0].numpy()
    np.testing.assert_allclose(output.vectors, codes[samples[:, :, 0]].mean(2), rtol=1e-5)
    expected = np.bincount(samples.ravel(), minlength=6) / 5
    np.testing.assert_allclose(output.statistics.counts[0], expected, rtol=1e-5)
    commitment = 0.25 * ((x - output.vectors) ** 2).numpy().sum()
    assert float(output.loss) == pytest.approx(commitment, rel=1e-4)


def test_temperature_is_in_units_of_the_distance_and_falls():
    layer = make(codes=draw(1, 6, 4), temperature=0.4, temperature_end=0.1, temperature_steps=10)
    ages = {0: 0.4, 5: 0.2, 10: 0.1, 99: 0.1}
    for age, expected in ages.items():
        layer.state.age.assign(age)
        assert float(layer.temperature) == pytest.approx(expected, rel=1e-5)
    # Vectors and codes a thousand times as large: the same draws.
    draws = []
    for scale in (1, 1000):
        layer = make(codes=draw(1, 6, 4) * scale, kind="soft_em", temperature=1.0)
        layer.state.distance.assign([scale**2])
        draws.append(layer.quantize_vectors(tf.constant(draw(9, 4) * scale), rng=Rng(0, 0)).samples)
    np.testing.assert_array_equal(*draws)


def test_soft_em_is_hard_em_where_clusters_are_far_apart():
    codes = np.eye(4, dtype=np.float32)[None] * 100
    x = codes[0][np.random.default_rng(0).integers(0, 4, 20)] + draw(20, 4) * 0.1
    updates = []
    for kwargs in ({"kind": "hard_em"}, {"kind": "soft_em"}, {"kind": "soft_em", "num_samples": 0}):
        layer = make(4, 4, codes=codes, **kwargs)
        layer.state.distance.assign([0.04])
        output = layer.quantize_vectors(tf.constant(x), rng=Rng(0, 0))
        learn(layer, output.statistics)
        updates.append((output.vectors.numpy(), layer.codebooks.numpy()))
    for soft in updates[1:]:
        np.testing.assert_allclose(soft[0], updates[0][0], rtol=1e-5, atol=1e-4)
        np.testing.assert_allclose(soft[1], updates[0][1], rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("kind", ["hard_em", "soft_em"])
def test_decay_one_changes_no_code(kind):
    layer = make(codes=draw(1, 6, 4), kind=kind, decay=1.0)
    before = layer.codebooks.numpy()
    metrics = learn(
        layer, layer.quantize_vectors(tf.constant(draw(9, 4)), rng=Rng(0, 0)).statistics
    )
    np.testing.assert_array_equal(layer.codebooks, before)
    assert metrics["codes_moved"] == 0


@pytest.mark.parametrize("kwargs", [{"kind": kind} for kind in KINDS] + [{"num_samples": 0}])
def test_padding_has_no_part(kwargs):
    kwargs = {"kind": "soft_em", **kwargs}
    x = draw(6, 3, 4)
    mask = np.arange(18).reshape(6, 3) % 3 > 0
    outputs = []
    for padding in (0.0, 77.0):
        layer = make(codes=draw(1, 6, 4, seed=1), **kwargs)
        padded = tf.constant(np.where(mask[..., None], x, padding).astype(np.float32))
        with tf.GradientTape() as tape:
            tape.watch(padded)
            output = layer.quantize_vectors(padded, mask, rng=Rng(0, 0))
        gradient = tape.gradient(output.loss, padded).numpy()
        assert (gradient[~mask] == 0).all() and (gradient[mask] != 0).any()
        outputs.append(output)
    assert float(outputs[0].statistics.weight) == mask.sum()
    np.testing.assert_array_equal(outputs[0].loss, outputs[1].loss)
    for one, other in zip(outputs[0].statistics, outputs[1].statistics, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_batch_of_padding_changes_nothing():
    layer = make(codes=draw(1, 6, 4), revive_below=0.5)
    before = [variable.numpy() for variable in layer.state]
    output = layer.quantize_vectors(tf.constant(draw(3, 4)), np.zeros(3, bool), rng=Rng(0, 0))
    metrics = learn(layer, output.statistics)
    for variable, value in zip(layer.state, before, strict=True):
        np.testing.assert_array_equal(variable, value)
    assert metrics["codes_revived"] == 0


@pytest.mark.parametrize("kind", KINDS)
def test_gradients(kind):
    layer = make(codes=draw(1, 6, 4), kind=kind, temperature=1.0)
    x = tf.constant(draw(5, 4, seed=1))
    upstream = draw(5, 4, seed=2)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        output = layer.quantize_vectors(x, rng=Rng(0, 0))
        used = tf.reduce_sum(output.vectors * upstream)
    np.testing.assert_array_equal(tape.gradient(used, x), upstream)
    commitment = 2 * 0.25 * (x - output.vectors)
    np.testing.assert_allclose(tape.gradient(output.loss, x), commitment, rtol=1e-4, atol=1e-6)
    codes = layer.state.codes.value
    assert tape.gradient(used, codes) is None
    gradient = tape.gradient(output.loss, codes)
    if kind != "vq":
        assert gradient is None and not layer.trainable_variables
        return
    expected = np.zeros((6, 4))
    for vector, code in zip(x.numpy(), output.ids.numpy()[:, 0], strict=True):
        expected[code] += 2 * (layer.codebooks[0].numpy()[code] - vector)
    np.testing.assert_allclose(tf.convert_to_tensor(gradient)[0], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_unused_codes_are_revived_from_the_batch(kind):
    codes = np.concatenate([draw(4, 4), np.full([2, 4], 500, np.float32)])[None]
    layer = make(codes=codes, kind=kind, decay=0.5, revive_below=0.3)
    x = draw(40, 4, seed=1)
    revived = [
        learn(layer, layer.quantize_vectors(tf.constant(x), rng=Rng(0, step)).statistics)[
            "codes_revived"
        ]
        for step in range(6)
    ]
    assert sum(revived) >= 2
    found = layer.codebooks[0].numpy()
    assert np.abs(found).max() < 10
    metrics = learn(layer, layer.quantize_vectors(tf.constant(x), rng=Rng(0, 9)).statistics)
    assert metrics["codes_used"] > 4 / 6


@pytest.mark.parametrize("kwargs", [{"kind": kind} for kind in KINDS] + [{"num_samples": 0}])
def test_balance_by_loops(kwargs):
    """A code used e times as often as the mean looks farther by 0.7 mean squared distances."""
    layer = make(codes=draw(2, 6, 2), num_codebooks=2, balance=0.7, **{"kind": "soft_em", **kwargs})
    shares = np.random.default_rng(1).uniform(0, 3, (2, 6)).astype(np.float32)
    shares[0, 0] = 0.0  # counts as one used a hundredth as often as the mean
    codes, units = layer.codebooks.numpy(), [0.5, 2.0]
    layer.state.distance.assign(units)
    layer.state.shares.assign(shares)
    x = draw(90, 4, seed=1)
    found = layer.quantize_vectors(tf.constant(x)).ids.numpy()
    trained = layer.quantize_vectors(tf.constant(x), rng=Rng(0, 0)).ids.numpy()
    np.testing.assert_array_equal(found, trained)
    plain = 0
    for vector, ids in zip(x.astype(np.float64), found, strict=True):
        for c in range(2):
            part = vector[2 * c : 2 * c + 2]
            errors = [((part - code) ** 2).sum() for code in codes[c].astype(np.float64)]
            penalised = [
                error + 0.7 * units[c] * np.log(max(float(share), 0.01))
                for error, share in zip(errors, shares[c], strict=True)
            ]
            assert ids[c] == np.argmin(penalised)
            plain += np.argmin(penalised) == np.argmin(errors)
    assert plain < 180


@pytest.mark.parametrize("kind", KINDS)
def test_shares_are_means_over_a_longer_time(kind):
    layer = make(codes=draw(1, 6, 4), kind=kind, decay=0.8)
    expected = np.ones(6)
    for step in range(4):
        output = layer.quantize_vectors(tf.constant(draw(9, 4, seed=step)), rng=Rng(0, step))
        used = output.statistics.counts[0].numpy().astype(np.float64)
        expected = 0.98 * expected + 0.02 * used / used.mean()
        learn(layer, output.statistics)
        np.testing.assert_allclose(layer.state.shares[0], expected, rtol=1e-5)


@pytest.mark.parametrize("kind", ["hard_em", "soft_em"])
def test_balance_evens_out_the_use_of_codes(kind):
    """One half of the data lies in a fortieth of the space that the other half fills."""
    rng = np.random.default_rng(0)
    spread = np.where(rng.random([2000, 1]) < 0.5, 1.0, 0.3)
    x = tf.constant((rng.normal(size=[2000, 3]) * spread).astype(np.float32))
    found = []
    for balance in (0.0, 1.0):
        layer = make(32, 3, kind=kind, decay=0.9, balance=balance, temperature_steps=20)
        layer.start(x[:600])
        statistics = tf.function(
            lambda step, layer=layer: layer.quantize_vectors(x, rng=Rng(0, step)).statistics
        )
        for step in range(100):
            learn(layer, statistics(tf.constant(step)))
        output = layer.quantize_vectors(x)
        counts = np.bincount(output.ids.numpy().ravel(), minlength=32)
        found.append(float(layer.describe(tf.constant(counts[None], tf.float32))["perplexity"]))
        assert (counts > 0).all()
    # Of 32; without balance 24, with it 29, whatever the seed.
    assert found[1] > found[0] + 2, found


@pytest.mark.parametrize("kind", KINDS)
def test_first_codes_are_vectors_of_the_first_batch(kind):
    layer = make(kind=kind)
    assert not layer.started
    x = draw(40, 4, seed=1)
    metrics = learn(layer, layer.quantize_vectors(tf.constant(x), rng=Rng(0, 0)).statistics)
    assert layer.started and metrics["codes_revived"] == 6
    for code in layer.codebooks[0].numpy():
        assert np.isclose(code, x, atol=1e-5).all(1).any()


@pytest.mark.parametrize("kind", KINDS)
def test_first_codes_of_accumulated_batches_are_means_of_a_vector_of_each(kind):
    layer = make(kind=kind)
    batches = [draw(9, 4, seed=seed) + 5 for seed in (1, 2)]
    masks = [np.arange(9) < 6, np.ones(9, bool)]
    parts = [
        layer.quantize_vectors(tf.constant(x), mask, rng=Rng(0, step)).statistics
        for step, (x, mask) in enumerate(zip(batches, masks, strict=True))
    ]
    learn(layer, tf.nest.map_structure(tf.add, *parts))
    real, others = batches[0][masks[0]], batches[1]
    means = (real[:, None] + others).reshape(-1, 4) / 2
    for code in layer.codebooks[0].numpy():
        assert np.isclose(code, np.concatenate([means, others]), atol=1e-4).all(1).any()


@pytest.mark.parametrize("composition", ["product", "residual"])
def test_two_replicas_see_what_one_sees(composition):
    """Sums over parts with unequal numbers of real vectors equal those over the whole batch."""
    x = draw(8, 5, 4)
    mask = np.arange(40).reshape(8, 5) % 7 > 2
    mask[5:] = False
    codes = draw(2, 12, 2 if composition == "product" else 4, seed=1)
    layer = make(12, 4, codes=codes, kind="soft_em", num_codebooks=2, composition=composition)
    whole = layer.quantize_vectors(tf.constant(x), mask, rng=Rng(3, 7))
    halves = [
        layer.quantize_vectors(
            tf.constant(x[first : first + 4]), mask[first : first + 4], rng=Rng(3, 7, first, 8)
        )
        for first in (0, 4)
    ]
    np.testing.assert_array_equal(whole.samples, tf.concat([h.samples for h in halves], 0))
    for name, value in whole.statistics._asdict().items():
        total = sum(getattr(half.statistics, name) for half in halves)
        np.testing.assert_allclose(total, value, rtol=1e-5, atol=1e-5, err_msg=name)
    assert 0 < float(tf.reduce_sum(whole.statistics.candidate_weights)) < 12


def test_product_quantisation_is_a_quantiser_for_each_slice():
    codes, x = draw(3, 6, 2), draw(9, 6, seed=1)
    product = make(6, 6, codes=codes, num_codebooks=3)
    output = product.quantize_vectors(tf.constant(x), rng=Rng(0, 0))
    for index in range(3):
        alone = make(6, 2, codes=codes[index : index + 1])
        part = slice(2 * index, 2 * index + 2)
        expected = alone.quantize_vectors(tf.constant(x[:, part]), rng=Rng(0, 0))
        np.testing.assert_array_equal(output.ids[:, index], expected.ids[:, 0])
        np.testing.assert_array_equal(output.vectors[:, part], expected.vectors)
        np.testing.assert_allclose(output.statistics.sums[index], expected.statistics.sums[0])
    np.testing.assert_array_equal(product.decode(output.ids), output.vectors)


def residuals(x: np.ndarray, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns what each codebook quantises, float64 [C + 1, N, D], and the nearest codes [N, C]."""
    parts, ids = [x.astype(np.float64)], []
    for book in codes.astype(np.float64):
        errors = ((parts[-1][:, None] - book) ** 2).sum(-1)
        ids.append(errors.argmin(1))
        parts.append(parts[-1] - book[ids[-1]])
    return np.array(parts), np.array(ids).T


def test_residual_hard_em_over_several_steps_by_loops():
    layer = make(codes=draw(3, 6, 4), num_codebooks=3, composition="residual", decay=0.8)
    counts, sums = np.ones((3, 6)), layer.codebooks.numpy().astype(np.float64)
    for step in range(4):
        x = draw(9, 3, 4, seed=step + 1)
        mask = np.random.default_rng(step).random((9, 3)) < 0.7
        output = layer.quantize_vectors(tf.constant(x), mask, rng=Rng(0, step))
        codes = sums / counts[..., None]
        parts, ids = residuals(x[mask], codes)
        np.testing.assert_array_equal(output.ids.numpy()[mask], ids)
        summed = sum(codes[c][ids[:, c]] for c in range(3))
        np.testing.assert_allclose(output.vectors.numpy()[mask], summed, atol=1e-5)
        np.testing.assert_allclose(layer.decode(output.ids), output.vectors, atol=1e-6)
        np.testing.assert_allclose(output.loss, 0.25 * (parts[1:] ** 2).sum(), rtol=1e-4)
        errors = (parts[1:] ** 2).sum((1, 2))
        np.testing.assert_allclose(output.statistics.distance, errors, rtol=1e-4)
        counts, sums = 0.8 * counts, 0.8 * sums
        for c in range(3):
            for vector, code in zip(parts[c], ids[:, c], strict=True):
                counts[c, code] += 0.2
                sums[c, code] += 0.2 * vector
        learn(layer, output.statistics)
        np.testing.assert_allclose(layer.codebooks, sums / counts[..., None], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_residual_gradients(kind):
    options = {"kind": kind, "num_codebooks": 2, "composition": "residual", "temperature": 1.0}
    layer = make(codes=draw(2, 6, 4), **options)
    x, upstream = tf.constant(draw(5, 4, seed=1)), draw(5, 4, seed=2)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        output = layer.quantize_vectors(x, rng=Rng(0, 0))
        used = tf.reduce_sum(output.vectors * upstream)
    np.testing.assert_array_equal(tape.gradient(used, x), upstream)
    codes = layer.codebooks.numpy().astype(np.float64)
    chosen = output.ids.numpy()[..., None] if output.samples is None else output.samples.numpy()
    first, second = (codes[c][chosen[:, c]].mean(1) for c in range(2))
    np.testing.assert_allclose(output.vectors, first + second, rtol=1e-4, atol=1e-5)
    expected = 2 * 0.25 * ((x - first) + (x - first - second))
    np.testing.assert_allclose(tape.gradient(output.loss, x), expected, rtol=1e-4, atol=1e-5)
    if kind == "vq":
        wanted = np.zeros((2, 6, 4))
        for ids, one, two in zip(chosen[..., 0], first - x, first + second - x, strict=True):
            wanted[0, ids[0]] += 2 * one
            wanted[1, ids[1]] += 2 * two
        gradient = tape.gradient(output.loss, layer.state.codes.value)
        np.testing.assert_allclose(tf.convert_to_tensor(gradient), wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_residual_codebooks_are_set_from_data_one_after_the_other(kind):
    layer = make(kind=kind, num_codebooks=2, composition="residual", temperature=1e-3)
    x = draw(40, 4, seed=1)
    for step in range(2):
        before = layer.codebooks.numpy()
        output = layer.quantize_vectors(tf.constant(x), rng=Rng(0, step))
        metrics = learn(layer, output.statistics)
        first, rest = residuals(x, before)[0][:2]
        wanted = (first, rest)[step]  # the second codebook is set again once the first has codes
        for code in layer.codebooks[step].numpy():
            assert np.isclose(code, wanted, atol=1e-4).all(1).any()
        assert metrics["codes_revived"] == (12, 6)[step]


def test_residual_kmeans_start():
    coarse, fine = np.eye(5)[:4] * 20, np.eye(5)[:4] - 0.25
    choices = np.random.default_rng(0).integers(0, 4, (2, 400))
    x = (coarse[choices[0]] + fine[choices[1]]).astype(np.float32)
    layer = make(4, 5, num_codebooks=2, composition="residual")
    layer.start(tf.constant(x), seed=1)
    output = layer.quantize_vectors(tf.constant(x), rng=Rng(0, 0))
    # Each cluster of the first codebook has its own mean of the fine parts, close to 0.
    assert float(tf.reduce_max(tf.abs(output.vectors - x))) < 0.3
    before = layer.codebooks.numpy()
    assert learn(layer, output.statistics)["codes_revived"] == 0
    np.testing.assert_allclose(layer.codebooks, before, atol=0.1)


def test_normalized_look_up_compares_directions():
    codes, x = draw(1, 6, 4), draw(9, 4, seed=1)
    layer = make(codes=codes, normalize=True)
    output = layer.quantize_vectors(tf.constant(x * 30), rng=Rng(0, 0))
    cosines = (x @ codes[0].T) / np.linalg.norm(codes[0], axis=1)
    np.testing.assert_array_equal(output.ids[:, 0], cosines.argmax(1))
    np.testing.assert_allclose(np.linalg.norm(output.vectors, axis=-1), 1, rtol=1e-5)
    learn(layer, output.statistics)
    np.testing.assert_allclose(np.linalg.norm(layer.codebooks, axis=-1), 1, rtol=1e-5)


def test_bfloat16_in_and_out_with_statistics_in_float32():
    x = tf.cast(draw(9, 4), tf.bfloat16)
    layer = make(codes=draw(1, 6, 4, seed=1), dtype="mixed_bfloat16")
    output = layer.quantize_vectors(x, rng=Rng(0, 0))
    assert output.vectors.dtype == tf.bfloat16
    exact = make(codes=draw(1, 6, 4, seed=1)).quantize_vectors(
        tf.cast(x, tf.float32), rng=Rng(0, 0)
    )
    np.testing.assert_array_equal(output.ids, exact.ids)
    for one, other in zip(output.statistics, exact.statistics, strict=True):
        assert one.dtype == tf.float32
        np.testing.assert_array_equal(one, other)


def test_kmeans_start():
    centres = np.eye(5, dtype=np.float32) * 20
    x = np.repeat(centres, 30, 0) + draw(150, 5) * 0.1
    layer = make(5, 5)
    layer.start(tf.constant(x), seed=1)
    assert layer.started
    found = layer.codebooks[0].numpy()
    np.testing.assert_allclose(found[found.argmax(1).argsort()], centres, atol=0.1)
    assert float(layer.state.distance[0]) == pytest.approx(
        0.01 * 5, rel=0.2
    )  # mean squared distance


@pytest.mark.parametrize("kind", KINDS)
def test_eager_and_compiled_agree(kind):
    layer = make(70, 4, codes=draw(1, 70, 4), kind=kind)
    x = tf.constant(draw(33, 4, seed=1))

    def flat(x):
        found = tf.nest.flatten(layer.quantize_vectors(x, rng=Rng(1, 2)))
        return [tensor for tensor in found if tensor is not None]

    for one, other in zip(flat(x), tf.function(flat, jit_compile=True)(x), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "kwargs, message",
    [
        ({"kind": "em"}, "kind='em' is out of range, expected one of 'vq', 'hard_em', 'soft_em'"),
        ({"num_codebooks": 3}, "width=4 with num_codebooks=3: expected a width that"),
        (
            {"composition": "residual", "normalize": True},
            "normalize=True: expected normalize=False",
        ),
    ],
)
def test_wrong_arguments(kwargs, message):
    with pytest.raises(UsageError, match=message):
        make(**kwargs)


def keras_model(**kwargs) -> keras.Model:
    """Returns an autoencoder of points in a plane around eight places."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input([2])
    x = keras.layers.Dense(3, name="encoder")(inputs)
    x = VectorQuantizer(8, 3, name="codes", **kwargs)(x)
    model = keras.Model(inputs, keras.layers.Dense(2, name="decoder")(x))
    model.compile(keras.optimizers.Adam(0.02), "mse")
    return model


def points() -> np.ndarray:
    """Returns points around eight places."""
    places = draw(8, 2) * 3
    return places[np.random.default_rng(0).integers(0, 8, 500)] + draw(500, 2, seed=1) * 0.1


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_in_a_keras_model_under_fit(kind, tmp_path):
    x = points()
    model = keras_model(kind=kind, decay=0.9)
    history = model.fit(x, x, epochs=30, batch_size=64, verbose=0).history
    assert history["codes_perplexity"][-1] > 5
    layer = model.get_layer("codes")
    rng = Rng(layer.seed, int(layer.state.age.numpy()), 0, len(x))
    expected = layer.quantize_vectors(model.get_layer("encoder")(x), rng=rng).loss / len(x)
    once = model.fit(x, x, batch_size=len(x), shuffle=False, verbose=0).history
    assert once["codes_commitment_loss"] == [pytest.approx(float(expected), rel=1e-4)]
    error = model.evaluate(x, x, verbose=0, return_dict=True)["loss"]
    assert error < 0.2 * x.var()
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded.predict(x, verbose=0), model.predict(x, verbose=0), rtol=1e-5)


def test_keras_width_is_checked():
    with pytest.raises(UsageError, match="got vectors of width 5, expected width=3"):
        VectorQuantizer(8, 3)(tf.zeros([2, 5]))

"""The prior over codes: causal, and alike step by step and all at once."""

import numpy as np
import pytest
import tensorflow as tf

from t2t_vqem.layers.code_prior import CodePrior
from t2t_vqem.ops.random import Rng

B, L, K = 3, 5, 11
CODEBOOKS = pytest.mark.parametrize("num_codebooks", [1, 3])


def make(num_codebooks: int, **kwargs) -> CodePrior:
    prior = CodePrior(
        K,
        num_codebooks,
        L,
        num_layers=2,
        width=12,
        filter_size=20,
        num_heads=3,
        dropout_rate=0.2,
        **kwargs,
    )
    prior(ids_of(num_codebooks))
    rng = np.random.default_rng(0)
    for variable in prior.variables:
        variable.assign(variable.numpy() + rng.normal(0, 0.2, variable.shape))
    return prior


def ids_of(num_codebooks: int, seed: int = 1) -> tf.Tensor:
    ids = np.random.default_rng(seed).integers(0, K, [B, L, num_codebooks])
    return tf.constant(ids.astype(np.int32))


@CODEBOOKS
def test_a_code_sees_those_before_it_and_no_other(num_codebooks):
    prior, ids = make(num_codebooks), ids_of(num_codebooks).numpy()
    logits = prior(tf.constant(ids)).numpy().reshape(B, -1, K)
    for changed in range(L * num_codebooks):
        flat = ids.reshape(B, -1).copy()
        flat[:, changed] = (flat[:, changed] + 1) % K
        others = prior(tf.constant(flat.reshape(ids.shape))).numpy().reshape(B, -1, K)
        moved = np.abs(others - logits).max((0, 2)) > 1e-6
        np.testing.assert_array_equal(moved, np.arange(L * num_codebooks) > changed)


@CODEBOOKS
def test_first_code_has_a_distribution_of_its_own(num_codebooks):
    prior = make(num_codebooks)
    first = prior(ids_of(num_codebooks)).numpy()[:, 0, 0]
    np.testing.assert_allclose(first, np.tile(first[:1], [B, 1]), rtol=1e-5)
    assert np.std(first[0]) > 0


@CODEBOOKS
@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "xla"])
def test_stepping_with_a_cache_equals_the_whole_sequence(num_codebooks, compiled):
    prior, ids = make(num_codebooks), ids_of(num_codebooks)
    whole = prior(ids).numpy().reshape(B, -1, K)
    step = tf.function(prior.step, jit_compile=True) if compiled else prior.step
    cache = prior.empty_cache(B)
    before = np.full([B], -2, np.int32)  # of no meaning
    for position in range(L * num_codebooks):
        logits, cache = step(tf.constant(before), tf.constant(position), cache)
        np.testing.assert_allclose(logits, whole[:, position], rtol=1e-4, atol=1e-4)
        before = ids.numpy().reshape(B, -1)[:, position]


def test_codebooks_have_tables_of_their_own():
    prior, ids = make(3), ids_of(3)
    table = prior.table.numpy()
    table[1] += np.random.default_rng(2).normal(size=table[1].shape)  # the second codebook's
    before = prior(ids).numpy()
    prior.table.assign(table)
    moved = np.abs(prior(ids).numpy() - before).max((0, 3)) > 1e-6
    # Its own logits, and whatever comes after a code of it; not the very first code.
    assert not moved[0, 0]
    assert moved.reshape(-1)[1:].all()


def test_dropout_is_the_same_in_one_batch_and_in_two_halves():
    prior, ids = make(1), tf.concat([ids_of(1), ids_of(1, seed=5)], 0)
    whole = prior(ids, rng=Rng(0, 3, 0))
    halves = [prior(ids[i : i + B], rng=Rng(0, 3, i)) for i in (0, B)]
    np.testing.assert_allclose(whole, tf.concat(halves, 0), rtol=1e-4, atol=1e-5)
    assert np.abs(whole - prior(ids)).max() > 1e-2


def test_gradients_reach_every_variable():
    prior, ids = make(2), ids_of(2)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.nn.log_softmax(prior(ids))[..., 0])
    variables = prior.trainable_variables
    for variable, gradient in zip(variables, tape.gradient(loss, variables), strict=True):
        assert np.abs(tf.convert_to_tensor(gradient)).max() > 0, variable.path


def test_mixed_precision_gives_float32_logits():
    precise, prior = make(2), make(2, dtype="mixed_bfloat16")
    assert prior(ids_of(2)).dtype == tf.float32
    assert all(v.dtype == "float32" for v in prior.variables)
    for variable, value in zip(prior.variables, precise.variables, strict=True):
        variable.assign(value)
    logits = precise(ids_of(2)).numpy()
    # 8 bits of mantissa, 0.4 %, rounded at every layer.
    np.testing.assert_allclose(prior(ids_of(2)), logits, atol=0.03 * np.abs(logits).max())

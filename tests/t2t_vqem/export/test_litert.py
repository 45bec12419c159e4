"""What is changed for an export changes only rounding."""

import numpy as np
import pytest
import tensorflow as tf

from t2t_vqem.layers.transformer import TransformerStack
from t2t_vqem.ops.masks import padding_bias
from t2t_vqem.ops.shapes import building_for_interpreter

B, T, S, D = 2, 5, 3, 12


@pytest.fixture
def stack():
    stack = TransformerStack(2, D, 20, 3, cross_attention=True)
    rng = np.random.default_rng(0)
    stack(tf.zeros([B, T, D]), tf.zeros([]), tf.zeros([B, S, D]), tf.zeros([]))
    for variable in stack.variables:
        variable.assign(rng.normal(0, 0.5, variable.shape))
    return stack


def outputs(stack):
    """Returns what the stack computes for whole sequences and for a step."""
    rng = np.random.default_rng(1)
    x, memory = (tf.constant(rng.normal(size=[B, n, D]), tf.float32) for n in (T, S))
    bias = padding_bias(tf.constant([[True, True, False], [True] * 3]))
    whole = stack(x, tf.zeros([]), memory, bias)
    cache = stack.empty_cache(B, 4)
    memories = stack.project_memory(memory)
    for position in range(2):
        now = x[:, position : position + 1]
        step, cache = stack.step(now, cache, tf.constant(position), memories, bias)
    return [whole, step, *tf.nest.flatten(cache)]


def test_folded_layers_compute_the_same(stack):
    expected = outputs(stack)
    for block in stack.blocks:
        block.fold()
    for before, after in zip(expected, outputs(stack), strict=True):
        np.testing.assert_allclose(after, before, rtol=1e-4, atol=1e-4)


def test_graphs_for_an_interpreter_compute_the_same(stack):
    expected = outputs(stack)
    with building_for_interpreter():
        found = outputs(stack)
    for before, after in zip(expected, found, strict=True):
        np.testing.assert_allclose(after, before, rtol=1e-5, atol=1e-5)

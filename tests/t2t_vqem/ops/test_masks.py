"""Masks and biases."""

import numpy as np
import tensorflow as tf

from t2t_vqem.ops import masks


def test_padding_mask_and_bias():
    mask = masks.padding_mask(tf.constant([[5, 1, 0], [4, 7, 1]]))
    np.testing.assert_array_equal(mask, [[True, True, False], [True, True, True]])
    bias = masks.padding_bias(mask).numpy()
    assert bias.shape == (2, 1, 1, 3)
    np.testing.assert_array_equal(bias[:, 0, 0] == 0, mask)
    assert bias.min() <= -1e9


def test_causal_bias_masks_only_the_future():
    bias = masks.causal_bias(4).numpy()[0, 0]
    np.testing.assert_array_equal(bias == 0, np.tril(np.ones([4, 4], bool)))


def test_prefix_bias_is_one_row_of_the_causal_bias():
    for position in range(4):
        row = masks.prefix_bias(tf.constant(position), 4)[0, 0, 0]
        np.testing.assert_array_equal(row, masks.causal_bias(4)[0, 0, position])


def test_padding_token_cannot_be_chosen():
    logits = masks.mask_padding_token(tf.constant([[9.0, 1.0, 2.0]], tf.bfloat16))
    assert logits.dtype == tf.float32
    assert int(tf.argmax(logits, -1)[0]) == 2

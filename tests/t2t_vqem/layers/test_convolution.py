"""Convolutions against float64 loops, and what each output pixel sees."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from t2t_vqem.layers.convolution import (
    Conv,
    ConvDecoder,
    ConvEncoder,
    Downsample,
    ResidualBlock,
    Upsample,
)


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def built(layer, x):
    layer(tf.constant(x))
    for index, variable in enumerate(layer.variables):
        variable.assign(normal(*variable.shape, seed=index + 1))
    return layer


def convolve(x: np.ndarray, kernel: np.ndarray, *, stride: int, padding: int) -> np.ndarray:
    """Convolves [B, H, W, in] with [size, size, in, out] after zeros around the image."""
    x = np.pad(x.astype(np.float64), [(0, 0), (padding, padding), (padding, padding), (0, 0)])
    size = kernel.shape[0]
    height, width = ((n - size) // stride + 1 for n in x.shape[1:3])
    result = np.zeros([len(x), height, width, kernel.shape[-1]])
    for i in range(height):
        for j in range(width):
            window = x[:, i * stride : i * stride + size, j * stride : j * stride + size]
            result[:, i, j] = np.tensordot(window, kernel.astype(np.float64), 3)
    return result


@pytest.mark.parametrize("size", [1, 3, 5])
def test_conv_equals_the_loop(size):
    x = normal(2, 5, 7, 3)
    layer = built(Conv(4, size=size), x)
    expected = convolve(x, layer.kernel.numpy(), stride=1, padding=size // 2) + layer.bias.numpy()
    np.testing.assert_allclose(layer(tf.constant(x)), expected, rtol=1e-4, atol=1e-4)


def test_downsample_is_a_4x4_convolution_of_stride_2():
    x = normal(2, 6, 10, 3)
    layer = built(Downsample(5), x)
    # kernel[a, b, (c, d, in)] meets the pixel (c, d) of the block (a, b).
    kernel = layer.kernel.numpy().reshape(2, 2, 2, 2, 3, 5)
    kernel = kernel.transpose(0, 2, 1, 3, 4, 5).reshape(4, 4, 3, 5)
    expected = convolve(x, kernel, stride=2, padding=1) + layer.bias.numpy()
    assert expected.shape == (2, 3, 5, 5)
    np.testing.assert_allclose(layer(tf.constant(x)), expected, rtol=1e-4, atol=1e-4)


def test_upsample_is_a_transposed_4x4_convolution_of_stride_2():
    x = normal(2, 3, 5, 3)
    layer = built(Upsample(4), x)
    # What reaches the block (i, j) of the enlarged image from x[i - 1 + a, j - 1 + b].
    kernel = layer.kernel.numpy().reshape(2, 2, 3, 2, 2, 4).astype(np.float64)
    enlarged = np.zeros([2, 8, 12, 4])
    for i in range(3):
        for j in range(5):
            for a in range(2):
                for b in range(2):
                    block = np.einsum("ni,icdo->ncdo", x[:, i, j], kernel[a, b])
                    top, left = 2 * (i + 1 - a), 2 * (j + 1 - b)
                    enlarged[:, top : top + 2, left : left + 2] += block
    expected = enlarged[:, 1:-1, 1:-1] + layer.bias.numpy()
    np.testing.assert_allclose(layer(tf.constant(x)), expected, rtol=1e-4, atol=1e-4)


def test_upsample_is_the_transpose_of_a_downsample():
    x, y = normal(1, 6, 8, 2), normal(1, 3, 4, 3, seed=9)
    down, up = built(Downsample(3), x), built(Upsample(2), y)
    kernel = down.kernel.numpy().reshape(2, 2, 4, 2, 3)
    turned = kernel[::-1, ::-1].transpose(0, 1, 4, 2, 3).reshape(2, 2, 3, 8)
    up.kernel.assign(turned)
    for layer in (down, up):
        layer.bias.assign(np.zeros(layer.bias.shape))
    forward = float(tf.reduce_sum(down(tf.constant(x)) * y))
    np.testing.assert_allclose(float(tf.reduce_sum(up(tf.constant(y)) * x)), forward, rtol=1e-4)


def test_residual_block_equals_the_definition():
    x = normal(2, 4, 5, 3)
    layer = built(ResidualBlock(3, 6), x)
    w1, b1, w2, b2 = (v.numpy() for v in layer.variables)
    inner = np.maximum(convolve(np.maximum(x, 0), w1, stride=1, padding=1) + b1, 0)
    np.testing.assert_allclose(layer(tf.constant(x)), x + inner @ w2 + b2, rtol=1e-4, atol=1e-4)


SIZES = {"channels": 8, "num_blocks": 2, "residual_channels": 6}


def coders(halvings: int = 2, **kwargs):
    encoder = ConvEncoder(5, num_downsamplings=halvings, name="encoder", **SIZES, **kwargs)
    decoder = ConvDecoder(7, num_upsamplings=halvings, name="decoder", **SIZES, **kwargs)
    return encoder, decoder


@pytest.mark.parametrize("halvings", [0, 1, 2, 3])
def test_encoder_and_decoder_have_opposite_shapes(halvings):
    encoder, decoder = coders(halvings)
    block = 2**halvings
    latents = encoder(tf.constant(normal(2, 3 * block, 2 * block, 3)))
    assert latents.shape == (2, 3, 2, 5)
    assert decoder(latents).shape == (2, 3 * block, 2 * block, 7)
    paths = [v.path for layer in (encoder, decoder) for v in layer.variables]
    assert len(set(paths)) == len(paths)


def centre_alone(conv: Conv) -> None:
    """Has a 3x3 convolution see the pixel itself, none of its neighbours."""
    centre = np.zeros([3, 3, 1, 1], np.float32)
    centre[1, 1] = 1
    conv.kernel.assign(conv.kernel * centre)


def test_two_halvings_make_each_patch_of_4x4_pixels_a_latent_and_back():
    sizes = {"channels": 8, "num_blocks": 0, "residual_channels": 6}
    encoder = ConvEncoder(5, num_downsamplings=2, **sizes)
    decoder = ConvDecoder(7, num_upsamplings=2, **sizes)
    moved = []
    for coder, shape, place in ((encoder, (12, 8, 3), (7, 2)), (decoder, (3, 2, 5), (1, 0))):
        x = normal(1, *shape)
        coder(tf.constant(x))
        centre_alone(coder.stack.conv)
        changed = x.copy()
        changed[(0, *place)] += 1
        difference = coder(tf.constant(changed)) - coder(tf.constant(x))
        moved.append(np.abs(difference).max(-1)[0] > 0)
    expected = np.array([[False, False], [True, False], [False, False]])
    np.testing.assert_array_equal(moved[0], expected)
    np.testing.assert_array_equal(moved[1], np.kron(expected, np.ones([4, 4], bool)))


@pytest.mark.parametrize("halvings", [1, 2, 3])
def test_gradients_reach_every_variable(halvings):
    encoder, decoder = coders(halvings)
    x = tf.constant(normal(2, 8, 8, 3))
    decoder(encoder(x))
    variables = encoder.trainable_variables + decoder.trainable_variables
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.square(decoder(encoder(x))))
    for variable, gradient in zip(variables, tape.gradient(loss, variables), strict=True):
        assert np.abs(gradient).max() > 0, variable.path


def test_compiled_gradients_equal_eager_ones():
    encoder, decoder = coders()
    x = tf.constant(normal(2, 8, 12, 3))
    decoder(encoder(x))
    variables = encoder.trainable_variables + decoder.trainable_variables

    def gradients():
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.square(decoder(encoder(x))))
        return tape.gradient(loss, variables)

    compiled = tf.function(gradients, jit_compile=True)()
    for eager, fast in zip(gradients(), compiled, strict=True):
        scale = np.abs(eager).max()
        np.testing.assert_allclose(fast, tf.convert_to_tensor(eager), atol=1e-4 * scale)


def test_scale_is_kept_from_layer_to_layer_and_latents_start_near_zero():
    encoder, decoder = coders()
    latents = encoder(tf.constant(normal(4, 16, 16, 3)))
    assert 0.01 < np.std(latents) < 1
    assert 0.1 < np.std(decoder(tf.constant(normal(*latents.shape)))) < 10


def test_depth_does_not_change_the_scale_at_the_start():
    x = tf.constant(normal(4, 16, 16, 8))
    sizes = {"channels": 8, "num_downsamplings": 1, "residual_channels": 6, "name": "encoder"}
    deviations = []
    for num_blocks in (0, 8):
        keras.utils.set_random_seed(1)
        deviations.append(np.std(ConvEncoder(5, num_blocks=num_blocks, **sizes)(x)))
    assert deviations[1] < 2 * deviations[0]


def test_mixed_precision_computes_in_bfloat16_and_keeps_float32():
    encoder, decoder = coders(dtype="mixed_bfloat16")
    x = tf.cast(normal(1, 8, 8, 3), tf.bfloat16)
    out = decoder(encoder(x))
    assert out.dtype == tf.bfloat16
    assert all(v.dtype == "float32" for v in encoder.variables + decoder.variables)
    precise = coders()
    precise[1](precise[0](tf.cast(x, tf.float32)))
    for ours, theirs in zip((encoder, decoder), precise, strict=True):
        for variable, value in zip(theirs.variables, ours.variables, strict=True):
            variable.assign(value)
    expected = precise[1](precise[0](tf.cast(x, tf.float32))).numpy()
    # 8 bits of mantissa, 0.4 %, rounded at every layer.
    largest = np.abs(expected).max()
    np.testing.assert_allclose(tf.cast(out, tf.float32), expected, atol=0.05 * largest)

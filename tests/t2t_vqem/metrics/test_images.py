"""PSNR and SSIM against numpy loops over their definitions."""

import numpy as np
import pytest
import tensorflow as tf

from t2t_vqem.metrics.images import psnr, ssim


def pair(shape, seed=0):
    rng = np.random.default_rng(seed)
    smooth = np.cumsum(rng.normal(0, 12, shape), axis=2) + 120
    noisy = smooth + rng.normal(0, 15, shape)
    return tuple(np.clip(x, 0, 255).astype(np.uint8) for x in (smooth, noisy))


def test_psnr_is_computed_for_each_image():
    one, other = pair([3, 7, 5, 3])
    result = psnr(tf.constant(one), tf.constant(other))
    for i in range(3):
        error = np.mean((one[i].astype(float) - other[i].astype(float)) ** 2)
        np.testing.assert_allclose(result[i], 10 * np.log10(255**2 / error), rtol=1e-5)


def test_psnr_of_equal_images_is_finite_and_the_highest():
    one = pair([1, 7, 5, 3])[0]
    other = one.copy()
    other[0, 3, 2, 1] ^= 1  # by one
    equal = float(psnr(tf.constant(one), tf.constant(one))[0])
    assert np.isfinite(equal)
    np.testing.assert_allclose(psnr(tf.constant(one), tf.constant(other))[0], equal, rtol=1e-6)
    np.testing.assert_allclose(equal, 10 * np.log10(255**2 * 7 * 5 * 3), rtol=1e-5)


def oracle_ssim(one: np.ndarray, other: np.ndarray, size: int) -> float:
    """Wang et al. 2004, equation 13, for every window inside the image and each channel."""
    offsets = np.arange(size) - (size - 1) / 2
    window = np.exp(-(offsets**2) / (2 * 1.5**2))
    window = np.outer(window, window)
    window /= window.sum()
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    found = []
    height, width, channels = one.shape
    for top in range(height - size + 1):
        for left in range(width - size + 1):
            for c in range(channels):
                x, y = (
                    image[top : top + size, left : left + size, c].astype(float)
                    for image in (one, other)
                )
                mx, my = (window * x).sum(), (window * y).sum()
                vx = (window * (x - mx) ** 2).sum()
                vy = (window * (y - my) ** 2).sum()
                covariance = (window * (x - mx) * (y - my)).sum()
                found.append(
                    (2 * mx * my + c1)
                    * (2 * covariance + c2)
                    / ((mx**2 + my**2 + c1) * (vx + vy + c2))
                )
    return float(np.mean(found))


@pytest.mark.parametrize(
    ("shape", "size"), [([2, 13, 15, 3], 11), ([2, 8, 8, 1], 8), ([1, 6, 9, 3], 6)]
)
def test_ssim_equals_the_definition(shape, size):
    one, other = pair(shape)
    result = ssim(tf.constant(one), tf.constant(other))
    for i in range(shape[0]):
        np.testing.assert_allclose(result[i], oracle_ssim(one[i], other[i], size), atol=1e-4)


def test_ssim_of_equal_images_is_one():
    one = pair([2, 12, 12, 1])[0]
    np.testing.assert_allclose(ssim(tf.constant(one), tf.constant(one)), 1, rtol=1e-6)


def test_metrics_of_black_images_are_finite():
    black = tf.zeros([2, 8, 8, 1], tf.uint8)
    assert np.isfinite(psnr(black, black)).all()
    assert np.isfinite(ssim(black, black)).all()

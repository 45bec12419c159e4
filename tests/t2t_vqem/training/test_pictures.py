"""The pictures of image models that TensorBoard shows."""

import types

import numpy as np
import tensorflow as tf

from t2t_vqem.image_problem import ImageProblem
from t2t_vqem.inference.image_files import image_grid, side_by_side
from t2t_vqem.training.pictures import Pictures, code_usage

SHAPE = (8, 8, 1)
IMAGES = (np.arange(70 * 64).reshape(70, *SHAPE) % 251).astype(np.uint8)


class HalfResolution:
    """One code for each 4x4 block: its first pixel, in steps of 16, plus `offset`."""

    name = "half"
    hparams = types.SimpleNamespace(num_codes=16)

    def __init__(self):
        self.offset = tf.Variable(0)

    def encode_to_codes(self, images, *, search_passes):
        assert not search_passes
        codes = tf.cast(images[:, ::4, ::4], tf.int32) // 16
        return tf.reshape(codes, [images.shape[0], 4, 1])

    def decode_codes(self, ids):
        blocks = tf.reshape(ids * 16 + self.offset, [ids.shape[0], 2, 2, 1])
        return tf.cast(tf.repeat(tf.repeat(blocks, 4, 1), 4, 2), tf.uint8)

    def sample_codes(self, num, *, temperature, top_k, seed, row_ids):
        assert (temperature, top_k) == (1.0, 0)
        return tf.tile(row_ids[:, None, None] % 16, [1, 4, 1])


class Shades(ImageProblem):
    """A problem with these images as dev."""

    image_shape = SHAPE

    def generate_samples(self, split):
        return IMAGES if split == "dev" else IMAGES[:2]


def reconstruct(images, offset):
    blocks = images[:, ::4, ::4] // 16 * 16 + offset
    return blocks.repeat(4, axis=1).repeat(4, axis=2).astype(np.uint8)


def test_pictures_show_the_current_model(tmp_path):
    model = HalfResolution()
    pictures = Pictures(model, Shades().generate(str(tmp_path), progress=False), split="dev")
    shown = IMAGES[::2][:32]  # spread over the split
    for offset in (0, 9):
        model.offset.assign(offset)
        summary = pictures()
        assert summary.images.keys() == {"reconstructions", "samples"}
        np.testing.assert_array_equal(
            summary.images["reconstructions"], side_by_side(shown, reconstruct(shown, offset))
        )
        samples = np.arange(64)[:, None, None, None] % 16 * 16 + offset
        samples = np.broadcast_to(samples, [64, *SHAPE]).astype(np.uint8)
        np.testing.assert_array_equal(summary.images["samples"], image_grid(samples))
        usage = summary.histograms["code_usage"]
        counts = np.bincount((IMAGES[:, ::4, ::4] // 16).ravel(), minlength=16)
        np.testing.assert_array_equal(usage[:, 2], np.sort(counts)[::-1])


def test_code_usage_is_ranked():
    codes = np.array([[[4, 0], [4, 1]], [[2, 0], [4, 1]]])
    usage = code_usage(codes, 5)
    assert usage.keys() == {"code_usage_0", "code_usage_1"}
    expected = [[0, 1, 3], [1, 2, 1], [2, 3, 0], [3, 4, 0], [4, 5, 0]]
    assert usage["code_usage_0"].tolist() == expected
    assert usage["code_usage_1"][:, 2].tolist() == [2, 2, 0, 0, 0]
    assert code_usage(codes[..., :1], 5).keys() == {"code_usage"}

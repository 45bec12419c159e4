"""The image decoder on a model that can be computed by hand; rows do not depend on their number."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from t2t_vqem.config import HParams
from t2t_vqem.constants import UsageError
from t2t_vqem.inference.images import ImageDecoder, weights_digest
from t2t_vqem.models.base import LossOutput, Model
from t2t_vqem.ops.random import row_uniform

SHAPE = (4, 6, 3)
NUM_CODES = 7


@dataclasses.dataclass(frozen=True, kw_only=True)
class BlocksHParams(HParams):
    """Hyperparameters of the toy model."""

    num_codes: int = NUM_CODES


class Blocks(Model):
    """A latent for each block of 2x2 pixels, whose codes are the first pixel's red and green."""

    def __init__(self):
        super().__init__(BlocksHParams(), name="blocks")
        self.scale = self.add_weight(shape=(), initializer="ones", name="scale")
        self.traces = []

    def example_batch(self):
        return {"images": tf.zeros([1, *SHAPE], tf.uint8), "mask": tf.ones([1], tf.bool)}

    def loss(self, batch, rng=None):
        self.traces.append("loss")
        mask = tf.cast(batch["mask"], tf.float32)
        brightness = tf.reduce_mean(tf.cast(batch["images"], tf.float32), [1, 2, 3])
        pair = (tf.reduce_sum(brightness * mask), tf.reduce_sum(mask))
        codes = batch["codes"] if "codes" in batch else tf.zeros([1, 6, 2])
        codes = tf.reduce_sum(tf.cast(codes, tf.float32), [1, 2])
        sums = {"brightness": pair, "codes": (tf.reduce_sum(codes * mask), pair[1])}
        return LossOutput(*pair, sums, {"rows": tf.reduce_sum(mask)})

    def describe_statistics(self, statistics):
        return {"rows": statistics["rows"]}

    def encode_to_codes(self, images, *, search_passes=0):
        self.traces.append("encode")
        codes = (tf.cast(images[:, ::2, ::2, :2], tf.int32) + search_passes) % NUM_CODES
        return tf.reshape(codes, [images.shape[0], 6, 2])

    def decode_codes(self, ids):
        self.traces.append("decode")
        value = tf.cast(tf.reduce_sum(ids, -1), tf.float32) * tf.convert_to_tensor(self.scale)
        image = tf.reshape(value, [ids.shape[0], 2, 3, 1])
        image = tf.repeat(tf.repeat(tf.repeat(image, 2, 1), 2, 2), 3, 3)
        return tf.cast(image, tf.uint8)

    def sample_codes(self, num, *, temperature, top_k, seed, row_ids):
        self.traces.append(("sample", num, temperature, top_k))
        numbers = row_uniform(seed, 0, row_ids, 12)
        return tf.reshape(tf.cast(numbers * NUM_CODES, tf.int32), [num, 6, 2])


@pytest.fixture
def model():
    model = Blocks()
    model.build_variables()
    model.traces.clear()
    return model


@pytest.fixture(params=[False, True], ids=["plain", "xla"])
def decoder(model, request):
    return ImageDecoder(model, image_shape=SHAPE, batch_size=3, xla=request.param)


def random_images(number: int) -> np.ndarray:
    return np.random.default_rng(5).integers(0, 256, [number, *SHAPE]).astype(np.uint8)


@pytest.mark.parametrize("number", [1, 3, 7])
def test_any_number_of_images(decoder, number):
    images = random_images(number)
    seen = []
    codes = decoder.encode(images, progress=seen.append)
    np.testing.assert_array_equal(codes, images[:, ::2, ::2, :2].reshape(number, 6, 2) % NUM_CODES)
    assert sum(seen) == number
    decoded = decoder.decode(codes)
    assert decoded.dtype == np.uint8
    assert decoded.shape == images.shape
    np.testing.assert_array_equal(decoded[:, ::2, ::2, 0].reshape(number, 6), codes.sum(-1))
    np.testing.assert_array_equal(decoder.reconstruct(images), decoded)


def test_each_function_is_traced_once(decoder, model):
    for number in (1, 3, 7):
        decoder.reconstruct(random_images(number))
        decoder.sample(number, temperature=0.5, top_k=2)
        decoder.measure(random_images(number), np.zeros([number, 6, 2], np.int32))
    assert sorted(map(str, model.traces)) == [
        "('sample', 3, 0.5, 2)",
        "decode",
        "encode",
        "loss",
    ]


def test_weights_are_read_when_the_decoder_runs(decoder, model):
    codes = decoder.encode(random_images(2))
    before = decoder.decode(codes)
    model.scale.assign(3.0)
    np.testing.assert_array_equal(decoder.decode(codes), 3 * before)


def test_a_sample_depends_only_on_the_seed_and_its_number(decoder):
    five = decoder.sample(5, seed=4)
    assert five.shape == (5, 6, 2)
    np.testing.assert_array_equal(decoder.sample(2, seed=4), five[:2])
    np.testing.assert_array_equal(decoder.sample(8, seed=4)[:5], five)
    assert len(np.unique(five, axis=0)) == 5
    assert (decoder.sample(5, seed=5) != five).any()


def test_temperature_zero_is_an_error(decoder):
    with pytest.raises(UsageError, match=r"temperature is 0, expected a number above 0"):
        decoder.sample(1, temperature=0)


@pytest.mark.parametrize("number", [1, 3, 8])
def test_metrics_are_means_over_the_images(decoder, number):
    images = random_images(number)
    codes = decoder.encode(images)
    assert decoder.measure(images, codes) == {
        "brightness": pytest.approx(images.mean(), rel=1e-6),
        "codes": pytest.approx(codes.sum((1, 2)).mean(), rel=1e-6),
        "rows": number,
    }


def test_the_decoder_runs_the_given_number_of_search_passes(model):
    images = random_images(4)
    plain, twice = (
        ImageDecoder(model, image_shape=SHAPE, search_passes=passes, xla=False).encode(images)
        for passes in (0, 2)
    )
    np.testing.assert_array_equal(twice, (plain + 2) % NUM_CODES)


def test_codes_of_another_model_are_errors(decoder):
    codes = np.zeros([2, 6, 2], np.int32)
    for bad, message in (
        (codes[:, :5], r"shape \[2, 5, 2\], expected .* = \[images, 6, 2\]"),
        (codes + NUM_CODES, "codes are from 7 to 7, expected 0 to 6: the model has 7 codes"),
        (codes - 1, "codes are from -1 to -1"),
    ):
        with pytest.raises(UsageError, match=message):
            decoder.decode(bad)


def test_digest_depends_only_on_the_values(model):
    other = Blocks()
    other.build_variables()
    assert weights_digest(model) == weights_digest(other)
    other.scale.assign(1.5)
    assert weights_digest(model) != weights_digest(other)

"""The bottleneck as a layer of Keras models: unknown sizes, masks, precisions, frozen."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from t2t_vqem.constants import UsageError
from t2t_vqem.layers import VectorQuantizer

KINDS = ("vq", "hard_em", "soft_em")


def draw(*shape: int, seed: int = 0) -> np.ndarray:
    """Returns normal float32 numbers."""
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def autoencoder(width: int = 4, **kwargs) -> keras.Model:
    """Returns a compiled model of vectors [2], quantised as vectors of another width."""
    keras.utils.set_random_seed(0)
    layers = [
        keras.Input([2]),
        keras.layers.Dense(width, name="encoder"),
        VectorQuantizer(8, width, name="codes", **kwargs),
        keras.layers.Dense(2, name="decoder"),
    ]
    model = keras.Sequential(layers)
    model.compile(keras.optimizers.Adam(0.01), "mse")
    return model


def values(layer: VectorQuantizer) -> list[np.ndarray]:
    """Returns what the layer has learned."""
    return [value.numpy() for value in layer.read()]


@pytest.mark.parametrize("kwargs", [{"kind": kind} for kind in KINDS] + [{"num_samples": 0}])
def test_sequences_of_several_lengths_under_fit(kwargs):
    data = [draw(length, 16, seed=length) for length in (3, 5, 7, 4)]
    batches = (
        tf.data.Dataset.from_generator(
            lambda: iter(data), output_signature=tf.TensorSpec([None, 16], tf.float32)
        )
        .padded_batch(2)
        .map(lambda x: (x, x))
    )
    model = keras.Sequential([keras.Input([None, 16]), VectorQuantizer(8, 16, **kwargs)])
    model.compile("adam", "mse")
    history = model.fit(batches, epochs=2, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    assert model.layers[-1].state.age.numpy() == 4
    assert [model(x).shape[1] for x, _ in batches] == [5, 7]


def test_images_of_several_sizes():
    layer = VectorQuantizer(8, 16)
    learn = tf.function(
        lambda x: layer(x, training=True),
        input_signature=[tf.TensorSpec([None, None, None, 16], tf.float32)],
    )
    for size in ((2, 3, 4), (1, 5, 2)):
        assert learn(draw(*size, 16)).shape == (*size, 16)


def test_draws_do_not_depend_on_what_the_graph_knows():
    x = draw(3, 5, 4)
    found = []
    for shape in ([3, 5, 4], [None, 5, 4], [None, None, 4]):
        keras.utils.set_random_seed(0)
        layer = VectorQuantizer(8, 4, temperature=2.0)
        learn = tf.function(
            lambda x, layer=layer: layer(x, training=True),
            input_signature=[tf.TensorSpec(shape, tf.float32)],
        )
        found.append([learn(x).numpy(), *values(layer)])
    for other in found[1:]:
        for one, two in zip(found[0], other, strict=True):
            np.testing.assert_allclose(one, two, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_a_frozen_layer_learns_nothing_and_draws_nothing(kind):
    x = draw(64, 2)
    model = autoencoder(kind=kind, revive_below=0.9, temperature=5.0)
    model.fit(x, x, verbose=0)
    layer = model.get_layer("codes")
    layer.trainable = False
    model.compile(keras.optimizers.Adam(0.01), "mse")
    before, encoder = values(layer), model.get_layer("encoder").get_weights()
    history = model.fit(x, x, epochs=2, verbose=0).history
    for one, other in zip(before, values(layer), strict=True):
        np.testing.assert_array_equal(one, other)
    assert (model.get_layer("encoder").get_weights()[0] != encoder[0]).any()
    assert history["codes_revived"] == [0, 0] and history["codes_perplexity"][0] > 1
    vectors = draw(9, 4)
    np.testing.assert_array_equal(layer(vectors, training=True), layer(vectors))


@pytest.mark.parametrize("kind", KINDS)
def test_a_mask_goes_through_to_the_loss(kind):
    ids = np.array([[1, 2, 3, 0, 0], [4, 1, 0, 0, 0]])
    targets = np.where(ids[..., None] > 0, 0.1, 100.0)
    keras.utils.set_random_seed(0)
    inputs = keras.Input([None], dtype="int32")
    embedded = keras.layers.Embedding(5, 4, mask_zero=True)(inputs)
    layer = VectorQuantizer(3, 4, kind=kind, revive_below=0.0)
    model = keras.Model(inputs, keras.layers.Dense(1)(layer(embedded)))
    model.compile("adam", "mse")
    history = model.fit(ids, targets, epochs=2, verbose=0).history
    assert max(history["loss"]) < 10  # 5,064 with the padding
    counted = layer.quantize_vectors(embedded_of(model, ids), ids > 0).loss / 5
    shown = model.evaluate(ids, targets, verbose=0, return_dict=True)
    figure = next(value for name, value in shown.items() if name.endswith("commitment_loss"))
    assert figure == pytest.approx(float(counted), rel=1e-5)


def embedded_of(model: keras.Model, ids: np.ndarray) -> tf.Tensor:
    """Returns the vectors that the model's first layers make of ids."""
    return model.layers[1](ids)


@pytest.mark.parametrize("eager", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_figures_and_loss_of_validation(kind, eager):
    x = draw(64, 2)
    model = autoencoder(kind=kind)
    model.compile("adam", "mse", run_eagerly=eager)
    history = model.fit(x, x, epochs=2, validation_data=(x, x), verbose=0).history
    layer = model.get_layer("codes")
    output = layer.quantize_vectors(model.get_layer("encoder")(x))
    counts = np.bincount(output.ids.numpy().ravel(), minlength=8)
    per_batch = [np.bincount(part.ravel(), minlength=8) for part in np.split(output.ids.numpy(), 2)]
    expected = np.mean(
        [float(layer.describe(c[None].astype("f"))["perplexity"]) for c in per_batch]
    )
    assert history["val_codes_perplexity"][-1] == pytest.approx(expected, rel=1e-5)
    assert history["val_codes_used"][-1] >= (counts > 0).mean() / 2
    error = np.mean((model.predict(x, verbose=0) - x) ** 2)
    commitment = float(output.loss) / 64
    assert history["val_codes_commitment_loss"][-1] == pytest.approx(commitment, rel=1e-4)
    assert history["val_loss"][-1] == pytest.approx(error + commitment, rel=1e-4)
    assert ("codes_moved" in history) == (kind != "vq")


def test_predictions_change_no_figure():
    x = draw(64, 2)
    model = autoencoder()
    model.fit(x, x, verbose=0)
    layer = model.get_layer("codes")
    before = [variable.numpy() for variable in layer.metrics_variables]
    model.predict(x, verbose=0)
    model(x)
    assert [v.numpy() for v in layer.metrics_variables] == before
    function = tf.function(model)
    operations = {op.type for op in function.get_concrete_function(x).graph.get_operations()}
    assert not [name for name in operations if name.startswith("Assign")]


@pytest.mark.parametrize("kwargs", [{"kind": kind} for kind in KINDS] + [{"num_samples": 0}])
@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_a_vector_that_is_not_finite_counts_nothing(kwargs, wrong):
    good, bad = draw(40, 4), draw(40, 4)
    bad[7, 1] = wrong
    layers = []
    for batch, mask in ((bad, None), (np.nan_to_num(bad), np.arange(40) != 7)):
        keras.utils.set_random_seed(0)
        layer = VectorQuantizer(8, 4, **kwargs)
        layer(good, training=True)
        with tf.GradientTape() as tape:
            layer(batch, mask=mask, training=True)
            (loss,) = layer.losses
        assert np.isfinite(loss)
        for gradient in tape.gradient(loss, layer.trainable_variables):
            assert np.isfinite(tf.convert_to_tensor(gradient)).all()
        layers.append(layer)
    for one, other in zip(*map(values, layers), strict=True):
        assert np.isfinite(one).all()
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("policy", ["bfloat16", "float16", "float64", "mixed_bfloat16"])
@pytest.mark.parametrize("kind", KINDS)
def test_state_is_float32_whatever_is_computed_in(policy, kind):
    x = draw(64, 2)
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        model = autoencoder(kind=kind)
        history = model.fit(x, x, validation_data=(x, x), verbose=0).history
    finally:
        keras.config.set_dtype_policy(before)
    layer = model.get_layer("codes")
    assert {variable.dtype for variable in layer.state} == {"float32"}
    assert layer(draw(3, 4)).dtype == layer.compute_dtype
    assert np.isfinite([history["loss"], history["val_loss"]]).all()


@pytest.mark.parametrize(
    "kwargs, message",
    [
        ({"temperature_end": 0}, "temperature_end=0.0 is out of range, expected at least 1e-06"),
        ({"decay": 1.5}, "decay=1.5 is out of range, expected 0 to 1"),
        ({"beta": -1}, "beta=-1.0 is out of range, expected at least 0"),
        ({"revive_below": 2}, "revive_below=2.0 is out of range, expected at least 0 and below 1"),
        ({"num_codes": 0}, "num_codes=0 is out of range, expected at least 2"),
        ({"num_codes": 2.5}, "num_codes=2.5 is of type float, expected int"),
        ({"num_samples": -1}, "num_samples=-1 is out of range, expected at least 0"),
    ],
)
def test_arguments_are_checked(kwargs, message):
    with pytest.raises(UsageError, match=message):
        VectorQuantizer(**{"num_codes": 8, "width": 4, **kwargs})


@pytest.mark.parametrize("num_codebooks", [1, 2])
def test_encode_and_decode(num_codebooks):
    x = draw(200, 4)
    layer = VectorQuantizer(8, 4, num_codebooks=num_codebooks)
    layer.start(x)
    for vectors in (x[:6], x[:6].reshape(2, 3, 4), tf.constant(x[:6]), x[0]):
        ids = layer.encode(vectors)
        assert ids.dtype == tf.int32 and ids.shape == (*vectors.shape[:-1], num_codebooks)
        slices = np.reshape(vectors, [-1, num_codebooks, 1, 4 // num_codebooks])
        errors = ((slices - layer.codebooks.numpy()) ** 2).sum(-1)
        np.testing.assert_array_equal(np.reshape(ids, [-1, num_codebooks]), errors.argmin(-1))
        decoded = layer.decode(ids.numpy())
        np.testing.assert_array_equal(decoded, layer(vectors))
        np.testing.assert_array_equal(layer.encode(decoded), ids)


class Subclassed(keras.Model):
    """An autoencoder as a class."""

    def __init__(self, kind: str):
        """Makes the layers."""
        super().__init__()
        self.encoder = keras.layers.Dense(4)
        self.codes = VectorQuantizer(8, 4, kind=kind, name="codes")
        self.decoder = keras.layers.Dense(2)

    def call(self, x, training=False):
        """Encodes, quantises and decodes."""
        return self.decoder(self.codes(self.encoder(x), training=training))


def functional(kind: str) -> keras.Model:
    """Returns an autoencoder of the functional interface."""
    inputs = keras.Input([2])
    codes = VectorQuantizer(8, 4, kind=kind, name="codes")(keras.layers.Dense(4)(inputs))
    return keras.Model(inputs, keras.layers.Dense(2)(codes))


def sequential(kind: str) -> keras.Model:
    """Returns an autoencoder that is a list of layers."""
    layer = VectorQuantizer(8, 4, kind=kind, name="codes")
    return keras.Sequential([keras.layers.Dense(4), layer, keras.layers.Dense(2)])


@pytest.mark.slow
@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("make", [functional, sequential, Subclassed])
def test_every_way_to_make_a_model(make, kind, jit_compile):
    """The first step is that of the layers called by hand, compiled or not."""
    x = draw(64, 2)
    keras.utils.set_random_seed(0)
    model = make(kind)
    model.compile(keras.optimizers.SGD(0.0), "mse", jit_compile=jit_compile)
    model.build([None, 2])
    encoder, layer = model.layers[-3], model.layers[-2]
    alone = VectorQuantizer.from_config(layer.get_config())
    alone.assign(layer.read())
    model.fit(x, x, batch_size=64, shuffle=False, verbose=0)
    alone(encoder(x), training=True)
    for one, other in zip(values(alone), values(layer), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
    assert layer.read().age == 1


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_clone_save_load_and_export(kind, tmp_path):
    x = draw(64, 2)
    model = autoencoder(kind=kind, num_codebooks=2, beta=0.5, seed=3)
    model.fit(x, x, epochs=2, verbose=0)
    expected, layer = model.predict(x, verbose=0), model.get_layer("codes")

    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded.predict(x, verbose=0), expected, rtol=1e-5, atol=1e-6)
    assert loaded.get_layer("codes").get_config() == layer.get_config()
    for one in (model, loaded):  # both go on alike, optimiser included
        one.fit(x, x, shuffle=False, verbose=0)
    for one, other in zip(values(layer), values(loaded.get_layer("codes")), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)

    clone = keras.models.clone_model(model)
    clone.set_weights(model.get_weights())
    expected = model.predict(x, verbose=0)
    np.testing.assert_allclose(clone.predict(x, verbose=0), expected, rtol=1e-5, atol=1e-6)

    model.export(tmp_path / "exported", verbose=False)
    served = tf.saved_model.load(tmp_path / "exported")
    np.testing.assert_allclose(served.serve(x), expected, rtol=1e-4, atol=1e-5)

"""The VQ-VAE: its bound, the prior beside the autoencoder, and its sampling."""

import dataclasses
import math

import numpy as np
import pytest
import tensorflow as tf

from t2t_vqem import registry
from t2t_vqem.constants import UsageError
from t2t_vqem.hparams.vqvae import VQVAEHParams
from t2t_vqem.metrics.images import psnr, ssim
from t2t_vqem.ops.likelihoods import pixel_log_prob, pixel_mean
from t2t_vqem.ops.random import Rng
from t2t_vqem.training.optimizer import adam_update, make_slots

SHAPE = (8, 12, 3)
L, C, K = 6, 2, 7
HPARAMS = VQVAEHParams(
    hidden_size=12,
    num_downsamplings=2,
    num_residual_blocks=1,
    residual_size=6,
    num_mixtures=2,
    bottleneck_kind="hard_em",
    num_codes=K,
    num_codebooks=C,
    code_size=6,
    num_samples=3,
    prior_layers=2,
    prior_size=12,
    prior_filter_size=20,
    prior_heads=3,
    prior_dropout=0.0,
)
KINDS = pytest.mark.parametrize("kind", ["vq", "hard_em", "soft_em"])
TURNS = pytest.mark.parametrize("turns", [1, 2, 4])
KINDS_AND_TURNS = pytest.mark.parametrize(
    ("kind", "turns"), [("vq", 1), ("hard_em", 1), ("soft_em", 1), ("soft_em", 2)]
)


def make(shape=SHAPE, **changes):
    model = registry.models.get("vqvae")(dataclasses.replace(HPARAMS, **changes), image_shape=shape)
    tf.keras.utils.set_random_seed(1)
    model.build_variables()
    rng = np.random.default_rng(0)
    for variable in model.trainable_variables:
        variable.assign(variable.numpy() + rng.normal(0, 0.1, variable.shape))
    return model


def example(rows: int = 4, shape=SHAPE, seed: int = 1) -> dict[str, tf.Tensor]:
    images = np.random.default_rng(seed).integers(0, 256, [rows, *shape]).astype(np.uint8)
    return {"images": tf.constant(images), "mask": tf.ones([rows], tf.bool)}


def started(**changes):
    """A model whose codes are where its latent vectors are."""
    model = make(**changes)
    batches = ({k: v.numpy() for k, v in example(8, seed=s).items()} for s in range(9))
    model.start(batches, seed=0)
    return model


def test_the_bound_is_that_of_its_parts():
    model, batch = started(), example()
    output = model.loss(batch)
    ids = model.encode_to_codes(batch["images"])
    assert ids.shape == (4, L, C)
    field = tf.reshape(ids, [4, 2, 3, C])
    parameters = model.decoder(model.quantizer.decode(field))
    reconstruction = -np.sum(pixel_log_prob(parameters, batch["images"]))
    log_probs = tf.nn.log_softmax(model.prior(ids)).numpy()
    prior = -sum(
        log_probs[b, i, c, ids[b, i, c]] for b in range(4) for i in range(L) for c in range(C)
    )
    latents = model.encode(batch["images"]).numpy().astype(np.float64)
    errors = (latents - model.quantizer.decode(field).numpy()) ** 2
    commitment = HPARAMS.beta * errors.sum()
    figures = {name: float(s / w) for name, (s, w) in output.metrics.items()}
    dims = 4 * math.prod(SHAPE)
    assert float(output.weight) == dims
    assert figures == pytest.approx(
        {
            "bits_per_dim": (reconstruction + prior) / dims / math.log(2),
            "reconstruction_bits": reconstruction / dims / math.log(2),
            "prior_bits": prior / dims / math.log(2),
            "uniform_prior_bits": L * C * math.log2(K) / math.prod(SHAPE),
            "bits_per_dim_uniform": reconstruction / dims / math.log(2)
            + L * C * math.log2(K) / math.prod(SHAPE),
            "rate": prior / 4 / math.log(2),
            "psnr": np.mean(psnr(batch["images"], model.reconstruct(batch["images"]))),
            "ssim": np.mean(ssim(batch["images"], model.reconstruct(batch["images"]))),
            "commitment": commitment / (4 * L),
        },
        rel=1e-4,
    )
    assert float(output.loss) == pytest.approx(reconstruction + prior, rel=1e-5)
    output = model.loss(batch, rng=Rng(0, 0))  # hard EM, no dropout: the same except for commitment
    total = reconstruction + prior + commitment
    assert float(output.loss) == pytest.approx(total, rel=1e-5)


@TURNS
def test_weights_are_named_after_the_part_that_has_them(turns):
    """Checkpoints go by these names."""
    parts = {"encoder", "decoder", "quantizer", "prior"} | ({"turns"} if turns > 1 else set())
    paths = [variable.path for variable in make(encoding_turns=turns).variables]
    assert {path.split("/")[0] for path in paths} == parts
    assert len(set(paths)) == len(paths)


def test_squared_error_is_a_part_of_the_loss_and_not_of_the_bound():
    batch = example()
    plain, weighted = (started(squared_error_weight=w).loss(batch) for w in (0.0, 3.0))
    for name, (value, _) in plain.metrics.items():
        np.testing.assert_array_equal(weighted.metrics[name][0], value, err_msg=name)
    model = started()
    parameters = model.decoder(model.quantizer.decode(_field(model, batch)))
    means = pixel_mean(parameters, 3).numpy().astype(np.float64)
    errors = ((means - batch["images"].numpy()) ** 2).mean((1, 2, 3)) + 1 / 12
    nats = sum(math.prod(SHAPE) / 2 * math.log(2 * math.pi * math.e * error) for error in errors)
    assert float(weighted.loss - plain.loss) == pytest.approx(3 * nats, rel=1e-4)


def _field(model, batch) -> tf.Tensor:
    return tf.reshape(model.encode_to_codes(batch["images"]), [4, 2, 3, C])


def test_evaluation_counts_the_codes_that_encoding_gives():
    model, batch = started(), example()
    counts = model.loss(batch).statistics.numpy()
    ids = model.encode_to_codes(batch["images"]).numpy()
    for c in range(C):
        np.testing.assert_array_equal(counts[c], np.bincount(ids[..., c].ravel(), minlength=K))
    described = model.describe_statistics(tf.constant(counts))
    shares = counts / counts.sum(1, keepdims=True)
    entropy = -(shares * np.log(np.maximum(shares, 1e-30))).sum(1)
    assert float(described["perplexity"]) == pytest.approx(np.exp(entropy).mean(), rel=1e-4)
    assert float(described["codes_used"]) == pytest.approx((counts > 0).mean())


@KINDS_AND_TURNS
def test_the_prior_never_disturbs_the_autoencoder(kind, turns):
    model, batch = started(bottleneck_kind=kind, encoding_turns=turns), example()
    own = {v.path for v in model.prior.trainable_variables}
    variables = model.trainable_variables
    with tf.GradientTape(persistent=True) as tape:
        output = model.loss(batch, rng=Rng(0, 1))
        prior = output.metrics["prior_bits"][0]
        reconstruction = output.metrics["reconstruction_bits"][0]
    of_prior = tape.gradient(prior, variables)
    of_pixels = tape.gradient(reconstruction, variables)
    of_all = tape.gradient(output.loss, variables)
    for variable, *gradients in zip(variables, of_prior, of_pixels, of_all, strict=True):
        prior_gradient, pixel_gradient, gradient = gradients
        if variable.path in own:
            assert np.abs(tf.convert_to_tensor(prior_gradient)).max() > 0, variable.path
            assert pixel_gradient is None, variable.path
        else:
            assert prior_gradient is None, variable.path
            assert np.abs(tf.convert_to_tensor(gradient)).max() > 0, variable.path


@TURNS
def test_the_encoder_learns_through_the_quantiser(turns):
    model, batch = started(encoding_turns=turns), example()
    with tf.GradientTape() as tape:
        nats = model.loss(batch, rng=Rng(0, 1)).metrics["reconstruction_bits"][0]
    variables = list(model.encoder.trainable_variables)
    if turns > 1:
        variables += model.turns.trainable_variables
    for gradient in tape.gradient(nats, variables):
        assert np.abs(gradient).max() > 0


@KINDS
@pytest.mark.parametrize("training", [False, True], ids=["evaluation", "training"])
def test_empty_rows_change_no_sum(kind, training):
    model, batch = started(bottleneck_kind=kind), example()
    padded = {
        "images": tf.concat([batch["images"], example(3, seed=8)["images"]], 0),
        "mask": tf.constant([True] * 4 + [False] * 3),
    }
    rngs = [Rng(0, 4), Rng(0, 4)] if training else [None, None]
    one, two = model.loss(batch, rng=rngs[0]), model.loss(padded, rng=rngs[1])
    if training:  # the vectors that codes may be moved to are drawn from all rows
        one, two = (
            output._replace(
                statistics=output.statistics._replace(candidates=(), candidate_weights=())
            )
            for output in (one, two)
        )
    for a, b in zip(tf.nest.flatten(one), tf.nest.flatten(two), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def test_nothing_but_empty_rows_weighs_nothing():
    model, batch = started(), example()
    output = model.loss({**batch, "mask": tf.zeros([4], tf.bool)})
    assert not any(np.any(value) for value in tf.nest.flatten(output))


@TURNS
def test_an_image_is_coded_alike_alone_and_in_company(turns):
    model, batch = started(encoding_turns=turns), example()
    together = model.encode_to_codes(batch["images"]).numpy()
    for row in range(4):
        alone = model.encode_to_codes(batch["images"][row : row + 1]).numpy()
        np.testing.assert_array_equal(alone[0], together[row])


@TURNS
def test_reconstruction_is_the_mean_image_of_the_codes(turns):
    model, batch = started(encoding_turns=turns), example()
    codes = model.encode_to_codes(batch["images"])
    images = model.decode_codes(codes)
    assert images.dtype == tf.uint8
    assert images.shape == batch["images"].shape
    np.testing.assert_array_equal(model.reconstruct(batch["images"]), images)
    other = tf.tensor_scatter_nd_update(codes, [[0, 0, 0]], [(int(codes[0, 0, 0]) + 1) % K])
    assert (model.decode_codes(other)[0].numpy() != images[0].numpy()).any()


@KINDS_AND_TURNS
def test_a_search_makes_images_nearer_and_they_are_measured(kind, turns):
    model, batch = started(bottleneck_kind=kind, encoding_turns=turns), example()
    plain, searched = (model.encode_to_codes(batch["images"], search_passes=n) for n in (0, 1))
    nearest, given = model.loss(batch), model.loss({**batch, "codes": plain})
    for a, b in zip(tf.nest.flatten(nearest), tf.nest.flatten(given), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)
    found = model.loss({**batch, "codes": searched})
    before, after = (psnr(batch["images"], model.decode_codes(ids)) for ids in (plain, searched))
    assert float(found.metrics["psnr"][0]) == pytest.approx(float(tf.reduce_sum(after)), rel=1e-5)
    assert (after.numpy() > before.numpy()).all()
    counts = np.stack([np.bincount(np.ravel(searched[..., c]), minlength=K) for c in range(C)])
    np.testing.assert_array_equal(found.statistics, counts)
    alone = model.encode_to_codes(batch["images"][1:2], search_passes=1)
    np.testing.assert_array_equal(alone[0], searched[1])


def test_a_search_in_bfloat16_makes_images_nearer():
    model, batch = started(dtype="bfloat16"), example()
    plain, searched = (
        model.decode_codes(model.encode_to_codes(batch["images"], search_passes=n)) for n in (0, 1)
    )
    assert (psnr(batch["images"], searched) > psnr(batch["images"], plain)).numpy().all()


def test_residual_codes_are_summed_and_searched():
    model, batch = started(composition="residual"), example()
    plain, searched = (model.encode_to_codes(batch["images"], search_passes=n) for n in (0, 1))
    books = model.quantizer.codebooks.numpy()
    assert books.shape == (C, K, HPARAMS.code_size)
    vectors = sum(books[c][plain[..., c]] for c in range(C))
    expected = model._mean_images(tf.reshape(vectors, [4, 2, 3, -1]))
    np.testing.assert_allclose(model.decode_codes(plain), np.round(expected), atol=1)
    before, after = (psnr(batch["images"], model.decode_codes(ids)) for ids in (plain, searched))
    assert (after.numpy() > before.numpy()).all()


def test_samples_follow_the_prior():
    """Draws of the first two codes against the probabilities that the whole sequence gives."""
    model = started()
    num = 4000
    sample = tf.function(
        lambda seed, rows: model.sample_codes(
            num, temperature=0.7, top_k=0, seed=seed, row_ids=rows
        ),
        jit_compile=True,
    )
    codes = sample(tf.constant(5), tf.range(num)).numpy()
    assert codes.shape == (num, L, C)
    assert codes.min() >= 0
    assert codes.max() < K
    logits = model.prior(tf.zeros([1, L, C], tf.int32)).numpy()[0, 0, 0] / 0.7
    expected = np.exp(logits) / np.exp(logits).sum()
    counts = np.bincount(codes[:, 0, 0], minlength=K)
    assert (np.abs(counts - num * expected) < 5 * np.sqrt(num * expected) + 1).all()
    first = counts.argmax()  # the code after it, wherever the first is this one
    logits = model.prior(tf.fill([1, L, C], int(first))).numpy()[0, 0, 1] / 0.7
    expected = np.exp(logits) / np.exp(logits).sum()
    counts = np.bincount(codes[codes[:, 0, 0] == first, 0, 1], minlength=K)
    assert (
        np.abs(counts - counts.sum() * expected) < 5 * np.sqrt(counts.sum() * expected) + 1
    ).all()


def test_choosing_the_most_probable_equals_the_whole_sequence():
    """Teacher forcing: each code is the argmax of the logits that the codes before it give."""
    model = started()
    codes = model.sample_codes(2, temperature=1.0, top_k=1, seed=0, row_ids=tf.range(2))
    best = model.prior(codes).numpy().argmax(-1)
    np.testing.assert_array_equal(codes, best)


def test_a_row_is_sampled_alike_in_any_company():
    model = started()
    args = {"temperature": 1.0, "top_k": 4}
    five = model.sample_codes(5, seed=3, row_ids=tf.range(5), **args).numpy()
    two = model.sample_codes(2, seed=3, row_ids=tf.constant([4, 1]), **args).numpy()
    np.testing.assert_array_equal(two, five[[4, 1]])
    assert len(np.unique(five.reshape(5, -1), axis=0)) == 5
    other = model.sample_codes(5, seed=4, row_ids=tf.range(5), **args).numpy()
    assert (other != five).any()


def test_top_k_leaves_the_most_probable_codes():
    model = started()
    codes = model.sample_codes(64, temperature=3.0, top_k=2, seed=1, row_ids=tf.range(64))
    logits = model.prior(codes).numpy()
    rank = (logits > np.take_along_axis(logits, codes.numpy()[..., None], -1)).sum(-1)
    assert set(np.unique(rank)) == {0, 1}


@pytest.mark.slow
def test_compiled_loss_and_gradients_equal_eager_ones():
    """Of the kind that has most parts; the quantiser's own test has all kinds."""
    model = started(bottleneck_kind="soft_em", encoding_turns=2, prior_dropout=0.1)
    batch = example()
    variables = model.trainable_variables

    def gradients():
        with tf.GradientTape() as tape:
            output = model.loss(batch, rng=Rng(0, 1))
        return [output, *tape.gradient(output.loss, variables)]

    compiled = tf.function(gradients, jit_compile=True)()
    for eager, fast in zip(tf.nest.flatten(gradients()), tf.nest.flatten(compiled), strict=True):
        eager = tf.convert_to_tensor(eager)
        scale = np.abs(eager).max()
        np.testing.assert_allclose(eager, fast, rtol=1e-3, atol=1e-4 * max(scale, 1e-3))


@TURNS
def test_one_batch_and_two_halves_give_the_same_sums(turns):
    changes = {"bottleneck_kind": "soft_em", "encoding_turns": turns, "prior_dropout": 0.2}
    model, batch = started(**changes), example()
    whole = model.loss(batch, rng=Rng(0, 5, 0, 4))
    halves = [
        model.loss({k: v[i : i + 2] for k, v in batch.items()}, rng=Rng(0, 5, i, 4)) for i in (0, 2)
    ]
    both = tf.nest.map_structure(tf.add, *halves)
    for a, b in zip(tf.nest.flatten(whole), tf.nest.flatten(both), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


@KINDS_AND_TURNS
def test_bfloat16_is_close_to_float32(kind, turns):
    batch = example()
    changes = {"bottleneck_kind": kind, "encoding_turns": turns}
    precise = make(**changes).loss(batch)
    mixed = make(**changes, dtype="bfloat16").loss(batch)
    # As in test_transformer_nat.py; a code that becomes another costs 0.4 %.
    np.testing.assert_allclose(mixed.loss, precise.loss, rtol=2e-2)
    assert all(value.dtype == tf.float32 for value in tf.nest.flatten(mixed))


def test_the_prior_takes_part_in_the_e_step():
    batch = example()
    model = started(prior_weight=0.8, prior_weight_steps=0)
    units = model.quantizer.distance.numpy()
    vectors = model.encode(batch["images"]).numpy().reshape(4, L, C, 1, 3)
    codes = model.quantizer.codebooks.numpy().astype(np.float64)
    squared = ((vectors - codes) ** 2).sum(-1)
    nearest = squared.argmin(-1)
    logits = model.prior(tf.constant(nearest, tf.int32)).numpy().astype(np.float64)
    log_probs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    chosen = (squared + 0.8 * units[:, None] * np.minimum(-log_probs, 10)).argmin(-1)
    assert (chosen != nearest).any()
    counts = model.loss(batch, rng=Rng(0, 0)).statistics.counts
    for codebook in range(C):
        expected = np.bincount(chosen[..., codebook].ravel(), minlength=K)
        np.testing.assert_array_equal(counts[codebook], expected)


def slices_of_latents(model, batch) -> np.ndarray:
    """The latent vectors of a batch, float32 [C, N, D/C]."""
    latents = model.encode(batch["images"]).numpy().reshape(-1, C, HPARAMS.code_size // C)
    return latents.transpose(1, 0, 2)


def test_first_codes_are_the_means_of_what_they_stand_for():
    """A fixed point of K-means over the latent vectors, fewer than would be taken."""
    model, batch = make(), example(8)
    model.start(iter([{name: value.numpy() for name, value in batch.items()}]), seed=0)
    for vectors, codes in zip(
        slices_of_latents(model, batch), model.quantizer.codebooks.numpy(), strict=True
    ):
        nearest = ((vectors[:, None] - codes) ** 2).sum(-1).argmin(-1)
        means = [vectors[nearest == code].mean(0) for code in range(K)]
        np.testing.assert_allclose(codes, means, rtol=1e-4, atol=1e-5)


def test_first_codes_may_be_vectors_of_the_first_update():
    model, batch = started(codebook_start="data"), example()
    fresh = make().quantizer.codebooks.numpy()
    np.testing.assert_array_equal(model.quantizer.codebooks, fresh)
    statistics = model.loss(batch, rng=Rng(0, 0)).statistics
    before = model.quantizer.read()
    model.quantizer.assign(model.update_state(before, statistics, before)[0])
    for vectors, codes in zip(
        slices_of_latents(model, batch), model.quantizer.codebooks.numpy(), strict=True
    ):
        for code in codes:
            assert np.isclose(code, vectors, rtol=1e-4, atol=1e-5).all(1).any()


def test_empty_rows_have_no_part_in_the_start():
    batch = {k: v.numpy() for k, v in example(40).items()}
    batch["mask"][30:] = False
    other = {**batch, "images": batch["images"].copy()}
    other["images"][30:] = 0
    found = []
    for data in (batch, other):
        model = make()
        model.start(iter([data]), seed=0)
        found.append(model.quantizer.codebooks.numpy())
    np.testing.assert_array_equal(*found)


@pytest.mark.parametrize(("shape", "downsamplings"), [((8, 8, 1), 1), ((16, 8, 3), 3)])
def test_other_shapes(shape, downsamplings):
    model = make(shape, num_downsamplings=downsamplings)
    batch = example(2, shape)
    length = math.prod(shape[:2]) // 4**downsamplings
    for passes in (0, 1):
        codes = model.encode_to_codes(batch["images"], search_passes=passes)
        assert codes.shape == (2, length, C)
    assert model.reconstruct(batch["images"]).shape == (2, *shape)
    assert np.isfinite(model.loss(batch).loss)


def test_size_that_cannot_be_halved_so_often_is_an_error():
    message = (
        "num_downsamplings=3 with images of 8x12: .* multiples of 8. "
        "Set num_downsamplings to 2 at most, or let the problem"
    )
    with pytest.raises(UsageError, match=message):
        make(num_downsamplings=3)
    # At its minimum there is nothing lower to set.
    with pytest.raises(UsageError, match="images of 7x8: .* multiples of 2. Let the problem make"):
        make((7, 8, 3), num_downsamplings=1)


@pytest.mark.slow
@KINDS_AND_TURNS
def test_four_pictures_can_be_learned_by_heart(kind, turns):
    """The bounds are far from what several seeds and processors reached; see CONTRIBUTING.md."""
    model = make(
        (8, 8, 1),
        bottleneck_kind=kind,
        encoding_turns=turns,
        num_codebooks=1,
        num_codes=16,
        temperature_steps=50,
        codebook_decay=0.95,
        revive_below=1e-4,  # four pictures do not need 16 codes: those unused should not be moved
    )
    images = np.zeros([8, 8, 8, 1], np.uint8)  # four pictures of bars, each twice
    for i in range(8):
        images[i, :, 2 * (i % 4) : 2 * (i % 4) + 2] = 200
        images[i, 2 * (i % 4)] = 90
    batch = {"images": tf.constant(images), "mask": tf.ones([8], tf.bool)}
    model.start(iter([{k: v.numpy() for k, v in batch.items()}] * 50), seed=0)
    weights = [variable.value for variable in model.trainable_variables]
    slots = make_slots(weights)
    hparams = dataclasses.replace(HPARAMS, adam_beta2=0.99, adam_epsilon=1e-8)

    @tf.function(jit_compile=True)
    def update(step):
        with tf.GradientTape() as tape:
            output = model.loss(batch, rng=Rng(0, step))
        gradients = tape.gradient(output.loss, weights)
        gradients = [tf.convert_to_tensor(gradient) / output.weight for gradient in gradients]
        adam_update(weights, slots, gradients, step=step, learning_rate=5e-3, hparams=hparams)
        before = model.quantizer.read()
        values, _ = model.update_state(before, output.statistics, before)
        model.quantizer.assign(values)

    for step in range(600):
        update(tf.constant(step))
    figures = {name: float(s / w) for name, (s, w) in model.loss(batch).metrics.items()}
    assert figures["psnr"] > 20, figures  # 30 to 50, and 7 before
    assert figures["rate"] < 8, figures  # 2 to 4 bits, and 16 before; 2 tell four pictures apart
    codes = np.unique(model.encode_to_codes(batch["images"]), axis=0)
    assert len(codes) == 4
    # New pictures are drawn as often as the prior says: that they are known ones follows from it.
    logits = model.prior(tf.constant(codes)).numpy().astype(np.float64)
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    share = np.exp(np.take_along_axis(log_p, codes[..., None], -1).sum((1, 2, 3))).sum()
    num = 400
    drawn = model.sample_codes(num, temperature=1.0, top_k=0, seed=0, row_ids=tf.range(num))
    known = {row.tobytes() for row in codes}
    count = sum(row.tobytes() in known for row in drawn.numpy())
    assert abs(count - num * share) < 5 * math.sqrt(num * share * (1 - share)) + 1

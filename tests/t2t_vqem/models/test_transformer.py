"""The Transformer against a float64 reference, and its cache against the whole sequence."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from t2t_vqem import registry
from t2t_vqem.decoding.options import DecodeOptions
from t2t_vqem.hparams.transformer import TransformerHParams
from t2t_vqem.models.ensemble import Ensemble
from t2t_vqem.ops.masks import causal_bias, padding_bias, padding_mask
from t2t_vqem.ops.random import Rng

V = 23
HPARAMS = TransformerHParams(
    num_encoder_layers=2,
    num_decoder_layers=1,
    hidden_size=12,
    filter_size=20,
    num_heads=3,
    dropout=0.0,
    attention_dropout=0.0,
    relu_dropout=0.0,
    label_smoothing=0.1,
)


def make(**changes):
    keras.utils.set_random_seed(0)
    model = registry.models.get("transformer")(
        dataclasses.replace(HPARAMS, **changes), vocab_size=V
    )
    model.build_variables()
    rng = np.random.default_rng(0)
    for variable in model.variables:  # no zeros and ones: a swapped bias or gain must show
        variable.assign(variable.numpy() + rng.normal(0, 0.2, variable.shape))
    return model


def example(rows: int = 3, source: int = 7, target: int = 5) -> dict[str, tf.Tensor]:
    rng = np.random.default_rng(1)
    batch = {}
    for name, length in (("inputs", source), ("targets", target)):
        ids = rng.integers(3, V, [rows, length]).astype(np.int32)
        for row in range(rows):
            end = length - 1 - row % 3
            ids[row, end] = 1
            ids[row, end + 1 :] = 0
        batch[name] = tf.constant(ids)
    return batch


@pytest.fixture
def logits_of(float64_network):
    """The same network in float64, one sentence at a time, without padding."""

    def prepare(model):
        network = float64_network(model, HPARAMS.num_heads)

        def logits(source, shifted):
            memory = network.stack(network.embed(source), "encoder", 2)
            x = network.stack(network.embed(shifted), "decoder", 1, memory, causal=True)
            return x @ network.get("embedding/table").T

        return logits

    return prepare


def test_loss_equals_the_float64_reference_without_padding(logits_of):
    model, batch = make(), example()
    output = model.loss(batch)
    reference, nll, loss, weight, correct = logits_of(model), 0.0, 0.0, 0, 0
    for source, target in zip(batch["inputs"].numpy(), batch["targets"].numpy(), strict=True):
        source, target = source[source > 0], target[target > 0]
        logits = reference(source, np.concatenate([[0], target[:-1]]))
        log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        gold = log_p[np.arange(len(target)), target]
        nll -= gold.sum()
        loss -= (0.9 * gold + 0.1 * log_p.mean(-1)).sum()
        weight += len(target)
        correct += (logits.argmax(-1) == target).sum()
    np.testing.assert_allclose(output.loss, loss, rtol=1e-5)
    np.testing.assert_allclose(output.metrics["nll"][0], nll, rtol=1e-5)
    assert float(output.weight) == weight
    assert float(output.metrics["accuracy"][0]) == correct


def test_padding_and_empty_rows_change_nothing():
    model, batch = make(), example()
    padded = {k: tf.pad(v, [[0, 2], [0, 3]]) for k, v in batch.items()}
    one, two = model.loss(batch), model.loss(padded)
    np.testing.assert_allclose(one.loss, two.loss, rtol=1e-5)
    assert float(one.weight) == float(two.weight)


def test_step_by_step_equals_the_whole_sequence(logits_of):
    model, batch = make(), example()
    reference = logits_of(model)
    step, cache = model.step_fn(batch["inputs"], 8)
    targets = batch["targets"].numpy()
    before = np.zeros(3, np.int32)
    for position in range(targets.shape[1] - 2):
        logits, cache = step(tf.constant(before), tf.constant(position), cache)
        for row, source in enumerate(batch["inputs"].numpy()):
            shifted = np.concatenate([[0], targets[row, :position]])
            expected = reference(source[source > 0], shifted)[-1]
            np.testing.assert_allclose(logits[row, 1:], expected[1:], rtol=1e-4, atol=1e-4)
        before = targets[:, position]


@pytest.mark.parametrize("beam_size", [1, 3])
def test_a_row_decodes_alike_alone_and_in_company(beam_size):
    model, batch = make(), example()
    options = DecodeOptions(beam_size=beam_size, extra_length=4)
    together = model.infer(batch["inputs"], options, max_length=11)
    for row, source in enumerate(batch["inputs"].numpy()):
        alone = model.infer(tf.constant(source[source > 0][None]), options, max_length=15)
        np.testing.assert_array_equal(alone.tokens[0, :11], together.tokens[row])
        np.testing.assert_allclose(alone.scores[0], together.scores[row], rtol=1e-4)


@pytest.mark.parametrize("extra_length", [2, 15], ids=["short", "until the cache has grown"])
def test_greedy_follows_the_argmax_of_the_reference(extra_length, logits_of):
    model, batch = make(), example()
    options = DecodeOptions(extra_length=extra_length)
    decoded = model.infer(batch["inputs"], options, max_length=7 + extra_length)
    if extra_length == 15:  # the first cache holds 16 positions
        assert (decoded.tokens.numpy() > 0).sum(1).max() > 16
    reference = logits_of(model)
    for source, tokens in zip(batch["inputs"].numpy(), decoded.tokens.numpy(), strict=True):
        tokens = tokens[tokens > 0]
        logits = reference(source[source > 0], np.concatenate([[0], tokens[:-1]]))
        np.testing.assert_array_equal(logits[:, 1:].argmax(-1) + 1, tokens)
        assert len(tokens) <= (source > 0).sum() + extra_length


def test_a_translation_scores_what_the_reference_gives_it(logits_of):
    model, batch = make(), example()
    scores = model.score(tf.pad(batch["targets"], [[0, 0], [0, 2]]), *model.encode(batch["inputs"]))
    reference = logits_of(model)
    rows = zip(batch["inputs"].numpy(), batch["targets"].numpy(), scores, strict=True)
    for source, target, score in rows:
        target = target[target > 0]
        logits = reference(source[source > 0], np.concatenate([[0], target[:-1]]))
        log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        np.testing.assert_allclose(score, log_p[np.arange(len(target)), target].sum(), rtol=1e-5)


def test_empty_rows_decode_without_harm():
    model = make()
    for beam_size in (1, 2):
        options = DecodeOptions(extra_length=3, beam_size=beam_size)
        decoded = model.infer(tf.zeros([2, 5], tf.int32), options, max_length=8)
        assert np.isfinite(decoded.scores).all()
        assert not decoded.tokens.numpy().any()


def test_the_decoder_sees_no_future():
    """By gradient: a logit is reached by the tokens up to its position, and by all of these."""
    model, batch = make(), example()
    memory, bias = model.encode(batch["inputs"])
    x = model.embedding(batch["targets"])
    for position in range(5):
        with tf.GradientTape() as tape:
            tape.watch(x)
            out = model.decoder(x, causal_bias(5), memory, bias)[:, position]
            total = tf.reduce_sum(out * out)
        seen = np.abs(tape.gradient(total, x)).max((0, 2)) > 0
        np.testing.assert_array_equal(seen, np.arange(5) <= position)


def test_the_padding_of_the_source_is_unreachable():
    """Whatever the vector of PAD is, and only the tokens before it, reach a source's logits."""
    model, batch = make(), example()
    lengths = (batch["inputs"].numpy() > 0).sum(1)
    assert lengths.tolist() == [7, 6, 5]
    x = model.embedding(batch["inputs"])
    bias = padding_bias(padding_mask(batch["inputs"]))
    targets = model.embedding(batch["targets"])
    with tf.GradientTape() as tape:
        tape.watch(x)
        out = model.decoder(targets, causal_bias(5), model.encoder(x, bias), bias)
        total = tf.reduce_sum(out * out)
    seen = np.abs(tape.gradient(total, x)).max(2) > 0
    np.testing.assert_array_equal(seen, np.arange(7) < lengths[:, None])


def test_dropout_is_the_same_in_one_batch_and_in_two_halves():
    model, batch = make(dropout=0.3, attention_dropout=0.2, relu_dropout=0.1), example(rows=4)
    whole = model.loss(batch, rng=Rng(0, 5, 0))
    halves = [
        model.loss({k: v[i : i + 2] for k, v in batch.items()}, rng=Rng(0, 5, i)) for i in (0, 2)
    ]
    np.testing.assert_allclose(whole.loss, halves[0].loss + halves[1].loss, rtol=1e-5)
    assert abs(float(whole.loss) - float(model.loss(batch).loss)) > 1e-3


def test_compiled_loss_and_gradients_equal_eager_ones():
    model, batch = make(dropout=0.1), example()

    def gradients():
        with tf.GradientTape() as tape:
            loss = model.loss(batch, rng=Rng(0, 1)).loss
        return tape.gradient(loss, model.trainable_variables)

    compiled = tf.function(gradients, jit_compile=True)()
    for eager, fast in zip(gradients(), compiled, strict=True):
        np.testing.assert_allclose(tf.convert_to_tensor(eager), fast, rtol=1e-3, atol=1e-4)
        assert np.abs(fast).max() > 0


def test_bfloat16_is_close_to_float32():
    precise, batch = make(), example()
    mixed = make(dtype="bfloat16")
    # 8 bits of mantissa, 0.4 %, rounded at every layer; most of it cancels: 0.1 % is left.
    np.testing.assert_allclose(mixed.loss(batch).loss, precise.loss(batch).loss, rtol=5e-3)
    assert all(v.dtype == "float32" for v in mixed.variables)


def test_one_batch_can_be_learned_by_heart():
    model, batch = make(label_smoothing=0.0, hidden_size=24), example()

    @tf.function(jit_compile=True)
    def step():
        with tf.GradientTape() as tape:
            output = model.loss(batch)
            loss = output.loss / output.weight
        for v, g in zip(
            model.trainable_variables,
            tape.gradient(loss, model.trainable_variables),
            strict=True,
        ):
            v.assign_sub(0.1 * tf.convert_to_tensor(g))
        return loss

    first = float(step())
    for _ in range(150):
        last = float(step())
    assert last < 0.1 * first
    decoded = model.infer(batch["inputs"], DecodeOptions(), max_length=5)
    np.testing.assert_array_equal(decoded.tokens, batch["targets"])


def test_attention_weights_are_those_of_the_last_layer_but_one(float64_network):
    model, batch = make(num_decoder_layers=2), example()
    weights = model.attention_weights(batch["inputs"], batch["targets"]).numpy()
    network = float64_network(model, HPARAMS.num_heads)
    for row, (source, target) in enumerate(zip(*(batch[s].numpy() for s in batch), strict=True)):
        source, target = source[source > 0], target[target > 0]
        memory = network.stack(network.embed(source), "encoder", 2)
        x = network.embed(np.concatenate([[0], target[:-1]]))
        block = "decoder/block_0"
        norm = network.norm(x, block, "attention_norm")
        q, k, v = np.split(network.dense(norm, block, "attention/qkv"), 3, -1)
        x = x + network.dense(network.attention(q, k, v, True), block, "attention/output")
        query = network.dense(network.norm(x, block, "cross_norm"), block, "cross/query")
        key = np.split(network.dense(memory, block, "cross/kv"), 2, -1)[0]
        expected, size = 0.0, query.shape[1] // HPARAMS.num_heads
        for head in range(HPARAMS.num_heads):
            part = slice(size * head, size * (head + 1))
            exp = np.exp(query[:, part] @ key[:, part].T / np.sqrt(size))
            expected = expected + exp / exp.sum(-1, keepdims=True) / HPARAMS.num_heads
        shape = expected.shape
        np.testing.assert_allclose(weights[row, : shape[0], : shape[1]], expected, rtol=1e-4)


@pytest.mark.parametrize("beam_size", [1, 3])
def test_an_ensemble_averages_probabilities(logits_of, beam_size):
    """It searches the mean of the models' distributions, here computed in float64."""
    models = [make(), make(hidden_size=12, num_encoder_layers=2)]
    for variable in models[1].variables:
        variable.assign(variable.numpy()[..., ::-1])
    inputs = example()["inputs"]
    options = DecodeOptions(beam_size=beam_size, extra_length=3)
    ensemble = Ensemble(models)
    found = ensemble.infer(inputs, options, max_length=10)
    references = [logits_of(model) for model in models]
    for row, source in enumerate(inputs.numpy()):
        tokens = [int(token) for token in found.tokens[row] if token]
        total, before = 0.0, [0]
        for token in tokens:
            shares = [np.exp(f(source[source > 0], np.array(before))[-1]) for f in references]
            for share in shares:
                share[0] = 0  # PAD
            mean = np.mean([share / share.sum() for share in shares], 0)
            if beam_size == 1:
                assert token == mean.argmax()
            total += np.log(mean[token])
            before.append(token)
        if beam_size > 1:
            total /= ((5 + len(tokens)) / 6) ** 0.6
        np.testing.assert_allclose(found.scores[row], total, rtol=1e-4)
    single = [Ensemble([models[0]]), models[0]]
    alone, plain = (each.infer(inputs, options, max_length=10) for each in single)
    np.testing.assert_array_equal(alone.tokens, plain.tokens)


@pytest.mark.parametrize("beam_size", [1, 3])
def test_a_translation_begins_with_its_prefix_and_is_scored_as_a_whole(beam_size):
    model, inputs = make(), example()["inputs"]
    prefix = tf.constant([[7, 9, 4], [5, 0, 0], [0, 0, 0]])
    options = DecodeOptions(beam_size=beam_size, extra_length=3, alpha=0.0)
    found = model.infer(inputs, options, max_length=12, prefix=prefix)
    plain = model.infer(inputs, options, max_length=12)
    tokens = found.tokens.numpy()
    assert tokens[0, :3].tolist() == [7, 9, 4] and tokens[1, 0] == 5
    np.testing.assert_array_equal(tokens[2], plain.tokens[2])
    scored = model.score_pairs(inputs, found.tokens)
    np.testing.assert_allclose(found.scores, scored.scores, rtol=1e-4)
    longer = tf.repeat(prefix[:1], 3, axis=1)[:, :9]  # longer than the source allows
    found = model.infer(inputs[:1, :2], options, max_length=16, prefix=longer)
    assert found.tokens.numpy()[0, :9].tolist() == longer.numpy()[0].tolist()


def test_all_weights_count_as_parameters():
    model = make()
    assert model.count_params() == sum(int(np.prod(v.shape)) for v in model.variables)

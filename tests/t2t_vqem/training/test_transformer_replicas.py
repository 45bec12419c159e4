import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from t2t_vqem import registry
from t2t_vqem.hparams.transformer import TransformerHParams
from t2t_vqem.hparams.transformer_nat import TransformerNATHParams
from t2t_vqem.ops.random import Rng
from t2t_vqem.training.state import TrainState, raw
from t2t_vqem.training.step import TrainStep
from t2t_vqem.training.strategies import Replicas, make_strategy

SIZES = {
    "num_encoder_layers": 1,
    "num_decoder_layers": 1,
    "hidden_size": 6,
    "filter_size": 10,
    "num_heads": 2,
    "dropout": 0.3,
    "learning_rate": 0.02,
    "warmup_steps": 2,
    "ema_decay": 0.9,
}
TRANSFORMER = TransformerHParams(**SIZES)
NAT = {
    kind: TransformerNATHParams(
        **SIZES,
        bottleneck_kind=kind,
        num_target_encoder_layers=1,
        num_predictor_layers=1,
        num_halvings=1,
        masking_steps=2,
        num_codes=5,
        code_size=4,
        num_samples=2,
        codebook_start="data",
    )
    for kind in ("vq", "soft_em")  # hard EM has the statistics of soft EM with one draw
}
NAT["prior"] = dataclasses.replace(NAT["soft_em"], prior_weight=1.0, prior_weight_steps=2)


def make_run(hparams, devices):
    """Returns the state of a new run, and what trains it: on batches, from a step on."""
    strategy = make_strategy("auto", devices)
    model = registry.models.get(hparams.model)
    state = TrainState(strategy, lambda: model(hparams, vocab_size=13), hparams, seed=2)
    step = TrainStep(strategy, state, hparams, seed=2, train_steps=9, xla=False)
    replicas = Replicas(strategy)

    def advance(batches, first=0):
        for number, batch in enumerate(batches, first):
            step([replicas.distribute(batch)], step=number)

    return state, advance


def averaged_weights(state):
    return {variable.path: variable.numpy() for variable in state.averaged.variables}


def train(hparams, devices, batches):
    state, advance = make_run(hparams, devices)
    advance(batches)
    return averaged_weights(state)


@pytest.mark.slow
@pytest.mark.parametrize("hparams", [TRANSFORMER, *NAT.values()], ids=["transformer", *NAT])
def test_two_replicas_give_the_weights_of_one_device(toy_batches, hparams):
    batches = toy_batches(4)
    start, one, two = (
        train(hparams, ["cpu:0"], []),
        train(hparams, ["cpu:0"], batches),
        train(hparams, ["cpu:0", "cpu:1"], batches),
    )
    assert len(one) >= 30
    for path, weights in one.items():
        largest = np.abs(weights).max()
        # As in test_step.py: float32 sums in another order.
        np.testing.assert_allclose(two[path], weights, rtol=1e-4, atol=2e-5 * largest, err_msg=path)
        assert np.abs(weights - start[path]).max() > 2e-3 * largest, path


@pytest.mark.slow
def test_the_e_step_with_a_prior_resumes_exactly(toy_batches, tmp_path):
    batches = toy_batches(4)
    state, advance = make_run(NAT["prior"], ["cpu:0"])
    advance(batches[:2])
    path = state.checkpoint().write(str(tmp_path / "checkpoint"))
    advance(batches[2:], 2)
    expected = averaged_weights(state)
    state, advance = make_run(NAT["prior"], ["cpu:0"])
    state.checkpoint().read(path).assert_consumed()
    advance(batches[2:], 2)
    for path, weights in averaged_weights(state).items():
        np.testing.assert_array_equal(weights, expected[path], err_msg=path)


def loss_and_gradients(hparams, batch, *, compiled=False):
    """Returns the loss and its gradients in training, and the number of products in the graph."""
    state, _ = make_run(hparams, ["cpu:0"])
    variables = raw(state.model.trainable_variables)

    def compute():
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(variables)
            loss = state.model.loss(batch, rng=Rng(3, tf.constant(5))).loss
        return loss, tape.gradient(
            loss, variables, unconnected_gradients=tf.UnconnectedGradients.ZERO
        )

    function = tf.function(compute, autograph=False, jit_compile=compiled)
    operations = function.get_concrete_function().graph.get_operations()
    products = sum(operation.type in ("MatMul", "BatchMatMulV2") for operation in operations)
    loss, gradients = function()
    names = [variable.path for variable in state.model.trainable_variables]
    values = [tf.convert_to_tensor(gradient).numpy() for gradient in gradients]
    return float(loss), dict(zip(names, values, strict=True)), products


@pytest.mark.parametrize("hparams", [TRANSFORMER, NAT["soft_em"]], ids=["transformer", "nat"])
def test_rematerialised_gradients_are_those_of_stored_activations(toy_batches, hparams):
    (batch,) = toy_batches(1)
    more = {"num_encoder_layers": 2, "attention_dropout": 0.2, "relu_dropout": 0.2}
    hparams = dataclasses.replace(hparams, **more)
    loss, gradients, products = loss_and_gradients(hparams, batch)
    again = dataclasses.replace(hparams, rematerialize=True)
    loss_again, gradients_again, products_again = loss_and_gradients(again, batch)
    assert loss_again == pytest.approx(loss, rel=1e-6)
    for name, value in gradients.items():
        slack = 1e-5 * np.abs(value).max()
        np.testing.assert_allclose(gradients_again[name], value, 1e-4, slack, err_msg=name)
    # Each block has 4 projections, 2 products of attention, or 9 in all with cross-attention.
    num_blocks = {"transformer": (2, 1), "transformer_nat": (3, 2)}[hparams.model]
    assert products_again - products == num_blocks[0] * 6 + num_blocks[1] * 11


@pytest.mark.slow
def test_rematerialisation_can_be_compiled_and_divided_among_replicas(toy_batches):
    batches = toy_batches(3)
    again = dataclasses.replace(TRANSFORMER, rematerialize=True)
    _, gradients, _ = loss_and_gradients(TRANSFORMER, batches[0], compiled=True)
    _, gradients_again, _ = loss_and_gradients(again, batches[0], compiled=True)
    for name, value in gradients.items():
        slack = 1e-5 * np.abs(value).max()
        np.testing.assert_allclose(gradients_again[name], value, 1e-4, slack, err_msg=name)
    expected = train(TRANSFORMER, ["cpu:0"], batches)
    for name, value in train(again, ["cpu:0", "cpu:1"], batches).items():
        np.testing.assert_allclose(value, expected[name], rtol=1e-4, atol=1e-5, err_msg=name)

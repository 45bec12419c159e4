import dataclasses

import numpy as np
import pytest

from t2t_vqem import registry
from t2t_vqem.hparams.transformer import TransformerHParams
from t2t_vqem.hparams.transformer_nat import TransformerNATHParams
from t2t_vqem.training.state import TrainState
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

"""Models that are small enough to train in every test, and processes to train them in."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import pathlib
import socket
import subprocess
import sys
import time
from typing import Any, NamedTuple

import keras
import numpy as np
import pytest
import tensorflow as tf

from t2t_vqem import registry
from t2t_vqem.capabilities import TranslationModel
from t2t_vqem.config import HParams
from t2t_vqem.fields import option
from t2t_vqem.models.base import LossOutput, Model
from t2t_vqem.ops.random import dropout
from t2t_vqem.tf_config import tf_configs
from t2t_vqem.training import trainer
from t2t_vqem.training.state import TrainState
from t2t_vqem.training.step import TrainStep
from t2t_vqem.training.strategies import Replicas, make_strategy

WORKER = pathlib.Path(__file__).with_name("worker_process.py")

# Logical devices must be created before anything is computed, so at collection of the tests.
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ToyHParams(HParams):
    """Hyperparameters of the toy model."""

    width: int = option(6, "width of the embeddings", minimum=1)
    dropout: float = option(0.3, "probability to drop a unit", minimum=0, below=1)
    ema_decay: float = option(0.9, "decay of the averaged copy", minimum=0, below=1)
    learning_rate: float = option(0.02, "highest rate", minimum=0)
    warmup_steps: int = option(3, "updates of warm-up", minimum=0)
    batch_size: int = option(60, "padded positions", minimum=1)
    num_buckets: int = option(1, "lengths", minimum=1)
    max_length: int = option(16, "positions", minimum=2)


class Toy(Model, TranslationModel):
    """Predicts the i-th target token from the i-th source token alone."""

    def __init__(self, hparams: ToyHParams, *, vocab_size: int):
        """Makes the layers, some of them in a list, as in stacks of layers."""
        super().__init__(hparams, name="toy")
        policy = self.dtype_policy
        self.embed = keras.layers.Embedding(vocab_size, hparams.width, name="embed", dtype=policy)
        self.hidden = [
            keras.layers.Dense(hparams.width, activation="tanh", name=f"hidden_{i}", dtype=policy)
            for i in range(2)
        ]
        self.out = keras.layers.Dense(vocab_size, name="out", dtype=policy)

    def example_batch(self) -> dict[str, tf.Tensor]:
        """One row of two tokens."""
        return {name: tf.ones([1, 2], tf.int32) for name in ("inputs", "targets")}

    def logits(self, inputs, rng=None):
        x = dropout(self.embed(inputs), self.hparams.dropout, rng)
        for layer in self.hidden:
            x = dropout(x + layer(x), self.hparams.dropout, rng)
        return tf.cast(self.out(x), tf.float32)

    def loss(self, batch, rng=None) -> LossOutput:
        """Cross-entropy, summed over the real target tokens, in nats."""
        targets = batch["targets"]
        logits = self.logits(batch["inputs"], rng)
        real = tf.cast(targets != 0, tf.float32)
        nll = tf.nn.sparse_softmax_cross_entropy_with_logits(targets, logits)
        right = tf.cast(tf.argmax(logits, -1, tf.int32) == targets, tf.float32)
        loss, weight = tf.reduce_sum(nll * real), tf.reduce_sum(real)
        accuracy = tf.reduce_sum(right * real)
        return LossOutput(loss, weight, {"nll": (loss, weight), "accuracy": (accuracy, weight)})

    def infer(self, inputs, options, *, seed, row_ids, max_length):
        """Takes the most probable token at each position."""
        del options, seed, row_ids
        tokens = tf.argmax(self.logits(inputs), -1, tf.int32)
        tokens = tf.pad(tokens, [[0, 0], [0, max_length - tokens.shape[1]]])
        return Decoded(tokens[:, :max_length], tf.zeros(tokens.shape[0]))


class Decoded(NamedTuple):
    tokens: tf.Tensor
    scores: tf.Tensor


class Run(NamedTuple):
    """A toy model with all that is needed to train it."""

    state: TrainState
    step: TrainStep
    replicas: Replicas
    strategy: tf.distribute.Strategy

    def weights(self) -> list[np.ndarray]:
        """Returns all variables that an update changes."""
        state = self.state
        models = [state.model] + ([state.averaged] if state.averaged is not None else [])
        variables = [v.value for model in models for v in model.variables]
        variables += [*state.slots.first, *state.slots.second]
        return [variable.numpy() for variable in variables]


VOCAB_SIZE = 13


@pytest.fixture
def toy_batches():
    """Returns a function that makes global batches [8, 5] with few or many tokens per row."""

    def make(number: int, seed: int = 0) -> list[dict[str, np.ndarray]]:
        rng = np.random.default_rng(seed)
        batches = []
        for _ in range(number):
            batch = {
                name: rng.integers(2, VOCAB_SIZE, (8, 5)).astype(np.int32)
                for name in ("inputs", "targets")
            }
            batch["targets"][5:, 2:] = 0  # the second of two replicas has fewer tokens
            batch["inputs"][7] = batch["targets"][7] = 0  # an empty row
            batches.append(batch)
        return batches

    return make


@pytest.fixture
def toy_run():
    """Returns a function that makes a `Run` of the toy model; compiling it would take seconds."""

    def make(*devices: str, xla: bool = False, seed: int = 1, **hparams) -> Run:
        strategy = make_strategy("auto", devices)
        hparams = ToyHParams(**hparams)
        state = TrainState(
            strategy, lambda: Toy(hparams, vocab_size=VOCAB_SIZE), hparams, seed=seed
        )
        step = TrainStep(strategy, state, hparams, seed=seed, train_steps=20, xla=xla)
        return Run(state, step, Replicas(strategy), strategy)

    return make


@pytest.fixture
def toy_registered():
    """Registers the toy model and its set "toy" for one test."""
    registries = (registry.models, registry.model_hparams, registry.hparams_sets)
    with contextlib.ExitStack() as stack:
        for kind in registries:
            stack.enter_context(kind.temporary())
        registry.models.register()(Toy)
        registry.model_hparams.register()(ToyHParams)
        registry.hparams_sets.register("toy")(ToyHParams)
        yield


class Workers:
    """Processes on this machine that train together; see worker_process.py."""

    def __init__(self, folder: pathlib.Path, number: int, plan: dict[str, Any]):
        """Starts the processes."""
        folder.mkdir()
        (folder / "plan.json").write_text(json.dumps(plan))
        self._folder = folder
        self.processes = []
        for index, config in enumerate(
            tf_configs([f"127.0.0.1:{port}" for port in free_ports(number)])
        ):
            with open(folder / f"{index}.log", "wb") as log:
                command = [sys.executable, str(WORKER), str(folder / "plan.json")]
                self.processes.append(
                    subprocess.Popen(
                        [*command, str(folder / f"{index}.json")],
                        env={**os.environ, "TF_CONFIG": config, "TF_CPP_MIN_LOG_LEVEL": "2"},
                        stdin=subprocess.PIPE,
                        stdout=log,
                        stderr=log,
                    )
                )

    def log(self, index: int) -> str:
        """Returns what a worker has logged so far."""
        return (self._folder / f"{index}.log").read_text(errors="replace")

    def wait_for(self, path: pathlib.Path | str, seconds: float = 600) -> None:
        """Waits until a file exists."""
        deadline = time.monotonic() + seconds
        while not os.path.exists(path):
            assert time.monotonic() < deadline, self._logs(f"{path} did not come")
            assert any(p.poll() is None for p in self.processes), self._logs("all have ended")
            time.sleep(0.02)

    def results(self, seconds: float = 600) -> list[list[dict[str, Any]]]:
        """Waits for all workers to end, and returns the results of each for each run."""
        for process in self.processes:
            try:
                process.wait(seconds)
            except subprocess.TimeoutExpired:
                pytest.fail(self._logs(f"not done after {seconds} s"))
        assert all(p.returncode == 0 for p in self.processes), self._logs("failed")
        return [self.result(index) for index in range(len(self.processes))]

    def result(self, index: int) -> list[dict[str, Any]]:
        """Returns the results of a worker for each run that it has ended."""
        return json.loads((self._folder / f"{index}.json").read_text())

    def _logs(self, message: str) -> str:
        logs = [f"--- {i}\n{self.log(i)[-4000:]}" for i in range(len(self.processes))]
        return "\n".join([message, *logs])

    def end(self) -> None:
        """Kills all processes."""
        for process in self.processes:
            process.kill()
            process.communicate()


def free_ports(number: int) -> list[int]:
    """Returns free ports."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


@pytest.fixture(scope="module")
def start_workers(tmp_path_factory):
    """Returns a function that starts a number of workers with a plan."""
    started = []

    def start(number: int, **plan: Any) -> Workers:
        folder = tmp_path_factory.mktemp("workers") / str(number)
        started.append(Workers(folder, number, plan))
        return started[-1]

    yield start
    for workers in started:
        workers.end()


@pytest.fixture(scope="session")
def digits_data(tmp_path_factory) -> str:
    """Folder with the data of image_digits, generated once for all tests; must not be changed."""
    folder = str(tmp_path_factory.mktemp("digits"))
    problem = registry.problems.get("image_digits")
    problem(problem.Config()).generate(folder, num_workers=1, progress=False)
    return folder


class TinyRun(NamedTuple):
    """Options to train a registered model so small that every test can do it."""

    problem: str
    hparams_set: str
    hparams: str
    tolerance: (
        float  # tolerance against the numbers of one device, relative to the largest of a variable
    )


# One line per model. Batches have an odd number of rows, so that workers get unequal shares.
# float32 sums in another order differ in the last bits; if codes are drawn, a bit may select
# another one, which changes a code by a thousandth.
TINY_RUNS = {
    "transformer": TinyRun(
        "translate_text",
        "transformer_tiny",
        "num_encoder_layers=1,num_decoder_layers=1,hidden_size=16,filter_size=32,num_heads=2,"
        "num_buckets=1,batch_size=516,max_length=16,ema_decay=0.9,warmup_steps=50",
        2e-5,
    ),
    "vqvae": TinyRun(
        "image_digits",
        "vqvae_digits",
        "hidden_size=8,num_residual_blocks=1,residual_size=4,num_mixtures=2,num_codes=12,"
        "num_codebooks=2,code_size=6,prior_layers=1,prior_size=8,prior_filter_size=8,"
        "prior_heads=2,batch_size=31,ema_decay=0.9,schedule=rsqrt",
        1e-3,
    ),
}


@pytest.fixture(params=TINY_RUNS)
def model(request) -> str:
    """Each registered model."""
    return request.param


@pytest.fixture(scope="session")
def tiny_options(tiny_text_data, digits_data):
    """Returns a function that makes the arguments of a `Request` to train without compiling."""

    def make(model: str, output_dir: Any, **options: Any) -> dict[str, Any]:
        tiny = TINY_RUNS[model]
        is_text = tiny.problem == tiny_text_data.problem_name
        return {
            "output_dir": str(output_dir),
            "problem": tiny.problem,
            "problem_params": tiny_text_data.problem_params if is_text else "",
            "data_dir": tiny_text_data.data_dir if is_text else digits_data,
            "hparams_set": tiny.hparams_set,
            "hparams": tiny.hparams,
            "xla": False,
            "train_steps": 8,
            "local_eval_frequency": 4,
            "save_checkpoints_steps": 1,
            **options,
        }

    return make


@pytest.fixture(scope="session")
def unbroken(tiny_options, tmp_path_factory) -> pathlib.Path:
    """Folder with a run of each model: eight steps on one device, saved after every step."""
    folder = tmp_path_factory.mktemp("unbroken")
    for model in TINY_RUNS:
        trainer.run(trainer.Request(**tiny_options(model, folder / model, devices=["cpu:0"])))
    return folder


@pytest.fixture
def assert_same_numbers(model):
    """Returns a function that compares the checkpoints of two runs after a step."""

    def check(run: pathlib.Path, other: pathlib.Path, step: int) -> None:
        ours, others = (
            tf.train.load_checkpoint(str(folder / model / "checkpoints" / f"ckpt-{step}"))
            for folder in (run, other)
        )
        shapes = ours.get_variable_to_shape_map()
        assert shapes == others.get_variable_to_shape_map()
        for name in shapes:
            if not name.startswith(("_CHECKPOINTABLE", "save_counter")):
                value, wanted = ours.get_tensor(name), others.get_tensor(name)
                largest = np.abs(wanted).max()
                np.testing.assert_allclose(
                    value,
                    wanted,
                    rtol=1e-4,
                    atol=TINY_RUNS[model].tolerance * largest,
                    err_msg=name,
                )

    return check

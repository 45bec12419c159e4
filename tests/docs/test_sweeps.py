"""The script in docs/sweeps.md searches, and continues what was interrupted."""

import os
import pathlib
import re
import signal
import sys

import pytest

from t2t_vqem.config import resolve
from t2t_vqem.output_dir import OutputDir
from t2t_vqem.training import loop, trainer
from t2t_vqem.training.metrics_log import MetricsLog

optuna = pytest.importorskip("optuna")
PAGE = pathlib.Path(__file__).resolve().parents[2] / "docs" / "sweeps.md"
SETTINGS, SCRIPT = re.findall(r"^```python\n(.*?)^```", PAGE.read_text("utf-8"), re.M | re.S)
SIZES = (
    "num_encoder_layers=1,num_decoder_layers=1,hidden_size=8,filter_size=8,num_heads=2,"
    "batch_size=200,num_buckets=1,max_length=16"
)


def test_the_settings_on_the_page_exist():
    values: dict = {}
    exec(SETTINGS, values)
    trial = optuna.trial.FixedTrial(
        {"learning_rate": 1e-3, "dropout": 0.2, "num_decoder_layers": 2}
    )
    chosen = ",".join(f"{name}={value}" for name, value in values["suggest"](trial).items())
    fixed = values["FIXED"]
    resolve(problem=fixed["problem"], hparams_set=fixed["hparams_set"], hparams=chosen)
    assert fixed.keys() <= trainer.Request.__dataclass_fields__.keys()


@pytest.mark.slow
def test_a_sweep_that_was_stopped_continues(tiny_text_data, tmp_path, monkeypatch):
    def suggest(trial):
        sizes = dict(pair.split("=") for pair in SIZES.split(","))
        rate = trial.suggest_float("learning_rate", 1e-4, 1e-2, log=True)
        return {**{name: int(value) for name, value in sizes.items()}, "learning_rate": rate}

    fixed = {
        "problem": tiny_text_data.problem_name,
        "hparams_set": "transformer_tiny",
        "data_dir": tiny_text_data.data_dir,
        "train_steps": 4,
        "local_eval_frequency": 2,
        "xla": False,
    }
    values = {"FOLDER": tmp_path, "METRIC": "chrf", "FIXED": fixed, "suggest": suggest}
    call, steps = loop.TrainStep.__call__, []

    def counted(self, batches, *, step, **options):
        steps.append(step)
        if len(steps) == 6:  # in the second run
            os.kill(os.getpid(), signal.SIGTERM)
        return call(self, batches, step=step, **options)

    monkeypatch.setattr(loop.TrainStep, "__call__", counted)
    monkeypatch.setattr(sys, "argv", ["sweep.py"])
    with pytest.raises(KeyboardInterrupt):
        exec(SCRIPT, {**values, "NUM_TRIALS": 2})
    assert steps == [0, 1, 2, 3, 0, 1]
    for _ in range(2):  # the second time there is nothing left to do
        after: dict = {**values, "NUM_TRIALS": 2}
        exec(SCRIPT, after)
        assert steps == [0, 1, 2, 3, 0, 1, 2, 3]
    complete = after["study"].get_trials(states=(optuna.trial.TrialState.COMPLETE,))
    assert len(complete) == 2
    for trial in complete:
        run = OutputDir(trial.user_attrs["output_dir"])
        assert run.hparams().learning_rate == trial.params["learning_rate"]
        lines = [line for line in MetricsLog.read(run) if line["kind"] == "eval"]
        assert [line["step"] for line in lines] == [2, 4]
        assert trial.value == max(line["chrf"] for line in lines)

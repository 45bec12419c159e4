"""Trackers get settings and metrics, and a continued run is one run there."""

import json

import pytest

from t2t_vqem.constants import UsageError
from t2t_vqem.output_dir import OutputDir
from t2t_vqem.training import trackers, trainer
from t2t_vqem.training.metrics_log import MetricsLog


@pytest.fixture
def train(tmp_path, tiny_text_data, toy_registered):
    """Returns a function that trains to a step with some trackers."""

    def run(steps, *names):
        return trainer.run(
            trainer.Request(
                output_dir=str(tmp_path / "run"),
                problem=tiny_text_data.problem_name,
                data_dir=tiny_text_data.data_dir,
                hparams_set="toy",
                xla=False,
                train_steps=steps,
                log_step_count_steps=1,
                local_eval_frequency=2,
                trackers=names,
            )
        )

    return run


def test_mlflow_has_what_the_log_has(train, tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.setenv("MLFLOW_ARTIFACT_ROOT", str(tmp_path / "artifacts"))
    train(2, "mlflow")
    train(3, "mlflow")
    client = mlflow.MlflowClient()
    (run,) = client.search_runs(["0"])
    assert (run.info.run_name, run.info.status) == ("run", "FINISHED")
    assert run.data.params["model"] == "toy"
    assert run.data.params["learning_rate"] == "0.02"
    assert run.data.params["frozen"] == "[]"
    lines = MetricsLog.read(OutputDir(str(tmp_path / "run")))
    for kind, names in (("train", ("loss", "accuracy")), ("eval", ("loss", "bleu", "chrf"))):
        expected = [line for line in lines if line["kind"] == kind]
        assert len(expected) == {"train": 3, "eval": 2}[kind]
        for name in names:
            history = client.get_metric_history(run.info.run_id, f"{kind}/{name}")
            assert [(m.step, m.value) for m in history] == [
                (line["step"], pytest.approx(line[name])) for line in expected
            ]


def test_wandb_runs_offline(train, tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    train(2, "wandb")
    first = json.loads((tmp_path / "run" / "trackers.json").read_text())["wandb"]
    train(3, "wandb")
    assert json.loads((tmp_path / "run" / "trackers.json").read_text())["wandb"] == first
    folders = list((tmp_path / "run" / "wandb").glob("offline-run-*"))
    assert len(folders) == 2 and all(folder.name.endswith(first) for folder in folders)
    stored = b"".join(next(folder.glob("*.wandb")).read_bytes() for folder in folders)
    assert wandb and b"eval/bleu" in stored and b"train/loss" in stored


def test_a_tracker_that_fails_does_not_end_the_training(train, tmp_path, monkeypatch, caplog):
    class Failing(trackers.Tracker):
        def __init__(self, folder, id_, values):
            self.id = "7"
            self.steps = []

        def write(self, step, figures):
            raise ConnectionError("no network")

        def close(self):
            raise AssertionError("it was left out")

    monkeypatch.setattr(trackers, "check_trackers", lambda names: None)
    monkeypatch.setattr(trainer, "check_trackers", lambda names: None)
    monkeypatch.setitem(trackers._KINDS, "failing", Failing)
    assert train(2, "failing").step == 2
    assert caplog.text.count("--trackers=failing failed and is left out from now on: no net") == 1


def test_unknown_and_missing_trackers_are_refused(train):
    with pytest.raises(UsageError, match="unknown 'wanb'. Expected some of: wandb, mlflow"):
        train(1, "wanb")


def test_tensorboard_compares_runs_by_hyperparameters(train, tmp_path):
    """Its own message has the values, of their types."""
    train(1)
    messages = pytest.importorskip("tensorboard.plugins.hparams.plugin_data_pb2")
    from tensorboard.backend.event_processing import event_accumulator

    events = event_accumulator.EventAccumulator(str(tmp_path / "run")).Reload()
    content = events.PluginTagToContent("hparams")["_hparams_/session_start_info"]
    data = messages.HParamsPluginData.FromString(content)
    values = data.session_start_info.hparams
    assert values["width"].number_value == 6
    assert values["model"].string_value == "toy"
    assert values["problem"].string_value == "translate_text"
    assert data.version == 0 and data.session_start_info.start_time_secs > 1e9

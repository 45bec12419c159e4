"""Experiment trackers, which get the settings and metrics of a run: Weights & Biases and MLflow.

Each belongs to an extra of this package and is imported where it is used. Where it stores what it
gets (a server, or a local folder) is set as its own documentation says, in the environment:
WANDB_PROJECT, WANDB_MODE=offline, MLFLOW_TRACKING_URI, MLFLOW_EXPERIMENT_NAME and others.
"""

from __future__ import annotations

import abc
import json
import logging
import os
from collections.abc import Mapping, Sequence
from typing import Any

from t2t_vqem.config import to_json
from t2t_vqem.constants import UsageError
from t2t_vqem.extras import import_extra
from t2t_vqem.files import write_json
from t2t_vqem.output_dir import OutputDir, RunSettings

STORED = "trackers.json"  # the run's id in each tracker, so that a continued run is one there
_logger = logging.getLogger(__name__)


class Tracker(abc.ABC):
    """A run in an experiment tracker.

    Attributes:
        id: identifies the run there.
    """

    id: str

    @abc.abstractmethod
    def write(self, step: int, figures: Mapping[str, float]) -> None:
        """Stores figures after `step` updates; their names have the kind in front: "eval/bleu"."""

    @abc.abstractmethod
    def close(self) -> None:
        """Ends the connection."""


class _Wandb(Tracker):
    """Weights & Biases."""

    def __init__(self, folder: str, id_: str | None, values: Mapping[str, Any]):
        wandb = import_extra("wandb", "wandb")
        self._run = wandb.init(
            id=id_,
            resume="allow",
            project=os.environ.get("WANDB_PROJECT", "t2t-vqem"),
            name=os.path.basename(folder),
            dir=folder,
            config=dict(values),
        )
        # Not its own step, which may not go back: a run that was killed repeats some steps.
        self._run.define_metric("*", step_metric="step")
        self.id = self._run.id

    def write(self, step: int, figures: Mapping[str, float]) -> None:
        self._run.log({**figures, "step": step})

    def close(self) -> None:
        self._run.finish()


class _MLflow(Tracker):
    """MLflow."""

    def __init__(self, folder: str, id_: str | None, values: Mapping[str, Any]):
        self._mlflow = import_extra("mlflow", "mlflow")
        name = os.path.basename(folder)
        # Nested: the caller of the Python API may have a run of its own.
        self.id = self._mlflow.start_run(run_id=id_, run_name=name, nested=True).info.run_id
        if id_ is None:
            self._mlflow.log_params(dict(values))

    def write(self, step: int, figures: Mapping[str, float]) -> None:
        self._mlflow.log_metrics(dict(figures), step=step, run_id=self.id)

    def close(self) -> None:
        self._mlflow.end_run()


_KINDS = {"wandb": _Wandb, "mlflow": _MLflow}
NAMES = tuple(_KINDS)


def check_trackers(names: Sequence[str]) -> None:
    """Raises a UsageError if a name is not one of `NAMES`, or a tracker is not installed."""
    for name in names:
        if name not in _KINDS:
            raise UsageError(f"--trackers: unknown {name!r}. Expected some of: {', '.join(NAMES)}")
        import_extra(name, name)


class Trackers:
    """The trackers of a run. One that fails is reported and left out; training goes on."""

    def __init__(self, names: Sequence[str], output_dir: OutputDir, settings: RunSettings):
        """Opens the run in each tracker, or continues it there.

        Args:
            names: some of `NAMES`.
            output_dir: folder of the run, which is there already.
            settings: what the trackers show as the run's configuration.
        """
        self._open: dict[str, Tracker] = {}
        ids = _read_ids(output_dir)
        for name in names:
            self._attempt(name, lambda name=name: self._start(name, output_dir, ids, settings))
        if self._open:
            ids |= {name: tracker.id for name, tracker in self._open.items()}
            write_json(output_dir.join(STORED), ids)

    def _start(
        self, name: str, output_dir: OutputDir, ids: Mapping[str, str], settings: RunSettings
    ) -> None:
        kind, values = _KINDS[name], shown_settings(settings)
        self._open[name] = kind(output_dir.path, ids.get(name), values)

    def _attempt(self, name: str, action: Any) -> None:
        try:
            action()
        except Exception as error:  # of any kind: a network, a server, a disk
            _logger.warning("--trackers=%s failed and is left out from now on: %s", name, error)
            self._open.pop(name, None)

    def write(self, kind: str, step: int, figures: Mapping[str, float]) -> None:
        """Stores figures after `step` updates; `kind` is "train" or "eval"."""
        named = {f"{kind}/{name}": float(value) for name, value in figures.items()}
        for name, tracker in list(self._open.items()):
            self._attempt(name, lambda tracker=tracker: tracker.write(step, named))

    def close(self) -> None:
        """Ends all connections."""
        for name, tracker in list(self._open.items()):
            self._attempt(name, tracker.close)
        self._open.clear()


def shown_settings(settings: RunSettings) -> dict[str, Any]:
    """Returns the settings by which runs are compared: numbers, booleans and strings by name."""
    named = {
        "problem": settings.problem,
        "model": settings.hparams.model,
        "seed": settings.seed,
        "train_steps": settings.train_steps,
        **to_json(settings.hparams),
    }
    plain = (bool, int, float, str)
    return {
        name: value if isinstance(value, plain) else json.dumps(value)
        for name, value in named.items()
    }


def _read_ids(output_dir: OutputDir) -> dict[str, str]:
    try:
        with open(output_dir.join(STORED), encoding="utf-8") as file:
            ids = json.load(file)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise UsageError(
            f"{output_dir.join(STORED)} cannot be read: {error}. Delete it; the run is then a new "
            "one in the trackers"
        ) from error
    return {name: str(value) for name, value in ids.items()} if isinstance(ids, dict) else {}

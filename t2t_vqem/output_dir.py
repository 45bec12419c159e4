"""The folder of a run: its configuration, vocabulary and checkpoints.

    flags.json     problem and its settings, model, data, seed, versions
    hparams.json   hyperparameters
    config.gin     the same as a gin file
    vocab.model    copy of the vocabulary, if the problem has one
    checkpoints/   the last checkpoints, with everything needed to continue training
    best/          the weights with the best result on the dev split
    averaged/      the mean of the weights of several checkpoints, by t2t-avg-all
    metrics.jsonl  the metrics of training and of each evaluation
    train/, eval/  the same for TensorBoard; its file beside them has the hyperparameters
    trackers.json  ids of the run in experiment trackers, if there are any
    trainer.lock   held while t2t-trainer trains here

A later command finds here what it need not be told again.
"""

import contextlib
import dataclasses
import hashlib
import inspect
import json
import logging
import os
import platform
import re
from collections.abc import Iterator
from typing import Any

import keras
import tensorflow as tf

import t2t_vqem
from t2t_vqem import registry, run_plugins
from t2t_vqem.capabilities import check_fits
from t2t_vqem.config import HParams, from_json, hparams_class, to_json
from t2t_vqem.constants import UsageError
from t2t_vqem.data.vocabulary import Vocabulary
from t2t_vqem.fields import check
from t2t_vqem.files import locked, write_file, write_json
from t2t_vqem.models.base import Model
from t2t_vqem.problem import Problem

_logger = logging.getLogger(__name__)
FLAGS = "flags.json"
HPARAMS = "hparams.json"
GIN = "config.gin"
VOCABULARY = "vocab.model"
CHECKPOINTS = "checkpoints"
BEST = "best"
AVERAGED = "averaged"
LOCK = "trainer.lock"

# The errors that TensorFlow raises if a checkpoint is damaged or belongs to another model.
_CHECKPOINT_ERRORS = (tf.errors.OpError, AssertionError, LookupError, RuntimeError, ValueError)

_DAMAGED = "Restore the file, or train again in another --output_dir"
# Settings that can change when a run continues: locations of files, and the length of training.
_MAY_DIFFER = (
    "data_dir",
    "eval_early_stopping_metric",
    "eval_early_stopping_patience",
    "hparams_set",
    "t2t_usr_dir",
    "train_steps",
    "versions",
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunSettings:
    """The settings of a run."""

    problem: str
    problem_config: Any
    hparams: HParams
    gin_text: str
    data_dir: str
    data_source: Any  # the source of the data, from its manifest
    vocabulary: str | None  # hash
    seed: int
    train_steps: int
    eval_early_stopping_metric: str | None = None  # None: BLEU, or the loss without translations
    eval_early_stopping_patience: int = 0  # in evaluations; 0: train to the last step
    hparams_set: str | None = None
    t2t_usr_dir: str | None = None
    warm_start_from: str | None = None  # output directory of the run's initial weights

    @classmethod
    def stored_fields(cls) -> dict[str, Any]:
        """Returns the fields that `flags` stores unchanged, and their defaults."""
        elsewhere = ("hparams", "gin_text", "problem_config")
        return {f.name: f.default for f in dataclasses.fields(cls) if f.name not in elsewhere}

    def flags(self) -> dict[str, Any]:
        """Returns everything except hyperparameters and gin, as JSON."""
        return {
            **{name: getattr(self, name) for name in self.stored_fields()},
            "problem_config": to_json(self.problem_config),
            "model": self.hparams.model,
            "versions": {
                "python": platform.python_version(),
                "t2t_vqem": t2t_vqem.__version__,
                "tensorflow": tf.__version__,
                "keras": keras.__version__,
            },
        }


class OutputDir:
    """Reads and writes the folder of one run."""

    def __init__(self, path: str):
        """Stores the path, without reading or writing."""
        self.path = os.path.abspath(os.path.expanduser(path))

    def join(self, *names: str) -> str:
        """Returns a path in the folder."""
        return os.path.join(self.path, *names)

    def locked(self) -> contextlib.AbstractContextManager[None]:
        """Locks the folder for one trainer; raises a UsageError if another one holds the lock."""
        return locked(
            self.join(LOCK),
            f"another t2t-trainer is training in {self.path}",
            remedy="Stop it first, or use another --output_dir",
        )

    def has_run(self) -> bool:
        """Returns whether a run was configured here."""
        return os.path.exists(self.join(FLAGS))

    def save(self, settings: RunSettings, vocabulary: Vocabulary | None) -> None:
        """Writes the configuration; `flags.json`, which marks a complete one, is written last."""
        os.makedirs(self.path, exist_ok=True)
        if vocabulary is not None:
            write_file(self.join(VOCABULARY), vocabulary.model)
        write_file(self.join(GIN), settings.gin_text.encode())
        write_json(self.join(HPARAMS), to_json(settings.hparams))
        write_json(self.join(FLAGS), settings.flags())
        run_plugins.remember(self.path, self.join(FLAGS), settings.t2t_usr_dir)

    def settings(self) -> RunSettings:
        """Returns the saved settings, with defaults for settings that were added later.

        Raises:
            UsageError: the folder holds no run, its files are unusable, or its plug-in is not
                trusted (see `run_plugins`).
        """
        flags = self._read_json(FLAGS)
        where = f"{self.join(FLAGS)}: "
        stored = RunSettings.stored_fields()
        missing = {name for name, default in stored.items() if default is dataclasses.MISSING}
        missing = sorted((missing | {"model", "problem_config"}) - flags.keys())
        if missing:
            raise UsageError(f"{where}{', '.join(missing)} is missing. {_DAMAGED}")
        values = check(RunSettings, {n: v for n, v in flags.items() if n in stored}, where)
        if not isinstance(flags["model"], str) or not isinstance(flags["problem_config"], dict):
            raise UsageError(
                f"{where}expected a string as model and an object as problem_config. {_DAMAGED}"
            )
        run_plugins.load(
            self.path,
            self.join(FLAGS),
            values.get("t2t_usr_dir"),
            problem=values["problem"],
            model=flags["model"],
        )
        hparams = hparams_class(flags["model"])
        config_class = registry.problems.get(values["problem"]).Config
        return RunSettings(
            **values,
            problem_config=from_json(config_class, flags["problem_config"]),
            hparams=from_json(hparams, self._read_json(HPARAMS)),
            gin_text=self._read_text(GIN),
        )

    def check_same(self, settings: RunSettings) -> None:
        """Raises a UsageError that lists the differences if `settings` do not match the run."""
        before, now = _comparable(self.settings()), _comparable(settings)
        if before.pop("vocabulary") != now.pop("vocabulary"):
            raise UsageError(
                f"the vocabulary of the data in {settings.data_dir} is not the one that the run in "
                f"{self.path} was trained with. Use the data that it was trained with, or another "
                "--output_dir"
            )
        differences = [
            f"{name}: the run has {before.get(name)!r}, now {now.get(name)!r}"
            for name in {**before, **now}
            if before.get(name) != now.get(name)
        ]
        if differences:
            raise UsageError(
                f"{self.path} holds a run with other settings:\n  "
                + "\n  ".join(differences)
                + "\nOmit these settings to continue that run, or use another --output_dir"
            )

    def problem(self) -> Problem:
        """Returns the problem with the settings of the run."""
        settings = self.settings()
        return registry.problems.get(settings.problem)(settings.problem_config)

    def hparams(self) -> HParams:
        """Returns the hyperparameters of the run."""
        return self.settings().hparams

    def vocabulary(self) -> Vocabulary | None:
        """Returns the run's own copy of its vocabulary; None if it has none.

        Raises:
            UsageError: the file is missing or not the one that the run was trained with.
        """
        expected = self.settings().vocabulary
        if expected is None:
            return None
        vocabulary = Vocabulary(self.join(VOCABULARY))
        if vocabulary.hash != expected:
            raise UsageError(
                f"{self.join(VOCABULARY)} is not the vocabulary that the run was trained with: its "
                f"hash is {vocabulary.hash[:12]}, expected {expected[:12]}. Restore the file; the "
                f"data in --data_dir has a copy"
            )
        return vocabulary

    def build_model(self) -> Model:
        """Returns the run's model with new weights; call it in the strategy's scope."""
        model = make_model(self.hparams(), self.problem(), self.vocabulary())
        model.build_variables()
        return model

    def find_checkpoint(self, checkpoint: str | None = None) -> str:
        """Returns the path of a checkpoint, without ".index".

        Args:
            checkpoint: "best", "latest", "averaged" or a path; None: the best, or the latest if no
                evaluation has chosen a best one.

        Raises:
            UsageError: the checkpoint does not exist, or belongs to another run.
        """
        folders = {"best": BEST, "latest": CHECKPOINTS, "averaged": AVERAGED}
        for name in [checkpoint] if checkpoint else ["best", "latest"]:
            path = (
                latest_checkpoint(self.join(folders[name]))
                if name in folders
                else name.removesuffix(".index")
            )
            if path and os.path.exists(f"{path}.index"):
                self._check_own(path)
                return path
        wanted = f"checkpoint {checkpoint!r}" if checkpoint else "checkpoint"
        raise UsageError(
            f"there is no {wanted} for the run in {self.path}. t2t-trainer writes best and latest, "
            f"t2t-avg-all writes averaged. Expected one of these names, or a path without .index"
        )

    def _check_own(self, path: str) -> None:
        """Checks that a checkpoint is not in the folder of another run.

        Another run may have another vocabulary, which would show only in wrong translations.
        """
        other = os.path.dirname(os.path.dirname(os.path.realpath(path)))
        if other != os.path.realpath(self.path) and OutputDir(other).has_run():
            raise UsageError(
                f"checkpoint {path} belongs to the run in {other}, not to the one in {self.path}: "
                f"to decode with it, name that run, --output_dir={other} --checkpoint={path}"
            )

    def restore_for_inference(self, model: Model, checkpoint: str | None = None) -> str:
        """Restores the weights for inference: the averaged copy if the checkpoint has one.

        Args:
            model: a built model.
            checkpoint: as in `find_checkpoint`.

        Returns:
            The path of the checkpoint.

        Raises:
            UsageError: the checkpoint is missing, unreadable, or belongs to another model.
        """
        path = self.find_checkpoint(checkpoint)
        failure = f"checkpoint {path} cannot be restored into the model {model.name!r}"
        with checkpoint_errors_explained(failure):
            names = list(tf.train.load_checkpoint(path).get_variable_to_shape_map())
            part = "averaged" if any(name.startswith("averaged/") for name in names) else "model"
            status = tf.train.Checkpoint(**{part: named_weights(model)}).read(path)
            status.expect_partial().assert_existing_objects_matched()
        stored = sum(name.startswith(f"{part}/") and name.endswith(_VALUE) for name in names)
        if stored != len(model.variables):
            raise UsageError(
                f"checkpoint {path} has {stored} variables, the model {model.name!r} has "
                f"{len(model.variables)}: it belongs to another model"
            )
        return path

    def _read_text(self, name: str) -> str:
        try:
            with open(self.join(name), encoding="utf-8") as file:
                return file.read()
        except FileNotFoundError as error:
            raise UsageError(
                f"{self.path} is not an output directory of t2t-trainer: it has no {name}"
            ) from error
        except (OSError, ValueError) as error:
            raise UsageError(f"{self.join(name)} cannot be read: {error}. {_DAMAGED}") from error

    def _read_json(self, name: str) -> dict[str, Any]:
        try:
            value = json.loads(self._read_text(name))
        except (ValueError, RecursionError) as error:
            raise UsageError(f"{self.join(name)} cannot be read: {error}. {_DAMAGED}") from error
        if not isinstance(value, dict):
            raise UsageError(f"{self.join(name)} is not a JSON object. {_DAMAGED}")
        return value


_VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"  # TensorFlow's suffix for the name of a variable's value


@contextlib.contextmanager
def checkpoint_errors_explained(failure: str, remedy: str = "") -> Iterator[None]:
    """Converts TensorFlow's errors about a checkpoint to a UsageError: failure, cause, remedy."""
    try:
        yield
    except _CHECKPOINT_ERRORS as error:
        reason = str(error).partition("\n")[0]
        raise UsageError(f"{failure}: {reason}{remedy}") from error


def checkpoint_state(folder: str) -> Any:
    """Returns TensorFlow's record of the checkpoints in a folder; None if it is unreadable."""
    try:
        return tf.train.get_checkpoint_state(folder)
    except ValueError:  # not even text
        return None


def latest_checkpoint(folder: str) -> str | None:
    """Returns the path of the last checkpoint in a folder; None if there is none.

    If the file that names it is damaged or names a missing checkpoint, the last checkpoint is the
    one with the most steps.
    """
    state = checkpoint_state(folder)
    if state and os.path.exists(f"{state.model_checkpoint_path}.index"):
        return state.model_checkpoint_path
    found = checkpoints_by_step(folder)
    if not found:
        return None
    _logger.warning("%s/checkpoint does not name the last checkpoint: using %s", folder, found[-1])
    return found[-1]


def checkpoints_by_step(folder: str) -> list[str]:
    """Returns the paths of all checkpoints in a folder, the one with the most steps last."""
    names = os.listdir(folder) if os.path.isdir(folder) else []
    steps = [int(m[1]) for name in names if (m := re.fullmatch(r"ckpt-(\d+)\.index", name))]
    return [os.path.join(folder, f"ckpt-{step}") for step in sorted(steps)]


def checkpoint_hash(path: str) -> str:
    """Returns a hash of a checkpoint's index, which has a checksum of each weight.

    Args:
        path: as `OutputDir.find_checkpoint` returns it.
    """
    with open(f"{path}.index", "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


def checkpoint_step(path: str) -> int | None:
    """Returns the number of updates before a checkpoint was saved; None if it is not stored."""
    reader = tf.train.load_checkpoint(path)
    name = f"step{_VALUE}"
    return int(reader.get_tensor(name)) if reader.has_tensor(name) else None


def make_model(hparams: HParams, problem: Problem, vocabulary: Vocabulary | None) -> Model:
    """Returns the model of `hparams`, without variables, for the data of a problem.

    Raises:
        UsageError: the model lacks the capability that the problem needs, or takes other arguments.
    """
    check_fits(problem, hparams.model)
    arguments = problem.model_arguments(vocabulary)
    model = registry.models.get(hparams.model)
    try:
        inspect.signature(model).bind(hparams, **arguments)
    except TypeError as error:
        raise UsageError(
            f"the model {hparams.model!r} does not fit the problem {problem.name!r}, which passes "
            f"{', '.join(arguments) or 'no arguments'} to its constructor: {error}"
        ) from error
    return model(hparams, **arguments)


def named_weights(model: Model) -> dict[str, tf.Variable]:
    """Returns the variables of a built model by path, in the form to store in checkpoints.

    A checkpoint of the Keras model itself would silently omit every layer in a list, because Keras
    3 tracks lists in a way that TensorFlow's checkpoints do not see.
    """
    weights = {variable.path: variable.value for variable in model.variables}
    if len(weights) != len(model.variables):
        paths = sorted(variable.path for variable in model.variables)
        twice = sorted({path for path in paths if paths.count(path) > 1})
        raise ValueError(f"{model.name}: several variables have the path {', '.join(twice)}")
    return weights


def _comparable(settings: RunSettings) -> dict[str, Any]:
    flags = settings.flags()
    problem_config = flags.pop("problem_config")
    return {
        **{name: value for name, value in flags.items() if name not in _MAY_DIFFER},
        **{f"{settings.problem}.{name}": value for name, value in problem_config.items()},
        **{f"{flags['model']}.{name}": value for name, value in to_json(settings.hparams).items()},
    }

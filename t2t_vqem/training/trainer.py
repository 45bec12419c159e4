"""Runs what t2t-trainer was asked for: training, evaluation, or both."""

import contextlib
import dataclasses
import datetime
import functools
import logging
import os
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from t2t_vqem import registry
from t2t_vqem.capabilities import TranslationModel, check_fits
from t2t_vqem.config import Resolved, from_json, resolve
from t2t_vqem.constants import DEV, MAX_SEED, TRAIN, UsageError
from t2t_vqem.data import building
from t2t_vqem.data.batching import BatchPlan
from t2t_vqem.data.reader import Examples
from t2t_vqem.data.vocabulary import Vocabulary
from t2t_vqem.output_dir import OutputDir, RunSettings, checkpoint_step, make_model
from t2t_vqem.problem import Dataset, Problem
from t2t_vqem.training import metrics_log
from t2t_vqem.training.checkpoints import Checkpoints
from t2t_vqem.training.early_stopping import METRICS, EarlyStopping, early_stopping
from t2t_vqem.training.evaluation import Evaluator
from t2t_vqem.training.loop import Intervals, Loop
from t2t_vqem.training.metrics_log import MetricsLog
from t2t_vqem.training.profiling import ProfiledStep, check_profile_steps
from t2t_vqem.training.progress import TrainingProgress
from t2t_vqem.training.signals import StoppedError, StopRequest
from t2t_vqem.training.state import TrainState
from t2t_vqem.training.step import TrainStep
from t2t_vqem.training.strategies import AUTO, Replicas, make_strategy
from t2t_vqem.training.trackers import Trackers, check_trackers, shown_settings
from t2t_vqem.training.warm_start import warm_start
from t2t_vqem.training.workers import (
    check_same_start,
    copy_from_chief,
    lost_worker_explained,
    stuck_worker_ended,
)

SCHEDULES = ("train_and_evaluate", "train", "evaluate")
DEFAULT_TRAIN_STEPS = 250_000
DEFAULT_SEED = 1
_logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Request:
    """What the user asks for. None and empty values are taken from the output directory."""

    output_dir: str
    problem: str | None = None
    model: str | None = None
    hparams_set: str | None = None
    hparams: str = ""
    problem_params: str = ""
    gin_files: Sequence[str] = ()
    gin_params: Sequence[str] = ()
    data_dir: str | None = None
    t2t_usr_dir: str | None = None
    warm_start_from: str | None = None
    seed: int | None = None
    train_steps: int | None = None
    schedule: str = SCHEDULES[0]
    strategy: str = AUTO
    devices: Sequence[str] = ()
    xla: bool = True
    local_eval_frequency: int = 1000
    eval_early_stopping_metric: str | None = None
    eval_early_stopping_patience: int | None = None
    save_checkpoints_steps: int = 1000
    keep_checkpoint_max: int = 10
    log_step_count_steps: int = 100
    profile_steps: Sequence[int] = ()
    trackers: Sequence[str] = ()
    checkpoint: str | None = None


class Outcome(NamedTuple):
    """The result of a request."""

    step: int  # the last step, or the evaluated one
    stopped: bool  # whether a signal ended training; the same request continues it


def run(request: Request) -> Outcome:
    """Carries out a request.

    Raises:
        UsageError: the request cannot be carried out or does not fit the run in the output
            directory, or numbers in training became non-finite.
    """
    if request.schedule not in SCHEDULES:
        raise UsageError(
            f"unknown --schedule={request.schedule}. Expected one of: {', '.join(SCHEDULES)}"
        )
    check_profile_steps(request.profile_steps)
    check_trackers(request.trackers)
    registry.load_plugins(request.t2t_usr_dir)
    # Before everything else: once TensorFlow has computed something, it creates no more devices.
    strategy = make_strategy(request.strategy, request.devices)
    replicas = Replicas(strategy)
    output_dir = OutputDir(request.output_dir)
    with lost_worker_explained(replicas, output_dir):
        settings, dataset = resolve_settings(request, output_dir)
        if request.schedule == "evaluate":
            return _evaluate(request, strategy, output_dir, settings, dataset)
        with output_dir.locked() if replicas.is_chief else contextlib.nullcontext():
            return _train(request, strategy, output_dir, settings, dataset)


def resolve_settings(request: Request, output_dir: OutputDir) -> tuple[RunSettings, Dataset]:
    """Returns the settings of a new run, or of the run in the output directory, and its data.

    Raises:
        UsageError: a setting is missing, or differs from the run in the output directory.
    """
    saved = output_dir.settings() if output_dir.has_run() else None
    problem_name = request.problem or (saved and saved.problem)
    data_dir = request.data_dir or (saved and saved.data_dir)
    new_model = request.hparams_set or request.model or saved
    for flag, value in (
        ("problem", problem_name),
        ("data_dir", data_dir),
        ("hparams_set", new_model),
    ):
        if not value:
            raise UsageError(f"--{flag} is missing, and {output_dir.path} holds no run to continue")
    if request.eval_early_stopping_metric not in (None, *METRICS):
        raise UsageError(
            f"--eval_early_stopping_metric={request.eval_early_stopping_metric}: expected one of "
            f"{', '.join(METRICS)}"
        )
    if request.seed is not None and not 0 <= request.seed <= MAX_SEED:
        raise UsageError(f"--seed={request.seed}: expected a number from 0 to {MAX_SEED}")
    data_dir = os.path.abspath(os.path.expanduser(data_dir))
    problem_class = registry.problems.get(problem_name)
    manifest = building.read_manifest(os.path.join(data_dir, problem_class.name))
    resolved = resolve(
        problem=problem_name,
        model=request.model,
        hparams_set=request.hparams_set,
        gin_files=request.gin_files,
        gin_params=request.gin_params,
        hparams=request.hparams,
        problem_params=request.problem_params,
        base=_base(problem_class, manifest, saved),
    )
    check_fits(problem_class, resolved.hparams.model)
    dataset = problem_class(resolved.problem_config).open(data_dir, manifest)
    vocabulary = dataset.vocabulary
    warm_start_from = request.warm_start_from or (saved and saved.warm_start_from)
    settings = RunSettings(
        problem=problem_name,
        problem_config=resolved.problem_config,
        hparams=resolved.hparams,
        gin_text=resolved.gin_text,
        data_dir=data_dir,
        data_source=dataset.manifest.get("source"),
        vocabulary=vocabulary and vocabulary.hash,
        seed=_first(request.seed, saved and saved.seed, DEFAULT_SEED),
        train_steps=_first(request.train_steps, saved and saved.train_steps, DEFAULT_TRAIN_STEPS),
        eval_early_stopping_metric=request.eval_early_stopping_metric
        or (saved and saved.eval_early_stopping_metric),
        eval_early_stopping_patience=_first(
            request.eval_early_stopping_patience, saved and saved.eval_early_stopping_patience, 0
        ),
        hparams_set=request.hparams_set or (saved and saved.hparams_set),
        t2t_usr_dir=_absolute(request.t2t_usr_dir) or (saved and saved.t2t_usr_dir),
        warm_start_from=_absolute(warm_start_from),
    )
    if saved:
        output_dir.check_same(settings)
    return settings, dataset


def _base(
    problem: type[Problem], manifest: dict[str, Any] | None, saved: RunSettings | None
) -> Resolved:
    """Returns the settings to start from: those of the saved run, or those of the data."""
    hparams = saved.hparams if saved else None
    if saved and registry.problems.get(saved.problem) is problem:
        return Resolved(saved.problem_config, hparams, saved.gin_text)
    made_with = (manifest or {}).get("config", {})
    return Resolved(from_json(problem.Config, made_with), hparams, "")


def _absolute(path: str | None) -> str | None:
    return path and os.path.realpath(os.path.expanduser(path))


def _first(*values: int | None) -> int:
    return next(value for value in values if value is not None)


def _train(
    request: Request,
    strategy: tf.distribute.Strategy,
    output_dir: OutputDir,
    settings: RunSettings,
    dataset: Dataset,
) -> Outcome:
    rule = _early_stopping(request, settings, dataset)
    hparams, vocabulary = settings.hparams, dataset.vocabulary
    replicas = Replicas(strategy)
    state = TrainState(
        strategy,
        functools.partial(make_model, hparams, dataset.problem, vocabulary),
        hparams,
        seed=settings.seed,
    )
    checkpoints = Checkpoints(
        output_dir, state, keep=request.keep_checkpoint_max, is_chief=replicas.is_chief
    )
    start = checkpoints.restore()
    check_same_start(replicas, output_dir, settings, start)
    examples = dataset.examples(TRAIN, hparams, seed=settings.seed)
    own_examples = examples._replace(plan=replicas.own_rows(examples.plan))
    start_model = functools.partial(_start_model, state, replicas, examples, settings.seed)
    if not start and settings.warm_start_from and _warm_start(state, settings, vocabulary):
        start_model = functools.partial(copy_from_chief, replicas, state)
    if replicas.is_chief:
        output_dir.save(settings, vocabulary)
    evaluate = None
    if request.schedule == "train_and_evaluate":
        evaluate = Evaluator(strategy, state.inference_model, dataset, hparams, xla=request.xla)
    step_fn = TrainStep(
        strategy,
        state,
        hparams,
        seed=settings.seed,
        train_steps=settings.train_steps,
        xla=request.xla,
    )
    _describe(state, replicas, examples.plan, settings, start)
    with contextlib.ExitStack() as stack:
        trackers = None
        if request.trackers and replicas.is_chief:
            trackers = Trackers(request.trackers, output_dir, settings)
        log = MetricsLog(
            output_dir, start_step=start, is_chief=replicas.is_chief, trackers=trackers
        )
        stack.callback(log.close)
        if not start:
            log.write_hparams(shown_settings(settings))
        if request.profile_steps and replicas.is_chief:
            step_fn = ProfiledStep(
                step_fn, request.profile_steps, output_dir.join(metrics_log.TRAIN)
            )
            stack.callback(step_fn.close)
        progress = _progress(state, replicas, settings, start)
        stack.callback(progress.close)
        stop = stack.enter_context(StopRequest(num_workers=replicas.num_workers))
        stack.enter_context(stuck_worker_ended(replicas, stop))
        loop = Loop(
            step_fn,
            replicas=replicas,
            plan=examples.plan,
            open_reader=own_examples.read,
            accumulate_steps=hparams.accumulate_steps,
            intervals=_intervals(request, settings),
            checkpoints=checkpoints,
            log=log,
            progress=progress,
            evaluate=evaluate,
            early_stopping=rule,
            stop=stop,
            before={state.model.start_step: start_model},
        )
        step = loop.run(start)
        elapsed = datetime.timedelta(seconds=round(log.seconds))
        replicas.gather(step)  # no worker ends before the chief has saved
    stopped = step < settings.train_steps and not loop.stopped_early
    why = "done"
    if stopped:
        why = f"stopped by {stop.name or 'a signal to another worker'}; the same command continues"
    elif loop.stopped_early:
        why = f"done, {rule.metric} did not improve in the last {rule.patience} evaluations,"
    _logger.info("%s after step %d and %s: %s", why, step, elapsed, checkpoints.latest)
    return Outcome(step, stopped)


def _early_stopping(
    request: Request, settings: RunSettings, dataset: Dataset
) -> EarlyStopping | None:
    patience = settings.eval_early_stopping_patience
    if patience and request.schedule != "train_and_evaluate":
        raise UsageError(
            f"--eval_early_stopping_patience={patience} needs evaluations: expected "
            "--schedule=train_and_evaluate, or a patience of 0"
        )
    return early_stopping(
        settings.eval_early_stopping_metric,
        patience,
        decodes_text=dataset.problem.needs_a(TranslationModel),
    )


def _warm_start(state: TrainState, settings: RunSettings, vocabulary: Vocabulary | None) -> bool:
    """Loads the weights of another run; returns whether `Model.start` is then unnecessary."""
    complete = warm_start(state.model, settings.warm_start_from, vocabulary=vocabulary)
    state.begin_average()
    # A model that starts later makes its codes from the vectors that it has learned by then.
    return complete and state.model.start_step == 0


def _whole_batches(examples: Examples) -> Iterator[dict[str, np.ndarray]]:
    """Yields global batches from the first on; reads nothing if the model takes no batch."""
    with examples.read() as reader:
        for _, batch in reader:
            yield batch


def _start_model(state: TrainState, replicas: Replicas, examples: Examples, seed: int) -> None:
    """Sets what a model learns from its first batches, equally on every worker."""
    if replicas.is_chief:
        with contextlib.closing(_whole_batches(examples)) as batches:
            state.start(batches, seed=seed)
    copy_from_chief(replicas, state)


def _progress(
    state: TrainState, replicas: Replicas, settings: RunSettings, start: int
) -> TrainingProgress:
    unit, unit_weight = state.model.progress_unit
    return TrainingProgress(
        start_step=start,
        train_steps=settings.train_steps,
        unit=unit,
        unit_weight=unit_weight,
        is_chief=replicas.is_chief,
    )


def _intervals(request: Request, settings: RunSettings) -> Intervals:
    return Intervals(
        train=settings.train_steps,
        save=request.save_checkpoints_steps,
        evaluate=request.local_eval_frequency,
        report=request.log_step_count_steps,
    )


def _describe(
    state: TrainState, replicas: Replicas, plan: BatchPlan, settings: RunSettings, start: int
) -> None:
    """Logs what will run."""
    steps = f"steps {start} to {settings.train_steps}"
    if start >= settings.train_steps:
        steps = f"no step left: {start} are done, --train_steps={settings.train_steps}"
    _logger.info(
        "%s on %s: %s parameters, %d replica(s), %s, %d batches per epoch, rows x length: %s",
        settings.hparams.model,
        settings.problem,
        f"{state.model.count_params():,}",
        replicas.total,
        steps,
        plan.steps_per_epoch,
        ", ".join(f"{rows}x{length}" for rows, length in plan.shapes),
    )


def _evaluate(
    request: Request,
    strategy: tf.distribute.Strategy,
    output_dir: OutputDir,
    settings: RunSettings,
    dataset: Dataset,
) -> Outcome:
    """Evaluates a checkpoint on dev and prints the metrics."""
    output_dir.find_checkpoint(request.checkpoint)  # raises errors before anything is built
    with strategy.scope():
        model = output_dir.build_model()
    path = output_dir.restore_for_inference(model, request.checkpoint)
    evaluator = Evaluator(strategy, model, dataset, settings.hparams, xla=request.xla)
    replicas = Replicas(strategy)
    with (
        StopRequest(num_workers=replicas.num_workers) as stop,
        stuck_worker_ended(replicas, stop),
    ):
        try:
            evaluation = evaluator(stop)
        except StoppedError:
            raise UsageError(
                f"stopped by {stop.name or 'a signal to another worker'} before the evaluation "
                "was complete: run the command again"
            ) from None
    if replicas.is_chief:
        print(f"{path}, {DEV}: {evaluation}")
    return Outcome(checkpoint_step(path) or 0, stopped=False)

"""The training loop: repeats the train step and decides when to report, evaluate, save and stop."""

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from t2t_vqem.constants import UsageError
from t2t_vqem.data.reader import BatchReader
from t2t_vqem.training import metrics_log
from t2t_vqem.training.checkpoints import Checkpoints
from t2t_vqem.training.early_stopping import EarlyStopping
from t2t_vqem.training.evaluation import Evaluation
from t2t_vqem.training.metrics_log import MetricsLog
from t2t_vqem.training.progress import TrainingProgress
from t2t_vqem.training.signals import StoppedError, StopRequest
from t2t_vqem.training.step import StepResult, TrainStep
from t2t_vqem.training.strategies import Plan, ReplicaBatch, Replicas

_NAMED_EXAMPLES = 8  # examples that the error about a non-finite loss lists for each batch


class NotFiniteError(UsageError):
    """A loss or a gradient is not finite. Nothing was saved after the last good checkpoint."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Intervals:
    """Numbers of updates: those of the whole run, and those between two actions."""

    train: int  # updates of the whole run
    save: int  # updates between two checkpoints
    evaluate: int  # updates between two evaluations
    report: int  # updates between two reports


@dataclasses.dataclass
class Window:
    """Sums over the updates since the last report."""

    started: float  # time.monotonic()
    waited: float  # seconds spent waiting for data before the window began
    steps: int = 0
    loss: float = 0.0
    weight: float = 0.0
    metrics: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)  # [sum, weight]


class Loop:
    """Trains from one step to another.

    The results of a step are read while the next step runs, so that the device never waits for the
    host. All of them are read and checked to be finite before anything is saved or evaluated.

    Attributes:
        stopped_early: whether `early_stopping` ended the run.
    """

    def __init__(
        self,
        step_fn: TrainStep,
        *,
        replicas: Replicas,
        plan: Plan,
        open_reader: Callable[[int], BatchReader],
        accumulate_steps: int,
        intervals: Intervals,
        checkpoints: Checkpoints,
        log: MetricsLog,
        progress: TrainingProgress,
        evaluate: Callable[[StopRequest], Evaluation] | None,
        early_stopping: EarlyStopping | None,
        stop: StopRequest,
        before: dict[int, Callable[[], None]],
    ):
        """Takes the parts of a training run.

        Args:
            step_fn: applies one update.
            replicas: distributes batches to the replicas.
            plan: the sequence of global batches.
            open_reader: returns a reader of this process's rows, starting at the given batch.
            accumulate_steps: number of batches in one update.
            intervals: when to save, evaluate and report, and how long to train.
            checkpoints: saves checkpoints.
            log: writes metrics to files.
            progress: shows metrics to the user.
            evaluate: evaluates the model; None to train only.
            early_stopping: when to end before the last step; None: never.
            stop: whether to stop early.
            before: functions to call just before the update of a step, by step.
        """
        self._step_fn = step_fn
        self._replicas = replicas
        self._plan = plan
        self._open_reader = open_reader
        self._accumulate_steps = accumulate_steps
        self._intervals = intervals
        self._checkpoints = checkpoints
        self._log = log
        self._progress = progress
        self._evaluate_fn = evaluate
        self._early_stopping = early_stopping
        self._stop = stop
        self._before = before
        self._pending: tuple[int, StepResult] | None = None
        self._window = Window(time.monotonic(), 0.0)
        self._last: dict[str, float] = {}
        self.stopped_early = False

    def run(self, step: int) -> int:
        """Trains from `step` to the end, to a requested stop or to an early one.

        Returns:
            The step reached.

        Raises:
            NotFiniteError: a loss or gradient is not finite.
        """
        saved = step
        intervals = self._intervals
        with self._open_reader(step * self._accumulate_steps) as reader:
            if step and step % intervals.evaluate == 0 and not self._was_evaluated(step):
                self._evaluate(step)
            self._window = Window(time.monotonic(), reader.wait_seconds)
            self.stopped_early = self._stops_early()
            while step < intervals.train and not self._stop and not self.stopped_early:
                batches = [self._next_batch(reader) for _ in range(self._accumulate_steps)]
                if step in self._before:
                    self._before[step]()
                result = self._step_fn(batches, step=step, stop_wish=self._stop.poll())
                self._read_pending()
                self._pending = (step, result)
                step += 1
                self._progress.advance()
                if step % intervals.report == 0 or step == intervals.train:
                    self._report(step, reader.wait_seconds)
                if step % intervals.save == 0 or step == intervals.train:
                    saved = self._save(step)
                if step % intervals.evaluate == 0 or step == intervals.train:
                    self._evaluate(step)
                    self.stopped_early = self._stops_early()
        if saved != step:
            self._save(step)
        return step

    def _next_batch(self, reader: BatchReader) -> ReplicaBatch:
        number, batch = next(reader)
        return self._replicas.distribute(batch, len(self._plan.batch(number)[0]))

    def _save(self, step: int) -> int:
        self._read_pending()
        self._checkpoints.save(step)
        return step

    def _read_pending(self) -> None:
        """Waits for the last step and adds its results to the window."""
        if self._pending is None:
            return
        step, result = self._pending
        self._pending = None
        result = tf.nest.map_structure(lambda x: x.numpy(), result)
        self._stop.hear(float(result.stop_wishes))
        if not (np.isfinite(result.loss) and np.isfinite(result.gradient_norm)):
            raise NotFiniteError(self._describe_failure(step, result))
        window = self._window
        window.steps += 1
        window.loss += float(result.loss)
        window.weight += float(result.weight)
        for name, pair in result.metrics.items():
            window.metrics[name] = window.metrics.get(name, 0.0) + np.array(pair, np.float64)
        self._last = {
            "gradient_norm": float(result.gradient_norm),
            "learning_rate": float(result.learning_rate),
        }

    def _describe_failure(self, step: int, result: Any) -> str:
        lines = []
        for index in range(self._accumulate_steps):
            number = step * self._accumulate_steps + index
            examples, length = self._plan.batch(number)
            real = examples[examples >= 0]
            named = ", ".join(str(example) for example in real[:_NAMED_EXAMPLES])
            more = ", ..." if len(real) > _NAMED_EXAMPLES else ""
            lines.append(
                f"batch {number}: {len(examples)} rows of length {length}, examples {named}{more}"
            )
        return (
            f"training stopped at step {step}: the loss is {result.loss} and the gradient norm "
            f"{result.gradient_norm}, expected finite numbers.\n"
            + "\n".join(lines)
            + f"\nLast good checkpoint: {self._checkpoints.latest or 'none'}; nothing was saved "
            f"after it. Check these examples, or start again in another --output_dir with a lower "
            f"learning_rate, a longer warm-up, gradient clipping (clip_norm), or dtype=float32"
        )

    def _report(self, step: int, wait_seconds: float) -> None:
        """Shows and logs the metrics since the last report."""
        self._read_pending()
        window, progress, now = self._window, self._progress, time.monotonic()
        elapsed = max(now - window.started, 1e-9)
        figures = {
            "loss": window.loss / max(window.weight, 1.0),
            **{name: float(pair[0] / max(pair[1], 1.0)) for name, pair in window.metrics.items()},
            **self._last,
            f"{progress.unit}_per_second": window.weight / progress.unit_weight / elapsed,
            "steps_per_second": window.steps / elapsed,
            "wait_share": (wait_seconds - window.waited) / elapsed,
        }
        self._window = Window(now, wait_seconds)
        self._progress.show(step, figures)
        self._log.write(metrics_log.TRAIN, step, figures)

    def _was_evaluated(self, step: int) -> bool:
        """Returns whether the run evaluated this step before it stopped.

        Only the chief writes the log, so all workers use its answer.
        """
        return bool(self._replicas.gather(int(self._log.has_evaluation(step)))[0])

    def _stops_early(self) -> bool:
        """Returns whether the evaluations so far end the run, as the chief's log has them."""
        if self._early_stopping is None:
            return False
        is_due = self._early_stopping.is_due(self._log.evaluations())
        return bool(self._replicas.gather(int(is_due))[0])

    def _evaluate(self, step: int) -> None:
        """Evaluates the model. A stop request during the evaluation cancels it."""
        if self._evaluate_fn is None:
            return
        self._read_pending()
        began = time.monotonic()
        try:
            evaluation = self._evaluate_fn(self._stop)
        except StoppedError:
            return
        loss = evaluation.figures["loss"]
        best = self._checkpoints.save_if_best(step, evaluation.score, loss)
        self._progress.say(f"step {step}, dev: {evaluation}{', best so far' if best else ''}")
        self._log.write(metrics_log.EVAL, step, evaluation.figures, **evaluation.signatures)
        if evaluation.pictures:
            self._log.write_pictures(metrics_log.EVAL, step, *evaluation.pictures())
        self._window.started += time.monotonic() - began  # the window measures training only

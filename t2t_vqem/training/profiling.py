"""Profiles some steps of a training, for TensorBoard."""

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from t2t_vqem.constants import UsageError


def check_profile_steps(steps: Sequence[int]) -> None:
    """Checks `--profile_steps`.

    Raises:
        UsageError: there are steps, but not a first one and a later one.
    """
    if steps and (len(steps) != 2 or not 0 <= steps[0] < steps[1]):
        raise UsageError(
            f"--profile_steps={','.join(map(str, steps))}: expected the first step and the one "
            "after the last, such as 10,20"
        )


class ProfiledStep:
    """A train step that records a profile while it applies the updates of some steps.

    TensorFlow writes the profile below `plugins/profile` in the folder, where TensorBoard's
    profile plugin finds it.
    """

    def __init__(self, step_fn: Callable[..., Any], steps: Sequence[int], folder: str):
        """Records nothing yet.

        Args:
            step_fn: a `TrainStep`.
            steps: the first step to record, and the one after the last, counted from 0.
            folder: the folder of TensorBoard's files.
        """
        self._step_fn, self._folder = step_fn, folder
        self._steps = range(*steps)
        self._records = False

    def __call__(self, batches: Any, *, step: int, stop_wish: int = 0) -> Any:
        """Applies one update, as the train step does."""
        if step not in self._steps:
            return self._step_fn(batches, step=step, stop_wish=stop_wish)
        if not self._records:
            tf.profiler.experimental.start(self._folder)
            self._records = True
        with tf.profiler.experimental.Trace("train", step_num=step, _r=1):
            result = self._step_fn(batches, step=step, stop_wish=stop_wish)
        if step == self._steps[-1]:
            tf.nest.map_structure(lambda x: x.numpy(), result)  # waits for the device
            self.close()
        return result

    def close(self) -> None:
        """Writes the profile if the run ended before the last of the steps."""
        if self._records:
            tf.profiler.experimental.stop()
            self._records = False

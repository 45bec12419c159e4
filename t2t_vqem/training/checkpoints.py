"""Saves and restores the state of a run: the last few checkpoints and the best weights."""

import logging
import math
import os

import numpy as np
import tensorflow as tf

from t2t_vqem.constants import UsageError
from t2t_vqem.output_dir import (
    BEST,
    CHECKPOINTS,
    OutputDir,
    checkpoint_errors_explained,
    checkpoint_state,
    checkpoints_by_step,
    latest_checkpoint,
    named_weights,
)
from t2t_vqem.training.state import TrainState

_logger = logging.getLogger(__name__)
_SCORE, _LOSS = (f"{name}/.ATTRIBUTES/VARIABLE_VALUE" for name in ("score", "loss"))


class Checkpoints:
    """The checkpoints in an output directory.

    TensorFlow writes a checkpoint aside and names it in the folder's `checkpoint` file last, so a
    killed run finds the one before.
    """

    def __init__(self, output_dir: OutputDir, state: TrainState, *, keep: int, is_chief: bool):
        """Looks for what is there.

        Args:
            output_dir: folder of the run.
            state: what is saved and restored.
            keep: how many of the last checkpoints to keep.
            is_chief: whether this process is the one that writes; the others only read.
        """
        self._state = state
        self._is_chief = is_chief
        folder = output_dir.join(CHECKPOINTS)
        self._best_folder = output_dir.join(BEST)
        if is_chief:
            _mend(folder)
            _mend(self._best_folder)
        self._manager = tf.train.CheckpointManager(
            state.checkpoint(), folder, max_to_keep=keep, checkpoint_name="ckpt"
        )
        self._folder = folder
        self._score, self._loss = (tf.Variable(0.0, dtype=tf.float64) for _ in range(2))
        best = tf.train.Checkpoint(
            model=named_weights(state.inference_model),
            step=state.step,
            score=self._score,
            loss=self._loss,
        )
        self._best = tf.train.CheckpointManager(
            best, self._best_folder, max_to_keep=1, checkpoint_name="ckpt"
        )

    @property
    def latest(self) -> str | None:
        """Path of the last checkpoint, None where there is none."""
        return latest_checkpoint(self._folder)

    def restore(self) -> int:
        """Restores the last checkpoint and returns its step; 0 where there is none.

        Raises:
            UsageError: the checkpoint cannot be read, or is not of this model.
        """
        path = self.latest
        if path is None:
            return 0
        remedy = f". To go on from the one before, delete it ({path}.*)"
        with checkpoint_errors_explained(f"checkpoint {path} cannot be restored", remedy):
            self._manager.checkpoint.restore(path).assert_consumed()
        return int(self._state.step)

    def save(self, step: int) -> None:
        """Saves everything as the state after `step` updates.

        Raises:
            UsageError: it cannot be written, as on a full disk.
        """
        if not self._is_chief:
            return
        # As in step.py, NumPy's numbers: of Python's, TensorFlow keeps a tensor for ever.
        self._state.step.assign(np.int64(step))
        try:
            self._manager.save(checkpoint_number=step)
        except (tf.errors.OpError, OSError) as error:
            raise UsageError(
                f"the checkpoint of step {step} cannot be written to {self._folder}: {error}. The "
                f"last good one is {self.latest}"
            ) from error

    def best(self) -> tuple[float, float]:
        """Returns the score and minus the loss of the best weights so far, the higher the better.

        Minus infinity where there are none, or where an older version has not kept the loss.
        """
        path = latest_checkpoint(self._best_folder)
        if path is None:
            return -math.inf, -math.inf
        remedy = f". Delete {self._best_folder}; the next evaluation chooses anew"
        with checkpoint_errors_explained(f"checkpoint {path}, the best so far, is damaged", remedy):
            reader = tf.train.load_checkpoint(path)
            loss = float(reader.get_tensor(_LOSS)) if reader.has_tensor(_LOSS) else math.inf
            return float(reader.get_tensor(_SCORE)), -loss

    def save_if_best(self, step: int, score: float, loss: float) -> bool:
        """Keeps the inference weights if they are better than any before; says whether they are.

        Args:
            step: updates that they have seen.
            score: the higher, the better.
            loss: decides between equal scores, as BLEU is 0 for long where no four words in a row
                are right: the lower, the better.
        """
        if not self._is_chief or (score, -loss) <= self.best():
            return False
        self._state.step.assign(np.int64(step))
        self._score.assign(np.float64(score))
        self._loss.assign(np.float64(loss))
        self._best.save(checkpoint_number=step)
        return True


def _mend(folder: str) -> None:
    """Writes the file that names the checkpoints anew where it is damaged or lost."""
    found = checkpoints_by_step(folder)
    if found and checkpoint_state(folder) is None:
        # Only what is later than the last one kept for ever, of which there is none, is removed.
        times = [os.path.getmtime(f"{path}.index") for path in found]
        tf.compat.v1.train.update_checkpoint_state(
            folder,
            found[-1],
            found,
            all_model_checkpoint_timestamps=times,
            last_preserved_timestamp=0.0,
        )

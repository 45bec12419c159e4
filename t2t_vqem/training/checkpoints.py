"""Saves and restores the state of a run: the latest checkpoints and the best weights."""

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

_SCORE, _LOSS = (f"{name}/.ATTRIBUTES/VARIABLE_VALUE" for name in ("score", "loss"))


class Checkpoints:
    """The checkpoints in an output directory.

    TensorFlow writes a checkpoint under temporary names and registers it in the folder's file
    `checkpoint` last. So a run that was killed while saving finds the previous checkpoint.
    """

    def __init__(self, output_dir: OutputDir, state: TrainState, *, keep: int, is_chief: bool):
        """Opens the checkpoint folders of a run.

        Args:
            output_dir: folder of the run.
            state: the state to save and restore.
            keep: number of latest checkpoints to keep.
            is_chief: whether this process writes. Other processes only read.
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
        """Path of the latest checkpoint; None if there is none."""
        return latest_checkpoint(self._folder)

    def restore(self) -> int:
        """Restores the latest checkpoint and returns its step; 0 if there is none.

        Raises:
            UsageError: the checkpoint cannot be read, or belongs to another model.
        """
        path = self.latest
        if path is None:
            return 0
        remedy = f". To continue from the previous one, delete it ({path}.*)"
        with checkpoint_errors_explained(f"checkpoint {path} cannot be restored", remedy):
            self._manager.checkpoint.restore(path).assert_consumed()
        return int(self._state.step)

    def save(self, step: int) -> None:
        """Saves the state after `step` updates.

        Raises:
            UsageError: the checkpoint cannot be written, for example because the disk is full.
        """
        if not self._is_chief:
            return
        # NumPy numbers, as in step.py: TensorFlow caches a tensor for every Python number forever.
        self._state.step.assign(np.int64(step))
        try:
            self._manager.save(checkpoint_number=step)
        except (tf.errors.OpError, OSError) as error:
            raise UsageError(
                f"the checkpoint of step {step} cannot be written to {self._folder}: {error}. The "
                f"last good one is {self.latest}"
            ) from error

    def best(self) -> tuple[float, float]:
        """Returns the score and the negated loss of the best weights so far; higher is better.

        Both are minus infinity if there are none. The loss is infinite if an older version, which
        did not store it, saved the weights.
        """
        path = latest_checkpoint(self._best_folder)
        if path is None:
            return -math.inf, -math.inf
        remedy = f". Delete {self._best_folder}; the next evaluation saves a new one"
        with checkpoint_errors_explained(f"checkpoint {path}, the best so far, is damaged", remedy):
            reader = tf.train.load_checkpoint(path)
            loss = float(reader.get_tensor(_LOSS)) if reader.has_tensor(_LOSS) else math.inf
            return float(reader.get_tensor(_SCORE)), -loss

    def save_if_best(self, step: int, score: float, loss: float) -> bool:
        """Saves the inference weights if they are the best so far; returns whether they are.

        Args:
            step: number of updates applied.
            score: higher is better.
            loss: decides between equal scores; lower is better. BLEU, for example, stays 0 until
                four consecutive words are correct.
        """
        if not self._is_chief or (score, -loss) <= self.best():
            return False
        self._state.step.assign(np.int64(step))
        self._score.assign(np.float64(score))
        self._loss.assign(np.float64(loss))
        self._best.save(checkpoint_number=step)
        return True


def _mend(folder: str) -> None:
    """Writes the file that lists the checkpoints again if it is damaged or missing."""
    found = checkpoints_by_step(folder)
    if found and checkpoint_state(folder) is None:
        # The manager only ever removes checkpoints that are newer than this time.
        times = [os.path.getmtime(f"{path}.index") for path in found]
        tf.compat.v1.train.update_checkpoint_state(
            folder,
            found[-1],
            found,
            all_model_checkpoint_timestamps=times,
            last_preserved_timestamp=0.0,
        )

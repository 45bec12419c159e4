"""Averages checkpoints. The mean of several often translates better than any one of them."""

import logging

import numpy as np
import tensorflow as tf

from t2t_vqem.constants import UsageError
from t2t_vqem.files import locked
from t2t_vqem.output_dir import (
    AVERAGED,
    CHECKPOINTS,
    OutputDir,
    checkpoint_step,
    checkpoints_by_step,
    named_weights,
)

_logger = logging.getLogger(__name__)


def average_checkpoints(output_dir: OutputDir, num_checkpoints: int) -> str:
    """Averages the inference weights of the last checkpoints and saves the result.

    Args:
        output_dir: folder of a run.
        num_checkpoints: number of checkpoints to average, at least 1.

    Returns:
        The path of the averaged checkpoint.

    Raises:
        UsageError: there are fewer checkpoints, or one cannot be read.
    """
    folder = output_dir.join(CHECKPOINTS)
    paths = checkpoints_by_step(folder)
    if len(paths) < num_checkpoints:
        raise UsageError(
            f"{folder} has {len(paths)} checkpoint(s), expected {num_checkpoints} to average: "
            f"lower --n, or train with a higher --keep_checkpoint_max"
        )
    model = output_dir.build_model()
    sums = [np.zeros(variable.shape, np.float64) for variable in model.variables]
    for path in paths[-num_checkpoints:]:
        output_dir.restore_for_inference(model, path)
        _logger.info("adding %s", path)
        for total, variable in zip(sums, model.variables, strict=True):
            total += variable.numpy()
    for total, variable in zip(sums, model.variables, strict=True):
        variable.assign((total / num_checkpoints).astype(variable.dtype))
    step = checkpoint_step(path)
    if step is None:
        raise UsageError(f"checkpoint {path} has no step number: expected one of t2t-trainer")
    checkpoint = tf.train.Checkpoint(
        model=named_weights(model), step=tf.Variable(step, dtype=tf.int64)
    )
    folder = output_dir.join(AVERAGED)
    manager = tf.train.CheckpointManager(checkpoint, folder, max_to_keep=1, checkpoint_name="ckpt")
    conflict = f"another t2t-avg-all is writing to {folder}"
    with locked(f"{folder}.lock", conflict, remedy="Wait until it is done"):
        return manager.save(checkpoint_number=step)

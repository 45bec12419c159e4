"""Initialises a model with the weights of another run, of the same or of a related model."""

import logging

import tensorflow as tf

from t2t_vqem.constants import UsageError
from t2t_vqem.models.base import Model
from t2t_vqem.output_dir import OutputDir

_logger = logging.getLogger(__name__)


def warm_start(model: Model, path: str, *, vocabulary: str | None) -> bool:
    """Copies the other run's value of each variable that has the same path and shape there.

    If the other run has no variable of that path, `Model.warm_start_path` gives the path of the
    variable to use instead. All other variables keep their values.

    Args:
        model: a built model.
        path: output directory of the other run. Its best checkpoint is used, or the latest one if
            there is no best.
        vocabulary: hash of the model's vocabulary; None if it has none.

    Returns:
        Whether all of the model's `state_variables`, such as codebooks, were copied.

    Raises:
        UsageError: there is no such run, it has another vocabulary, or no variable matches.
    """
    other_dir = OutputDir(path)
    settings = other_dir.settings()
    if settings.vocabulary != vocabulary:
        raise UsageError(
            f"--warm_start_from={path}: that run has another vocabulary, so the same id means "
            f"another piece there. Make the data of both runs with the same vocabulary; distilled "
            f"data, for example, uses the vocabulary of its teacher"
        )
    other = other_dir.build_model()
    checkpoint = other_dir.restore_for_inference(other)
    values = {variable.path: variable.value for variable in other.variables}
    fitting = set()
    for variable in model.variables:
        path_there = variable.path
        if path_there not in values:
            path_there = model.warm_start_path(path_there)
        value = values.get(path_there)
        if value is not None and value.shape == variable.shape:
            variable.assign(tf.convert_to_tensor(value))
            fitting.add(variable.path)
    if not fitting:
        raise UsageError(
            f"--warm_start_from={path}: no weight of that {other.name!r} matches a weight of this "
            f"{model.name!r}. Weights match if their names and shapes are the same: give both "
            f"models the same hidden_size, filter_size and num_heads"
        )
    _logger.info(
        "initialised %d of %d weights from %s",
        len(fitting),
        len(model.variables),
        checkpoint,
    )
    return fitting.issuperset(variable.path for variable in model.state_variables())

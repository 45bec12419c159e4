"""Beginning with the weights of another run, of the same model or of one that shares layers."""

import logging

import tensorflow as tf

from t2t_vqem.constants import UsageError
from t2t_vqem.models.base import Model
from t2t_vqem.output_dir import OutputDir

_logger = logging.getLogger(__name__)


def warm_start(model: Model, path: str, *, vocabulary: str | None) -> bool:
    """Sets each variable that the other run has, under the same name and of the same shape.

    Where it has no variable of that name, `Model.warm_start_path` says which one serves. Other
    variables stay as they are.

    Args:
        model: a built model.
        path: output directory of the other run; its best weights are taken, or else the latest.
        vocabulary: hash of the vocabulary that `model` is for; None where it has none.

    Returns:
        Whether the model's `state_variables`, such as codebooks, are among them.

    Raises:
        UsageError: there is no such run, its ids mean other pieces, or no variable fits.
    """
    other_dir = OutputDir(path)
    settings = other_dir.settings()
    if settings.vocabulary != vocabulary:
        raise UsageError(
            f"--warm_start_from={path}: that run has another vocabulary, so that its weights mean "
            f"other pieces. Make the data of both with one vocabulary, as distilled data has that "
            f"of its teacher"
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
            f"--warm_start_from={path}: none of the weights of that {other.name!r} fits the "
            f"{model.name!r} that is to be trained. They fit where names and shapes are the same: "
            f"give both the same hidden_size, filter_size and num_heads"
        )
    _logger.info(
        "%d of %d weights begin as those of %s",
        len(fitting),
        len(model.variables),
        checkpoint,
    )
    return fitting.issuperset(variable.path for variable in model.state_variables())

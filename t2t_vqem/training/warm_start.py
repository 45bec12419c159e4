"""Initialises a model with the weights of another run, of the same or of a related model."""

import logging
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from t2t_vqem.constants import UsageError
from t2t_vqem.data.vocabulary import Vocabulary
from t2t_vqem.models.base import Model
from t2t_vqem.output_dir import OutputDir

_logger = logging.getLogger(__name__)


class SharedPieces(NamedTuple):
    """The ids of the pieces that two vocabularies share, in the same order; int64."""

    ours: np.ndarray
    theirs: np.ndarray


def shared_pieces(ours: Vocabulary, theirs: Vocabulary) -> SharedPieces:
    """Returns the ids of the pieces that both vocabularies have, special ones included."""
    ids = {theirs.piece(id_): id_ for id_ in range(theirs.size)}
    pairs = [(id_, ids.get(ours.piece(id_))) for id_ in range(ours.size)]
    return SharedPieces(*np.array([pair for pair in pairs if None not in pair], np.int64).T)


def warm_start(model: Model, path: str, *, vocabulary: Vocabulary | None) -> bool:
    """Copies the other run's value of each variable that has the same path and shape there.

    If the other run has no variable of that path, `Model.warm_start_path` gives the path of the
    variable to use instead. All other variables keep their values. If the other run has another
    vocabulary, the rows of the pieces that both have are copied, and the other rows keep their
    values. The state of the optimiser is not copied: training begins anew.

    Args:
        model: a built model.
        path: output directory of the other run. Its best checkpoint is used, or the latest one if
            there is no best.
        vocabulary: the model's vocabulary; None if it has none.

    Returns:
        Whether all of the model's `state_variables`, such as codebooks, were copied.

    Raises:
        UsageError: there is no such run, no variable matches, or the vocabularies differ and the
            model does not say which of its variables depend on it.
    """
    other_dir = OutputDir(path)
    settings = other_dir.settings()
    shared, by_piece = None, set()
    if settings.vocabulary != (vocabulary and vocabulary.hash):
        by_piece = {variable.path for variable in model.token_variables()}
        if not (settings.vocabulary and vocabulary and by_piece):
            raise UsageError(
                f"--warm_start_from={path}: that run has another vocabulary, and the model "
                f"{model.name!r} does not say which of its weights have a row for each piece. Make "
                f"the data of both runs with the same vocabulary, or define token_variables"
            )
        shared = shared_pieces(vocabulary, other_dir.vocabulary())
    other = other_dir.build_model()
    checkpoint = other_dir.restore_for_inference(other)
    values = {variable.path: variable.value for variable in other.variables}
    fitting = set()
    for variable in model.variables:
        path_there = variable.path
        if path_there not in values:
            path_there = model.warm_start_path(path_there)
        value = values.get(path_there)
        if value is None:
            continue
        value = tf.convert_to_tensor(value)
        if variable.path in by_piece and value.shape[1:] == variable.shape[1:]:
            rows = variable.numpy()
            rows[shared.ours] = tf.gather(value, shared.theirs)
            value = rows
        if value.shape == variable.shape:
            variable.assign(value)
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
    if shared is not None:
        _logger.info(
            "%d of %d pieces are in the vocabulary of that run too: their rows were kept, the "
            "others are new",
            len(shared.ours),
            vocabulary.size,
        )
    return fitting.issuperset(variable.path for variable in model.state_variables())

"""Adam and the moving average of weights, written so that every replica updates its own copy.

Keras' optimisers sum the gradients over the replicas once more when they are applied, and update
through a merge call, which cannot be compiled. Here gradients come in already reduced, each replica
runs the same arithmetic on its own copy of the variables, and one replica or many, the whole update
is one compiled function of pure inputs.
"""

from collections.abc import Sequence
from typing import NamedTuple

import tensorflow as tf

from t2t_vqem.config import HParams


class Slots(NamedTuple):
    """Adam's moving averages, in the order of the trainable variables."""

    first: Sequence[tf.Variable]  # of the gradient
    second: Sequence[tf.Variable]  # of its square


def make_slots(variables: Sequence[tf.Variable]) -> Slots:
    """Creates zeros for Adam to begin with. Call it inside `strategy.scope()`."""
    return Slots(*([_zeros(variable) for variable in variables] for _ in Slots._fields))


def _zeros(variable: tf.Variable) -> tf.Variable:
    return tf.Variable(
        tf.zeros(variable.shape, tf.float32),
        trainable=False,
        aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
    )


def clip_by_global_norm(
    gradients: Sequence[tf.Tensor], clip_norm: float
) -> tuple[list[tf.Tensor], tf.Tensor]:
    """Scales all gradients so that their common norm is at most `clip_norm`; 0 does not clip.

    Returns:
      The gradients, and their norm before: float32, not finite if any gradient is not.
    """
    norm = tf.sqrt(tf.add_n([tf.reduce_sum(tf.square(gradient)) for gradient in gradients]))
    if not clip_norm:
        return list(gradients), norm
    scale = clip_norm / tf.maximum(norm, clip_norm)
    return [gradient * scale for gradient in gradients], norm


def adam_update(
    variables: Sequence[tf.Variable],
    slots: Slots,
    gradients: Sequence[tf.Tensor],
    *,
    step: tf.Tensor,
    learning_rate: tf.Tensor,
    hparams: HParams,
) -> None:
    """Updates the variables and slots in place (Kingma and Ba 2015, algorithm 1).

    Weight decay is decoupled (Loshchilov and Hutter 2019) and spares vectors: biases and the
    parameters of normalisation.

    Args:
      variables: float32 weights.
      slots: their moving averages.
      gradients: float32, of the same shapes, already reduced, averaged and clipped.
      step: scalar, updates applied before this one.
      learning_rate: float32 scalar.
      hparams: adam_beta1, adam_beta2, adam_epsilon, weight_decay.
    """
    beta1, beta2 = hparams.adam_beta1, hparams.adam_beta2
    time = tf.cast(step, tf.float32) + 1.0
    correction1 = 1.0 - tf.pow(beta1, time)
    correction2 = 1.0 - tf.pow(beta2, time)
    for variable, first, second, gradient in zip(variables, *slots, gradients, strict=True):
        mean = beta1 * first + (1.0 - beta1) * gradient
        square = beta2 * second + (1.0 - beta2) * tf.square(gradient)
        change = (mean / correction1) / (tf.sqrt(square / correction2) + hparams.adam_epsilon)
        if hparams.weight_decay and len(variable.shape) > 1:
            change += hparams.weight_decay * variable
        first.assign(mean)
        second.assign(square)
        variable.assign(variable - learning_rate * change)


def average_update(
    averages: Sequence[tf.Variable],
    variables: Sequence[tf.Variable],
    *,
    step: tf.Tensor,
    decay: float,
) -> None:
    """Moves `averages` towards `variables`, faster at first, so that the start is soon forgotten.

    The decay of update t (from 0) is min(decay, (1 + t) / (10 + t)). What is not a trained weight
    (a counter, the state of a codebook) has no meaningful average and is copied.

    Args:
      averages: the averaged copy of `variables`, in the same order.
      variables: the weights after this update.
      step: scalar, updates applied before this one.
      decay: share of the average that one update keeps in the long run.
    """
    time = tf.cast(step, tf.float32)
    rate = 1.0 - tf.minimum(decay, (1.0 + time) / (10.0 + time))
    for average, variable in zip(averages, variables, strict=True):
        if variable.trainable:
            average.assign_add(rate * (variable - average))
        else:
            average.assign(variable)

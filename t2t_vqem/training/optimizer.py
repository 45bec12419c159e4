"""Adam and the moving average of weights. Every replica updates its own copy.

Keras optimisers sum the gradients over the replicas a second time when they apply them, and they
update variables in a merge call, which cannot be compiled. Here the gradients are already reduced,
and each replica runs the same arithmetic on its own copy of the variables. So the whole update is
one compiled function, on one replica or on many.
"""

from collections.abc import Sequence
from typing import NamedTuple

import tensorflow as tf

from t2t_vqem.config import HParams


class Slots(NamedTuple):
    """Adam's moving averages, in the order of the trainable variables."""

    first: Sequence[tf.Variable]  # moving averages of the gradients
    second: Sequence[tf.Variable]  # moving averages of the squared gradients


def make_slots(variables: Sequence[tf.Variable]) -> Slots:
    """Creates Adam's moving averages, initialised to zero. Call it inside `strategy.scope()`."""
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
    """Scales all gradients so that their global norm is at most `clip_norm`; 0 does not clip.

    Returns:
      The clipped gradients, and their global norm before clipping: float32, not finite if any
      gradient is not.
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

    Weight decay is decoupled (Loshchilov and Hutter 2019). It is not applied to vectors, that is,
    to biases and the parameters of normalisation layers.

    Args:
      variables: float32 weights.
      slots: Adam's moving averages for `variables`.
      gradients: float32, of the same shapes, already reduced, averaged and clipped.
      step: scalar, number of updates applied before this one.
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
    """Updates the exponential moving average of the weights.

    Update t, counted from 0, uses the decay min(decay, (1 + t) / (10 + t)): the low decay of the
    first updates makes the average forget the initial weights quickly. A variable that is not
    trainable (a counter, the state of a codebook) has no meaningful average and is copied.

    Args:
      averages: the averaged copy of `variables`, in the same order.
      variables: the weights after this update.
      step: scalar, number of updates applied before this one.
      decay: the decay that (1 + t) / (10 + t) approaches.
    """
    time = tf.cast(step, tf.float32)
    rate = 1.0 - tf.minimum(decay, (1.0 + time) / (10.0 + time))
    for average, variable in zip(averages, variables, strict=True):
        if variable.trainable:
            average.assign_add(rate * (variable - average))
        else:
            average.assign(variable)

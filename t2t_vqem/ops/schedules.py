"""Learning rate schedules. All begin with a linear warm-up to the peak rate.

A schedule is registered under its own name and called as `schedule(step, learning_rate=...,
warmup_steps=..., train_steps=...)`:

  step: the number of updates already applied, 0 before the first update (scalar tensor or int).
  learning_rate: the peak rate, reached at the end of the warm-up.
  warmup_steps: the length of the warm-up; 0 starts at the peak rate.
  train_steps: the length of the whole run. Only schedules that decay to 0 at its end use it.

It returns the rate of the next update, a float32 scalar.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from t2t_vqem.registry import schedules

if TYPE_CHECKING:  # imported in the functions, because --registry_help lists the schedules
    import tensorflow as tf


def _next_update(step: tf.Tensor | int) -> tf.Tensor:
    import tensorflow as tf

    return tf.cast(step, tf.float32) + 1.0


def _warmup(step: tf.Tensor | int, warmup_steps: int) -> tf.Tensor:
    """Returns the warm-up's factor of the peak rate, at most 1."""
    import tensorflow as tf

    return tf.minimum(1.0, _next_update(step) / max(1, warmup_steps))


def _progress(step: tf.Tensor | int, warmup_steps: int, train_steps: int) -> tf.Tensor:
    """Returns which fraction of the updates after the warm-up is done, in [0, 1]."""
    import tensorflow as tf

    length = max(1, train_steps - warmup_steps)
    return tf.clip_by_value((_next_update(step) - warmup_steps) / length, 0.0, 1.0)


@schedules.register()
def constant(
    step: tf.Tensor | int, *, learning_rate: float, warmup_steps: int, train_steps: int
) -> tf.Tensor:
    """Stays at the peak rate after the warm-up."""
    del train_steps
    return learning_rate * _warmup(step, warmup_steps)


@schedules.register()
def rsqrt(
    step: tf.Tensor | int, *, learning_rate: float, warmup_steps: int, train_steps: int
) -> tf.Tensor:
    """Decays with the inverse square root of the step (Vaswani et al. 2017, eq. 3)."""
    import tensorflow as tf

    del train_steps
    decay = tf.math.rsqrt(tf.maximum(_next_update(step) / max(1, warmup_steps), 1.0))
    return learning_rate * _warmup(step, warmup_steps) * decay


@schedules.register()
def cosine(
    step: tf.Tensor | int, *, learning_rate: float, warmup_steps: int, train_steps: int
) -> tf.Tensor:
    """Decays along half a cosine period to 0 at the last step of the run."""
    import tensorflow as tf

    decay = 0.5 * (1.0 + tf.cos(math.pi * _progress(step, warmup_steps, train_steps)))
    return learning_rate * _warmup(step, warmup_steps) * decay


@schedules.register()
def linear(
    step: tf.Tensor | int, *, learning_rate: float, warmup_steps: int, train_steps: int
) -> tf.Tensor:
    """Decays linearly to 0 at the last step of the run."""
    decay = 1.0 - _progress(step, warmup_steps, train_steps)
    return learning_rate * _warmup(step, warmup_steps) * decay

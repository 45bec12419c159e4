"""A model for tests that needs no training: it returns the source, reversed by default.

A plug-in for --t2t_usr_dir. Certain ids in a source make it fail as real models do.
"""

import dataclasses

import tensorflow as tf

from t2t_vqem.capabilities import TranslationModel
from t2t_vqem.config import HParams, option
from t2t_vqem.constants import EOS_ID, PAD_ID
from t2t_vqem.decoding.greedy import Decoded
from t2t_vqem.models.base import Model
from t2t_vqem.registry import model_hparams, models


@model_hparams.register()
@dataclasses.dataclass(frozen=True, kw_only=True)
class EchoHParams(HParams):
    """Ids in a source that make the model fail."""

    empty_id: int = option(0, "gives no token", minimum=0)
    loop_id: int = option(0, "gives itself four times", minimum=0)
    cut_id: int = option(0, "gives no EOS", minimum=0)


@models.register()
class Echo(Model, TranslationModel):
    """Returns the source ids, in reverse order if the weight `reverse` is 1."""

    def __init__(self, hparams: EchoHParams, *, vocab_size: int):
        del vocab_size
        super().__init__(hparams)
        self.reverse = self.add_weight(name="reverse", shape=(), initializer="ones")

    def build_variables(self) -> None:
        self.built = True

    def infer(self, inputs, options, *, max_length, seed, row_ids):
        del seed, row_ids
        lengths = tf.reduce_sum(tf.cast(inputs != PAD_ID, tf.int32), 1)
        backwards = tf.reverse_sequence(inputs, tf.maximum(lengths - 1, 0), seq_axis=1)
        tokens = tf.where(self.reverse > 0.5, backwards, inputs)
        tokens = tf.pad(tokens, [[0, 0], [0, max_length - inputs.shape[1]]])
        positions = tf.range(max_length)

        def has(id_: int) -> tf.Tensor:
            return tf.reduce_any(inputs == id_, axis=1, keepdims=True) & (id_ > 0)

        ids = self.hparams
        empty = tf.where(positions == 0, EOS_ID, PAD_ID)
        loop = tf.where(positions == 4, EOS_ID, tf.where(positions < 4, ids.loop_id, PAD_ID))
        tokens = tf.where(has(ids.empty_id), empty, tokens)
        tokens = tf.where(has(ids.loop_id), loop, tokens)
        tokens = tf.where(has(ids.cut_id) & (tokens == EOS_ID), PAD_ID, tokens)
        # The second hypothesis is the source itself; there are no others.
        nothing = tf.zeros_like(tokens)
        padded = tf.pad(inputs, [[0, 0], [0, max_length - inputs.shape[1]]])
        ranks = [tokens, padded, *[nothing] * options.num_best][: options.num_best]
        scores = [0.0, -0.3, *[-1e9] * options.num_best][: options.num_best]
        tokens = tf.reshape(tf.stack(ranks, 1), [-1, max_length])
        return Decoded(tokens, tf.tile(tf.constant(scores), [inputs.shape[0]]))

"""Reconstructions are in the order of their examples."""

import numpy as np
import tensorflow as tf

from t2t_vqem.capabilities import LatentTextModel
from t2t_vqem.constants import DEV
from t2t_vqem.hparams.transformer_nat import TransformerNATHParams
from t2t_vqem.inference.latents import Reconstructor
from t2t_vqem.models.transformer import Transformer
from t2t_vqem.models.transformer_nat import TransformerNAT


class Echo:
    """Returns the reference that it is given, so that only the numbers can be wrong."""

    def reconstruct(self, inputs, targets):
        return tf.where(inputs[:, :1] > 0, targets, targets)


def test_line_i_is_the_reconstruction_of_example_i(tiny_text_data):
    dataset = tiny_text_data.dataset
    hparams = TransformerNATHParams(batch_size=64, num_buckets=3, max_length=32)
    examples = dataset.examples(DEV, hparams, seed=0, shuffle=False, epochs=1)
    assert len(examples.plan.shapes) > 1
    reconstructor = Reconstructor(Echo(), examples, dataset.vocabulary)
    expected = dataset.references(DEV)
    assert sorted(reconstructor()) == list(enumerate(expected))
    assert len(np.unique(expected)) > 20


def test_only_the_latent_transformer_is_a_latent_model():
    assert issubclass(TransformerNAT, LatentTextModel)
    assert not issubclass(Transformer, LatentTextModel)

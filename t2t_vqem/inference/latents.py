"""Translation from the latents of the references, which measures the loss in the bottleneck."""

from __future__ import annotations

from collections.abc import Iterator

import tensorflow as tf

from t2t_vqem.capabilities import LatentTextModel
from t2t_vqem.constants import INPUTS, TARGETS
from t2t_vqem.data.lines import one_line
from t2t_vqem.data.reader import Examples
from t2t_vqem.data.vocabulary import Vocabulary


class Reconstructor:
    """Reconstructs the targets of a split, or of one worker's share of it."""

    def __init__(self, model: LatentTextModel, examples: Examples, vocabulary: Vocabulary):
        """Stores its arguments, without computing anything.

        Args:
          model: a built model.
          examples: one epoch of the split, or of some rows of each batch.
          vocabulary: the vocabulary that decodes ids to text.
        """
        self._examples, self._vocabulary = examples, vocabulary
        # Without XLA: compiling many shapes would take longer than one pass over a small split.
        self._reconstruct = tf.function(model.reconstruct, autograph=False)

    def __call__(self) -> Iterator[tuple[int, str]]:
        """Yields the index of each example and its reconstruction, a line of text."""
        with self._examples.read() as reader:
            for step, batch in reader:
                inputs, targets = (tf.constant(batch[side]) for side in (INPUTS, TARGETS))
                tokens = self._reconstruct(inputs, targets).numpy()
                indices, _ = self._examples.plan.batch(step)
                for index, row in zip(indices, tokens, strict=True):
                    if index >= 0:
                        yield int(index), one_line(self._vocabulary.decode(row.tolist()))

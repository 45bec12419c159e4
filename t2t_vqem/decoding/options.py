"""Decoding options, which the `infer` of every model takes."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

from t2t_vqem.constants import UsageError
from t2t_vqem.overrides import parse_overrides


class SearchSettings(NamedTuple):
    """The options that do not change the graph: numbers, or input tensors of the graph.

    If the temperature is a tensor, the graph can both search and sample.
    """

    alpha: Any
    extra_length: Any
    temperature: Any
    top_k: Any

    @property
    def samples(self) -> bool:
        """Whether the graph needs the operations for sampling."""
        return not isinstance(self.temperature, (int, float)) or self.temperature > 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class DecodeOptions:
    """Greedy search by default; beam search with `beam_size`, sampling with a temperature.

    Attributes:
      beam_size: number of hypotheses for each sentence; 1: greedy search.
      num_best: number of hypotheses to return for each sentence, the best ones.
      alpha: exponent of the length penalty ((5 + length) / 6)^alpha of beam search.
      extra_length: a translation has at most source length + extra_length tokens.
      sampling_temperature: draw from softmax(logits / temperature) instead; 0: do not draw.
      sampling_top_k: draw only among the k most probable tokens; 0: all.
      num_candidates: latent models: number of translations to choose from. They are decoded from
        the best latents of beam search, or with a `sampling_temperature` from greedy latents and
        from drawn latents.
      keep_repeats: latent models: whether to keep a token that repeats the token before it.

    Latent models search for latents in these ways, and then decode all tokens in parallel.
    """

    beam_size: int = 1
    num_best: int = 1
    alpha: float = 0.6
    extra_length: int = 50
    sampling_temperature: float = 0.0
    sampling_top_k: int = 0
    num_candidates: int = 1
    keep_repeats: bool = False

    @property
    def settings(self) -> SearchSettings:
        """The options that can differ between calls of one graph."""
        return SearchSettings(
            alpha=self.alpha,
            extra_length=self.extra_length,
            temperature=self.sampling_temperature,
            top_k=self.sampling_top_k,
        )

    def __post_init__(self):
        if self.beam_size < 1:
            raise UsageError(f"beam_size must be at least 1, got {self.beam_size}.")
        if self.num_candidates < 1:
            raise UsageError(f"num_candidates must be at least 1, got {self.num_candidates}.")
        most = self.num_candidates if self.num_candidates > 1 else self.beam_size
        if not 1 <= self.num_best <= most:
            raise UsageError(
                f"num_best {self.num_best}: expected a number from 1 to {most}, which is "
                "beam_size, or num_candidates of a latent model."
            )
        if self.num_candidates > self.beam_size and not self.sampling_temperature:
            raise UsageError(
                f"num_candidates is {self.num_candidates}, more than beam_size {self.beam_size}: "
                f"set beam_size to {self.num_candidates} or more, or set sampling_temperature, for "
                "example to 1.0, to draw the candidates."
            )
        if self.extra_length < 1:
            raise UsageError(f"extra_length must be at least 1, got {self.extra_length}.")
        if self.sampling_temperature < 0 or self.sampling_top_k < 0:
            raise UsageError(
                "sampling_temperature and sampling_top_k must not be negative, got "
                f"{self.sampling_temperature} and {self.sampling_top_k}."
            )
        if self.beam_size > 1 and self.sampling_temperature:
            raise UsageError(
                f"Sampling (temperature {self.sampling_temperature}) and beam search (beam_size "
                f"{self.beam_size}) exclude each other: set one of them to its default."
            )
        if self.sampling_top_k and not self.sampling_temperature:
            raise UsageError(
                f"sampling_top_k {self.sampling_top_k} has no effect without a sampling "
                "temperature: set sampling_temperature, for example to 1.0."
            )


def completed(latent: bool, **given: Any) -> DecodeOptions:
    """Returns options with as many hypotheses as their results need.

    Args:
      latent: whether the model translates with latents: it returns the best of its candidates.
      **given: arguments of `DecodeOptions`.

    Raises:
      UsageError: the options contradict each other.
    """
    options = {field.name: field.default for field in dataclasses.fields(DecodeOptions)} | given
    if latent:
        options["num_candidates"] = max(options["num_candidates"], options["num_best"])
    if not options["sampling_temperature"]:  # without sampling, beam search finds the candidates
        several = max(options["num_candidates"], options["num_best"])
        options["beam_size"] = max(options["beam_size"], several)
    return DecodeOptions(**options)


def parse_options(text: str, where: str = "") -> DecodeOptions:
    """Parses options such as "beam_size=4,alpha=0.6".

    Without sampling, candidates are the hypotheses of beam search. If needed, `beam_size` is
    therefore raised to `num_candidates`.

    Raises:
      UsageError: `text` is not such a list, or the options contradict each other.
    """
    values = parse_overrides(DecodeOptions, text, where)
    if not values.get("sampling_temperature"):
        least = values.get("num_candidates", 1)
        values["beam_size"] = max(values.get("beam_size", 1), least)
    return DecodeOptions(**values)

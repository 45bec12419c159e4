"""How to decode: the options that every model's `infer` takes."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

from t2t_vqem.constants import UsageError
from t2t_vqem.overrides import parse_overrides


class SearchSettings(NamedTuple):
    """The options that do not change the graph: numbers, or tensors that are inputs of it.

    With a tensor of a temperature the graph can search as well as sample.
    """

    alpha: Any
    extra_length: Any
    temperature: Any
    top_k: Any

    @property
    def samples(self) -> bool:
        """Whether the graph is to have what draws."""
        return not isinstance(self.temperature, (int, float)) or self.temperature > 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class DecodeOptions:
    """Greedy search by default; beam search with `beam_size`, sampling with a temperature.

    Attributes:
      beam_size: hypotheses kept a sentence; 1 is greedy.
      num_best: hypotheses of beam search to return for a sentence, the best ones.
      alpha: exponent of the length penalty ((5 + length) / 6)^alpha of beam search.
      extra_length: a translation has at most source length + extra_length tokens.
      sampling_temperature: draw from softmax(logits / temperature) instead; 0 is off.
      sampling_top_k: draw among the k most probable tokens only; 0 is all.
      num_candidates: latent models: translations to choose from: of the best latents that beam
        search found, or with a `sampling_temperature` of greedy latents and of latents drawn.
      keep_repeats: latent models: whether a token that repeats the one before it stays.

    Latent models search for latents in these ways, and for the tokens all at once.
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
        """What may differ from call to call of one graph."""
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
                f"num_best {self.num_best}: expected a number from 1 to beam_size, or of a latent "
                f"model to num_candidates, {most}."
            )
        if self.num_candidates > self.beam_size and not self.sampling_temperature:
            raise UsageError(
                f"num_candidates {self.num_candidates} are more than the hypotheses of beam_size "
                f"{self.beam_size}: set beam_size to {self.num_candidates} or more, or a "
                "sampling_temperature, for example 1.0, at which they are drawn."
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
                f"{self.beam_size}) exclude each other: set one of them back to its default."
            )
        if self.sampling_top_k and not self.sampling_temperature:
            raise UsageError(
                f"sampling_top_k {self.sampling_top_k} does nothing without a sampling "
                "temperature: set sampling_temperature, for example to 1.0."
            )


def parse_options(text: str, where: str = "") -> DecodeOptions:
    """Reads "beam_size=4,alpha=0.6".

    Candidates that are not drawn are what beam search finds, so that many of them need as large a
    beam; it need not be said.

    Raises:
      UsageError: `text` is not such a list, or the options do not go together.
    """
    values = parse_overrides(DecodeOptions, text, where)
    if not values.get("sampling_temperature"):
        least = values.get("num_candidates", 1)
        values["beam_size"] = max(values.get("beam_size", 1), least)
    return DecodeOptions(**values)

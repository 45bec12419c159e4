"""Capabilities, which models offer and problems need.

A model derives from the classes here that it implements; a problem names the one that it needs.
`check_fits` compares both before anything is read or computed.

Shapes: B batch, S source length, T target length, N hypotheses, D width, H image height, W image
width, L latents of an image, C codebooks. Ids are int32, images uint8.
"""

from __future__ import annotations

import abc
from typing import Any, ClassVar

from t2t_vqem import registry
from t2t_vqem.constants import UsageError

Tensor = Any  # tf.Tensor: this module is imported without TensorFlow


class Capability(abc.ABC):
    """Something that a model offers in addition to its loss.

    Attributes:
        offers: what such a model does, to complete the phrase "a model that ...".
    """

    offers: ClassVar[str]


class TranslationModel(Capability):
    """Translates token ids, for problems of parallel text."""

    offers = "translates text"

    @abc.abstractmethod
    def infer(
        self, inputs: Tensor, options: Any, *, max_length: int, seed: Any, row_ids: Tensor
    ) -> Any:
        """Translates source ids.

        Args:
            inputs: [B, S], each with EOS at its end, then PAD.
            options: the decoding options, a `decoding.options.DecodeOptions`.
            max_length: number of output positions, including EOS; static.
            seed: seed of sampling.
            row_ids: [B]; the samples of a row depend on its id and the seed.

        Returns:
            `decoding.greedy.Decoded`: tokens [B * num_best, max_length], PAD after EOS, and scores
            float32 [B * num_best]; from a latent model also codes and numbers of repeats.
        """


class TokenModel(TranslationModel):
    """Translates token by token; its `infer` takes a `prefix` that translations begin with."""

    offers = "translates token by token"

    @abc.abstractmethod
    def step_fn(self, inputs: Tensor, max_length: Any, **options: Any) -> tuple[Any, Any]:
        """Returns a `decoding.greedy.StepFn` for sources [B, S], and its empty cache."""

    @abc.abstractmethod
    def attention_weights(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """Returns how much each target position [B, T] attends to each source position [B, S].

        Returns:
            float32 [B, T, S]; a row sums to 1.
        """


class LatentTextModel(TranslationModel):
    """Translates with discrete latents; `infer` takes a `rescorer` to choose among candidates."""

    offers = "translates text with discrete latents"

    @abc.abstractmethod
    def reconstruct(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """Translates [B, S] with the latents of targets [B, T]: [B, T'], PAD after EOS."""

    @abc.abstractmethod
    def decode_codes(self, inputs: Tensor, codes: Tensor) -> Any:
        """Translates [B, S] with given codes [B, L], -1 after the last; returns as `infer`."""


class ScoringModel(Capability):
    """Scores translations, such as the candidates of a latent model."""

    offers = "scores translations"

    @abc.abstractmethod
    def encode(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Encodes source ids [B, S]; returns a memory [B, S, D] and its attention bias."""

    @abc.abstractmethod
    def score(self, targets: Tensor, memory: Tensor, memory_bias: Tensor) -> Tensor:
        """Returns the log-probabilities of translations [N, T]: float32 [N], in nats."""


class PairScoringModel(Capability):
    """Scores pairs of source and translation as `infer` scores its own translations."""

    offers = "scores given translations"

    @abc.abstractmethod
    def score_pairs(self, inputs: Tensor, targets: Tensor) -> Any:
        """Scores translations [B, T] of sources [B, S]; returns a `decoding.greedy.Scored`."""


class ImageModel(Capability):
    """Encodes images into codes, decodes codes, and samples codes of new images.

    Attributes:
        hparams: its `num_codes` is K, the number of codes in each codebook.
    """

    offers = "encodes images into codes, decodes codes and samples codes"

    @abc.abstractmethod
    def encode_to_codes(self, images: Tensor, *, search_passes: int = 0) -> Tensor:
        """Encodes [B, H, W, channels] to codes [B, L, C], improved by so many search passes."""

    @abc.abstractmethod
    def decode_codes(self, ids: Tensor) -> Tensor:
        """Decodes [B, L, C] to images [B, H, W, channels]."""

    @abc.abstractmethod
    def sample_codes(
        self, num: int, *, temperature: float, top_k: int, seed: Tensor, row_ids: Tensor
    ) -> Tensor:
        """Draws codes [num, L, C]; row r depends only on the seed and row_ids[r]."""


def offers(model: str, capability: type[Capability]) -> bool:
    """Returns whether a registered model has a capability."""
    return issubclass(registry.models.get(model), capability)


def models_that_offer(capability: type[Capability]) -> str:
    """Returns the names of the registered models with a capability, for messages."""
    return ", ".join(n for n in registry.models.names() if offers(n, capability)) or "(none)"


def check_fits(problem: Any, model: str) -> None:
    """Checks that a model has the capability that a problem needs.

    Args:
        problem: the problem or its class.
        model: name of a registered model.

    Raises:
        UsageError: it does not; the message names both, and the models that do.
    """
    needed = problem.needs
    if needed is None or offers(model, needed):
        return
    raise UsageError(
        f"the model {model!r} does not fit the problem {problem.name!r}, which needs a model that "
        f"{needed.offers}. Expected one of: {models_that_offer(needed)}. Your own model must "
        f"derive from {needed.__module__}.{needed.__qualname__}"
    )

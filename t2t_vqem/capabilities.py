"""What models offer and what problems need of them.

A model derives from the classes here that it fulfils; a problem names the one that it needs. Both
are compared where they meet, by `check_fits`, before anything is read or computed.

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
    """Something that a model offers beside its loss.

    Attributes:
        offers: what such a model does, in words: "a model that ...".
    """

    offers: ClassVar[str]


class TranslationModel(Capability):
    """Translates ids, for problems of parallel text."""

    offers = "translates text"

    @abc.abstractmethod
    def infer(
        self, inputs: Tensor, options: Any, *, max_length: int, seed: Any, row_ids: Tensor
    ) -> Any:
        """Translates source ids.

        Args:
            inputs: [B, S], each ending in EOS, then PAD.
            options: how to decode, a `decoding.options.DecodeOptions`.
            max_length: number of output positions, EOS included; static.
            seed: of sampling.
            row_ids: [B], what a row's samples depend on beside the seed.

        Returns:
            `decoding.greedy.Decoded`: tokens [B * num_best, max_length], PAD after EOS, and scores
            float32 [B * num_best]; a latent model gives codes and repeats too.
        """


class LatentTextModel(TranslationModel):
    """Translates by discrete latents; `infer` chooses among candidates by a `rescorer`."""

    offers = "translates text by discrete latents"

    @abc.abstractmethod
    def reconstruct(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """Translates [B, S] with the latents of targets [B, T]: [B, T'], PAD after EOS."""

    @abc.abstractmethod
    def decode_codes(self, inputs: Tensor, codes: Tensor) -> Any:
        """Translates [B, S] with given codes [B, L], -1 after the last: as `infer` returns it."""


class ScoringModel(Capability):
    """Scores translations, such as the candidates of a latent model."""

    offers = "scores translations"

    @abc.abstractmethod
    def encode(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Encodes source ids [B, S] to a memory [B, S, D] and its attention bias."""

    @abc.abstractmethod
    def score(self, targets: Tensor, memory: Tensor, memory_bias: Tensor) -> Tensor:
        """Returns the log-probability of translations [N, T]: float32 [N], nats."""


class PairScoringModel(Capability):
    """Scores pairs of source and translation as `infer` scores its own."""

    offers = "scores given translations"

    @abc.abstractmethod
    def score_pairs(self, inputs: Tensor, targets: Tensor) -> Any:
        """Scores translations [B, T] of sources [B, S]: `decoding.greedy.Scored`."""


class ImageModel(Capability):
    """Encodes images into codes, decodes codes, and samples codes of new images.

    Attributes:
        hparams: `num_codes` is K, codes of each codebook.
    """

    offers = "encodes images into codes, decodes and samples them"

    @abc.abstractmethod
    def encode_to_codes(self, images: Tensor, *, search_passes: int = 0) -> Tensor:
        """Encodes [B, H, W, channels] to codes [B, L, C], searching for better ones."""

    @abc.abstractmethod
    def decode_codes(self, ids: Tensor) -> Tensor:
        """Decodes [B, L, C] to images [B, H, W, channels]."""

    @abc.abstractmethod
    def sample_codes(
        self, num: int, *, temperature: float, top_k: int, seed: Tensor, row_ids: Tensor
    ) -> Tensor:
        """Draws codes [num, L, C]; row r depends on the seed and row_ids[r] alone."""


def offers(model: str, capability: type[Capability]) -> bool:
    """Returns whether a registered model offers something."""
    return issubclass(registry.models.get(model), capability)


def models_that_offer(capability: type[Capability]) -> str:
    """Returns the names of the registered models that offer something, for messages."""
    return ", ".join(n for n in registry.models.names() if offers(n, capability)) or "(none)"


def check_fits(problem: Any, model: str) -> None:
    """Checks that a model offers what a problem needs.

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
        f"{needed.offers}: expected one of {models_that_offer(needed)}. A model of your own says "
        f"what it offers by the classes that it derives from: here "
        f"{needed.__module__}.{needed.__qualname__}"
    )

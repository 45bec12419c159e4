"""Models with discrete latents, learned by expectation maximisation, on TensorFlow.

    import t2t_vqem as t2t

    with t2t.load("runs/nat") as translator:
        print(translator.translate(["Two dogs are running in the snow."]))

A name is imported when it is first used, so `import t2t_vqem` is quick and imports no TensorFlow.
docs/api.md describes all names.
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.2.0"

# What may be used from outside, by the module that defines it. Everything else may change.
_EXPORTS = {
    "api": ("ImageCodec", "Translator", "generate", "load", "train"),
    "capabilities": (
        "ImageModel", "LatentTextModel", "PairScoringModel", "ScoringModel", "TranslationModel",
    ),
    "config": ("BottleneckHParams", "HParams"),
    "constants": (
        "DEV", "EOS_ID", "INPUTS", "PAD_ID", "SPLITS", "TARGETS", "TEST", "TRAIN", "UNK_ID",
        "UsageError",
    ),
    "data.image_source": ("ImageSource",),
    "data.records": ("Field", "Schema"),
    "data.text_source": ("FilePairs", "PairSource"),
    "distilled_problem": ("distilled",),
    "fields": ("Config", "option"),
    "hparams.transformer": ("TransformerHParams",),
    "hparams.transformer_nat": ("TransformerNATHParams",),
    "hparams.vqvae": ("VQVAEHParams",),
    "image_problem": ("ImageProblem",),
    "layers": ("VectorQuantizer",),
    "models.base": ("LossOutput", "Model"),
    "models.transformer": ("Transformer",),
    "models.transformer_nat": ("TransformerNAT",),
    "models.vqvae": ("VQVAE",),
    "ops.losses": ("token_cross_entropy",),
    "ops.random": ("Rng",),
    "problem": ("Dataset", "Problem", "SourceFlags"),
    "runtime.results": ("Hypothesis", "PairScore", "Token"),
    "text_problem": ("TextConfig", "TextDataset", "TextProblem"),
}  # fmt: skip
_MODULE_OF = {name: module for module, names in _EXPORTS.items() for name in names}

__all__ = ["registry", *sorted(_MODULE_OF)]

if TYPE_CHECKING:  # the same for editors and type checkers; tests/t2t_vqem/test_api.py compares
    from t2t_vqem import registry as registry
    from t2t_vqem.api import ImageCodec, Translator, generate, load, train
    from t2t_vqem.capabilities import (
        ImageModel,
        LatentTextModel,
        PairScoringModel,
        ScoringModel,
        TranslationModel,
    )
    from t2t_vqem.config import BottleneckHParams, HParams
    from t2t_vqem.constants import (
        DEV,
        EOS_ID,
        INPUTS,
        PAD_ID,
        SPLITS,
        TARGETS,
        TEST,
        TRAIN,
        UNK_ID,
        UsageError,
    )
    from t2t_vqem.data.image_source import ImageSource
    from t2t_vqem.data.records import Field, Schema
    from t2t_vqem.data.text_source import FilePairs, PairSource
    from t2t_vqem.distilled_problem import distilled
    from t2t_vqem.fields import Config, option
    from t2t_vqem.hparams.transformer import TransformerHParams
    from t2t_vqem.hparams.transformer_nat import TransformerNATHParams
    from t2t_vqem.hparams.vqvae import VQVAEHParams
    from t2t_vqem.image_problem import ImageProblem
    from t2t_vqem.layers import VectorQuantizer
    from t2t_vqem.models.base import LossOutput, Model
    from t2t_vqem.models.transformer import Transformer
    from t2t_vqem.models.transformer_nat import TransformerNAT
    from t2t_vqem.models.vqvae import VQVAE
    from t2t_vqem.ops.losses import token_cross_entropy
    from t2t_vqem.ops.random import Rng
    from t2t_vqem.problem import Dataset, Problem, SourceFlags
    from t2t_vqem.runtime.results import Hypothesis, PairScore, Token
    from t2t_vqem.text_problem import TextConfig, TextDataset, TextProblem


def __getattr__(name: str) -> Any:
    if name == "registry":
        return importlib.import_module(f"{__name__}.registry")
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    globals()[name] = value  # found directly from now on
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

"""Runs exported models on CPUs: needs only NumPy, SentencePiece and ai-edge-litert.

    from t2t_vqem import runtime
    model = runtime.load("exported")
    for hypothesis in model.translate(["A sentence."]):
        print(hypothesis.text)

Nothing here imports TensorFlow. An export executes no code of its author: its model file can hold
only LiteRT's own operations.
"""

from t2t_vqem.runtime.images import ImageRuntime
from t2t_vqem.runtime.loading import load
from t2t_vqem.runtime.manifest import Manifest
from t2t_vqem.runtime.results import Hypothesis, PairScore, Token
from t2t_vqem.runtime.text import TextRuntime

__all__ = [
    "Hypothesis",
    "ImageRuntime",
    "Manifest",
    "PairScore",
    "TextRuntime",
    "Token",
    "load",
]

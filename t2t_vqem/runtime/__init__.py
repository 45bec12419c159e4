"""Runs exported models on processors: needs NumPy, SentencePiece and ai-edge-litert alone.

    from t2t_vqem import runtime
    model = runtime.load("exported")
    for hypothesis in model.translate(["A sentence."]):
        print(hypothesis.text)

Nothing here imports TensorFlow, and an export executes no code of whoever made it: its model file
may hold LiteRT's own operations only.
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

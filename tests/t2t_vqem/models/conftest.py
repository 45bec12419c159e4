"""The networks of the models in float64, for comparison."""

from __future__ import annotations

import numpy as np
import pytest

from t2t_vqem.layers.common import sinusoidal_positions


class Float64Network:
    """Computes a model's layers in float64, on one sentence [T, D] without padding."""

    def __init__(self, model, num_heads: int):
        self.weights = {v.path: v.numpy().astype(np.float64) for v in model.variables}
        self.num_heads = num_heads

    def get(self, *path: str) -> np.ndarray:
        return self.weights["/".join(path)]

    def dense(self, x: np.ndarray, *path: str) -> np.ndarray:
        x = x @ self.get(*path, "kernel")
        if path[-1].startswith(("attention/", "cross/")):
            return x
        return x + self.get(*path, "bias")

    def norm(self, x: np.ndarray, *path: str) -> np.ndarray:
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
        return x * self.get(*path, "gamma") + self.get(*path, "beta")

    def attention(self, q, k, v, causal: bool) -> np.ndarray:
        out = np.zeros_like(q)
        size = q.shape[1] // self.num_heads
        for h in range(self.num_heads):
            part = slice(size * h, size * (h + 1))
            logits = q[:, part] @ k[:, part].T / np.sqrt(size)
            if causal:
                logits[np.triu_indices(len(q), 1)] = -np.inf
            weights = np.exp(logits - logits.max(-1, keepdims=True))
            out[:, part] = weights / weights.sum(-1, keepdims=True) @ v[:, part]
        return out

    def feed_forward(self, x: np.ndarray, *path: str) -> np.ndarray:
        inner = np.maximum(self.dense(x, *path, "expand"), 0)
        return self.dense(inner, *path, "contract")

    def stack(self, x, name: str, layers: int, memory=None, *, causal=False) -> np.ndarray:
        for i in range(layers):
            block = f"{name}/block_{i}"
            q, k, v = np.split(
                self.dense(self.norm(x, block, "attention_norm"), block, "attention/qkv"), 3, -1
            )
            x = x + self.dense(self.attention(q, k, v, causal), block, "attention/output")
            if memory is not None:
                q = self.dense(self.norm(x, block, "cross_norm"), block, "cross/query")
                k, v = np.split(self.dense(memory, block, "cross/kv"), 2, -1)
                x = x + self.dense(self.attention(q, k, v, False), block, "cross/output")
            x = x + self.feed_forward(
                self.norm(x, block, "feed_forward_norm"), block, "feed_forward"
            )
        return self.norm(x, name, "norm")

    def embed(self, ids: np.ndarray, table: str = "embedding/table") -> np.ndarray:
        vectors = self.get(table)[ids] * np.sqrt(self.get(table).shape[1])
        return vectors + sinusoidal_positions(*vectors.shape)


@pytest.fixture
def float64_network() -> type[Float64Network]:
    """Returns a function that makes the float64 network of (model, num_heads)."""
    return Float64Network

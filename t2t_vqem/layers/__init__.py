"""Keras layers with plain arguments, independent of hyperparameter classes."""

from t2t_vqem.layers.vector_quantizer import VectorQuantizer

__all__ = ["VectorQuantizer"]

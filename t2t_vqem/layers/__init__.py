"""Keras layers with plain arguments, which know no configuration."""

from t2t_vqem.layers.vector_quantizer import VectorQuantizer

__all__ = ["VectorQuantizer"]

"""Converts graphs into a model file for LiteRT."""

from __future__ import annotations

import tempfile

import tensorflow as tf

from t2t_vqem.export.graphs import Graphs

NONE, INT8 = "none", "int8"


def convert(graphs: Graphs, quantize: str = NONE) -> bytes:
    """Returns a model file with all functions over shared weights, of builtin operations only.

    Args:
        graphs: the functions.
        quantize: "int8" stores weights in 8 bits and quantises activations as they come.
    """
    with tempfile.TemporaryDirectory() as folder:
        signatures = graphs.signatures
        tf.saved_model.save(graphs, folder, signatures=signatures)
        converter = tf.lite.TFLiteConverter.from_saved_model(
            folder, signature_keys=list(signatures)
        )
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        if quantize == INT8:
            # Without samples of data, which quantised activations once for all would need: those
            # have broken encoders (tensorflow#117052).
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        return converter.convert()

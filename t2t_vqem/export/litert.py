"""Converts graphs to a model file for LiteRT."""

from __future__ import annotations

import tempfile
from typing import Any

import numpy as np
import tensorflow as tf
from ai_edge_litert.schema_py_generated import TensorType
from tensorflow.lite.tools import flatbuffer_utils

from t2t_vqem.export.graphs import Graphs
from t2t_vqem.layers.common import TokenEmbedding
from t2t_vqem.layers.transformer import TransformerBlock

NONE, INT8 = "none", "int8"
_LARGE = 1024  # size in bytes above which equal constants are shared


def prepare(model: Any, quantize: str) -> None:
    """Gives a model fewer operations, and with "int8" embeddings in 8 bits, as `convert` does.

    The time of a short sentence is mostly that of small operations. Results differ by rounding. The
    model cannot be trained afterwards; graphs that were traced before stay as they are.
    """
    for layer in model._flatten_layers():
        if isinstance(layer, TransformerBlock):
            layer.fold()
        if quantize == INT8 and isinstance(layer, TokenEmbedding):
            layer.look_up_in_int8()


def convert(graphs: Graphs, quantize: str = NONE) -> bytes:
    """Returns a model file with all functions and shared weights, with only builtin operations.

    Args:
        graphs: the functions.
        quantize: "int8" stores weights in 8 bits and quantises activations dynamically.
    """
    with tempfile.TemporaryDirectory() as folder:
        signatures = graphs.signatures
        tf.saved_model.save(graphs, folder, signatures=signatures)
        converter = tf.lite.TFLiteConverter.from_saved_model(
            folder, signature_keys=list(signatures)
        )
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        if quantize == INT8:
            # Without calibration data, which static quantisation of activations would need: static
            # quantisation gives broken encoders (tensorflow#117052).
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        return _with_each_constant_once(converter.convert())


def _with_each_constant_once(model: bytes) -> bytes:
    """Stores equal constants once, because embeddings are used for look-up and for logits.

    8-bit weights count as equal if none differs by more than 1, because the converter rounds
    differently.
    """
    content = flatbuffer_utils.convert_bytearray_to_object(bytearray(model))
    kinds = {tensor.buffer: tensor.type for graph in content.subgraphs for tensor in graph.tensors}
    first: dict[tuple[int, int], list[int]] = {}
    places = list(range(len(content.buffers)))
    for index, buffer in enumerate(content.buffers):
        if buffer.data is None or len(buffer.data) < _LARGE or index not in kinds:
            continue
        same = first.setdefault((len(buffer.data), kinds[index]), [])
        for other in same:
            if _are_equal(content.buffers[other].data, buffer.data, kinds[index]):
                places[index], buffer.data = other, None
                break
        else:
            same.append(index)
    for graph in content.subgraphs:
        for tensor in graph.tensors:
            tensor.buffer = places[tensor.buffer]
    return bytes(flatbuffer_utils.convert_object_to_bytearray(content))


def _are_equal(left: np.ndarray, right: np.ndarray, kind: int) -> bool:
    if kind != TensorType.INT8:
        return np.array_equal(left, right)
    left, right = (x.view(np.int8).astype(np.int16) for x in (left, right))
    return int(np.abs(left - right).max()) <= 1

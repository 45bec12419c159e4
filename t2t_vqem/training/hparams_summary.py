"""The hyperparameters of a run for TensorBoard's table that compares runs (its HParams plugin)."""

import struct
import time
from collections.abc import Mapping

import tensorflow as tf
from google.protobuf import struct_pb2

_TAG = "_hparams_/session_start_info"


def write_hparams(writer: tf.summary.SummaryWriter, values: Mapping[str, float | str]) -> None:
    """Writes the hyperparameters of a run.

    TensorBoard finds its metrics in the folders below, such as train/ and eval/.

    Args:
        writer: of the folder of the run.
        values: numbers, booleans and strings by name.
    """
    content = session_start(values, time.time())
    metadata = tf.compat.v1.SummaryMetadata(
        plugin_data=tf.compat.v1.SummaryMetadata.PluginData(plugin_name="hparams", content=content),
        data_class="DATA_CLASS_TENSOR",
    )
    with writer.as_default(step=0):
        tf.summary.write(_TAG, tf.zeros([1]), metadata=metadata)
    writer.flush()


def session_start(values: Mapping[str, float | str], seconds: float) -> bytes:
    """Returns a serialised `HParamsPluginData` with a `SessionStartInfo`.

    Both are messages of TensorBoard (tensorboard/plugins/hparams/plugin_data.proto), which need not
    be installed. Their fields here: HParamsPluginData has the version, 0 and so omitted, and as
    field 3 the SessionStartInfo, which has as field 1 the hyperparameters, a map from a string to a
    google.protobuf.Value, and as field 5 the time of the start, a double.

    Args:
        values: numbers, booleans and strings by name.
        seconds: time of the start.
    """
    entries = [
        _field(1, name.encode()) + _field(2, _value(value).SerializeToString())
        for name, value in values.items()
    ]
    start = struct.pack("<Bd", 5 << 3 | 1, seconds)
    return _field(3, b"".join(_field(1, entry) for entry in entries) + start)


def _value(value: float | str) -> struct_pb2.Value:
    if isinstance(value, bool):
        return struct_pb2.Value(bool_value=value)
    if isinstance(value, str):
        return struct_pb2.Value(string_value=value)
    return struct_pb2.Value(number_value=value)


def _field(number: int, content: bytes) -> bytes:
    """Returns a field of a length and that many bytes, in protobuf's wire format."""
    length, size = bytearray(), len(content)
    while size > 127:
        length.append(size & 127 | 128)
        size >>= 7
    return bytes([number << 3 | 2, *length, size]) + content

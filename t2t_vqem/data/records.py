"""Records of numpy arrays in random-access shards (ArrayRecord).

A record is a dict of arrays. The schema is written once, in the manifest of the data set. So a
record contains only its sizes and its values: about 4 bytes more than the token ids of a line.
"""

from __future__ import annotations

import bisect
import contextlib
import errno
import itertools
import math
import struct
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from t2t_vqem.constants import UsageError

# Reading is fastest without compression. 16 records share one chunk header of 40 bytes; with larger
# groups, a random look-up reads more data than it needs.
_WRITER_OPTIONS = "group_size:16,uncompressed"
_READER_OPTIONS = "readahead_buffer_size:0,max_parallelism:0"
_REMEDY = "Delete the directory it lies in and run t2t-datagen again."


def lengths_file(split: str) -> str:
    """Returns the name of the file with the positions of a split's examples, int32 [n, sides]."""
    return f"lengths.{split}.npy"


class Field(NamedTuple):
    """One array of a record: name, dtype on disk, and shape, with None for a variable size."""

    name: str
    dtype: str
    shape: tuple[int | None, ...]


class Schema:
    """Names, dtypes and shapes of a record's arrays; converts records to bytes and back.

    Args:
        fields: the arrays, in the order of storage.
    """

    def __init__(self, fields: Sequence[Field]):
        self.fields = tuple(fields)
        self._dtypes = tuple(np.dtype(field.dtype).newbyteorder("<") for field in self.fields)
        self._names = {field.name for field in self.fields}
        num_sizes = sum(field.shape.count(None) for field in self.fields)
        self._sizes = struct.Struct(f"<{num_sizes}I")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Schema) and self.fields == other.fields

    def __hash__(self) -> int:
        return hash(self.fields)

    def __repr__(self) -> str:
        return f"Schema({list(self.fields)})"

    def to_json(self) -> list[dict[str, Any]]:
        """Returns the schema as stored in the manifest; `from_json` is the inverse."""
        return [{"name": f.name, "dtype": f.dtype, "shape": list(f.shape)} for f in self.fields]

    @classmethod
    def from_json(cls, fields: Sequence[Mapping[str, Any]]) -> Schema:
        """Returns the schema from the result of `to_json`."""
        return cls([Field(f["name"], f["dtype"], tuple(f["shape"])) for f in fields])

    def encode(self, record: Mapping[str, np.ndarray]) -> bytes:
        """Converts a record to bytes.

        Args:
            record: an array for each field, of any dtype whose values the schema's dtype can
                represent.

        Raises:
            ValueError: the names, a shape or a value do not fit the schema.
        """
        if record.keys() != self._names:
            raise ValueError(f"the record has {sorted(record)}, expected {sorted(self._names)}.")
        sizes: list[int] = []
        parts = []
        for field, dtype in zip(self.fields, self._dtypes, strict=True):
            array = np.asarray(record[field.name])
            if len(array.shape) != len(field.shape) or any(
                want not in (None, got) for want, got in zip(field.shape, array.shape, strict=True)
            ):
                raise ValueError(f"{field.name}: shape {array.shape}, expected {field.shape}.")
            if array.dtype != dtype:
                stored = array.astype(dtype)
                if not np.array_equal(stored, array):
                    raise ValueError(f"{field.name}: a value does not fit {field.dtype}: {array}.")
                array = stored
            sizes += [n for n, want in zip(array.shape, field.shape, strict=True) if want is None]
            parts.append(array.tobytes())
        return self._sizes.pack(*sizes) + b"".join(parts)

    def decode(self, data: bytes) -> dict[str, np.ndarray]:
        """Returns the arrays, read-only, from the bytes of `encode`.

        Raises:
            ValueError: the bytes do not match the schema.
        """
        if len(data) < self._sizes.size:
            raise ValueError(f"{len(data)} bytes, expected at least {self._sizes.size} for sizes.")
        sizes = iter(self._sizes.unpack_from(data))
        offset = self._sizes.size
        record = {}
        for field, dtype in zip(self.fields, self._dtypes, strict=True):
            shape = tuple(next(sizes) if n is None else n for n in field.shape)
            count = math.prod(shape)
            if offset + count * dtype.itemsize > len(data):
                raise ValueError(f"{len(data)} bytes, too few for {field.name} of shape {shape}.")
            array = np.frombuffer(data, dtype, count, offset)
            record[field.name] = array if len(shape) == 1 else array.reshape(shape)
            offset += count * dtype.itemsize
        if offset != len(data):
            raise ValueError(f"{len(data)} bytes, expected {offset}.")
        return record


class RecordWriter:
    """Writes records to one shard. Use it as a context manager.

    Args:
        path: the file to write; an existing file is replaced.
        schema: the schema of the records.

    Raises:
        OSError: the shard cannot be written (errno is ENOSPC if the disk is full).
    """

    def __init__(self, path: str, schema: Schema):
        self._path = path
        self._schema = schema
        self._writer = _array_record().ArrayRecordWriter(path, _WRITER_OPTIONS)
        self.num_records = 0

    def write(self, record: Mapping[str, np.ndarray]) -> None:
        """Appends one record."""
        data = self._schema.encode(record)
        try:
            self._writer.write(data)
        except RuntimeError as error:
            raise _os_error(error, self._path) from error
        self.num_records += 1

    def close(self) -> None:
        """Completes the file: writes all remaining data."""
        try:
            self._writer.close()
        except RuntimeError as error:
            raise _os_error(error, self._path) from error

    def __enter__(self) -> RecordWriter:
        return self

    def __exit__(self, kind: object, *exc: object) -> None:
        if kind is None:
            self.close()
            return
        # Report only the first error. The caller deletes the incomplete file.
        with contextlib.suppress(RuntimeError):
            self._writer.close()


class RecordReader:
    """Reads records by index from a list of shards. Several threads may use it at once.

    Args:
        paths: the shards; record indices run through them in this order.
        schema: the schema of the records.

    Raises:
        UsageError: a shard is missing or incomplete.
    """

    def __init__(self, paths: Sequence[str], schema: Schema):
        self._paths = list(paths)
        self._schema = schema
        self._shards = [_open_shard(path) for path in self._paths]
        counts = [shard.num_records() for shard in self._shards]
        self._starts = list(itertools.accumulate(counts, initial=0))

    def __len__(self) -> int:
        return self._starts[-1]

    def read(self, indices: Sequence[int] | np.ndarray) -> list[dict[str, np.ndarray]]:
        """Returns the records with these indices, in this order.

        Args:
            indices: record indices [n], each in [0, len).

        Raises:
            IndexError: an index is out of range.
            UsageError: a record is corrupt; the message has its file and its index in the file.
        """
        by_shard: dict[int, list[tuple[int, int]]] = {}
        for position, index in enumerate(np.asarray(indices).tolist()):
            if not 0 <= index < len(self):
                raise IndexError(f"record {index}, expected 0 to {len(self) - 1}.")
            shard = bisect.bisect_right(self._starts, index) - 1
            by_shard.setdefault(shard, []).append((index - self._starts[shard], position))
        records: list[Any] = [None] * len(indices)
        for shard, wanted in by_shard.items():
            wanted.sort()  # records of the same group are then read together
            for (row, position), data in zip(wanted, self._read(shard, wanted), strict=True):
                records[position] = self._decode(data, shard, row)
        return records

    def _read(self, shard: int, wanted: list[tuple[int, int]]) -> list[bytes]:
        reader = self._shards[shard]
        try:
            return reader.read([row for row, _ in wanted])
        except RuntimeError:
            pass  # read again below, one by one, to find the corrupt record
        records = []
        for row, _ in wanted:
            try:
                records += reader.read([row])
            except RuntimeError as error:
                raise UsageError(
                    f"{self._paths[shard]}: record {row} is corrupt ({error}). {_REMEDY}"
                ) from error
        return records

    def _decode(self, data: bytes, shard: int, row: int) -> dict[str, np.ndarray]:
        try:
            return self._schema.decode(data)
        except ValueError as error:
            raise UsageError(
                f"{self._paths[shard]}: record {row} is corrupt ({error}) {_REMEDY}"
            ) from error


def _open_shard(path: str):
    try:
        with open(path, "rb"):
            pass
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror}). {_REMEDY}") from error
    shard = _array_record().ArrayRecordReader(path, _READER_OPTIONS)
    if not shard.ok():
        raise UsageError(f"{path}: incomplete or not a shard of records. {_REMEDY}")
    return shard


def _array_record():
    # Imported late: it loads a large library, which batch plans and schemas do not need.
    from array_record.python import array_record_module

    return array_record_module


def _os_error(error: RuntimeError, path: str) -> OSError:
    """Converts an error of the C++ writer, which has only a message, to an OSError."""
    full = "No space left on device" in str(error) or "Disk quota exceeded" in str(error)
    return OSError(errno.ENOSPC if full else errno.EIO, str(error), path)

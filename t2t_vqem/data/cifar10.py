"""Reads CIFAR-10 as published: the python and the binary version, as archive or unpacked."""

from __future__ import annotations

import io
import os
import pickle
import posixpath
import tarfile
import zlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from t2t_vqem.constants import TEST, TRAIN, UsageError

IMAGE_SHAPE = (32, 32, 3)
_FILES = {TRAIN: tuple(f"data_batch_{n}" for n in range(1, 6)), TEST: ("test_batch",)}
_FILE_IMAGES = 10_000  # images in each file
_NUM_LABELS = 10
_PIXELS = 3 * 32 * 32  # all red values, then green, then blue; each row by row
_ENDS = (".tar.gz", ".tgz", ".tar")


class Found(NamedTuple):
    """The files of CIFAR-10, in a folder or in an archive."""

    path: str
    layout: _Layout
    packed: bool


class _Layout(NamedTuple):
    archive: str  # name of the archive, without the extension
    folder: str  # the folder it unpacks to
    end: str  # the extension of its files
    parse: Callable[[bytes, str], np.ndarray]

    def names(self) -> list[str]:
        return [name + self.end for names in _FILES.values() for name in names]


def find(source_dir: str) -> Found:
    """Looks for CIFAR-10: unpacked in the folder or in a folder below it, or as an archive.

    Raises:
        UsageError: it is not there, or a file is missing.
    """
    if not os.path.isdir(source_dir):
        raise UsageError(f"--source_dir={source_dir}: no such directory.")
    incomplete = ""
    for layout in _LAYOUTS:
        for folder in (source_dir, os.path.join(source_dir, layout.folder)):
            missing = [n for n in layout.names() if not os.path.isfile(os.path.join(folder, n))]
            if not missing:
                return Found(folder, layout, packed=False)
            if len(missing) < len(layout.names()):
                incomplete = incomplete or f"{folder} has no {', '.join(missing)}"
        for end in _ENDS:
            archive = os.path.join(source_dir, layout.archive + end)
            if os.path.isfile(archive):
                return Found(archive, layout, packed=True)
    if incomplete:
        raise UsageError(f"{incomplete}: CIFAR-10 is incomplete. Unpack the archive again.")
    there = sorted(os.listdir(source_dir))
    looked_for = ", ".join(f"{name.archive}.tar.gz, {name.folder}" for name in _LAYOUTS)
    raise UsageError(
        f"--source_dir={source_dir}: no CIFAR-10 there, looked for {looked_for} (archives or "
        f"unpacked folders). It holds {', '.join(there[:20]) or 'nothing'}"
        f"{', ...' if len(there) > 20 else ''}."
    )


def read(found: Found) -> dict[str, np.ndarray]:
    """Returns the images of train and test, uint8 [n, 32, 32, 3], in the published order.

    Raises:
        UsageError: a file is missing, truncated or damaged, or not a file of CIFAR-10.
    """
    contents = _archive_contents(found) if found.packed else _folder_contents(found)
    images = {
        name: found.layout.parse(data, os.path.join(found.path, name)) for name, data in contents
    }
    missing = [name for name in found.layout.names() if name not in images]
    if missing:
        raise UsageError(
            f"{found.path}: the archive has no {', '.join(missing)}; it is truncated, or not "
            "CIFAR-10's. Download it again."
        )
    return {
        split: np.concatenate([images[name + found.layout.end] for name in names])
        for split, names in _FILES.items()
    }


def _folder_contents(found: Found) -> Iterator[tuple[str, bytes]]:
    for name in found.layout.names():
        path = os.path.join(found.path, name)
        try:
            with open(path, "rb") as file:
                data = file.read()
        except OSError as error:
            raise UsageError(f"{path}: cannot be read ({error.strerror}).") from error
        yield name, data


def _archive_contents(found: Found) -> Iterator[tuple[str, bytes]]:
    """Yields the files of an archive in one pass, since going back would decompress it again."""
    names = found.layout.names()
    try:
        with tarfile.open(found.path, "r:*") as archive:
            for member in archive:
                name = posixpath.basename(member.name)
                file = archive.extractfile(member) if name in names else None
                if file is not None:
                    yield name, file.read()
            while archive.fileobj.read(1 << 20):  # up to gzip's checksum at the end
                pass
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise UsageError(
            f"{found.path}: damaged or truncated archive ({' '.join(str(error).split())}). "
            "Download it again."
        ) from error


def _parse_binary(data: bytes, where: str) -> np.ndarray:
    """Returns the images of a binary file: each record is a label and the pixels, a byte each."""
    record = 1 + _PIXELS
    expected = _FILE_IMAGES * record
    foreign = "not a file of CIFAR-10's binary version. Download it again."
    if len(data) != expected:
        raise UsageError(
            f"{where}: {len(data):,} bytes, expected {expected:,} ({_FILE_IMAGES:,} images of "
            f"{record:,} bytes): truncated, or {foreign}"
        )
    rows = np.frombuffer(data, np.uint8).reshape(_FILE_IMAGES, record)
    wrong = np.flatnonzero(rows[:, 0] >= _NUM_LABELS)
    if wrong.size:
        raise UsageError(
            f"{where}: image {wrong[0]} has the label {rows[wrong[0], 0]}, expected 0 to "
            f"{_NUM_LABELS - 1}: {foreign}"
        )
    return _to_images(rows[:, 1:])


def _parse_python(data: bytes, where: str) -> np.ndarray:
    """Returns the images of a file that holds a dict pickled by Python 2."""
    try:
        batch = _Unpickler(io.BytesIO(data), encoding="bytes").load()
    except Exception as error:  # a broken pickle raises anything
        raise UsageError(
            f"{where}: cannot be read ({error}): truncated, or not a file of CIFAR-10's python "
            "version. Download it again."
        ) from error
    images = batch.get(b"data") if isinstance(batch, dict) else batch
    expected = (_FILE_IMAGES, _PIXELS)
    if not isinstance(images, np.ndarray) or (images.dtype, images.shape) != (np.uint8, expected):
        got = type(images).__name__
        if isinstance(images, np.ndarray):
            got = f"{images.dtype} {list(images.shape)}"
        raise UsageError(
            f"{where}: b'data' is {got}, expected uint8 {list(expected)}: not a file of CIFAR-10's "
            "python version. Download it again."
        )
    return _to_images(images)


def _to_images(rows: np.ndarray) -> np.ndarray:
    return rows.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)


class _Unpickler(pickle.Unpickler):
    """Loads only arrays and plain values. An untrusted pickle could otherwise run any program."""

    _RECONSTRUCT = np.empty(0).__reduce__()[0]
    _ALLOWED = {  # noqa: RUF012 (a constant)
        ("numpy.core.multiarray", "_reconstruct"): _RECONSTRUCT,
        ("numpy._core.multiarray", "_reconstruct"): _RECONSTRUCT,
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self._ALLOWED:
            raise pickle.UnpicklingError(
                f"it contains {module}.{name}, expected only arrays and numbers"
            )
        return self._ALLOWED[module, name]


_LAYOUTS = (
    _Layout("cifar-10-python", "cifar-10-batches-py", "", _parse_python),
    _Layout("cifar-10-binary", "cifar-10-batches-bin", ".bin", _parse_binary),
)

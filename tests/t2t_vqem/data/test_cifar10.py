import io
import pathlib
import pickle
import struct
import tarfile

import numpy as np
import pytest

from t2t_vqem.constants import UsageError
from t2t_vqem.data import cifar10

COUNT = 3  # images in each file of these tests
NAMES = [*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"]


class Python2Pickler(pickle._Pickler):
    """Writes bytes and text as Python 2 wrote its str, which is in the published files."""

    dispatch = dict(pickle._Pickler.dispatch)  # noqa: RUF012 (as in the base)

    def save_str(self, value):
        data = value if isinstance(value, bytes) else value.encode("ascii")
        self.write(pickle.BINSTRING + struct.pack("<i", len(data)) + data)
        self.memoize(value)

    dispatch[bytes] = dispatch[str] = save_str


def pickle_by_python_2(value) -> bytes:
    file = io.BytesIO()
    Python2Pickler(file, protocol=2).dump(value)
    return file.getvalue().replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n")


def python_file(images: np.ndarray, name: str) -> bytes:
    rows = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
    return pickle_by_python_2(
        {
            b"data": np.ascontiguousarray(rows),
            b"labels": [n % 10 for n in range(len(images))],
            b"batch_label": f"batch {name}".encode(),
            b"filenames": [b"a.png"] * len(images),
        }
    )


def binary_file(images: np.ndarray, name: str) -> bytes:
    del name
    return b"".join(
        bytes([n % 10]) + image.transpose(2, 0, 1).tobytes() for n, image in enumerate(images)
    )


LAYOUTS = {
    "python": ("cifar-10-python", "cifar-10-batches-py", "", python_file, "batches.meta"),
    "binary": ("cifar-10-binary", "cifar-10-batches-bin", ".bin", binary_file, "batches.meta.txt"),
}


@pytest.fixture(autouse=True)
def small_files(monkeypatch):
    monkeypatch.setattr(cifar10, "_FILE_IMAGES", COUNT)


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (6, COUNT, 32, 32, 3), np.uint8)


@pytest.fixture(params=LAYOUTS)
def layout(request) -> str:
    return request.param


def write(folder: pathlib.Path, images: np.ndarray, layout: str) -> pathlib.Path:
    """Writes the unpacked folder of a layout into `folder`; returns its path."""
    _, name, end, encode, meta = LAYOUTS[layout]
    path = folder / name
    path.mkdir(parents=True)
    for stem, part in zip(NAMES, images, strict=True):
        (path / (stem + end)).write_bytes(encode(part, stem))
    (path / meta).write_bytes(b"airplane\n")
    (path / "readme.html").write_bytes(b"<html>")
    return path


def pack(folder: pathlib.Path, layout: str, end: str = ".tar.gz") -> pathlib.Path:
    """Packs the folder that `write` wrote into an archive and removes it; returns the archive."""
    archive, name, *_ = LAYOUTS[layout]
    path = folder / (archive + end)
    with tarfile.open(path, "w:" if end == ".tar" else "w:gz") as file:
        file.add(folder / name, arcname=name)
    for inner in (folder / name).iterdir():
        inner.unlink()
    (folder / name).rmdir()
    return path


def check(found: cifar10.Found, images: np.ndarray) -> None:
    read = cifar10.read(found)
    np.testing.assert_array_equal(read["train"], np.concatenate(images[:5]))
    np.testing.assert_array_equal(read["test"], images[5])


def test_unpacked_folders(tmp_path, images, layout):
    path = write(tmp_path, images, layout)
    for source_dir in (tmp_path, path):
        found = cifar10.find(str(source_dir))
        assert (found.path, found.packed) == (str(path), False)
        check(found, images)


@pytest.mark.parametrize("end", [".tar.gz", ".tgz", ".tar"])
def test_archives(tmp_path, images, layout, end):
    write(tmp_path, images, layout)
    path = pack(tmp_path, layout, end)
    found = cifar10.find(str(tmp_path))
    assert (found.path, found.packed) == (str(path), True)
    check(found, images)


def test_pixels_are_at_the_positions_of_the_layout(tmp_path, layout):
    images = np.zeros((6, COUNT, 32, 32, 3), np.uint8)
    images[0, 1, 2, 5] = (10, 20, 30)  # row 2, column 5 of the second image
    path = write(tmp_path, images, layout) / ("data_batch_1" + LAYOUTS[layout][2])
    raw = path.read_bytes()
    red, green, blue = (raw.index(bytes([value])) for value in (10, 20, 30))
    if layout == "binary":
        assert red == 3073 + 1 + 2 * 32 + 5
        assert (green - red, blue - green) == (1024, 1024)
    found = cifar10.read(cifar10.find(str(tmp_path)))["train"]
    assert np.argwhere(found).tolist() == [[1, 2, 5, 0], [1, 2, 5, 1], [1, 2, 5, 2]]
    assert found[1, 2, 5].tolist() == [10, 20, 30]


def test_a_folder_half_unpacked_does_not_hide_the_archive(tmp_path, images, layout):
    write(tmp_path, images, layout)
    archive = pack(tmp_path, layout)
    path = write(tmp_path, images, layout)
    (path / ("test_batch" + LAYOUTS[layout][2])).unlink()
    assert cifar10.find(str(tmp_path)).path == str(archive)


def test_a_missing_file_is_an_error(tmp_path, images, layout):
    path = write(tmp_path, images, layout)
    name = "data_batch_3" + LAYOUTS[layout][2]
    (path / name).unlink()
    with pytest.raises(UsageError, match=rf"{path.name} has no {name}: CIFAR-10 is incomplete"):
        cifar10.find(str(tmp_path))


def test_a_missing_file_in_an_archive_is_an_error(tmp_path, images, layout):
    path = write(tmp_path, images, layout)
    name = "test_batch" + LAYOUTS[layout][2]
    (path / name).unlink()
    archive = pack(tmp_path, layout)
    with pytest.raises(
        UsageError, match=rf"{archive.name}: the archive has no {name}; it is trunc"
    ):
        cifar10.read(cifar10.find(str(tmp_path)))


@pytest.mark.parametrize("keep", [0.0, 0.3, 0.9])
@pytest.mark.parametrize("end", [".tar.gz", ".tar"])
def test_a_truncated_archive_is_an_error(tmp_path, images, layout, end, keep):
    write(tmp_path, images, layout)
    path = pack(tmp_path, layout, end)
    data = path.read_bytes()
    used = len(data.rstrip(b"\0"))  # a plain archive ends in zeros
    path.write_bytes(data[: int(used * keep)])
    with pytest.raises(UsageError, match=rf"{path.name}: .*truncated.*Download it again"):
        cifar10.read(cifar10.find(str(tmp_path)))


@pytest.mark.parametrize("damage", [b"\xff" * 64, b"not an archive"])
def test_a_damaged_archive_is_an_error(tmp_path, images, layout, damage):
    write(tmp_path, images, layout)
    path = pack(tmp_path, layout)
    data = path.read_bytes()
    middle = len(data) // 2
    damaged = damage if damage.startswith(b"not") else data[:middle] + damage + data[middle + 64 :]
    path.write_bytes(damaged)
    with pytest.raises(UsageError, match=rf"{path.name}.*(?:Download it again|cannot be read)"):
        cifar10.read(cifar10.find(str(tmp_path)))


def test_the_checksum_of_an_archive_is_compared(tmp_path, images, layout):
    write(tmp_path, images, layout)
    path = pack(tmp_path, layout)
    data = path.read_bytes()
    path.write_bytes(data[:-8] + bytes(4) + data[-4:])
    with pytest.raises(UsageError, match=rf"{path.name}: damaged or .*CRC check failed"):
        cifar10.read(cifar10.find(str(tmp_path)))


def test_a_truncated_binary_file_is_an_error(tmp_path, images):
    path = write(tmp_path, images, "binary") / "data_batch_2.bin"
    path.write_bytes(path.read_bytes()[:-1])
    message = rf"data_batch_2.bin: {COUNT * 3073 - 1:,} bytes, expected {COUNT * 3073:,} \(3 images"
    with pytest.raises(UsageError, match=message):
        cifar10.read(cifar10.find(str(tmp_path)))


def test_a_foreign_file_of_the_right_size_is_an_error(tmp_path, images):
    path = write(tmp_path, images, "binary") / "test_batch.bin"
    data = bytearray(path.read_bytes())
    data[2 * 3073] = 77
    path.write_bytes(data)
    with pytest.raises(
        UsageError, match=r"test_batch.bin: image 2 has the label 77, expected 0 to 9: not a file"
    ):
        cifar10.read(cifar10.find(str(tmp_path)))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"data_batch_4: cannot be read \(.*\): truncated, or not a file of CIFAR-10's p"),
        (b"\x80\x02}", "data_batch_4: cannot be read"),
        (pickle.dumps([1, 2]), r"b'data' is list, expected uint8 \[3, 3072\]"),
        (pickle.dumps({b"fine": 1}), "b'data' is NoneType, expected uint8"),
        (pickle_by_python_2({b"data": np.zeros((3, 3072))}), r"b'data' is float64 \[3, 3072\]"),
        (pickle_by_python_2({b"data": np.zeros((4, 3072), "u1")}), r"b'data' is uint8 \[4, 3072\]"),
    ],
)
def test_a_foreign_python_file_is_an_error(tmp_path, images, content, message):
    (write(tmp_path, images, "python") / "data_batch_4").write_bytes(content)
    with pytest.raises(UsageError, match=message):
        cifar10.read(cifar10.find(str(tmp_path)))


def test_a_truncated_python_file_is_an_error(tmp_path, images):
    path = write(tmp_path, images, "python") / "data_batch_1"
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(UsageError, match="data_batch_1: cannot be read"):
        cifar10.read(cifar10.find(str(tmp_path)))


class Harmful:
    """An object whose pickle creates a file when it is loaded."""

    def __init__(self, path):
        self._path = path

    def __reduce__(self):
        return pathlib.Path.touch, (self._path,)


def test_loading_a_pickle_runs_no_program(tmp_path, images):
    path = write(tmp_path, images, "python") / "data_batch_1"
    path.write_bytes(pickle.dumps({b"data": Harmful(tmp_path / "touched")}))
    with pytest.raises(UsageError, match="data_batch_1: .* expected only arrays and numbers"):
        cifar10.read(cifar10.find(str(tmp_path)))
    assert not (tmp_path / "touched").exists()


def test_a_missing_or_empty_folder_is_an_error(tmp_path):
    with pytest.raises(UsageError, match="nowhere: no such directory"):
        cifar10.find(str(tmp_path / "nowhere"))
    with pytest.raises(UsageError, match=r"no CIFAR-10 there, .*\. It holds nothing\."):
        cifar10.find(str(tmp_path))
    (tmp_path / "cifar-100-python.tar.gz").touch()
    with pytest.raises(
        UsageError,
        match=r"looked for cifar-10-python.tar.gz, cifar-10-batches-py, cifar-10-binary.tar.gz, "
        r".*It holds cifar-100-python.tar.gz",
    ):
        cifar10.find(str(tmp_path))

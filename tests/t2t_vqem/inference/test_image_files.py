"""Grids, arrays and codes in files: what is written can be read, and bad files are named."""

import os
import zipfile

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from t2t_vqem.constants import UsageError
from t2t_vqem.data.image_folder import read_image
from t2t_vqem.inference import image_files
from t2t_vqem.inference.image_files import CodeSet


def random_images(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 250, shape).astype(np.uint8)


def test_grid_has_each_image_with_a_gap_around_it():
    images = random_images(5, 40, 70, 3)
    grid = image_files.image_grid(images)
    assert grid.shape == (3 * 44 + 4, 2 * 74 + 4, 3)
    rest = np.ones(grid.shape[:2], bool)
    for number, image in enumerate(images):
        top, left = 4 + 44 * (number // 2), 4 + 74 * (number % 2)
        place = slice(top, top + 40), slice(left, left + 70)
        np.testing.assert_array_equal(grid[place], image)
        rest[place] = False
    assert (grid[rest] == 255).all()


def test_grid_is_about_square_and_has_no_empty_column():
    assert image_files.image_grid(random_images(64, 64, 64, 1)).shape[:2] == (548, 548)
    assert image_files.image_grid(random_images(1, 64, 64, 1)).shape[:2] == (72, 72)
    assert image_files.image_grid(random_images(3, 64, 200, 1)).shape[:2] == (3 * 68 + 4, 208)
    wide = image_files.image_grid(random_images(2, 300, 10, 1))
    assert wide.shape[:2] == (308, 2 * 14 + 4)


def test_small_images_are_enlarged():
    image = random_images(1, 8, 5, 1)
    grid = image_files.image_grid(image)
    np.testing.assert_array_equal(grid[4:68, 4:44], np.kron(image[0], np.ones([8, 8, 1])))


def test_reconstructions_are_adjacent_to_their_originals():
    originals, reconstructions = random_images(3, 40, 70, 1), random_images(3, 40, 70, 1, seed=1)
    grid = image_files.side_by_side(originals, reconstructions)
    assert grid.shape == (3 * 44 + 4, 148, 1)
    for row, pair in enumerate(zip(originals, reconstructions, strict=True)):
        found = grid[4 + 44 * row : 44 + 44 * row, 4:144]
        np.testing.assert_array_equal(found, np.concatenate(pair, axis=1))


@pytest.mark.parametrize("channels", [1, 3])
def test_png_contains_the_grid(tmp_path, channels):
    images = random_images(4, 16, 16, channels)
    path = tmp_path / "grid.png"
    image_files.write_images(str(path), images)
    decoded = tf.io.decode_png(path.read_bytes()).numpy()
    np.testing.assert_array_equal(decoded, image_files.image_grid(images))
    image_files.write_images(str(path), images, originals=images[::-1])
    decoded = tf.io.decode_png(path.read_bytes()).numpy()
    np.testing.assert_array_equal(decoded, image_files.side_by_side(images[::-1], images))
    assert os.listdir(tmp_path) == ["grid.png"]


def test_arrays_are_read_back(tmp_path):
    images, originals = random_images(3, 4, 6, 3), random_images(3, 4, 6, 3, seed=1)
    npy, npz, both = (str(tmp_path / name) for name in ("a.npy", "b.npz", "c.npz"))
    image_files.write_images(npy, images, originals=originals)
    image_files.write_images(npz, images)
    image_files.write_images(both, images, originals=originals, names=["x", "é", "z"])
    for path in (npy, npz):
        read = image_files.read_images(path, (4, 6, 3), None)
        np.testing.assert_array_equal(read.images, images)
        assert read.names == []
    # From an earlier reconstruction the originals are taken.
    np.testing.assert_array_equal(image_files.read_images(both, (4, 6, 3), None).images, originals)
    with np.load(both) as arrays:
        assert sorted(arrays) == ["images", "names", "reconstructions"]
        np.testing.assert_array_equal(arrays["reconstructions"], images)
        assert arrays["names"].tolist() == ["x", "é", "z"]
    assert not image_files.holds_codes(npz)


def test_same_arrays_give_the_same_file(tmp_path):
    files = [tmp_path / "a.npz", tmp_path / "b.npz"]
    for path in files:
        image_files.write_images(str(path), random_images(3, 4, 6, 3))
    assert files[0].read_bytes() == files[1].read_bytes()


def test_a_failure_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.npy"
    image_files.write_images(str(path), random_images(3, 4, 6, 3))
    before = path.read_bytes()

    def save(file, array):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", save)
    with pytest.raises(UsageError, match=r"a\.npy: cannot be written \(No space left on device\)"):
        image_files.write_images(str(path), random_images(3, 4, 6, 3, seed=1))
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["a.npy"]


def test_grey_arrays_need_no_channel_axis(tmp_path):
    images = random_images(3, 4, 6, 1)
    np.save(tmp_path / "a.npy", images[..., 0])
    read = image_files.read_images(str(tmp_path / "a.npy"), (4, 6, 1), None)
    np.testing.assert_array_equal(read.images, images)


def test_folder_is_read_in_order_of_names_and_images_are_resized(tmp_path):
    (tmp_path / "more").mkdir()
    pictures = {"b.png": (6, 4), "a.jpg": (60, 44), "more/c.png": (12, 8)}
    for name, (width, height) in pictures.items():
        Image.fromarray(random_images(height, width, 3)).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no image")

    def read(path):
        return read_image(path, (4, 6, 3))

    found = image_files.read_images(str(tmp_path), (4, 6, 3), read)
    assert found.names == ["a.jpg", "b.png", "more/c.png"]
    assert found.images.shape == (3, 4, 6, 3)
    np.testing.assert_array_equal(found.images[1], random_images(4, 6, 3))
    one = image_files.read_images(str(tmp_path / "b.png"), (4, 6, 3), read)
    assert one.names == ["b.png"]
    np.testing.assert_array_equal(one.images, found.images[1:2])
    with pytest.raises(UsageError, match=r"notes\.txt: cannot be read as an image"):
        image_files.read_images(str(tmp_path / "notes.txt"), (4, 6, 3), read)


def test_linked_folders_are_followed(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "photos").mkdir()
    Image.fromarray(random_images(4, 6, 3)).save(tmp_path / "elsewhere/a.png")
    (tmp_path / "photos/link").symlink_to(tmp_path / "elsewhere")

    def read(path):
        return read_image(path, (4, 6, 3))

    found = image_files.read_images(str(tmp_path / "photos"), (4, 6, 3), read)
    assert found.names == ["link/a.png"]
    (tmp_path / "elsewhere/back").symlink_to(tmp_path / "photos")
    with pytest.raises(UsageError, match="again, by a symbolic link"):
        image_files.read_images(str(tmp_path / "photos"), (4, 6, 3), read)


def test_folder_without_images_is_an_error(tmp_path):
    with pytest.raises(UsageError, match=r"no images in it, looked for files in .*\.png"):
        image_files.read_images(str(tmp_path), (4, 6, 3), None)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros([2, 4, 6, 1], np.uint8), r"uint8 \[2, 4, 6, 1\], expected uint8 \[images, 4, 6"),
        (np.zeros([2, 4, 6, 3]), r"float64 \[2, 4, 6, 3\], expected uint8"),
        (np.zeros([0, 4, 6, 3], np.uint8), "and at least one"),
        (np.zeros([4, 6, 3], np.uint8), r"\[4, 6, 3\], expected"),
        (np.array(["text"]), "<U4"),
    ],
)
def test_other_arrays_are_errors(tmp_path, array, message):
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(UsageError, match=message):
        image_files.read_images(str(tmp_path / "a.npy"), (4, 6, 3), None)


CODES = CodeSet(random_images(3, 4, 2).astype(np.int32), "0123", "runs/a/best/ckpt-7")


def test_codes_are_read_back(tmp_path):
    path = str(tmp_path / "codes.npz")
    image_files.write_codes(path, CODES, ["a.png", "b.png", "c.png"])
    assert image_files.holds_codes(path)
    read = image_files.read_codes(path)
    np.testing.assert_array_equal(read.codes, CODES.codes)
    assert read.codes.dtype == np.int32
    assert read[1:] == CODES[1:]
    with np.load(path) as arrays:
        assert arrays["names"].tolist() == ["a.png", "b.png", "c.png"]


def test_damaged_files_are_named(tmp_path):
    whole, path = tmp_path / "whole.npz", tmp_path / "bad.npz"
    image_files.write_codes(str(whole), CODES)
    content = whole.read_bytes()
    middle = content.index(b"codes.npy") + 60  # inside the compressed codes
    for bad in (content[:200], content[: len(content) // 2], b"", b"no zip",
                content[:middle] + bytes(x ^ 255 for x in content[middle : middle + 20])
                + content[middle + 20 :]):  # fmt: skip
        path.write_bytes(bad)
        with pytest.raises(UsageError, match=r"bad\.npz: cannot be read as arrays"):
            image_files.read_codes(str(path))
    assert zipfile.is_zipfile(whole)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": np.array(2)}, "codes in format 2, expected 1"),
        ({"weights": None}, "has no 'weights', only 'format', 'codes', 'checkpoint'"),
        ({"codes": CODES.codes[..., 0]}, r"int32 \[3, 4\], expected integers \[images, latents"),
        ({"codes": CODES.codes * 0.5}, "float64"),
        ({"codes": CODES.codes[:0]}, "for at least one image"),
    ],
)
def test_other_arrays_are_not_mistaken_for_codes(tmp_path, changes, message):
    path = str(tmp_path / "codes.npz")
    image_files.write_codes(path, CODES)
    with np.load(path) as arrays:
        arrays = {**arrays, **changes}
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
    with pytest.raises(UsageError, match=message):
        image_files.read_codes(path)


def test_codes_are_not_mistaken_for_images(tmp_path):
    path = str(tmp_path / "codes.npz")
    image_files.write_codes(path, CODES)
    with pytest.raises(UsageError, match="has no 'images', only"):
        image_files.read_images(path, (4, 6, 3), None)
    with open(path, "wb") as file:
        np.save(file, CODES.codes)
    with pytest.raises(UsageError, match=r"got a single array without a name, expected a \.npz"):
        image_files.holds_codes(path)


def test_the_output_path_is_checked_in_advance(tmp_path):
    image_files.check_output(str(tmp_path / "new" / "a.png"), (".png", ".npy"), "decode_to_file")
    assert (tmp_path / "new").is_dir()
    (tmp_path / "file").write_text("")
    (tmp_path / "d.png").mkdir()
    for name, message in (
        ("a.jpg", r"--decode_to_file=.*a\.jpg: expected a file that ends in \.png or \.npy"),
        ("d.png", "it is a directory"),
        ("file/a.png", r"cannot be written \("),
    ):
        with pytest.raises(UsageError, match=message):
            image_files.check_output(str(tmp_path / name), (".png", ".npy"), "decode_to_file")

import os
import pathlib
import pickle
import struct
import sys
import zlib

import numpy as np
import pytest

from t2t_vqem.constants import DEV, SPLITS, TEST, TRAIN, UsageError
from t2t_vqem.data import image_folder
from t2t_vqem.data.image_folder import FolderImages, find_images, read_image
from t2t_vqem.data.image_source import Unreadable

Image = pytest.importorskip("PIL.Image")


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def save(path: pathlib.Path, pixels: np.ndarray, **options) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return str(path)


# Reading one image.


@pytest.mark.parametrize("suffix", ["png", "bmp", "tiff", "ppm", "gif", "webp"])
def test_an_image_of_the_right_size_keeps_its_pixels(tmp_path, suffix):
    pixels = noise(5, 4, 3) // 64 * 64  # few colours, for GIF
    options = {"lossless": True} if suffix == "webp" else {}
    path = save(tmp_path / f"a.{suffix}", pixels, **options)
    for fit in image_folder.FITS:
        found = read_image(path, (5, 4, 3), fit)
        assert (found.dtype, found.shape) == (np.uint8, (5, 4, 3))
        np.testing.assert_array_equal(found, pixels)


def test_a_grey_image_keeps_its_pixels(tmp_path):
    pixels = noise(5, 4)
    path = save(tmp_path / "a.png", pixels)
    np.testing.assert_array_equal(read_image(path, (5, 4, 1)), pixels[..., None])
    np.testing.assert_array_equal(read_image(path, (5, 4, 3)), np.stack([pixels] * 3, axis=-1))


def test_colour_becomes_grey_by_luma(tmp_path):
    pixels = noise(5, 4, 3)
    path = save(tmp_path / "a.png", pixels)
    luma = pixels @ np.array([0.299, 0.587, 0.114])  # ITU-R BT.601
    np.testing.assert_allclose(read_image(path, (5, 4, 1))[..., 0], luma, atol=1)


def test_crop_keeps_the_middle_and_the_proportions(tmp_path):
    wide = np.zeros((4, 12, 3), np.uint8)
    wide[:, 4:8] = noise(4, 4, 3)
    path = save(tmp_path / "wide.png", wide)
    np.testing.assert_array_equal(read_image(path, (4, 4, 3), "crop"), wide[:, 4:8])
    path = save(tmp_path / "tall.png", wide.transpose(1, 0, 2))
    expected = wide[:, 4:8].transpose(1, 0, 2)
    np.testing.assert_array_equal(read_image(path, (4, 4, 3), "crop"), expected)


def test_crop_scales_until_both_sides_are_covered(tmp_path):
    # Red, green and blue thirds of 20 columns each; a square of half the size is cut out.
    pixels = np.repeat(np.eye(3, dtype=np.uint8) * 255, 20, axis=0)[None].repeat(20, axis=0)
    found = read_image(save(tmp_path / "a.png", pixels), (10, 10, 3), "crop")
    np.testing.assert_array_equal(found[:, 3:-3], np.full((10, 4, 3), (0, 255, 0)))


def test_resize_keeps_the_whole_image(tmp_path):
    pixels = np.repeat(np.eye(3, dtype=np.uint8) * 255, 20, axis=0)[None].repeat(20, axis=0)
    found = read_image(save(tmp_path / "a.png", pixels), (10, 15, 3), "resize")
    assert found.shape == (10, 15, 3)
    for third, column in enumerate((2, 7, 12)):
        np.testing.assert_allclose(found[:, column], [np.eye(3)[third] * 255] * 10, atol=10)


def test_a_small_image_is_enlarged(tmp_path):
    path = save(tmp_path / "a.png", np.full((2, 3, 3), 77, np.uint8))
    for fit in image_folder.FITS:
        assert (read_image(path, (9, 8, 3), fit) == 77).all()


def test_a_much_larger_image_is_averaged_not_subsampled(tmp_path):
    board = np.indices((256, 256)).sum(axis=0) % 2 * 255
    path = save(tmp_path / "a.png", board.astype(np.uint8))
    assert np.ptp(read_image(path, (8, 8, 1)).astype(int)) <= 4
    np.testing.assert_allclose(read_image(path, (8, 8, 1)), 127, atol=3)


def test_a_large_jpeg_is_like_its_pixels(tmp_path):
    ramp = np.linspace(0, 255, 640).astype(np.uint8)
    pixels = np.stack([np.tile(ramp, (480, 1)), np.full((480, 640), 90), np.zeros((480, 640))], -1)
    pixels = pixels.astype(np.uint8)
    jpeg = read_image(save(tmp_path / "a.jpg", pixels, quality=95), (32, 32, 3))
    png = read_image(save(tmp_path / "a.png", pixels), (32, 32, 3))
    np.testing.assert_allclose(jpeg.astype(int), png, atol=4)


def test_an_image_is_rotated_according_to_its_exif_data(tmp_path):
    pixels = noise(4, 6, 3)
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: must be rotated by 90 degrees clockwise
    path = save(tmp_path / "a.png", pixels, exif=exif)
    np.testing.assert_array_equal(read_image(path, (6, 4, 3)), np.rot90(pixels, -1))


def test_transparent_pixels_become_white(tmp_path):
    pixels = noise(4, 4, 4)
    pixels[..., 3] = [0, 255, 0, 255]
    expected = np.where(pixels[..., 3:] == 0, 255, pixels[..., :3])
    np.testing.assert_array_equal(read_image(save(tmp_path / "a.png", pixels), (4, 4, 3)), expected)
    half = np.full((4, 4, 4), (0, 0, 0, 128), np.uint8)
    assert (read_image(save(tmp_path / "b.png", half), (4, 4, 1)) == 127).all()


def test_a_palette_with_a_transparent_colour(tmp_path):
    image = Image.fromarray(np.array([[0, 1], [1, 0]], np.uint8), "L").convert("P")
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.save(tmp_path / "a.png", transparency=1)
    found = read_image(str(tmp_path / "a.png"), (2, 2, 3))
    assert found.tolist() == [[[10, 20, 30], [255] * 3], [[255] * 3, [10, 20, 30]]]


@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_16_bits_become_8(tmp_path, suffix):
    values = np.array([[0, 257, 65535], [32768, 128, 129]], np.uint16)
    path = save(tmp_path / f"a.{suffix}", values)
    assert read_image(path, (2, 3, 1))[..., 0].tolist() == [[0, 1, 255], [128, 0, 1]]


def test_black_and_white(tmp_path):
    path = save(tmp_path / "a.png", np.array([[True, False]]))
    assert read_image(path, (1, 2, 1)).tolist() == [[[255], [0]]]


def test_the_first_frame_of_several_is_used(tmp_path):
    first, second = (Image.fromarray(np.full((4, 4), value, np.uint8), "L") for value in (200, 30))
    first.save(tmp_path / "a.gif", save_all=True, append_images=[second])
    assert (read_image(str(tmp_path / "a.gif"), (4, 4, 1)) == 200).all()


def damaged(tmp_path, kind: str) -> str:
    path = save(tmp_path / f"{kind}.png", noise(40, 40, 3))
    data = pathlib.Path(path).read_bytes()
    if kind == "cut off":
        data = data[: len(data) // 2]
    elif kind == "damaged":
        start = data.index(b"IDAT") + 4
        data = data[:start] + b"\xff" * 8 + data[start + 8 :]
    elif kind == "text":
        data = b"this is no image\n"
    elif kind == "empty":
        data = b""
    elif kind == "head only":
        data = data[:20]
    elif kind == "too large":  # its header says so, and reading it would take all memory
        head = b"IHDR" + struct.pack(">II", 100_000, 100_000) + data[24:29]
        data = data[:12] + head + struct.pack(">I", zlib.crc32(head)) + data[33:]
    pathlib.Path(path).write_bytes(data)
    return path


@pytest.mark.parametrize("kind", ["cut off", "damaged", "text", "empty", "head only", "too large"])
def test_a_bad_file_is_an_error_that_names_it(tmp_path, kind):
    with pytest.raises(UsageError, match=rf"{kind}\.png: cannot be read as an image \(.+\)\."):
        read_image(damaged(tmp_path, kind), (8, 8, 3))


@pytest.mark.parametrize("fraction", [0.5, 0.98])
def test_a_truncated_jpeg_is_an_error(tmp_path, fraction):
    path = save(tmp_path / "a.jpg", noise(300, 300, 3))
    data = pathlib.Path(path).read_bytes()
    pathlib.Path(path).write_bytes(data[: int(len(data) * fraction)])
    with pytest.raises(UsageError, match=r"a.jpg: cannot be read as an image \(.*truncated"):
        read_image(path, (8, 8, 3))


def test_errors_distinguish_damaged_images_from_other_files(tmp_path):
    with pytest.raises(UsageError, match=r"text.png: .* \(its format is unknown to Pillow\)\."):
        read_image(damaged(tmp_path, "text"), (8, 8, 3))
    with pytest.raises(UsageError, match=r"too large.png: .* exceeds limit"):
        read_image(damaged(tmp_path, "too large"), (8, 8, 3))


def test_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(UsageError, match=r"none.png: cannot be read as an image \(No such file"):
        read_image(str(tmp_path / "none.png"), (8, 8, 3))


def test_floating_point_pixels_are_an_error(tmp_path):
    path = save(tmp_path / "a.tiff", np.zeros((4, 4), np.float32))
    with pytest.raises(UsageError, match="floating-point numbers, expected 8 or 16 bits"):
        read_image(path, (4, 4, 1))


def test_missing_pillow_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    with pytest.raises(UsageError, match=r"pip install 't2t-vqem\[images\]'"):
        read_image(str(tmp_path / "a.png"), (4, 4, 1))
    with pytest.raises(UsageError, match=r"pip install 't2t-vqem\[images\]'"):
        folder_images(tmp_path)


# Finding images in a folder.


def test_images_are_found_by_their_suffix_in_all_folders(tmp_path):
    for name in (
        "b.PNG",
        "a/c.jpeg",
        "a/b/d.webp",
        "a.txt",
        ".hidden.png",
        ".git/x.png",
        "._a.png",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    images, others = find_images(str(tmp_path))
    assert images == [os.path.join("a", "b", "d.webp"), os.path.join("a", "c.jpeg"), "b.PNG"]
    assert others == ["a.txt"]


def test_a_missing_folder_is_an_error(tmp_path):
    with pytest.raises(UsageError, match=r"nowhere: cannot be read \(No such file or directory\)"):
        find_images(str(tmp_path / "nowhere"))


# The splits of a folder.


def folder_images(folder, **settings) -> FolderImages:
    defaults = {
        "shape": (4, 4, 1),
        "fit": "crop",
        "held_out": {DEV: 0.2, TEST: 0.1},
        "seed": 0,
        "drop_unreadable": False,
    }
    return FolderImages(str(folder), **{**defaults, **settings})


def fill(folder: pathlib.Path, count: int, seed: int = 0) -> list[bytes]:
    """Writes the given number of 4x4 images; returns their pixels."""
    images = noise(count, 4, 4, seed=seed)
    for number, pixels in enumerate(images):
        save(folder / f"{number:03}.png", pixels)
    return [pixels.tobytes() for pixels in images]


def images_in(source: FolderImages, split: str) -> list[bytes]:
    return [image.tobytes() for image in source.part(split, 0, source.num_images(split))]


def test_without_split_folders_dev_and_test_are_held_out(tmp_path):
    written = fill(tmp_path / "some/where", 30)
    source = folder_images(tmp_path)
    assert [source.num_images(split) for split in SPLITS] == [21, 6, 3]
    found = {split: images_in(source, split) for split in SPLITS}
    assert sorted(found[TRAIN] + found[DEV] + found[TEST]) == sorted(written)
    kept = set(found[TRAIN])
    assert found[TRAIN] == [pixels for pixels in written if pixels in kept]  # in order of names
    assert source.notes() == ["held out from the training images: dev, test"]


def test_held_out_images_depend_on_contents_not_on_names(tmp_path):
    fill(tmp_path / "a", 30)
    for path in (tmp_path / "a").iterdir():
        (tmp_path / "b").mkdir(exist_ok=True)
        (tmp_path / f"b/{path.stem[::-1]}.png").write_bytes(path.read_bytes())
    first, second = folder_images(tmp_path / "a"), folder_images(tmp_path / "b")
    for split in SPLITS:
        assert sorted(images_in(first, split)) == sorted(images_in(second, split))
    other = folder_images(tmp_path / "a", seed=1)
    assert sorted(images_in(other, DEV)) != sorted(images_in(first, DEV))


def test_copies_are_in_one_split(tmp_path):
    fill(tmp_path / "a", 20)
    fill(tmp_path / "copies", 20)
    found = {split: set(images_in(folder_images(tmp_path), split)) for split in SPLITS}
    assert sum(map(len, found.values())) == 20 == len(set().union(*found.values()))


@pytest.mark.parametrize("dev_name", ["dev", "val", "valid", "validation"])
def test_folders_of_splits(tmp_path, dev_name):
    written = {
        TRAIN: fill(tmp_path / "train/cats", 5),
        DEV: fill(tmp_path / dev_name, 3, seed=1),
        TEST: fill(tmp_path / "test", 2, seed=2),
    }
    source = folder_images(tmp_path)
    assert {split: images_in(source, split) for split in SPLITS} == written
    assert source.notes() == []


def test_a_split_without_a_folder_is_held_out_of_train(tmp_path):
    train = fill(tmp_path / "train", 20)
    test = fill(tmp_path / "test", 4, seed=1)
    source = folder_images(tmp_path)
    assert images_in(source, TEST) == test
    assert source.num_images(DEV) == 4
    assert sorted(images_in(source, TRAIN) + images_in(source, DEV)) == sorted(train)
    assert source.notes() == ["held out from the training images: dev"]


def test_at_least_one_image_is_held_out(tmp_path):
    fill(tmp_path, 5)
    source = folder_images(tmp_path, held_out={DEV: 0.01, TEST: 0.02})
    assert [source.num_images(split) for split in SPLITS] == [3, 1, 1]


def test_a_share_of_0_needs_a_folder(tmp_path):
    fill(tmp_path / "train", 5)
    with pytest.raises(UsageError, match=r"dev_share=0, and .* has no folder dev: there would be"):
        folder_images(tmp_path, held_out={DEV: 0.0, TEST: 0.1})
    dev = fill(tmp_path / "dev", 2)
    source = folder_images(tmp_path, held_out={DEV: 0.0, TEST: 0.1})
    assert images_in(source, DEV) == dev


@pytest.mark.parametrize("seed", range(12))
def test_shares_are_of_the_images_that_can_be_read(tmp_path, seed):
    good = fill(tmp_path, 11)
    whole = pathlib.Path(save(tmp_path / "cut.png", noise(40, 40))).read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "nowhere.png").symlink_to(tmp_path / "not there")
    shares = {DEV: 0.05, TEST: 0.05}
    source = folder_images(tmp_path, held_out=shares, seed=seed, drop_unreadable=True)
    found = {split: list(source.part(split, 0, source.num_images(split))) for split in SPLITS}
    dropped = {split: sum(isinstance(x, Unreadable) for x in found[split]) for split in SPLITS}
    assert {split: len(found[split]) for split in SPLITS} == {TRAIN: 11, DEV: 1, TEST: 1}
    assert dropped == {TRAIN: 2, DEV: 0, TEST: 0}
    read = [x.tobytes() for split in SPLITS for x in found[split] if isinstance(x, np.ndarray)]
    assert sorted(read) == sorted(good)
    if not seed:  # as without them
        for name in ("cut.png", "nowhere.png"):
            (tmp_path / name).unlink()
        without = folder_images(tmp_path, held_out=shares, seed=seed)
        for split in (DEV, TEST):
            assert [image.tobytes() for image in found[split]] == images_in(without, split)


def test_the_case_of_the_folders_does_not_matter(tmp_path):
    written = {
        TRAIN: fill(tmp_path / "Train", 5),
        DEV: fill(tmp_path / "VAL", 3, seed=1),
        TEST: fill(tmp_path / "test", 2, seed=2),
    }
    source = folder_images(tmp_path)
    assert {split: images_in(source, split) for split in SPLITS} == written
    assert source.notes() == ["the folder Train is train", "the folder VAL is dev"]


def test_folders_that_differ_in_case_alone_are_an_error(tmp_path):
    fill(tmp_path / "train", 5)
    fill(tmp_path / "Train", 5, seed=1)
    if len(os.listdir(tmp_path)) == 1:
        pytest.skip("this file system has one case")
    with pytest.raises(UsageError, match="holds the folders Train and train, expected one of them"):
        folder_images(tmp_path)


def test_linked_folders_are_followed(tmp_path):
    train = fill(tmp_path / "elsewhere/cats", 5)
    dev = fill(tmp_path / "photos/dev", 2, seed=1)
    more = fill(tmp_path / "more", 3, seed=2)
    (tmp_path / "photos/train").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "photos/dev/linked").symlink_to(tmp_path / "more")
    fill(tmp_path / "photos/test", 1, seed=3)
    source = folder_images(tmp_path / "photos")
    assert images_in(source, TRAIN) == train
    assert images_in(source, DEV) == dev + more


@pytest.mark.parametrize("target", ["photos", "photos/a", "photos/b"])
def test_a_folder_that_a_link_leads_to_again_is_an_error(tmp_path, target):
    for folder in "ab":
        fill(tmp_path / "photos" / folder, 2)
    (tmp_path / "photos/a/link").symlink_to(tmp_path / target)
    message = "is the folder .* again, by a symbolic link: .* Remove the link"
    with pytest.raises(UsageError, match=message):
        folder_images(tmp_path / "photos")


def test_ignored_files_are_logged(tmp_path):
    fill(tmp_path / "train", 20)
    save(tmp_path / "preview.png", noise(4, 4))
    (tmp_path / "readme.txt").touch()
    source = folder_images(tmp_path)
    assert "ignored files (2): preview.png, readme.txt" in source.notes()
    for number in range(20):
        (tmp_path / f"x{number:02}.txt").touch()
    (note,) = folder_images(tmp_path).notes()[1:]
    assert note.startswith("ignored files (22): preview.png, readme.txt, x00.txt")
    assert note.endswith("x07.txt and 12 more")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([], "no images in it, looked for files that end in .bmp .*holds nothing"),
        (["a.txt", "b.txt"], "no images in it, .* holds a.txt, b.txt"),
        (["dev/a.png", "test/b.png"], "holds the folder dev and test but no folder train"),
        (["train/a.png", "test/a.txt"], "test: no images in it"),
    ],
)
def test_an_unusable_folder_is_an_error(tmp_path, files, message):
    for name in files:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    with pytest.raises(UsageError, match=message):
        folder_images(tmp_path)


def test_too_few_images_are_an_error(tmp_path):
    fill(tmp_path, 2)
    with pytest.raises(UsageError, match="2 images, .*: none is left for training"):
        folder_images(tmp_path).num_images(TRAIN)


def test_the_fingerprint_follows_names_and_contents(tmp_path):
    fill(tmp_path, 10)
    first = folder_images(tmp_path).fingerprint()
    assert first == folder_images(tmp_path).fingerprint()
    assert first["number of files"] == "10"
    (tmp_path / "003.png").rename(tmp_path / "3.png")
    second = folder_images(tmp_path).fingerprint()
    save(tmp_path / "3.png", noise(4, 4, seed=9))
    third = folder_images(tmp_path).fingerprint()
    assert len({value["files"] for value in (first, second, third)}) == 3


def test_a_part_is_read_only_during_iteration(tmp_path):
    written = fill(tmp_path / "train", 9)
    part = folder_images(tmp_path).part(TRAIN, 2, 5)
    images = [image.tobytes() for image in pickle.loads(pickle.dumps(part))]
    kept = images_in(folder_images(tmp_path), TRAIN)
    assert images == kept[2:5]
    assert set(images) < set(written)


def test_a_bad_file_is_an_error_or_dropped(tmp_path):
    fill(tmp_path / "train", 4)
    fill(tmp_path / "dev", 1)
    fill(tmp_path / "test", 1)
    (tmp_path / "train/001.png").write_bytes(b"no image")
    with pytest.raises(UsageError, match=r"train.001\.png: .*--problem_params=unreadable=drop"):
        images_in(folder_images(tmp_path), TRAIN)
    found = list(folder_images(tmp_path, drop_unreadable=True).part(TRAIN, 0, 4))
    assert [type(image) for image in found] == [np.ndarray, Unreadable, np.ndarray, np.ndarray]
    assert "001.png: cannot be read as an image" in found[1].reason


def test_names_that_are_not_utf8(tmp_path):
    fill(tmp_path, 9)
    try:
        (tmp_path / "000.png").rename(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.png"))
    except OSError:
        pytest.skip("this file system takes UTF-8 only")
    source = folder_images(tmp_path)
    source.fingerprint()
    assert sum(len(images_in(source, split)) for split in SPLITS) == 9

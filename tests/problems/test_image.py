"""The registered image problems."""

import hashlib
import pathlib
import socket
import sys
import types

import numpy as np
import pytest
from PIL import Image

from t2t_vqem.config import resolve
from t2t_vqem.constants import DEV, SPLITS, TEST, TRAIN, UsageError
from t2t_vqem.data import cifar10, image_building
from t2t_vqem.problem import SourceFlags
from t2t_vqem.registry import problems


def make(name: str, params: str = ""):
    config = resolve(problem=name, problem_params=params).problem_config
    return problems.get(name)(config)


def generate(problem, tmp_path: pathlib.Path, name: str = "data", **source) -> dict:
    dataset = problem.generate(str(tmp_path / name), num_workers=1, progress=False, **source)
    return dataset.manifest


def images_of(problem, data_dir: pathlib.Path, split: str) -> np.ndarray:
    reader = problem.open(str(data_dir)).records(split)
    return np.array([record["image"] for record in reader.read(range(len(reader)))])


def pixels_of(images: np.ndarray) -> list[bytes]:
    return [image.tobytes() for image in images]


# CIFAR-10


def write_binary(folder: pathlib.Path, train: np.ndarray, test: np.ndarray) -> str:
    """Writes images in CIFAR-10's binary format; all labels are 3."""
    path = folder / "cifar-10-batches-bin"
    path.mkdir(parents=True)
    files = {f"data_batch_{n}": part for n, part in enumerate(np.split(train, 5), start=1)}
    for name, part in {**files, "test_batch": test}.items():
        rows = part.transpose(0, 3, 1, 2).reshape(len(part), -1)
        rows = np.concatenate([np.full((len(part), 1), 3, np.uint8), rows], axis=1)
        (path / f"{name}.bin").write_bytes(rows.tobytes())
    return str(folder)


@pytest.fixture
def small(monkeypatch) -> tuple[np.ndarray, np.ndarray]:
    """Sets the sizes of CIFAR-10 to 50 and 10 images, in files of 10."""
    monkeypatch.setattr(cifar10, "_FILE_IMAGES", 10)
    images = np.random.default_rng(0).integers(0, 256, (60, 32, 32, 3), np.uint8)
    return images[:50], images[50:]


def test_cifar10_holds_dev_out_of_train(tmp_path, small):
    train, test = small
    source_dir = write_binary(tmp_path / "files", train, test)
    problem = make("image_cifar10", "dev_size=7")
    manifest = generate(problem, tmp_path, source_dir=source_dir)
    sizes = {split: manifest["splits"][split]["num_examples"] for split in SPLITS}
    assert sizes == {TRAIN: 43, DEV: 7, TEST: 10}
    found = {split: images_of(problem, tmp_path / "data", split) for split in SPLITS}
    np.testing.assert_array_equal(found[TEST], test)
    held_out = set(pixels_of(found[DEV]))
    for split, inside in ((TRAIN, False), (DEV, True)):
        expected = [image for image in train if (image.tobytes() in held_out) == inside]
        np.testing.assert_array_equal(found[split], expected)  # in the published order
    assert "dev is held out" in problem.open(str(tmp_path / "data")).report
    assert problem.image_shape == found[DEV].shape[1:] == (32, 32, 3)


def test_cifar10_dev_does_not_depend_on_the_order(tmp_path, small):
    train, test = small
    problem = make("image_cifar10", "dev_size=7")
    chosen = []
    for name, array in (("a", train), ("b", train[::-1])):
        source_dir = write_binary(tmp_path / "files" / name, array, test)
        generate(problem, tmp_path, name, source_dir=source_dir)
        chosen.append(sorted(pixels_of(images_of(problem, tmp_path / name, DEV))))
    assert chosen[0] == chosen[1]


def test_cifar10_s_dev_stays_what_it_was(tmp_path, small):
    """Figures on dev can be compared only if the images are the same."""
    source = write_binary(tmp_path, *small)
    dev = make("image_cifar10", "dev_size=7").source(SourceFlags("", source_dir=source))
    train = small[0]
    digests = [hashlib.sha256(image.tobytes()).digest() for image in train]
    draws = [hashlib.sha256(b"0 " + digest).digest() for digest in digests]
    expected = train[sorted(np.argsort(draws)[:7])]
    np.testing.assert_array_equal(dev.part(DEV, 0, 7), expected)


def test_generated_cifar10_needs_no_source(tmp_path, small):
    source_dir = write_binary(tmp_path / "files", *small)
    problem = make("image_cifar10", "dev_size=7")
    manifest = generate(problem, tmp_path, source_dir=source_dir)
    assert generate(problem, tmp_path) == manifest  # and downloads nothing
    assert generate(problem, tmp_path, source_dir=source_dir) == manifest
    with pytest.raises(UsageError, match="config: dev_size was 7, now 8"):
        generate(make("image_cifar10", "dev_size=8"), tmp_path)


def test_errors_about_the_source_of_cifar10(tmp_path, small):
    problem = make("image_cifar10")
    with pytest.raises(UsageError, match="are given, expected only one of them"):
        generate(problem, tmp_path, source_dir="x", tfds_dir="y")
    with pytest.raises(UsageError, match="nowhere: no such directory"):
        generate(problem, tmp_path, source_dir=str(tmp_path / "nowhere"))
    with pytest.raises(UsageError, match=r"looked for \S*cifar10/VERSION"):
        generate(problem, tmp_path, tfds_dir=str(tmp_path))
    source_dir = write_binary(tmp_path / "files", *small)
    with pytest.raises(UsageError, match="50 images, of which 1,000 for dev .*none is left"):
        generate(problem, tmp_path, source_dir=source_dir)
    assert not (tmp_path / "data").exists()


def test_cifar10_is_downloaded_where_no_directory_is_given(tmp_path, monkeypatch):
    calls = []
    builder = types.SimpleNamespace(
        data_dir=tmp_path / "cache", download_and_prepare=lambda: calls.append("prepared")
    )
    tfds = types.SimpleNamespace(builder=lambda name: calls.append(name) or builder)
    monkeypatch.setattr("t2t_vqem.data.tfds.import_tfds", lambda: tfds)
    source = make("image_cifar10").source(SourceFlags(""))
    assert source.describe() == f"TFDS data set {tmp_path}/cache"
    assert calls == ["cifar10", "prepared"]


def test_truncated_cifar10_leaves_no_data(tmp_path, small):
    source_dir = write_binary(tmp_path / "files", *small)
    path = tmp_path / "files/cifar-10-batches-bin/data_batch_5.bin"
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(
        UsageError, match=r"data_batch_5.bin: 30,723 bytes, expected 30,730 \(10 images of 3,073"
    ):
        generate(make("image_cifar10", "dev_size=7"), tmp_path, source_dir=source_dir)
    assert not (tmp_path / "data").exists()


def prepare_tfds(folder: pathlib.Path, train: np.ndarray, test: np.ndarray) -> str:
    """Writes images in the layout of TFDS for cifar10."""
    tf = pytest.importorskip("tensorflow")
    tfds = pytest.importorskip("tensorflow_datasets")
    tfds.dataset_builders.store_as_tfds_dataset(
        name="cifar10",
        version="3.0.2",
        features=tfds.features.FeaturesDict(
            {
                "id": tfds.features.Text(),
                "image": tfds.features.Image(shape=(32, 32, 3)),
                "label": tfds.features.ClassLabel(num_classes=10),
            }
        ),
        split_datasets={
            split: tf.data.Dataset.from_tensor_slices(
                {
                    "id": [f"{split}_{n}" for n in range(len(images))],
                    "image": images,
                    "label": [n % 10 for n in range(len(images))],
                }
            )
            for split, images in (("train", train), ("test", test))
        },
        data_dir=str(folder),
    )
    return str(folder)


@pytest.mark.slow
def test_cifar10_from_a_prepared_tfds_directory(tmp_path, small, monkeypatch):
    train, test = small
    tfds_dir = prepare_tfds(tmp_path / "tfds", train, test)
    source_dir = write_binary(tmp_path / "files", train, test)

    def refuse(*args):
        raise AssertionError(f"the network is used: {args}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    problem = make("image_cifar10", "dev_size=7")
    manifest = generate(problem, tmp_path, tfds_dir=tfds_dir)
    generate(problem, tmp_path, "other", source_dir=source_dir)
    for split in SPLITS:  # dev included: it is the same from each source
        pixels = pixels_of(images_of(problem, tmp_path / "data", split))
        assert sorted(pixels) == sorted(pixels_of(images_of(problem, tmp_path / "other", split)))
    assert generate(problem, tmp_path, tfds_dir=tfds_dir) == manifest


@pytest.mark.slow
def test_any_image_set_of_tfds(tmp_path, small, monkeypatch):
    monkeypatch.setattr(image_building, "_PART_IMAGES", 7)
    train, test = small
    tfds_dir = prepare_tfds(tmp_path / "tfds", train, test)
    params = (
        "name=cifar10,train_split=train[:60%]+test[:3],dev_split=train[60%:],height=32,width=32"
    )
    problem = make("image_tfds", params)
    manifest = problem.generate(
        str(tmp_path / "data"), tfds_dir=tfds_dir, num_workers=2, progress=False
    ).manifest
    sizes = {name: split["num_examples"] for name, split in manifest["splits"].items()}
    assert sizes == {"train": 33, "dev": 20, "test": 10}
    found = {s: pixels_of(images_of(problem, tmp_path / "data", s)) for s in SPLITS}
    # In TFDS's order, which is not that of the images: train and dev are parts of one split.
    assert sorted(found["train"][:30] + found["dev"]) == sorted(pixels_of(train))
    assert found["train"][30:] == found["test"][:3]
    assert sorted(found["test"]) == sorted(pixels_of(test))
    resized = make("image_tfds", f"{params},grey=true,fit=resize".replace("32", "16"))
    generate(resized, tmp_path, "small", tfds_dir=tfds_dir)
    image = np.frombuffer(found["test"][0], np.uint8).reshape(32, 32, 3)
    expected = Image.fromarray(image).convert("L").resize((16, 16), Image.Resampling.LANCZOS)
    made = images_of(resized, tmp_path / "small", "test")[0]
    assert np.array_equal(made[..., 0], np.asarray(expected))


@pytest.mark.slow
def test_image_sets_of_tfds_that_are_refused(tmp_path, small):
    tfds_dir = prepare_tfds(tmp_path / "tfds", *small)
    with pytest.raises(
        UsageError, match=r"no split 'validation' .* It has train \(50\), test \(10\)"
    ):
        generate(make("image_tfds", "name=cifar10"), tmp_path, tfds_dir=tfds_dir)
    with pytest.raises(UsageError, match="feature='label', .* with an image: image. It has id, "):
        generate(make("image_tfds", "name=cifar10,feature=label"), tmp_path, tfds_dir=tfds_dir)
    with pytest.raises(UsageError, match="name is missing"):
        generate(make("image_tfds"), tmp_path, tfds_dir=tfds_dir)
    with pytest.raises(UsageError, match="looked for .*cifar10/9.0.0/dataset_info.json"):
        generate(make("image_tfds", "name=cifar10:9.0.0"), tmp_path, tfds_dir=tfds_dir)


def test_a_download_that_fails_is_told(monkeypatch):
    def builder(name):
        raise KeyError(name)

    tfds = types.SimpleNamespace(builder=builder)
    monkeypatch.setattr("t2t_vqem.data.tfds.import_tfds", lambda: tfds)
    with pytest.raises(UsageError, match=r"TFDS cannot prepare 'nothing' \(KeyError: 'nothing'\)"):
        make("image_tfds", "name=nothing").source(SourceFlags("data"))


def real_images(real_data: pathlib.Path, split: str) -> np.ndarray:
    tf = pytest.importorskip("tensorflow")
    features = {"image": tf.io.FixedLenFeature([], tf.string)}

    def parse(record):
        return tf.io.decode_jpeg(tf.io.parse_single_example(record, features)["image"], channels=3)

    records = tf.data.TFRecordDataset(str(real_data / "cifar10" / f"{split}.tfrecord"))
    dataset = records.map(parse, num_parallel_calls=tf.data.AUTOTUNE).batch(1000)
    return np.concatenate(list(dataset.as_numpy_iterator()))


@pytest.mark.slow
def test_cifar10_whole(tmp_path, real_data):
    train, test = real_images(real_data, "train"), real_images(real_data, "test")
    problem = make("image_cifar10")
    source_dir = write_binary(tmp_path / "files", train, test)
    dataset = problem.generate(str(tmp_path / "data"), source_dir=source_dir, num_workers=2)
    sizes = {split: dataset.manifest["splits"][split]["num_examples"] for split in SPLITS}
    assert sizes == {TRAIN: 49_000, DEV: 1000, TEST: 10_000}
    found = {split: images_of(problem, tmp_path / "data", split) for split in SPLITS}
    np.testing.assert_array_equal(found[TEST], test)
    together = np.concatenate([found[TRAIN], found[DEV]])
    assert sorted(pixels_of(together)) == sorted(pixels_of(train))
    assert not set(pixels_of(found[DEV])) & set(pixels_of(found[TRAIN]))
    # The images held out resemble the others: their mean differs by chance only.
    means = train.mean(axis=(1, 2, 3))
    assert abs(found[DEV].mean() - means.mean()) < 5 * means.std() / np.sqrt(1000)


@pytest.mark.slow
def test_cifar10_sample_from_tfds(tmp_path, real_data):
    images = real_images(real_data, "test")
    tfds_dir = prepare_tfds(tmp_path / "tfds", images[:3000], images[3000:4000])
    problem = make("image_cifar10", "dev_size=300")
    generate(problem, tmp_path, tfds_dir=tfds_dir)
    found = {split: images_of(problem, tmp_path / "data", split) for split in SPLITS}
    assert {split: len(array) for split, array in found.items()} == {
        TRAIN: 2700,
        DEV: 300,
        TEST: 1000,
    }
    assert sorted(pixels_of(found[TEST])) == sorted(pixels_of(images[3000:4000]))


# A folder of the user's images


def write_folder(folder: pathlib.Path, count: int, size=(50, 40)) -> str:
    image = pytest.importorskip("PIL.Image")
    folder.mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 256, (count, *size, 3), np.uint8)
    for number in range(count):
        image.fromarray(pixels[number]).save(folder / f"{number}.jpg")
    return str(folder)


@pytest.mark.parametrize(
    ("params", "shape"),
    [
        ("", (32, 32, 3)),
        ("height=16,width=24", (16, 24, 3)),
        ("grey=true,fit=resize,height=9", (9, 32, 1)),
    ],
)
def test_a_folder_of_images_of_any_size(tmp_path, params, shape):
    source_dir = write_folder(tmp_path / "images", 40)
    problem = make("image_folder", params)
    assert problem.image_shape == shape
    generate(problem, tmp_path, source_dir=source_dir)
    for split, count in ((TRAIN, 36), (DEV, 2), (TEST, 2)):
        assert images_of(problem, tmp_path / "data", split).shape == (count, *shape)
    found = pixels_of(images_of(problem, tmp_path / "data", DEV))
    read = [problem.read_image(f"{source_dir}/{number}.jpg") for number in range(40)]
    assert set(found) < set(pixels_of(np.array(read)))


def test_several_workers_give_the_same(tmp_path):
    source_dir = write_folder(tmp_path / "images", 30)
    problem = make("image_folder")
    first = generate(problem, tmp_path, source_dir=source_dir)
    second = problem.generate(
        str(tmp_path / "other"), source_dir=source_dir, num_workers=2, progress=False
    )
    assert first == second.manifest
    for split in SPLITS:
        np.testing.assert_array_equal(
            images_of(problem, tmp_path / "data", split),
            images_of(problem, tmp_path / "other", split),
        )


@pytest.mark.parametrize("num_workers", [1, 2])
def test_a_bad_file_is_an_error_that_says_how_to_continue(tmp_path, num_workers):
    source_dir = write_folder(tmp_path / "images", 40)
    (tmp_path / "images/7.jpg").write_bytes(b"<html>not found</html>")
    with pytest.raises(UsageError, match=r"7.jpg: cannot be read .*Repair or remove the file"):
        make("image_folder").generate(
            str(tmp_path / "data"), source_dir=source_dir, num_workers=num_workers, progress=False
        )
    assert not (tmp_path / "data/image_folder").exists()
    problem = make("image_folder", "unreadable=drop")
    manifest = generate(problem, tmp_path, source_dir=source_dir)
    assert sum(split["num_examples"] for split in manifest["splits"].values()) == 39
    report = problem.open(str(tmp_path / "data")).report
    assert "dropped 1 that cannot be read:" in report and "7.jpg: cannot be read" in report


def test_another_folder_is_not_taken_for_the_same(tmp_path):
    source_dir = write_folder(tmp_path / "images", 30)
    problem = make("image_folder")
    manifest = generate(problem, tmp_path, source_dir=source_dir)
    assert generate(problem, tmp_path) == manifest
    (tmp_path / "images/3.jpg").unlink()
    with pytest.raises(UsageError, match="source: number of files was '30', now '29'"):
        generate(problem, tmp_path, source_dir=source_dir)


def test_errors_about_the_source_folder(tmp_path):
    with pytest.raises(UsageError, match="image_folder needs --source_dir, the folder with your"):
        generate(make("image_folder"), tmp_path)
    with pytest.raises(UsageError, match="--tfds_dir=x: image_folder is made from --source_dir"):
        generate(make("image_folder"), tmp_path, tfds_dir="x")


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ("dev_share=0.5,test_share=0.5", "leave no images for training, expected a sum below 1"),
        ("fit=stretch", "fit='stretch' is out of range, expected one of 'crop', 'resize'"),
        ("unreadable=ignore", "unreadable='ignore' is out of range"),
        ("height=0", "height=0 is out of range, expected at least 1"),
    ],
)
def test_invalid_settings_are_errors(params, message):
    with pytest.raises(UsageError, match=message):
        make("image_folder", params)


# Digits


def test_digits_are_those_of_scikit_learn(tmp_path):
    datasets = pytest.importorskip("sklearn.datasets")
    problem = make("image_digits")
    generate(problem, tmp_path)
    found = {split: images_of(problem, tmp_path / "data", split) for split in SPLITS}
    assert {split: array.shape for split, array in found.items()} == {
        TRAIN: (1497, 8, 8, 1),
        DEV: (150, 8, 8, 1),
        TEST: (150, 8, 8, 1),
    }
    together = np.concatenate(list(found.values()))
    assert (together.min(), together.max(), len(np.unique(together))) == (0, 255, 17)
    whole = datasets.load_digits().images
    back = np.round(together[..., 0] / 255 * 16)
    assert sorted(pixels_of(back)) == sorted(pixels_of(whole))
    for split in (DEV, TEST):
        assert not set(pixels_of(found[split])) & set(pixels_of(found[TRAIN]))


def test_generating_digits_twice_gives_the_same(tmp_path):
    pytest.importorskip("sklearn")
    problem = make("image_digits", "dev_size=20,test_size=30")
    manifests = [generate(problem, tmp_path, name) for name in "ab"]
    assert manifests[0] == manifests[1]
    assert manifests[0]["splits"][TEST]["num_examples"] == 30
    for split in SPLITS:
        np.testing.assert_array_equal(
            images_of(problem, tmp_path / "a", split), images_of(problem, tmp_path / "b", split)
        )


@pytest.mark.parametrize("flag", ["source_dir", "tfds_dir"])
def test_digits_refuse_folders(flag, tmp_path):
    with pytest.raises(
        UsageError, match=f"--{flag}=here: image_digits is made by the problem itself"
    ):
        make("image_digits").generate(str(tmp_path), **{flag: "here"})


def test_missing_scikit_learn_breaks_only_the_digits(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(UsageError, match=r"pip install 't2t-vqem\[demo\]'"):
        make("image_digits").generate(str(tmp_path))
    assert make("image_cifar10").image_shape == (32, 32, 3)

"""The base class of image problems, with a problem as a user would write one."""

import logging
import re

import numpy as np
import pytest

from t2t_vqem.constants import DEV, SPLITS, TEST, TRAIN, UsageError
from t2t_vqem.hparams.transformer import TransformerHParams
from t2t_vqem.image_problem import ImageDataset, ImageProblem

SIZES = {TRAIN: 10, DEV: 3, TEST: 2}
SHAPE = (2, 5, 3)


class Noise(ImageProblem):
    """Random pixels."""

    seed = 0

    @property
    def image_shape(self):
        return SHAPE

    def generate_samples(self, split):
        rng = np.random.default_rng([self.seed, SIZES[split]])
        return rng.integers(0, 256, (SIZES[split], *SHAPE), np.uint8)


@pytest.fixture
def dataset(tmp_path) -> ImageDataset:
    return Noise().generate(str(tmp_path), num_workers=1, progress=False)


def images_of(dataset: ImageDataset, split: str) -> np.ndarray:
    return np.array([r["image"] for r in dataset.records(split).read(range(SIZES[split]))])


def test_records_are_the_generated_images(dataset):
    for split in SPLITS:
        np.testing.assert_array_equal(images_of(dataset, split), Noise().generate_samples(split))


@pytest.mark.parametrize(
    ("image", "found"), [(np.zeros(SHAPE), "float64"), (np.zeros((5, 2, 3), np.uint8), "uint8")]
)
def test_an_image_of_another_shape_or_type_is_an_error(tmp_path, image, found):
    problem = Noise()
    problem.generate_samples = lambda split: [np.zeros(SHAPE, np.uint8), image]
    message = re.escape(
        f"noise: image 1 of train is {found} {list(image.shape)}, expected uint8 [2, 5, 3]"
    )
    with pytest.raises(UsageError, match=message):
        problem.generate(str(tmp_path), progress=False)


def test_make_batch_marks_the_rows_with_an_image():
    images = np.random.default_rng(0).integers(0, 256, (2, *SHAPE), np.uint8)
    batch = Noise().make_batch([{"image": images[0]}, None, {"image": images[1]}], 1)
    assert {name: (a.dtype, a.shape) for name, a in batch.items()} == {
        "images": (np.uint8, (3, *SHAPE)),
        "mask": (np.bool_, (3,)),
    }
    np.testing.assert_array_equal(batch["images"], [images[0], np.zeros(SHAPE), images[1]])
    assert batch["mask"].tolist() == [True, False, True]


def test_batches_have_every_image_once(dataset):
    examples = dataset.examples(TRAIN, TransformerHParams(batch_size=4), seed=0, epochs=1)
    assert examples.plan.shapes == [(4, 1)]
    seen = []
    with examples.read() as reader:
        for _, batch in reader:
            assert batch["images"].shape == (4, *SHAPE)
            assert not batch["images"][~batch["mask"]].any()
            seen += [image.tobytes() for image in batch["images"][batch["mask"]]]
    assert sorted(seen) == sorted(image.tobytes() for image in images_of(dataset, TRAIN))


def test_evaluation_keeps_the_order(dataset):
    hparams = TransformerHParams(batch_size=2)
    with dataset.examples(DEV, hparams, seed=0, shuffle=False, epochs=1).read() as reader:
        batches = [batch for _, batch in reader]
    images = np.concatenate([batch["images"][batch["mask"]] for batch in batches])
    np.testing.assert_array_equal(images, images_of(dataset, DEV))


def test_the_report_has_the_number_of_images(dataset):
    assert dataset.report.splitlines() == [
        "train: 10 images of 2x5x3",
        "dev: 3 images of 2x5x3",
        "test: 2 images of 2x5x3",
    ]


def test_generates_once(dataset, tmp_path, caplog, monkeypatch):
    caplog.set_level(logging.INFO)
    Noise().generate(str(tmp_path))
    assert "already generated" in caplog.text
    monkeypatch.setattr(Noise, "seed", 1)
    with pytest.raises(UsageError, match=r"source: train images was '\w+', now '\w+'"):
        Noise().generate(str(tmp_path))


def test_missing_data_names_the_command(tmp_path):
    with pytest.raises(UsageError, match=r"no data of noise in .* t2t-datagen --problem=noise"):
        Noise().open(str(tmp_path))


def test_a_file_is_read_like_the_images_of_the_problem(tmp_path):
    image = pytest.importorskip("PIL.Image")
    pixels = np.random.default_rng(0).integers(0, 256, SHAPE, np.uint8)
    image.fromarray(pixels).save(tmp_path / "a.png")
    np.testing.assert_array_equal(Noise().read_image(str(tmp_path / "a.png")), pixels)
    (tmp_path / "a.png").write_bytes(b"no image")
    with pytest.raises(UsageError, match="a.png: cannot be read as an image"):
        Noise().read_image(str(tmp_path / "a.png"))


def test_a_model_gets_the_shape_of_the_images():
    assert Noise().model_arguments(None) == {"image_shape": SHAPE}


@pytest.mark.parametrize(
    ("limit", "expected"), [(None, range(10)), (11, range(10)), (3, [0, 3, 6]), (1, [0])]
)
def test_images_to_show_are_spread_over_the_split(dataset, limit, expected):
    images = dataset.images(TRAIN, limit=limit)
    np.testing.assert_array_equal(images, images_of(dataset, TRAIN)[list(expected)])


def test_images_of_an_empty_split_are_an_error(dataset):
    with pytest.raises(UsageError, match="the dev split of noise is empty, expected at least one"):
        dataset.images(DEV, limit=0)

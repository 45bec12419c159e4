"""The base class of image problems, with a problem as a user would write one."""

import logging

import numpy as np
import pytest

from t2t_vqem.constants import DEV, SPLITS, TEST, TRAIN, UsageError
from t2t_vqem.data.image_source import ArrayImages
from t2t_vqem.data.reader import BatchReader
from t2t_vqem.hparams.transformer import TransformerHParams
from t2t_vqem.image_problem import ImageProblem

SIZES = {TRAIN: 10, DEV: 3, TEST: 2}
SHAPE = (2, 5, 3)


class Noise(ImageProblem):
    """Random pixels."""

    seed = 0

    @property
    def image_shape(self):
        return SHAPE

    def source(self, *, source_dir, tfds_dir):
        rng = np.random.default_rng(self.seed)
        images = {s: rng.integers(0, 256, (SIZES[s], *SHAPE), np.uint8) for s in SPLITS}
        return ArrayImages("noise", lambda: images)


@pytest.fixture
def data_dir(tmp_path) -> str:
    Noise().generate(str(tmp_path), num_workers=1, progress=False)
    return str(tmp_path)


def images_of(data_dir: str, split: str) -> np.ndarray:
    return np.array(
        [r["image"] for r in Noise().records(data_dir, split).read(range(SIZES[split]))]
    )


def test_the_records_are_the_source_s_images(data_dir):
    source = Noise().source(source_dir=None, tfds_dir=None)
    for split in SPLITS:
        np.testing.assert_array_equal(images_of(data_dir, split), source.part(split, 0, 99))


def test_make_batch_marks_the_rows_that_hold_an_image():
    images = np.random.default_rng(0).integers(0, 256, (2, *SHAPE), np.uint8)
    batch = Noise().make_batch([{"image": images[0]}, None, {"image": images[1]}], 1)
    assert {name: (a.dtype, a.shape) for name, a in batch.items()} == {
        "images": (np.uint8, (3, *SHAPE)),
        "mask": (np.bool_, (3,)),
    }
    np.testing.assert_array_equal(batch["images"], [images[0], np.zeros(SHAPE), images[1]])
    assert batch["mask"].tolist() == [True, False, True]


def test_batches_hold_every_image_once(data_dir):
    problem = Noise()
    hparams = TransformerHParams(batch_size=4)
    plan = problem.plan(data_dir, TRAIN, hparams, seed=0, epochs=1)
    assert plan.shapes == [(4, 1)]
    records = problem.records(data_dir, TRAIN)
    seen = []
    with BatchReader(records, plan, problem.make_batch, start_step=0) as reader:
        for _, batch in reader:
            assert batch["images"].shape == (4, *SHAPE)
            assert not batch["images"][~batch["mask"]].any()
            seen += [image.tobytes() for image in batch["images"][batch["mask"]]]
    assert sorted(seen) == sorted(image.tobytes() for image in images_of(data_dir, TRAIN))


def test_evaluation_keeps_the_order(data_dir):
    problem = Noise()
    plan = problem.plan(
        data_dir, DEV, TransformerHParams(batch_size=2), seed=0, shuffle=False, epochs=1
    )
    records = problem.records(data_dir, DEV)
    with BatchReader(records, plan, problem.make_batch, start_step=0) as reader:
        batches = [batch for _, batch in reader]
    images = np.concatenate([batch["images"][batch["mask"]] for batch in batches])
    np.testing.assert_array_equal(images, images_of(data_dir, DEV))


def test_the_report_says_how_many(data_dir):
    assert Noise().report(data_dir).splitlines() == [
        "train: 10 images of 2x5x3",
        "dev: 3 images of 2x5x3",
        "test: 2 images of 2x5x3",
    ]


def test_generates_once(data_dir, caplog, monkeypatch):
    caplog.set_level(logging.INFO)
    Noise().generate(data_dir)
    assert "already generated" in caplog.text
    monkeypatch.setattr(Noise, "seed", 1)
    with pytest.raises(UsageError, match=r"source: train images was '\w+', now '\w+'"):
        Noise().generate(data_dir)


def test_missing_data_names_the_command(tmp_path):
    with pytest.raises(UsageError, match=r"no data of noise in .* t2t-datagen --problem=noise"):
        Noise().report(str(tmp_path))


def test_a_file_is_read_as_the_problem_s_images_are(tmp_path):
    image = pytest.importorskip("PIL.Image")
    pixels = np.random.default_rng(0).integers(0, 256, SHAPE, np.uint8)
    image.fromarray(pixels).save(tmp_path / "a.png")
    np.testing.assert_array_equal(Noise().read_image(str(tmp_path / "a.png")), pixels)
    (tmp_path / "a.png").write_bytes(b"no image")
    with pytest.raises(UsageError, match="a.png: cannot be read as an image"):
        Noise().read_image(str(tmp_path / "a.png"))


def test_a_model_is_told_the_shape_of_the_images():
    assert Noise().model_arguments(None) == {"image_shape": SHAPE}

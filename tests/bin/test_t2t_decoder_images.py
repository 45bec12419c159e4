"""t2t-decoder on a run of images: the real commands, on digits."""

import json
import math
import shutil
from typing import NamedTuple

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from t2t_vqem.bin import _main, t2t_datagen, t2t_decoder, t2t_trainer
from t2t_vqem.inference import images
from t2t_vqem.inference.image_files import image_grid, side_by_side
from t2t_vqem.output_dir import OutputDir, named_weights
from t2t_vqem.problem import Problem
from t2t_vqem.registry import problems

TINY = (
    "hidden_size=8,num_residual_blocks=1,residual_size=4,num_mixtures=2,num_codes=12,"
    "num_codebooks=2,code_size=6,prior_layers=1,prior_size=8,prior_filter_size=8,prior_heads=2,"
    "batch_size=32"
)


class Result(NamedTuple):
    """How a command ended and what it printed."""

    status: int
    out: str
    err: str


def run(module, *arguments: str) -> int:
    """Runs a command in this process; returns its exit status."""
    for name in module.FLAGS:
        module.FLAGS[name].unparse()
    with pytest.raises(SystemExit) as caught:
        _main.run(module.main, module.FLAGS, ["command", *arguments])
    return caught.value.code or 0


def train(folder, *arguments: str) -> str:
    """Generates the digits and trains on them; returns the output directory."""
    data_dir, output_dir = f"--data_dir={folder}/data", f"{folder}/run"
    assert run(t2t_datagen, "--problem=image_digits", data_dir, "--num_workers=1") == 0
    settings = ["--problem=image_digits", "--model=vqvae", "--hparams_set=vqvae_digits"]
    assert run(t2t_trainer, *settings, data_dir, f"--output_dir={output_dir}", *arguments) == 0
    return output_dir


@pytest.fixture(scope="module")
def output_dir(tmp_path_factory):
    """A run of three steps, and as "averaged" other weights of the same model."""
    path = train(
        tmp_path_factory.mktemp("images"), f"--hparams={TINY}", "--train_steps=3", "--noxla"
    )
    tf.keras.utils.set_random_seed(3)
    model = OutputDir(path).build_model()
    checkpoint = tf.train.Checkpoint(model=named_weights(model))
    checkpoint.save(OutputDir(path).join("averaged", "ckpt"))
    return path


@pytest.fixture
def decode(output_dir, capfd, caplog):
    """Runs t2t-decoder on the run, unless another output directory is given."""
    caplog.set_level("INFO")

    def call(*arguments: str, status: int = 0) -> Result:
        caplog.clear()
        capfd.readouterr()
        code = run(t2t_decoder, f"--output_dir={output_dir}", "--noxla", *arguments)
        captured = capfd.readouterr()
        assert code == status, captured.err
        return Result(code, captured.out, captured.err + caplog.text)

    return call


@pytest.fixture
def sample(decode, tmp_path):
    """Returns the images that the flags sample."""

    def call(*arguments: str) -> np.ndarray:
        path = tmp_path / "sample.npy"
        decode(f"--decode_to_file={path}", *arguments)
        return np.load(path)

    return call


def picture(path) -> np.ndarray:
    return tf.io.decode_png(path.read_bytes()).numpy()


def test_samples_follow_from_the_seed_and_their_number(sample):
    five = sample("--num_samples=5", "--seed=1")
    assert five.shape == (5, 8, 8, 1)
    assert five.dtype == np.uint8
    np.testing.assert_array_equal(sample("--num_samples=3", "--seed=1"), five[:3])
    assert (sample("--num_samples=5", "--seed=2") != five).any()
    assert (sample("--num_samples=5", "--seed=1", "--sampling_temp=0.3") != five).any()


def test_a_batch_is_no_larger_than_there_are_images(sample, monkeypatch):
    made = []

    class Noted(images.ImageDecoder):
        def __init__(self, *args, batch_size, **kwargs):
            made.append(batch_size)
            super().__init__(*args, batch_size=batch_size, **kwargs)

    monkeypatch.setattr(images, "ImageDecoder", Noted)
    assert len(sample("--num_samples=70", "--batch_size=2000000")) == 70
    assert len(sample("--num_samples=3", "--batch_size=2000000")) == 3
    assert len(sample("--num_samples=3", "--batch_size=2")) == 3
    assert made == [70, images.DEFAULT_BATCH_SIZE, 2]


def test_most_probable_codes_alone_give_one_image(sample):
    found = sample("--num_samples=4", "--sampling_keep_top_k=1")
    assert (found == found[:1]).all()


def test_samples_go_to_pictures_and_arrays(decode, sample, tmp_path):
    images = sample("--num_samples=70")
    assert len(images) == 70
    for name in ("samples.png", "samples.npz"):
        decode(f"--decode_to_file={tmp_path / name}", "--num_samples=70")
    np.testing.assert_array_equal(picture(tmp_path / "samples.png"), image_grid(images))
    with np.load(tmp_path / "samples.npz") as arrays:
        assert list(arrays) == ["images"]
        np.testing.assert_array_equal(arrays["images"], images)
    assert len(sample()) == 64


def figures_in(text: str) -> dict[str, float]:
    """Returns the figures that a line like "test, 150 images: psnr 9.5, ..." shows."""
    pairs = [part.split() for part in text.partition(": ")[2].split(", ")]
    return {name: float(value) for name, value in pairs}


def test_split_is_reconstructed_and_measured(decode, output_dir, tmp_path):
    arrays, grid, codes = (tmp_path / name for name in ("test.npz", "test.png", "codes.npz"))
    files = [f"--decode_to_file={arrays}", f"--encode_to_file={codes}"]
    result = decode("--decode_split=test", *files)
    assert result.out.startswith("test, 150 images: ")
    with np.load(arrays) as found:
        assert sorted(found) == ["images", "reconstructions"]
        originals, reconstructions = found["images"], found["reconstructions"]
    dataset = OutputDir(output_dir).problem().open(OutputDir(output_dir).settings().data_dir)
    records = dataset.records("test")
    expected = [record["image"] for record in records.read(np.arange(150))]
    np.testing.assert_array_equal(originals, expected)
    squares = np.square(originals.astype(float) - reconstructions).mean((1, 2, 3))
    psnr = (10 * np.log10(255**2 / squares)).mean()
    figures = figures_in(result.out)
    assert figures["psnr"] == pytest.approx(psnr, abs=1e-3)
    reconstruction, uniform = figures["reconstruction_bits"], 16 * 2 * math.log2(12) / 64
    assert figures["bits_per_dim"] == pytest.approx(
        reconstruction + figures["prior_bits"], abs=2e-3
    )
    assert figures["uniform_prior_bits"] == pytest.approx(uniform, abs=1e-3)
    assert figures["bits_per_dim_uniform"] == pytest.approx(reconstruction + uniform, abs=2e-3)
    with np.load(codes) as found:
        used = [len(np.unique(found["codes"][..., book])) / 12 for book in range(2)]
    assert figures["codes_used"] == pytest.approx(np.mean(used), abs=1e-3)

    result = decode("--decode_split=test", f"--decode_to_file={grid}", "--num_samples=10")
    assert "test.png shows the first 10 of 150 images" in result.err
    np.testing.assert_array_equal(picture(grid), side_by_side(originals[:10], reconstructions[:10]))
    assert figures_in(result.out) == figures  # of all, whatever is shown
    assert figures_in(decode("--decode_split=test").out) == figures


def test_dev_is_measured_as_in_training(decode, output_dir):
    with open(f"{output_dir}/metrics.jsonl", encoding="utf-8") as file:
        (line,) = [line for line in map(json.loads, file) if line["kind"] == "eval"]
    figures = figures_in(decode("--decode_split=dev", "--batch_size=7").out)
    assert len(figures) > 5
    for name, value in figures.items():
        assert value == pytest.approx(line[name], rel=1e-3, abs=1e-3), name


def test_codes_give_the_same_reconstructions(decode, tmp_path):
    codes, once, again = (tmp_path / name for name in ("codes.npz", "once.npy", "again.npy"))
    decode("--decode_split=test", f"--encode_to_file={codes}", f"--decode_to_file={once}")
    result = decode(f"--decode_from_file={codes}", f"--decode_to_file={again}")
    assert result.out == ""
    assert once.read_bytes() == again.read_bytes()
    with np.load(codes) as arrays:
        assert arrays["codes"].shape == (150, 16, 2)
        assert 0 <= arrays["codes"].min() < arrays["codes"].max() < 12
    grid = tmp_path / "grid.png"
    decode(f"--decode_from_file={codes}", f"--decode_to_file={grid}", "--num_samples=9")
    np.testing.assert_array_equal(picture(grid), image_grid(np.load(again)[:9]))


def test_searched_codes_make_nearer_images(decode, tmp_path):
    codes, once, again = (tmp_path / name for name in ("codes.npz", "once.npy", "again.npy"))
    plain = figures_in(decode("--decode_split=dev").out)
    files = [f"--encode_to_file={codes}", f"--decode_to_file={once}"]
    searched = figures_in(decode("--decode_split=dev", "--search_passes=1", *files).out)
    assert searched["psnr"] > plain["psnr"] + 0.1
    assert searched["reconstruction_bits"] != plain["reconstruction_bits"]
    assert searched["uniform_prior_bits"] == plain["uniform_prior_bits"]
    decode(f"--decode_from_file={codes}", f"--decode_to_file={again}")
    assert once.read_bytes() == again.read_bytes()


def test_codes_of_other_weights_are_refused(decode, output_dir, tmp_path):
    codes, out = tmp_path / "codes.npz", tmp_path / "out.npy"
    decode("--decode_split=test", f"--encode_to_file={codes}")
    arguments = [f"--decode_from_file={codes}", f"--decode_to_file={out}"]
    result = decode(*arguments, "--checkpoint=averaged", status=2)
    assert f"{codes} was encoded with the weights in {output_dir}/best/ckpt-3, but" in result.err
    assert f"{output_dir}/averaged/ckpt-1 has other weights" in result.err
    assert not out.exists()
    # The same weights in another place are the same model.
    moved = tmp_path / "moved"
    shutil.copytree(output_dir, moved)
    decode(*arguments, f"--output_dir={moved}")
    assert len(np.load(out)) == 150


def test_files_of_the_user(decode, tmp_path):
    folder, out = tmp_path / "photos", tmp_path / "out.npz"
    folder.mkdir()
    rng = np.random.default_rng(1)
    for name, shape in (("b.png", (8, 8)), ("a.jpg", (50, 30, 3)), ("c.PNG", (9, 20))):
        Image.fromarray(rng.integers(0, 256, shape).astype(np.uint8)).save(folder / name)
    result = decode(f"--decode_from_file={folder}", f"--decode_to_file={out}")
    assert result.out.startswith(f"{folder}, 3 images: ")
    with np.load(out) as arrays:
        assert arrays["names"].tolist() == ["a.jpg", "b.png", "c.PNG"]
        images, reconstructions = arrays["images"], arrays["reconstructions"]
    assert images.shape == reconstructions.shape == (3, 8, 8, 1)
    np.testing.assert_array_equal(images[1, ..., 0], np.asarray(Image.open(folder / "b.png")))

    # One of them alone, and all as arrays, come to the same.
    one, arrays = tmp_path / "one.npy", tmp_path / "all.npy"
    decode(f"--decode_from_file={folder / 'c.PNG'}", f"--decode_to_file={one}")
    np.testing.assert_array_equal(np.load(one), reconstructions[2:])
    np.save(arrays, images[..., 0])
    decode(f"--decode_from_file={arrays}", f"--decode_to_file={one}")
    np.testing.assert_array_equal(np.load(one), reconstructions)


def test_tensorboard_shows_pictures(output_dir):
    (path,) = tf.io.gfile.glob(f"{output_dir}/eval/events*")
    plugins = {}
    for record in tf.data.TFRecordDataset(path):
        for value in tf.compat.v1.Event.FromString(record.numpy()).summary.value:
            plugins[value.tag] = value.metadata.plugin_data.plugin_name
    expected = {
        "reconstructions": "images",
        "samples": "images",
        "code_usage_0": "histograms",
        "code_usage_1": "histograms",
        "psnr": "scalars",
    }
    assert plugins.items() >= expected.items()


SAMPLES = "--decode_to_file=OUT.png"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--decode_to_file is missing: images cannot be written to standard output. Expected"),
        (["--decode_to_file=-"], "--decode_to_file is missing"),
        (
            ["--decode_to_file=-", "--decode_split=dev"],
            "Expected a picture (.png) or arrays (.npy, .npz)",
        ),
        (
            ["--decode_to_file=OUT.jpg"],
            "OUT.jpg: expected a file that ends in .png or .npy or .npz",
        ),
        ([SAMPLES, "--sampling_temp=0"], "expected a temperature above 0"),
        ([SAMPLES, "--decode_split=dev", "--decode_from_file=x"], "are both given"),
        ([SAMPLES, "--decode_split=dev", "--seed=1"], "--seed is only for sampling new images"),
        (
            [SAMPLES, "--decode_split=dev", "--sampling_temp=1"],
            "--sampling_temp is only for sampling new images",
        ),
        ([SAMPLES, "--data_dir=x"], "--data_dir is only for --decode_split"),
        ([SAMPLES, "--decode_from_file=absent"], "--decode_from_file=absent: there is no such"),
        ([SAMPLES, "--encode_to_file=OUT.npz"], "--encode_to_file is only for images from"),
        ([SAMPLES, "--search_passes=1"], "--search_passes is only for images from"),
        (["--decode_split=dev", "--search_passes=-1"], "search_passes"),
        (["--decode_split=dev", "--encode_to_file=OUT.npy"], "that ends in .npz"),
        (
            ["--decode_split=dev", "--encode_to_file=OUT.npz", "--num_samples=3"],
            "limits only the images in a .png",
        ),
        (
            ["--decode_split=dev", "--encode_to_file=OUT.npz", "--decode_to_file=OUT.npz"],
            "choose another output",
        ),
        ([SAMPLES, "--beam_size=4"], "--beam_size is only for runs of text, and the one in "),
        (["--decode_interactive"], "of images (problem image_digits): omit it"),
    ],
)
def test_misuse_is_one_message(decode, tmp_path, arguments, message):
    arguments = [argument.replace("OUT", f"{tmp_path}/OUT") for argument in arguments]
    result = decode(*arguments, status=2)
    assert message in result.err
    assert "Traceback" not in result.err
    assert list(tmp_path.iterdir()) == []


def test_codes_cannot_be_encoded_again(decode, tmp_path):
    codes, out = tmp_path / "codes.npz", tmp_path / "out.npy"
    decode("--decode_split=test", f"--encode_to_file={codes}")
    for flag in (f"--encode_to_file={tmp_path}/again.npz", "--search_passes=2"):
        result = decode(f"--decode_from_file={codes}", flag, f"--decode_to_file={out}", status=2)
        assert f"{codes} holds codes already" in result.err
    assert not out.exists()


def test_flags_for_images_are_not_for_text(tmp_path, capfd):
    (tmp_path / "flags.json").write_text(
        json.dumps({"problem": "translate_text", "model": "transformer"})
    )
    for flag in ("--num_samples=3", "--encode_to_file=x.npz", "--search_passes=1"):
        assert run(t2t_decoder, f"--output_dir={tmp_path}", flag) == 2
        name = flag.partition("=")[0]
        assert f"{name} is only for runs of images, and the one in {tmp_path} is of text" in (
            capfd.readouterr().err
        )


class Counts(Problem):
    """Neither text nor images."""


def test_a_run_of_something_else_is_refused(tmp_path, capfd):
    (tmp_path / "flags.json").write_text(json.dumps({"problem": "counts", "model": "transformer"}))
    with problems.temporary():
        problems.register()(Counts)
        assert run(t2t_decoder, f"--output_dir={tmp_path}", "--decode_split=dev") == 2
    error = capfd.readouterr().err
    assert "is of the problem 'counts', which is neither text nor images" in error
    assert "t2t-trainer --output_dir" in error


@pytest.mark.slow
def test_trained_model_copies_digits_and_draws_some(tmp_path, capfd):
    """The real commands, on a task that must be learned."""
    path = train(tmp_path, "--train_steps=300", "--local_eval_frequency=300")
    out = tmp_path / "test.npz"
    capfd.readouterr()
    assert (
        run(
            t2t_decoder,
            f"--output_dir={path}",
            "--decode_split=test",
            f"--decode_to_file={out}",
        )
        == 0
    )
    figures = figures_in(capfd.readouterr().out)
    assert figures["psnr"] > 15
    assert figures["bits_per_dim"] < 5
    assert figures["prior_bits"] < figures["uniform_prior_bits"]
    samples = tmp_path / "samples.npy"
    assert run(t2t_decoder, f"--output_dir={path}", f"--decode_to_file={samples}") == 0
    images, originals = np.load(samples).astype(float), np.load(out)["images"].astype(float)
    assert run(t2t_decoder, f"--output_dir={path}", f"--decode_to_file={samples}", "--noxla") == 0
    # Where roundings differ a code may too, and with it those that are drawn after it.
    assert (np.abs(np.load(samples) - images) <= 1).mean() > 0.9
    # As digits: dark in the same places, and each like no other.
    similarity = np.corrcoef(images.mean(0).ravel(), originals.mean(0).ravel())[0, 1]
    assert similarity > 0.8
    assert len(np.unique(images, axis=0)) > 60

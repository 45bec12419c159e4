"""A damaged file of an earlier command is read as before, or the error says what is wrong."""

import io
import json
import os
import pathlib
import pickle
import shutil
import tarfile

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
import tensorflow as tf

from t2t_vqem.constants import UsageError
from t2t_vqem.data import cifar10
from t2t_vqem.data.image_folder import CROP, read_image
from t2t_vqem.hparams.transformer import TransformerHParams
from t2t_vqem.inference.image_files import CodeSet, read_codes, write_codes
from t2t_vqem.output_dir import OutputDir, named_weights
from t2t_vqem.registry import problems
from t2t_vqem.tf_config import TF_CONFIG, read_workers, tf_configs
from t2t_vqem.training.metrics_log import METRICS, MetricsLog

HPARAMS = TransformerHParams(
    num_encoder_layers=1, num_decoder_layers=1, hidden_size=4, filter_size=6, num_heads=2
)
MANY = hypothesis.settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],  # shrinking takes minutes
    suppress_health_check=list(hypothesis.HealthCheck),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 10**9) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


@pytest.fixture(scope="module")
def data_dir(tiny_text_data, tmp_path_factory) -> pathlib.Path:
    """A copy of the toy data that tests may damage."""
    folder = tmp_path_factory.mktemp("damaged") / "data"
    shutil.copytree(tiny_text_data.data_dir, folder)
    return folder


@pytest.fixture(scope="module")
def run_dir(untrained_run, tmp_path_factory) -> OutputDir:
    """A run with random weights that tests may damage."""
    return untrained_run(tmp_path_factory.mktemp("damaged") / "run", HPARAMS)


def damaged_bytes(data: st.DataObject, content: bytes) -> bytes:
    """Truncates the file, changes a byte, repeats a part, or fills it with random bytes."""
    place = data.draw(st.integers(0, len(content) - 1), "place")
    how = data.draw(st.sampled_from(["cut", "change", "double", "any"]), "how")
    if how == "cut":
        return content[:place]
    if how == "change":
        changed = content[place] ^ data.draw(st.integers(1, 255))
        return content[:place] + bytes([changed]) + content[place + 1 :]
    if how == "double":
        return content[:place] + content[place // 2 :]
    return data.draw(st.binary(max_size=50))


def damaged_json(data: st.DataObject, content: bytes) -> bytes:
    """Replaces a value somewhere in the tree by another one, or removes it."""
    value = json.loads(content)
    if data.draw(st.integers(0, 9)) == 0:
        return json.dumps(data.draw(JSON)).encode()
    node = value
    while True:
        keys = list(node) if isinstance(node, dict) else list(range(len(node)))
        key = data.draw(st.sampled_from(keys), "key")
        if not isinstance(node[key], (dict, list)) or not node[key] or data.draw(st.booleans()):
            break
        node = node[key]
    if data.draw(st.booleans()):
        node[key] = data.draw(JSON)
    else:
        del node[key]
    return json.dumps(value).encode()


def survives(data: st.DataObject, path: pathlib.Path, how, read, expected) -> None:
    """Damages the file; `read` must return what it did before, or raise a short UsageError."""
    content = path.read_bytes()
    broken = how(data, content)
    try:
        path.write_bytes(broken)
        try:
            got = read()
        except UsageError as error:
            assert str(error)
            return
        assert broken == content or got is None or got == expected
    finally:
        path.write_bytes(content)


@pytest.mark.slow
@MANY
@hypothesis.given(st.data(), st.sampled_from([damaged_json, damaged_bytes]))
def test_manifest(tiny_text_data, data_dir, data, how):
    problem = tiny_text_data.dataset.problem

    def read():
        dataset = problem.open(str(data_dir))
        assert dataset.report
        return [len(dataset.records("train")), dataset.manifest]

    path = data_dir / problem.name / "manifest.json"
    survives(data, path, how, read, read())


@pytest.mark.slow
@MANY
@hypothesis.given(st.data())
def test_vocabulary_and_lengths(tiny_text_data, data_dir, data):
    problem = tiny_text_data.dataset.problem
    names = sorted(os.listdir(data_dir / problem.name))
    name = data.draw(st.sampled_from([n for n in names if n.endswith((".model", ".npy"))]), "file")

    def read():
        dataset = problem.open(str(data_dir))
        return [dataset.vocabulary.hash, dataset.lengths("train").tolist()]

    # A changed length causes at worst a batch of another size.
    how = damaged_bytes if name.endswith(".model") else cut
    survives(data, data_dir / problem.name / name, how, read, read())


def cut(data: st.DataObject, content: bytes) -> bytes:
    """Truncates the file."""
    return content[: data.draw(st.integers(0, len(content) - 1), "place")]


@pytest.mark.slow
@MANY
@hypothesis.given(st.data())
def test_records(tiny_text_data, data_dir, data):
    problem = tiny_text_data.dataset.problem
    shards = problem.open(str(data_dir)).split("train")["shards"]

    def read():
        records = problem.open(str(data_dir)).records("train")
        found = records.read(range(len(records)))
        return [{name: array.tolist() for name, array in record.items()} for record in found]

    path = data_dir / problem.name / data.draw(st.sampled_from(shards))
    survives(data, path, damaged_bytes, read, read())


@pytest.mark.slow
@MANY
@hypothesis.given(
    st.data(),
    st.sampled_from(["flags.json", "hparams.json", "config.gin", "vocab.model"]),
    st.booleans(),
)
def test_files_of_a_run(run_dir, data, name, in_tree):
    def read():
        settings = run_dir.settings()
        assert problems.get(settings.problem)
        run_dir.problem()
        run_dir.vocabulary()

    how = damaged_json if name.endswith(".json") and in_tree else damaged_bytes
    path = pathlib.Path(run_dir.join(name))
    if not path.read_bytes():
        path.write_bytes(b"transformer.hidden_size = 4\n")
    survives(data, path, how, read, None)


@pytest.mark.slow
@hypothesis.settings(MANY, max_examples=25)
@hypothesis.given(st.data())
def test_checkpoints(run_dir, data):
    model = run_dir.build_model()
    path = run_dir.find_checkpoint()
    files = [path + ".index", path + ".data-00000-of-00001", run_dir.join("best", "checkpoint")]

    def read():
        run_dir.restore_for_inference(model)
        weights = {name: v.numpy() for name, v in named_weights(model).items()}
        assert all(np.isfinite(value).all() for value in weights.values())
        return {name: value.tobytes() for name, value in weights.items()}

    survives(data, pathlib.Path(data.draw(st.sampled_from(files))), damaged_bytes, read, read())


@MANY
@hypothesis.given(st.data(), st.sampled_from(["python", "binary"]), st.booleans())
def test_official_archives(tmp_path_factory, data, version, packed):
    folder = tmp_path_factory.mktemp("cifar10")
    pixels = np.random.default_rng(0).integers(
        0, 256, [3, cifar10.IMAGE_SHAPE[0] ** 2 * 3], "uint8"
    )
    content = {
        "python": pickle.dumps({b"data": pixels, b"labels": [1, 2, 3]}, protocol=2),
        "binary": b"".join(b"\1" + row.tobytes() for row in pixels),
    }[version]
    names = [*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"]
    names = [name + {"python": "", "binary": ".bin"}[version] for name in names]
    archive = folder / f"cifar-10-{version}.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        for name in names:
            info = tarfile.TarInfo(f"any/{name}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
            if not packed:
                (folder / name).write_bytes(content)
    path = archive if packed else folder / data.draw(st.sampled_from(names), "file")
    path.write_bytes(damaged_bytes(data, path.read_bytes()))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cifar10, "_FILE_IMAGES", len(pixels))
        try:
            images = cifar10.read(cifar10.find(str(folder)))
        except UsageError as error:
            assert str(error)
            return
    expected = pixels.reshape(3, 3, 32, 32).transpose(0, 2, 3, 1)
    for split, number in (("train", 5), ("test", 1)):
        assert images[split].dtype == np.uint8
        same = images[split] == np.concatenate([expected] * number)
        # Only an archive has a checksum; elsewhere a changed byte is a different pixel.
        assert same.all() if packed else (~same).sum() <= 1


@MANY
@hypothesis.given(st.data())
def test_codes_of_images(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("codes") / "codes.npz"
    codes = CodeSet(np.arange(24, dtype=np.int32).reshape(2, 4, 3), "digest", "ckpt-1")
    write_codes(str(path), codes)

    def read():
        found = read_codes(str(path))
        return [found.codes.tolist(), found.weights, found.checkpoint]

    survives(data, path, damaged_bytes, read, read())


@MANY
@hypothesis.given(st.data(), st.sampled_from([".png", ".bmp", ".gif", ".jpg", ".tif", ".ppm"]))
def test_image_files(tmp_path_factory, data, suffix):
    image = pytest.importorskip("PIL.Image")
    path = tmp_path_factory.mktemp("images") / f"image{suffix}"
    pixels = np.random.default_rng(0).integers(0, 256, [9, 7, 3], "uint8")
    image.fromarray(pixels).save(path)
    path.write_bytes(damaged_bytes(data, path.read_bytes()))
    try:
        found = read_image(str(path), (8, 8, 3), fit=CROP)
    except UsageError as error:
        assert str(error)
    else:
        assert (found.dtype, found.shape) == (np.uint8, (8, 8, 3))


@MANY
@hypothesis.given(st.data(), st.booleans())
def test_figures_of_a_run(tmp_path_factory, data, in_tree):
    run = OutputDir(str(tmp_path_factory.mktemp("figures")))
    lines = [{"kind": "train", "step": step, "seconds": 1.5, "loss": 0.25} for step in (1, 2, 3)]
    content = [json.dumps(line).encode() for line in lines]
    if in_tree:
        content[1] = damaged_json(data, content[1])
    content = b"\n".join(content) + b"\n"
    content = content if in_tree else damaged_bytes(data, content)
    pathlib.Path(run.join(METRICS)).write_bytes(content)
    MetricsLog(run, start_step=3, is_chief=True).close()
    kept = MetricsLog.read(run)
    assert all(line["kind"] and line["step"] <= 3 and line["seconds"] >= 0 for line in kept)


@MANY
@hypothesis.given(st.data(), st.sampled_from([damaged_json, damaged_bytes]))
def test_tf_config(data, how):
    content = tf_configs(["one:1", "two:2"])[1].encode()
    with pytest.MonkeyPatch.context() as patch:
        broken = how(data, content).decode(errors="replace").replace("\0", "")
        patch.setenv(TF_CONFIG, broken)
        try:
            workers = read_workers()
        except UsageError:
            return
    assert all(isinstance(address, str) and ":" in address for address in workers.addresses)
    assert 0 <= workers.index < len(workers.addresses)


def test_tensorflow_verifies_checkpoints(tmp_path):
    """The checkpoint test relies on this."""
    path = tf.train.Checkpoint(v=tf.Variable([1.0, 2.0])).write(str(tmp_path / "ckpt"))
    file = pathlib.Path(path + ".data-00000-of-00001")
    content = bytearray(file.read_bytes())
    content[0] ^= 1
    file.write_bytes(bytes(content))
    with pytest.raises(tf.errors.OpError, match="(?i)checksum"):
        tf.train.load_checkpoint(path).get_tensor("v/.ATTRIBUTES/VARIABLE_VALUE")

"""Folders that are no export, damaged ones and newer ones are refused by name."""

import json
import shutil

import pytest

from t2t_vqem import runtime
from t2t_vqem.constants import UsageError


@pytest.fixture
def folder(stored_exports, tmp_path):
    return shutil.copytree(stored_exports / "latent", tmp_path / "moved")


def change(folder, **values):
    path = folder / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_a_moved_folder_loads(folder):
    assert runtime.load(str(folder)).manifest.languages == ("en", "de")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda f: (f / "manifest.json").unlink(),
            "is not an exported model: it has no manifest.json",
        ),
        (lambda f: (f / "manifest.json").write_text("{"), "cannot be read"),
        (lambda f: (f / "manifest.json").write_text("[]"), "is not a manifest of an export"),
        (lambda f: (f / "manifest.json").write_text('{"format": 1}'), "is damaged"),
        (lambda f: change(f, format=2), "has format 2, and this version reads up to 1"),
        (lambda f: change(f, format="1"), "is not a manifest of an export"),
        (lambda f: change(f, max_length="32"), "max_length is '32', expected a int"),
        (lambda f: change(f, kind="sounds"), "kind is 'sounds'"),
        (lambda f: change(f, engine="saved_model"), "is an export for saved_model"),
        (lambda f: change(f, files={"../x": "0"}), "names a file outside of it"),
        (lambda f: (f / "model.tflite").unlink(), "model.tflite cannot be read"),
        (lambda f: (f / "model.tflite").write_bytes(b""), "is not the file that was exported"),
        (lambda f: (f / "vocab.model").write_bytes(b"x"), "is not the file that was exported"),
    ],
)
def test_what_cannot_be_loaded_is_said(damage, message, folder):
    damage(folder)
    with pytest.raises(UsageError, match=message):
        runtime.load(str(folder))


def test_a_model_that_is_none_is_refused(folder):
    (folder / "model.tflite").write_bytes(b"nonsense" * 100)
    hashes = json.loads((folder / "manifest.json").read_text())["files"]
    from t2t_vqem.runtime.manifest import file_hash

    change(folder, files={**hashes, "model.tflite": file_hash(str(folder / "model.tflite"))})
    with pytest.raises(UsageError, match="is not a model for LiteRT"):
        runtime.load(str(folder))


@pytest.mark.parametrize("name", ["threads", "interpreters"])
def test_numbers_below_1_are_refused(name, folder):
    with pytest.raises(UsageError, match=f"{name} must be at least 1, got 0"):
        runtime.load(str(folder), **{name: 0})

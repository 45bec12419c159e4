"""Exports for the web: static shapes give what the other exports give; what the folder holds."""

from __future__ import annotations

import json
import pathlib

import numpy as np
import pytest

from t2t_vqem import runtime
from t2t_vqem.constants import UsageError
from t2t_vqem.data.vocabulary import Vocabulary
from t2t_vqem.export import web
from t2t_vqem.runtime import ImageRuntime, TextRuntime, manifest

DOCS = pathlib.Path(__file__).resolve().parents[3] / "docs"
TINY = {
    "num_encoder_layers": 1,
    "num_decoder_layers": 1,
    "num_target_encoder_layers": 1,
    "num_predictor_layers": 1,
    "hidden_size": 8,
    "filter_size": 8,
    "num_heads": 2,
    "num_codes": 9,
    "code_size": 4,
    "max_length": 16,
}


@pytest.fixture
def browser_files():
    try:
        web.check_browser_files()
    except UsageError as error:
        pytest.skip(str(error))


def opened(folder):
    """Returns the runtime of an export for the web, on this machine's processor."""
    found = manifest.read(str(folder))
    home = folder / "models" / folder.name
    backend = web.StaticInterpreters(str(home / manifest.MODEL), found)
    if found.kind == manifest.IMAGES:
        return ImageRuntime(found, backend)
    return TextRuntime(found, Vocabulary(str(home / manifest.VOCABULARY)), backend)


@pytest.mark.parametrize(
    ("longest", "lengths"), [(12, [12]), (16, [16]), (17, [16, 17]), (64, [16, 32, 64])]
)
def test_lengths_double(longest, lengths):
    assert web.static_lengths(longest) == lengths


def test_texts_are_those_of_tensorflow(page_exports, stored_exports):
    expected = json.loads((stored_exports / "expected.json").read_text())["exact"]
    model = opened(page_exports / "web/latent")
    lines = list(expected)
    requests = [(line, expected[line]["decoded"]["of"]) for line in lines]
    for found, kind in (
        (model.translate(lines), "best"),
        (model.decode_codes(requests), "decoded"),
    ):
        for line, hypothesis in zip(lines, found, strict=True):
            wanted = expected[line][kind]
            assert (hypothesis.text, list(hypothesis.codes)) == (wanted["text"], wanted["codes"])
            assert hypothesis.score == pytest.approx(wanted["score"], rel=1e-3, abs=1e-3)


def test_candidates_are_those_of_the_other_export(page_exports):
    lines = ["one two three", "five " * 12, "", "two"]
    ours = opened(page_exports / "web/candidates").translate(lines)
    theirs = runtime.load(str(page_exports / "litert/candidates")).translate(lines)
    for our, their in zip(ours, theirs, strict=True):
        assert our.codes == their.codes
        assert [h.text for h in our.others] == [h.text for h in their.others]


def test_images_are_those_of_tensorflow(page_exports, stored_exports):
    expected = json.loads((stored_exports / "expected.json").read_text())["images"]
    model = opened(page_exports / "web/images")
    images = np.array(expected["images"], np.uint8)
    # Of the codes a few are decided by rounding.
    assert np.mean(model.encode(images) == expected["codes"]) > 0.97
    decoded = model.decode(np.array(expected["sampled"])).astype(int)
    assert np.abs(decoded - expected["decoded"]).max() <= 1


def test_missing_browser_files_are_explained(monkeypatch):
    monkeypatch.setattr(web, "_VENDOR", "none")
    with pytest.raises(UsageError, match="are not there: run `make web` in a checkout"):
        web.check_browser_files()


def test_the_guide_has_the_policy():
    text = (DOCS / "serving.md").read_text("utf-8")
    assert f"Content-Security-Policy: {web.POLICY}; frame-ancestors 'none'\n" in text


def test_what_cannot_be_joined_is_explained(page_exports):
    images, other = str(page_exports / "web/images"), str(page_exports / "litert/candidates")
    assert [model.name for model in web.models_of([images], "site")] == ["images"]
    for folders, name, message in (
        ([images], "images", "has a model of the name 'images' as well"),
        ([images, images], "site", "has a model of the name 'images' as well"),
        ([other], "site", "is an export for litert, expected one for web"),
    ):
        with pytest.raises(UsageError, match=message):
            web.models_of(folders, name)


@pytest.mark.slow
def test_a_run_is_exported_and_joined(untrained_run, browser_files, page_exports, tmp_path):
    from t2t_vqem.export.exporter import export_run
    from t2t_vqem.hparams.transformer_nat import TransformerNATHParams

    run = untrained_run(tmp_path / "run", TransformerNATHParams(**TINY))
    images, folder = str(page_exports / "web/images"), tmp_path / "site"
    found = export_run(run, str(folder), engine="web", web_models=[images])
    assert found.about["verification"]["lines"] > 0
    assert sorted(found.files) == [
        f"models/site/{name}"
        for name in sorted((manifest.MODEL, manifest.VOCABULARY, manifest.PHRASES))
    ]
    assert manifest.read(str(folder)) == found
    cards = json.loads((folder / "models.json").read_text())["models"]
    assert [card["name"] for card in cards] == ["site", "images"]
    assert cards[0]["latents"] == {"num_codes": 9, "tokens_per_code": 4, "phrases": True}
    assert (folder / "models/images/model.tflite").is_file()
    assert (folder / "vendor/LICENSES.txt").is_file()
    with pytest.raises(UsageError, match="--web_models is only for --format=web"):
        export_run(run, str(folder), web_models=[images])
    with pytest.raises(UsageError, match="is an export for web, expected one for litert"):
        runtime.load(str(folder))

"""Exports that earlier code made load today and do what TensorFlow did when they were made.

`tests/stored/make_exports.py` says how; the weights are those of runs of a few steps, and only what
rounding does not decide is compared.
"""

from __future__ import annotations

import json

import numpy as np
import pytest

from t2t_vqem import runtime

SCORE = {"rel": 1e-3, "abs": 1e-3}


@pytest.fixture(scope="module")
def expected(stored_exports):
    return json.loads((stored_exports / "expected.json").read_text())


def check(found, wanted):
    assert found.text == wanted["text"]
    assert list(found.codes) == wanted["codes"]
    assert found.score == pytest.approx(wanted["score"], **SCORE)
    assert [h.text for h in found.others] == [text for text, _ in wanted["others"]]


@pytest.mark.parametrize("name", ["greedy", "beam", "exact", "rescored"])
def test_texts_are_those_of_tensorflow(name, stored_exports, expected):
    model = runtime.load(str(stored_exports / name))
    wanted = expected[name]
    lines = list(wanted)
    assert len(lines) >= 2
    for line, found in zip(lines, model.translate(lines), strict=True):
        check(found, wanted[line]["best"])
    pairs = [(line, wanted[line]["best"]["text"]) for line in lines]
    for line, scored in zip(lines, model.score(pairs), strict=True):
        assert scored.score == pytest.approx(wanted[line]["scored"]["score"], **SCORE)
        assert list(scored.codes) == wanted[line]["scored"]["codes"]


@pytest.mark.parametrize("name", ["greedy", "exact"])
def test_draws_are_those_of_tensorflow(name, stored_exports, expected):
    model, sources = runtime.load(str(stored_exports / name)), expected["lines"]
    found = model.translate(sources, temperature=1.5, top_k=20, seed=7)
    drawn = dict(zip(sources, found, strict=True))
    for line, wanted in expected[name].items():
        check(drawn[line], wanted["drawn"])


def test_given_latents_are_decoded_as_by_tensorflow(stored_exports, expected):
    model = runtime.load(str(stored_exports / "exact"))
    wanted = {line: value["decoded"] for line, value in expected["exact"].items()}
    found = model.decode_codes([(line, value["of"]) for line, value in wanted.items()])
    for value, hypothesis in zip(wanted.values(), found, strict=True):
        check(hypothesis, value)


def test_8_bits_translate(stored_exports, expected):
    model = runtime.load(str(stored_exports / "latent"))
    assert model.manifest.quantize == "int8"
    lines = list(expected["exact"])
    assert len(list(model.translate(lines))) == len(lines)


def test_images_are_those_of_tensorflow(stored_exports, expected):
    model, wanted = runtime.load(str(stored_exports / "images")), expected["images"]
    images = np.array(wanted["images"], np.uint8)
    # Of the codes and the levels a few are decided by rounding.
    assert np.mean(model.encode(images) == wanted["codes"]) > 0.97
    sampled = model.sample(6, temperature=0.8, seed=5)
    assert np.mean(sampled == wanted["sampled"]) > 0.97
    decoded = model.decode(np.array(wanted["sampled"])).astype(int)
    assert np.abs(decoded - wanted["decoded"]).max() <= 1

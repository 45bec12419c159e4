"""The report of codes: counts, what they stand for, and their nearest codes."""

import json
import math

import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import text_format

from t2t_vqem import runtime
from t2t_vqem.constants import UsageError
from t2t_vqem.export.codes_report import (
    Code,
    Report,
    image_report,
    nearest_codes,
    text_report,
    write_report,
)

PAIRS = [("one two three four", "vier drei zwei eins"), ("five", "fünf")]


def test_nearest_codes_are_those_of_smallest_distance():
    codebook = np.random.default_rng(0).normal(size=[9, 3]).astype(np.float32)
    found = nearest_codes(codebook)
    for number, code in enumerate(codebook):
        distances = {
            other: math.sqrt(
                sum((float(a) - float(b)) ** 2 for a, b in zip(code, row, strict=True))
            )
            for other, row in enumerate(codebook)
            if other != number
        }
        expected = sorted(distances.items(), key=lambda item: item[1])[:5]
        assert [other for other, _ in found[number]] == [other for other, _ in expected]
        assert dict(found[number]) == pytest.approx(dict(expected))
    assert nearest_codes(codebook[:1]) == [[]]


def test_codes_of_text_have_counts_and_phrases(stored_exports):
    model = runtime.load(str(stored_exports / "latent"), interpreters=1)
    codebook = np.random.default_rng(0).normal(size=[12, 4])
    report = text_report(model, codebook, PAIRS)
    codes = [code for score in model.score(PAIRS) for code in score.codes]
    assert [line.code for line in report.codes] == list(range(12))
    for line in report.codes:
        assert line.count == codes.count(line.code)
        assert line.share == pytest.approx(line.count / len(codes))
        assert sum(count for _, count in line.phrases) <= line.count
        assert line.nearest == nearest_codes(codebook)[line.code]
    assert any(line.phrases for line in report.codes)


def patchy_images(codes: np.ndarray) -> np.ndarray:
    """Returns images whose patches of 2x2 are as bright as ten times their codes [N, h, w]."""
    return (10 * codes).astype(np.uint8).repeat(2, 1).repeat(2, 2)[..., None]


def test_codes_of_images_have_the_patches_that_they_stand_for():
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 7, [20, 2, 3])
    codes[codes == 5] = 4  # code 5 is unused
    other = rng.integers(0, 7, [20, 2, 3])
    images = patchy_images(codes)
    both = np.stack([codes, other], -1).reshape(20, 6, 2)
    report = image_report(images, both, rng.normal(size=[2, 7, 4]))
    assert [(line.codebook, line.code) for line in report.codes] == [
        (book, code) for book in range(2) for code in range(7)
    ]
    for line, picture in zip(report.codes, report.pictures, strict=True):
        values = codes if line.codebook == 0 else other
        assert line.count == (values == line.code).sum()
        assert line.share == pytest.approx(line.count / 120)
        assert len(line.patches) == len(set(line.patches)) == min(12, line.count)
        assert all(values[place] == line.code for place in line.patches)
        if line.codebook == 0 and line.count:
            shown = np.unique(tf.io.decode_png(picture).numpy())
            assert set(shown) == {10 * line.code, 255}  # patches, and the gaps between them
    assert (report.codes[5].count, report.codes[5].patches, report.pictures[5]) == (0, [], None)


def test_latents_that_are_no_grid_are_refused():
    with pytest.raises(UsageError, match="5 latents of images of 4x6: expected a grid of square"):
        image_report(np.zeros([1, 4, 6, 1], np.uint8), np.zeros([1, 5, 1], int), np.ones([1, 2, 3]))


def test_the_files_hold_all_codes_and_the_page_escapes_text(tmp_path):
    lines = [
        Code(0, 0, 1, 0.25, [(1, 0.5)], phrases=[("rare", 1)]),
        Code(0, 1, 3, 0.75, [(0, 0.5)], phrases=[("<b>&", 2), ("für", 1)]),
        Code(0, 2, 0, 0.0, [(0, 1.5)], phrases=[]),
    ]
    codebooks = np.array([[[0.5, -1], [0.1, 2], [3, 4]]])
    write_report(str(tmp_path / "report"), "Codes of a <run>", Report(lines, codebooks))
    text = (tmp_path / "report" / "codes.jsonl").read_text("utf-8")
    read = [json.loads(line) for line in text.splitlines()]
    assert [line["code"] for line in read] == [0, 1, 2]
    assert read[1] == {
        "codebook": 0,
        "code": 1,
        "count": 3,
        "share": 0.75,
        "nearest": [[0, 0.5]],
        "phrases": [["<b>&", 2], ["für", 1]],
    }
    page = (tmp_path / "report" / "codes.html").read_text("utf-8")
    assert "<b>" not in page and "&lt;b&gt;&amp; <i>2</i>, für <i>1</i>" in page
    assert "Codes of a &lt;run&gt;" in page and "2 of 3 codes are used." in page
    assert page.index('id="c1"') < page.index('id="c0"') < page.index('id="c2"')  # by frequency
    assert '<a href="#c0">0</a> <i>0.5</i>' in page


def test_the_projector_gets_the_codebooks_and_labels(tmp_path):
    """As TensorBoard's projector reads them."""
    codebooks = np.random.default_rng(0).normal(size=[2, 2, 3]).astype(np.float32)
    lines = [
        Code(0, 0, 1, 1.0, [], phrases=[("a\tb", 1), ("c", 1), ("d", 1), ("e", 1)]),
        Code(0, 1, 0, 0.0, [], phrases=[]),
        Code(1, 0, 0, 0.0, []),
        Code(1, 1, 1, 1.0, []),
    ]
    write_report(str(tmp_path), "Codes", Report(lines, codebooks))
    assert (tmp_path / "labels_0.tsv").read_text("utf-8").splitlines() == [
        "code\tcount\tstands for",
        "0\t1\ta b | c | d",
        "1\t0\tcode 1",
    ]
    for number, codebook in enumerate(codebooks):
        found = np.loadtxt(tmp_path / f"vectors_{number}.tsv", delimiter="\t", dtype=np.float32)
        np.testing.assert_array_equal(found, codebook)
    config = (tmp_path / "projector_config.pbtxt").read_text("utf-8")
    messages = pytest.importorskip("tensorboard.plugins.projector.projector_config_pb2")
    parsed = text_format.Parse(config, messages.ProjectorConfig())
    assert [(e.tensor_path, e.metadata_path) for e in parsed.embeddings] == [
        ("vectors_0.tsv", "labels_0.tsv"),
        ("vectors_1.tsv", "labels_1.tsv"),
    ]

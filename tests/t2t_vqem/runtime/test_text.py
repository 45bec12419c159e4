"""Translating with exports: line i belongs to line i, whatever the lines are."""

import concurrent.futures
import os
import subprocess
import sys

import numpy as np
import pytest

from t2t_vqem import runtime
from t2t_vqem.constants import UsageError

ODD = [
    "",
    "   ",
    "\t",
    "one two",
    "five " * 4000,
    "\U0001f600 \x00 \x01",
    "a\rb\u2028c",
    "▁",
    "ø" * 10_000,
]


@pytest.fixture(scope="module", params=["greedy", "beam", "exact", "rescored", "latent"])
def model(request, stored_exports):
    return runtime.load(str(stored_exports / request.param))


@pytest.fixture(scope="module")
def latent(stored_exports):
    return runtime.load(str(stored_exports / "exact"))


def texts(model, lines, **settings):
    return [h.text for h in model.translate(lines, **settings)]


def test_each_line_has_its_own_translation(model, caplog):
    before = model.num_cut
    found = list(model.translate(ODD))
    assert len(found) == len(ODD)
    for line, hypothesis in zip(ODD, found, strict=True):
        assert len(hypothesis.text.splitlines()) <= 1
        if not line.strip():
            assert hypothesis == runtime.Hypothesis("", 0.0)
    assert model.num_cut == before + 2
    assert "2 input line(s) had more than max_length=32 tokens and were truncated" in caplog.text
    for line, hypothesis in zip(ODD, found, strict=True):
        (alone,) = model.translate([line])
        assert alone.score == pytest.approx(hypothesis.score, rel=1e-3, abs=1e-3)


def test_tokens_spell_the_text_and_add_up_to_the_score(latent):
    for hypothesis in latent.translate(["one two three", "five"]):
        spelt = latent.vocabulary.decode([token.id for token in hypothesis.tokens])
        assert spelt == hypothesis.text
        for token in hypothesis.tokens:
            assert 0 <= token.latent < len(hypothesis.codes)
            assert token.log_prob <= 0
        per_latent = latent.manifest.tokens_per_latent
        assert len(hypothesis.raw_tokens) <= per_latent * len(hypothesis.codes)
        score = sum(token.log_prob for token in hypothesis.raw_tokens)
        # The score has the EOS too, which is no token of the text.
        assert hypothesis.score <= score + 1e-4


def test_a_score_is_that_of_the_translation(stored_exports):
    model = runtime.load(str(stored_exports / "greedy"))
    line = "one two three"
    (found,) = model.translate([line], extra_length=4)
    ids = [token.id for token in found.tokens]
    if model.vocabulary.encode(found.text) == ids and not found.cut:
        (scored,) = model.score([(line, found.text)])
        assert scored.score == pytest.approx(found.score, rel=1e-3)
    (scored,) = model.score([(line, "eins zwei")])
    assert [token.piece for token in scored.tokens][-1] == model.vocabulary.piece(1)
    assert scored.score == pytest.approx(sum(token.log_prob for token in scored.tokens), rel=1e-4)


def test_the_codes_of_a_translation_give_it_again(latent):
    lines = ["one two three", "five four", "  three "]
    found = list(latent.translate(lines))
    again = latent.decode_codes([(line, h.codes) for line, h in zip(lines, found, strict=True)])
    assert [h.text for h in again] == [h.text for h in found]


def test_several_candidates_and_their_codes(page_exports):
    model = runtime.load(str(page_exports / "litert/candidates"))
    lines = ["one two three", "five four", "three"]
    best = list(model.translate(lines))
    for line, found in zip(lines, best, strict=True):
        candidates = [found, *found.others]
        scores = [candidate.score for candidate in candidates]
        assert 6 < len(scores) <= 9
        assert scores == sorted(scores, reverse=True)
        assert len({candidate.codes for candidate in candidates}) == len(candidates)
        again = model.decode_codes([(line, candidate.codes) for candidate in candidates])
        assert [h.text for h in again] == [candidate.text for candidate in candidates]


def test_draws_depend_on_seed_index_and_text(latent):
    lines = ["one two three", "one two three", "five"]
    settings = {"temperature": 5.0, "seed": 3}
    drawn = texts(latent, lines, **settings)
    assert drawn == texts(latent, lines, **settings)
    assert drawn[1:] == texts(latent, lines[1:], first_index=1, **settings)
    others = [texts(latent, lines, temperature=5.0, seed=seed) for seed in range(4, 12)]
    assert any(other != drawn for other in others)


def test_the_best_hypotheses_come_first(stored_exports):
    model = runtime.load(str(stored_exports / "beam"))
    assert (model.beam_size, model.num_best, model.can_sample) == (3, 3, False)
    for hypothesis in model.translate(["one two", "five four three"]):
        assert len(hypothesis.others) == 2
        assert hypothesis.others[0].score <= hypothesis.score
    (alone,) = model.translate(["one two"], num_best=1)
    assert not alone.others


def test_several_threads_get_their_own(stored_exports):
    model = runtime.load(str(stored_exports / "greedy"), interpreters=2)
    lines = [" ".join(["one", "two", "three", "four"][: 1 + n % 4]) for n in range(40)]
    wanted = texts(model, lines)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda n: texts(model, lines[n : n + 10]), range(30)))
    for n, part in enumerate(found):
        assert part == wanted[n : n + 10]


def test_progress_counts_all_lines(latent):
    done = []
    list(latent.translate(["one", "", "two"], progress=done.append))
    assert sum(done) == 3


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="reads Linux's /proc")
def test_memory_does_not_grow_with_the_number_of_shapes(stored_exports):
    model = runtime.load(str(stored_exports / "exact"), interpreters=1, threads=1)

    def translate(rows: int, words: int) -> int:
        """Translates a batch of this shape; returns the resident memory in bytes."""
        list(model.translate([" ".join(["one"] * words)] * rows, extra_length=2))
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    shapes = [(rows, words) for rows in range(8, 0, -1) for words in range(29, 0, -1)]
    first = max(translate(*shape) for shape in shapes[:40])  # the largest, with all buffers
    grown = max(translate(*shape) for shape in shapes[40:]) - first
    assert grown < 4 * 2**20  # an interpreter that keeps buffers for each shape takes far more


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_best": 3}, "num_best is 3, expected 1 to 1"),
        ({"extra_length": 0}, "extra_length is 0, expected 1 to 256"),
        ({"extra_length": 257}, "expected 1 to 256"),
        ({"temperature": -1.0}, "temperature is -1.0"),
        ({"top_k": 2**31}, "top_k is"),
        ({"alpha": float("nan")}, "alpha is nan"),
    ],
)
def test_settings_out_of_range_are_refused(latent, settings, message):
    with pytest.raises(UsageError, match=message):
        latent.translate(["one"], **settings)


def test_what_the_export_was_not_made_for_is_refused(stored_exports, latent):
    beam = runtime.load(str(stored_exports / "beam"))
    with pytest.raises(UsageError, match="searches with a beam of 3"):
        beam.translate(["one"], temperature=1.0)
    with pytest.raises(UsageError, match="has no 'decode_codes'"):
        beam.decode_codes([("one", [1])])
    for codes, message in (
        ([], "got 0 codes"),
        ([1] * 1000, "got 1000 codes"),
        ([12], "code 12: expected a number from 0 to 11"),
        ([-1], "code -1"),
    ):
        with pytest.raises(UsageError, match=message):
            list(latent.decode_codes([("one", codes)]))


def test_nothing_heavy_is_imported(stored_exports):
    program = (
        "import sys\n"
        "from t2t_vqem import runtime\n"
        f"folder = {str(stored_exports)!r}\n"
        "model = runtime.load(folder + '/latent')\n"
        "list(model.translate(['one two']))\n"
        "runtime.load(folder + '/images').sample(1)\n"
        "heavy = {'tensorflow', 'keras', 'absl', 'gin', 'tqdm', 'sacrebleu', 'jax', 'torch'}\n"
        "found = heavy & {name.partition('.')[0] for name in sys.modules}\n"
        "assert not found, found\n"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""  # nor is anything announced


def test_other_lines_than_the_announcement_are_passed_on(stored_exports):
    program = (
        "import os, sys, tempfile\n"
        "from t2t_vqem import runtime\n"
        "file = tempfile.TemporaryFile\n"
        "def with_an_error():\n"
        "    made = file()\n"
        "    made.write(b'ERROR: of another thread\\n')\n"
        "    made.flush()\n"
        "    return made\n"
        "tempfile.TemporaryFile = with_an_error\n"
        "if sys.argv[1:]: os.close(2)\n"
        f"model = runtime.load({str(stored_exports / 'greedy')!r})\n"
        "print(len(list(model.translate(['one', 'two']))))\n"
    )
    command = [sys.executable, "-c", program]
    result = subprocess.run(command, capture_output=True, text=True)
    assert (result.stdout, result.stderr) == ("2\n", "ERROR: of another thread\n")
    without = subprocess.run([*command, "closed"], capture_output=True, text=True)
    assert (without.stdout, without.returncode) == ("2\n", 0)
    verbose = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "0"}
    result = subprocess.run(command, capture_output=True, text=True, env=verbose)
    assert "XNNPACK delegate" in result.stderr


def test_images_are_sampled_by_their_number(stored_exports):
    model = runtime.load(str(stored_exports / "images"))
    codes = model.sample(5, seed=2)
    assert codes.shape == (5, *model.code_shape)
    np.testing.assert_array_equal(codes[3:], model.sample(2, seed=2, first_index=3))
    images = model.decode(codes)
    assert images.shape == (5, *model.image_shape)
    assert images.dtype == np.uint8
    np.testing.assert_array_equal(model.reconstruct(images), model.decode(model.encode(images)))
    for wrong, message in (
        (lambda: model.encode(images.astype(np.float32)), "expected uint8"),
        (lambda: model.decode(codes[:, :2]), "codes have the shape"),
        (lambda: model.decode(codes * 0 + 12), "codes are from 12 to 12"),
        (lambda: model.sample(1, temperature=0.0), "temperature is 0.0"),
    ):
        with pytest.raises(UsageError, match=message):
            wrong()

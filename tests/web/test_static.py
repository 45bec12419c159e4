"""The page without a server: what it computes is what the runtime does, and nothing leaves it."""

from __future__ import annotations

import json
import os
import re
import shutil

import numpy as np
import pytest
from PIL import Image

from tests.web.test_page import SECONDS, eventually, opener

MOST_BYTES = 20e6
SCORE = {"rel": 1e-3, "abs": 1e-3}
TEXTS = [
    *("one two three", " one", "  one  two ", " ", "\u2581", "a\u2581\u2581b \u2581", "five\tone"),
    *("\U0001f600 emoji \U0001f468\u200d\U0001f469", "\x00\x01", "a\x00b", "a\u2028b\x85c"),
    *("e\u0301 \ufeff", "ünë " * 40, "\U0010fffd \u2581"),
]


@pytest.fixture(scope="module")
def computed(static):
    """A page in which the modules of the folder can be imported, and compute."""
    static.ask("v1/translate", model="latent", text="one")
    return static._page


@pytest.fixture(scope="module")
def expected(stored_exports):
    return json.loads((stored_exports / "expected.json").read_text())


def check(found, wanted):
    assert found["text"] == wanted["text"]
    assert found.get("codes", []) == wanted["codes"]
    assert found["score"] == pytest.approx(wanted["score"], **SCORE)
    others = [other["text"] for other in found.get("alternatives", [])]
    assert others == [text for text, _ in wanted["others"]]


@pytest.mark.parametrize(("name", "stored"), [("latent", "exact"), ("beam", "beam")])
def test_texts_are_those_of_tensorflow(static, expected, name, stored):
    wanted = {line: value for line, value in expected[stored].items() if len(line) < 100}
    assert len(wanted) >= 2
    lines = list(wanted)
    found = static.ask("v1/translate", model=name, text=lines)["translations"]
    for value, translation in zip(wanted.values(), found, strict=True):
        check(translation, value["best"])


def test_draws_are_those_of_tensorflow(static, expected):
    # Draws depend on the place of a line; the model takes one of them only truncated.
    lines = [line if len(line) < 100 else " " for line in expected["lines"]]
    found = static.ask(
        "v1/translate", model="latent", text=lines, temperature=1.5, top_k=20, seed=7
    )["translations"]
    drawn = dict(zip(expected["lines"], found, strict=True))
    for line, wanted in expected["exact"].items():
        if len(line) < 100:
            check(drawn[line], wanted["drawn"])


def test_given_latents_are_decoded_as_by_tensorflow(static, expected):
    for line, wanted in expected["exact"].items():
        if len(line) < 100:
            codes = wanted["decoded"]["of"]
            found = static.ask("v1/translate", model="latent", text=line, codes=codes)
            check(found["translations"], wanted["decoded"])


def test_images_are_those_of_tensorflow(static, expected):
    wanted = expected["images"]
    found = static.ask("v1/images/sample", num=6, temperature=0.8, seed=5)
    codes = np.array(found["codes"])
    # Of the codes a few are decided by rounding.
    assert np.mean(codes == np.array(wanted["sampled"]).reshape(codes.shape)) > 0.97


def test_ids_and_texts_are_those_of_the_vocabulary(computed, site):
    from t2t_vqem.data.vocabulary import Vocabulary

    vocabulary = Vocabulary(str(site / "models/latent/vocab.model"))
    rng = np.random.default_rng(0)
    rows = [[*vocabulary.encode(text), 1, 5] for text in TEXTS]
    rows += rng.integers(3, vocabulary.size, [40, 6]).tolist()  # bytes that are no UTF-8
    ids, texts = computed.evaluate(
        """async ([texts, rows, byteIds]) => {
          const { loadVocabulary } = await import(new URL("vocabulary.js", location));
          const file = await (await fetch("models/latent/vocab.model")).arrayBuffer();
          const vocabulary = await loadVocabulary(new Uint8Array(file), byteIds);
          const decoded = rows.map((row) => vocabulary.decode(row));
          return [texts.map((text) => vocabulary.encode(text)), decoded];
        }""",
        [TEXTS, rows, vocabulary.byte_ids],
    )
    assert ids == [vocabulary.encode(text) for text in TEXTS]
    assert texts == [vocabulary.decode(row) for row in rows]


@pytest.mark.parametrize("size", [(8, 8), (31, 20), (5, 90), (40, 40), (3, 4)])
def test_a_picture_is_fitted_as_by_pillow(computed, size, tmp_path):
    from t2t_vqem.data.image_folder import read_image

    rng = np.random.default_rng(sum(size))
    pixels = rng.integers(0, 256, [*size, 3]).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "picture.png")
    for shape in ((8, 8, 3), (6, 9, 1)):
        found = computed.evaluate(
            """async ([bytes, shape]) => {
              const { fitted } = await import(new URL("resize.js", location));
              const [height, width, channels] = shape;
              const file = new Blob([new Uint8Array(bytes)]);
              return [...(await fitted(file, { height, width, channels }))];
            }""",
            [list((tmp_path / "picture.png").read_bytes()), shape],
        )
        wanted = read_image(str(tmp_path / "picture.png"), shape).astype(int)
        assert np.abs(np.reshape(found, shape) - wanted).max() <= 1


def test_the_folder_is_small(site):
    from t2t_vqem.export import web

    page = sum(path.stat().st_size for path in site.rglob("*") if "models" not in path.parts)
    assert page < MOST_BYTES - 8e6, "8 MB are for the model"
    listed = json.loads((site / "files.js").read_text().removeprefix("self.FOLDER = ")[:-2])
    present = {str(path.relative_to(site)) for path in site.rglob("*") if path.is_file()}
    assert {*listed["files"], "files.js"} == present
    assert f'content="{web.POLICY}"' in (site / "index.html").read_text()


@pytest.fixture
def visitor(browser):
    """Returns a function that opens the page of a folder, in one browser profile."""
    context = browser.new_context()
    hosts = set()
    context.on("request", lambda request: hosts.add(request.url.split("/")[2]))

    def visit(server):
        page = context.new_page()
        page.set_default_timeout(1000 * SECONDS)
        page.goto(server.url)
        page.wait_for_selector("[role=tablist]:not([hidden])")
        # Until all files are kept.
        page.evaluate("navigator.serviceWorker.ready.then(() => true)")
        hosts.add(server.url.split("/")[2])
        assert len(hosts) == 1, "asked another host"
        return page

    yield visit
    context.close()


KEPT = "caches.keys().then((names) => names.map((name) => name.split(' ').at(-1).slice(0, 2)))"


def translation(page, text):
    page.fill("#source", text)
    page.wait_for_selector("#target li .score")
    return page.locator("#target > li").first.text_content()


def test_after_the_first_visit_no_network_is_needed(visitor, start_static):
    server = start_static()
    first = visitor(server)
    requests = []
    first.on("request", lambda request: requests.append(request.url))
    wanted = translation(first, "one two")
    first.click("#tab-images")
    first.click("#draw button:not([type])")
    first.wait_for_selector("#grid li:nth-child(16)")
    own = f"{server.url}icon.svg"  # the browser's own, late
    assert set(requests) <= {own}, "the page asks for nothing after it is loaded"
    first.close()
    server.stop()
    assert translation(visitor(server), "one two") == wanted


def test_a_new_folder_replaces_what_was_kept(visitor, start_static, site, tmp_path):
    copy = tmp_path / "site"
    shutil.copytree(site, copy)
    for path in copy.rglob("*"):
        os.utime(path, (1e9, 1e9))  # browsers ask rarely for files that did not change for long
    server = start_static(copy)
    visitor(server).close()
    changed = (copy / "index.html").read_text().replace("<h1>t2t-vqem", "<h1>Another")
    (copy / "index.html").write_text(changed)
    files = (copy / "files.js").read_text()
    (copy / "files.js").write_text(re.sub('"version": "..', '"version": "zz', files))

    page = visitor(server)
    assert page.inner_text("h1") == "t2t-vqem"  # what was kept, while the new files are loaded
    eventually(lambda: page.evaluate(KEPT) == ["zz"])
    page.goto(server.url)
    assert page.inner_text("h1") == "Another"


def test_errors_are_sentences(browser, start_static, site, tmp_path):
    copy = tmp_path / "site"
    shutil.copytree(site, copy)
    server = start_static(copy)
    with opener(browser, "light", (1280, 900)) as open_one:
        page = open_one(server, "translate")
        page.fill("#source", "one\n" + "five " * 60)
        page.wait_for_selector("#trouble:not([hidden])")
        assert re.fullmatch(
            r"text\[1\] has \d+ tokens, expected at most 32 for model latent.",
            page.inner_text("#trouble"),
        )
        page.fill("#source", "one")
        page.wait_for_selector("#trouble", state="hidden")
    shutil.rmtree(copy / "models/beam")
    page = browser.new_page()
    page.goto(server.url)
    page.wait_for_selector("#trouble:not([hidden])")
    assert page.inner_text("#trouble") == (
        "models/beam/model.tflite cannot be loaded: is the folder of the page complete?"
    )
    page.close()

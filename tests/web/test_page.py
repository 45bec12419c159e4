"""The page in a real browser, with a real server: features, schemes, sizes, accessibility."""

from __future__ import annotations

import base64
import contextlib
import io
import re
import time

import numpy as np
import pytest
from PIL import Image

SENTENCE = "one two three four"
SECONDS = 120
PHONE, DESKTOP = (360, 740), (1280, 900)


class Watched:
    """A page, and whatever it did that it should not."""

    def __init__(self, context, url):
        self.page = context.new_page()
        self.page.set_default_timeout(1000 * SECONDS)
        self.faults = []
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("console", self._heard)
        context.route(re.compile("^(?!data:|blob:)"), self._ask)
        self.host = url.split("/")[2]

    def _heard(self, message):
        if message.type == "error":
            self.faults.append(message.text)

    def _ask(self, route):
        if route.request.url.split("/")[2] == self.host:
            route.continue_()
        else:
            self.faults.append(f"asked for {route.request.url}")
            route.abort()


@contextlib.contextmanager
def opener(browser, scheme, size):
    """Gives a function that opens a page, in which nothing may go wrong."""
    width, height = size
    context = browser.new_context(
        color_scheme=scheme,
        viewport={"width": width, "height": height},
        accept_downloads=True,
        service_workers="block",  # whose requests are not seen here; see test_static.py
    )
    opened = []

    def open_one(server, tab):
        watched = Watched(context, server.url)
        opened.append(watched)
        watched.page.goto(f"{server.url}#{tab}")
        watched.page.wait_for_selector("[role=tablist]:not([hidden])")
        return watched.page

    yield open_one
    for watched in opened:
        assert watched.faults == []
        wide = watched.page.evaluate("document.documentElement.scrollWidth")
        assert wide <= width, "wider than the screen"
    context.close()


# What computes, scheme and size. Without a server the page is the same, so one of them is enough.
VIEWS = {
    **{
        f"server-{scheme}-{name}": ("server", scheme, size)
        for scheme in ("light", "dark")
        for name, size in (("phone", PHONE), ("desktop", DESKTOP))
    },
    "static-dark-phone": ("static", "dark", PHONE),
}


@pytest.fixture(params=VIEWS.values(), ids=VIEWS)
def view(request):
    return request.param


@pytest.fixture
def host(view, request):
    """What the page is loaded from: a t2t-server, or a folder without one."""
    return request.getfixturevalue(view[0])


@pytest.fixture
def open_page(browser, view):
    """`opener` in all views."""
    with opener(browser, *view[1:]) as open_one:
        yield open_one


@pytest.fixture
def open_once(browser):
    """`opener` for what depends on neither."""
    with opener(browser, "light", DESKTOP) as open_one:
        yield open_one


def eventually(check):
    """Waits until something is true. (The page's security policy forbids wait_for_function.)"""
    deadline = time.monotonic() + SECONDS
    while not check():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def check_accessible(page, axe):
    """Fails where axe-core finds something."""
    page.evaluate(axe)  # as a debugger does, whatever the content security policy
    found = page.evaluate("axe.run()")["violations"]
    told = [f"{v['id']}: {v['help']} {[n['html'] for n in v['nodes']]}" for v in found]
    assert not told, "\n".join(told)


def texts(page, selector):
    return page.locator(selector).all_inner_texts()


def test_translate(open_page, host, axe):
    page = open_page(host, "translate")
    page.select_option("#translate-model", "beam")
    page.locator("#source").press_sequentially(f"{SENTENCE}\nfive", delay=5)
    page.wait_for_selector("#target li:nth-child(2) .score")
    eventually(lambda: page.inner_text("#translate-status").startswith("2 lines"))
    expected = host.ask("v1/translate", model="beam", text=[SENTENCE, "five"])["translations"]
    lines = page.locator("#target > li").all_text_contents()
    for line, translation in zip(lines, expected, strict=True):
        assert line.startswith(translation["text"])
        assert f"score {translation['score']:.2f}" in line
    assert re.fullmatch(r"2 lines in [\d.]+ ms", page.inner_text("#translate-status"))
    others = page.locator("#target > li:first-child .others li").all_text_contents()
    for other, translation in zip(others, expected[0]["alternatives"], strict=True):
        assert translation["text"] in other
    check_accessible(page, axe)


def test_nine_candidates(open_page, host, axe):
    page = open_page(host, "translate")
    page.select_option("#translate-model", "candidates")
    page.fill("#source", SENTENCE)
    page.wait_for_selector("#target .others li")
    own = host.ask("v1/translate", model="candidates", text=SENTENCE)["translations"]
    shown = page.locator("#target .others li").all_text_contents()
    assert len(own["alternatives"]) > 5, "nine, less those that the search does not find"
    for text, other in zip(shown, own["alternatives"], strict=True):
        assert text == f"{other['text']} score {other['score']:.2f}"
    check_accessible(page, axe)

    # With their latents; an export that searches with a beam draws no samples.
    page.click("#tab-latents")
    page.select_option("#latents-model", "candidates")
    page.fill("#sentence", SENTENCE)
    rows = page.locator("#samples tbody tr")
    rows.nth(1).wait_for()
    assert page.is_hidden("#sample-latents")
    for row, found in zip(rows.all(), [own, *own["alternatives"]], strict=True):
        text, codes, score = row.locator("td").all_text_contents()[:3]
        assert text == found["text"]
        assert codes.split() == [str(code) for code in found["codes"]]
        assert score == f"{found['score']:.2f}"
    rows.nth(3).locator("button").click()
    chosen = [str(code) for code in own["alternatives"][2]["codes"]]
    assert page.locator("#codes button").all_text_contents() == chosen
    check_accessible(page, axe)


def test_copy(open_page, host):
    page = open_page(host, "translate")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.fill("#source", "one\ntwo")
    eventually(lambda: page.inner_text("#translate-status").startswith("2 lines"))
    page.click("#copy")
    eventually(lambda: page.inner_text("#translate-status") == "Copied.")
    expected = host.ask("v1/translate", model="latent", text=["one", "two"])["translations"]
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied == "\n".join(found["text"] for found in expected)


def test_latents(open_page, host, axe):
    page = open_page(host, "latents")
    page.fill("#sentence", SENTENCE)
    page.wait_for_selector("#codes button")
    own = host.ask("v1/translate", model="latent", text=SENTENCE)["translations"]
    assert texts(page, "#codes button") == [str(code) for code in own["codes"]]
    words = page.locator("#codes li > span").all_text_contents()
    for place, word in enumerate(words):
        parts = [s["text"] for s in own["segments"] if s["code"] == place]
        assert word == ("".join(parts).strip() or "–")
    assert page.locator("#decoded").text_content() == own["text"]
    assert page.locator("#decoded mark").count() == 0

    # Another code: the sentence is decoded anew, changed words are marked.
    page.click("#codes li:nth-child(2) button")
    code = (own["codes"][1] + 5) % 12
    page.fill("#replacement", str(code))
    page.click("#replace button")
    page.wait_for_selector("#decoded mark")
    codes = [own["codes"][0], code, *own["codes"][2:]]
    changed = host.ask("v1/translate", model="latent", text=SENTENCE, codes=codes)
    assert page.locator("#decoded").text_content() == changed["translations"]["text"]
    assert texts(page, "#codes button") == [str(code) for code in codes]
    label = page.get_attribute("#codes li:nth-child(2) button", "aria-label")
    assert label.startswith(f"Code {code}, replaced, stands for ")
    check_accessible(page, axe)

    page.click("#restore")
    page.wait_for_selector("#decoded:not(:has(mark))")
    assert page.locator("#decoded").text_content() == own["text"]


def test_what_a_code_stood_for(open_page, host, axe):
    phrases = host.phrases
    page = open_page(host, "latents")
    page.fill("#sentence", SENTENCE)
    page.click("#codes li:nth-child(1) button")
    code = int(page.locator("#codes button").first.text_content())
    if phrases[code]:
        page.wait_for_selector("#code-phrases tbody tr")
        rows = page.locator("#code-phrases tbody tr td").all_text_contents()
        assert rows == [str(cell) for phrase in phrases[code] for cell in phrase]
    else:
        page.wait_for_selector("#code-phrases:has-text('stood for nothing')")

    # A code found by its phrases takes the place of the chosen one.
    page.fill("#phrase", "drei drei")
    fitting = [c for c, found in enumerate(phrases) if any("drei drei" in p for p, _ in found)]
    eventually(lambda: page.locator("#found button").count() == len(fitting))
    assert page.locator("#found button").first.text_content().startswith(f"{fitting[0]}: ")
    check_accessible(page, axe)
    page.locator("#found button").first.click()
    eventually(lambda: texts(page, "#codes button")[0] == str(fitting[0]))


def test_samples_of_latents(open_page, host, axe):
    page = open_page(host, "latents")
    page.fill("#sentence", SENTENCE)
    page.wait_for_selector("#codes button")
    for name, value in (("num", "3"), ("temperature", "1.5"), ("seed", "7")):
        page.fill(f"#latents-{name}", value)
    page.click("#sample-latents button")
    page.wait_for_selector("#samples tbody tr:nth-child(3)")
    found = host.ask("v1/translate", model="latent", text=[SENTENCE] * 3, temperature=1.5, seed=7)[
        "translations"
    ]
    rows = page.locator("#samples tbody tr td:first-child").all_text_contents()
    assert rows == [sample["text"] for sample in found]
    check_accessible(page, axe)
    page.click("#samples tbody tr:nth-child(2) button")
    assert texts(page, "#codes button") == [str(code) for code in found[1]["codes"]]


def shown(page, selector):
    """Returns what a canvas shows, uint8 [height, width], grey."""
    url = page.evaluate("selector => document.querySelector(selector).toDataURL()", selector)
    image = Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2])))
    return np.asarray(image.convert("L")).astype(int)


def image_of(png):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(png))).convert("L")).astype(int)


def test_images_are_drawn_and_changed(open_page, host, axe, tmp_path):
    page = open_page(host, "images")
    page.fill("#images-num", "5")
    page.fill("#images-seed", "2")
    page.click("#draw button:not([type])")
    page.wait_for_selector("#grid li:nth-child(5)")
    found = host.ask("v1/images/sample", num=5, seed=2, temperature=0.7)
    for place, png in enumerate(found["images"], 1):
        selector = f"#grid li:nth-child({place}) canvas"
        np.testing.assert_array_equal(shown(page, selector), image_of(png))

    page.click("#grid li:nth-child(4) button")
    codes = found["codes"][3]
    pairs = [" ".join(map(str, codes[i : i + 2])) for i in range(0, len(codes), 2)]
    assert page.locator("#cells button").all_text_contents() == pairs

    # A cell is chosen by keyboard, and another code for its second codebook.
    page.focus("#cells button")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    page.wait_for_selector("#book li:nth-child(12)")
    page.select_option("#codebook-number", index=1)
    eventually(lambda: page.locator("#book li").count() == 12)
    cell = 2 * (4 + 1) + 1
    code = (codes[cell] + 3) % 12
    page.locator(f"#book li:nth-child({code + 1}) button").click()
    codes[cell] = code
    changed = host.ask("v1/images/decode", codes=[codes])["images"][0]
    assert page.locator("#cells button").nth(5).text_content() == f"{codes[10]} {code}"
    assert np.abs(shown(page, "#picture") - image_of(changed)).max() <= 1
    check_accessible(page, axe)

    with page.expect_download() as download:
        page.click("#save")
    download.value.save_as(tmp_path / "saved.png")
    saved = np.asarray(Image.open(tmp_path / "saved.png").convert("L")).astype(int)
    np.testing.assert_array_equal(saved, shown(page, "#picture"))
    with page.expect_download() as download:
        page.click("#save-grid")
    download.value.save_as(tmp_path / "grid.png")
    assert Image.open(tmp_path / "grid.png").size == (3 * 10 - 2, 2 * 10 - 2)

    page.click("#undo")
    assert np.abs(shown(page, "#picture") - image_of(found["images"][3])).max() <= 1


def test_a_picture_is_encoded(open_page, host, axe, tmp_path):
    page = open_page(host, "images")
    pixels = np.random.default_rng(1).integers(0, 256, [8, 8], np.uint8)
    Image.fromarray(pixels).save(tmp_path / "mine.png")
    page.set_input_files("#upload", tmp_path / "mine.png")
    page.wait_for_selector("#original:not([hidden])")
    assert np.abs(shown(page, "#original canvas") - pixels).max() <= 1
    assert page.inner_text("#editor-title") == "mine.png"
    assert re.search(r"[\d.]+ dB PSNR", page.inner_text("#picture-caption"))
    check_accessible(page, axe)


def test_a_large_photograph_is_made_smaller(open_once, server, tmp_path):
    page = open_once(server, "images")
    noise = np.random.default_rng(1).integers(0, 256, [1500, 2500, 3], np.uint8)
    Image.fromarray(noise).save(tmp_path / "photo.png")  # 11 MB, more than the server takes
    page.set_input_files("#upload", tmp_path / "photo.png")
    page.wait_for_selector("#original:not([hidden])")
    assert shown(page, "#original canvas").shape == (8, 8)


def test_errors_are_sentences(open_once, server, tmp_path):
    page = open_once(server, "images")
    (tmp_path / "no.png").write_text("no picture")
    page.set_input_files("#upload", tmp_path / "no.png")
    page.wait_for_selector("#trouble:not([hidden])")
    assert page.inner_text("#trouble") == "no.png is not a picture that this browser can read."
    page.click("#draw button:not([type])")
    page.wait_for_selector("#grid li")
    assert page.is_hidden("#trouble")


def test_keyboard(open_once, server):
    page = open_once(server, "translate")
    page.focus("#translate-model")
    page.keyboard.press("Shift+Tab")
    assert page.evaluate("document.activeElement.id") == "tab-translate"
    for key, tab in (("ArrowRight", "latents"), ("End", "images"), ("ArrowLeft", "latents")):
        page.keyboard.press(key)
        assert page.evaluate("document.activeElement.id") == f"tab-{tab}"
        assert page.is_visible(f"#{tab}")
        assert page.get_attribute(f"#tab-{tab}", "aria-selected") == "true"
    assert page.locator("[role=tabpanel]:visible").count() == 1


def test_drafts_survive_a_reload(open_once, server):
    page = open_once(server, "translate")
    page.fill("#source", "one\ntwo")
    page.reload()
    page.wait_for_selector("#target li:nth-child(2)")
    assert page.input_value("#source") == "one\ntwo"


def test_a_token_is_asked_for(browser, start_server, tmp_path):
    (tmp_path / "token").write_text("secret\n")
    server = start_server(f"--token_file={tmp_path / 'token'}")
    page = browser.new_page()
    page.set_default_timeout(1000 * SECONDS)
    page.goto(server.url)
    page.fill("#token", "wrong")
    page.keyboard.press("Enter")
    page.wait_for_selector("dialog[open]")
    page.fill("#token", "secret")
    page.keyboard.press("Enter")
    page.fill("#source", "one")
    page.wait_for_selector("#target li")
    page.close()


def test_a_server_that_is_gone(browser, start_server):
    server = start_server()
    page = browser.new_page()
    page.set_default_timeout(1000 * SECONDS)
    page.goto(server.url)
    page.fill("#source", "one")
    page.wait_for_selector("#target li .score")
    before = page.inner_text("#target li")
    server.stop()
    page.locator("#source").press_sequentially(" two")
    page.wait_for_selector("#trouble:not([hidden])")
    assert "The server does not answer. What you typed is kept" in page.inner_text("#trouble")
    assert page.input_value("#source") == "one two"
    start_server(port=server.port)
    page.wait_for_selector("#trouble", state="hidden")
    eventually(lambda: page.inner_text("#target li") != before)
    page.close()

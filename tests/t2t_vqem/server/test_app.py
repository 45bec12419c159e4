"""The endpoints, with real exports: each answer is the runtime's own, and as openapi.json says."""

from __future__ import annotations

import base64
import concurrent.futures
import io
import json
import pathlib
import re

import httpx
import jsonschema
import numpy as np
import pytest
from PIL import Image

from t2t_vqem import runtime
from t2t_vqem.server.app import make_app
from t2t_vqem.server.limits import Limits
from t2t_vqem.server.metrics import Metrics
from t2t_vqem.server.models import load_services

LIMITS = Limits(lines=20, line_chars=200, images=6, pixels=5000, body_bytes=100_000)
TEXTS = ["one two", "", "  three four ", "five", "\U0001f600 ▁ \x00 ü", "two one two one"]
STATIC = pathlib.Path(runtime.__file__).parents[1] / "server" / "static"
OPENAPI = json.loads((STATIC / "openapi.json").read_text("utf-8"))


@pytest.fixture(scope="module")
def services(stored_exports, metrics):
    folders = [str(stored_exports / name) for name in ("beam", "latent", "images")]
    services = load_services(folders, LIMITS, metrics, threads=1, interpreters=2)
    yield services
    for service in services:
        service.close()


@pytest.fixture(scope="module")
def models(stored_exports):
    names = ("beam", "latent", "images")
    return {name: runtime.load(str(stored_exports / name), interpreters=1) for name in names}


@pytest.fixture(scope="module")
def metrics():
    return Metrics()


@pytest.fixture(scope="module")
def client(run_app, services, metrics):
    port = run_app(make_app(services, LIMITS, metrics), LIMITS)
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=20) as client:
        yield client


def schema_of(path: str, method: str, status: int) -> dict:
    response = OPENAPI["paths"][path][method]["responses"][str(status)]
    if "$ref" in response:
        response = OPENAPI["components"]["responses"][response["$ref"].rpartition("/")[2]]
    schema = response["content"]["application/json"]["schema"]
    return {**schema, "components": OPENAPI["components"]}


def checked(response: httpx.Response, path: str | None = None, status: int = 200):
    """Returns the JSON of an answer, which is as openapi.json describes it."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    request = response.request
    schema = schema_of(path or request.url.path, request.method.lower(), status)
    jsonschema.validate(response.json(), schema)
    return response.json()


def ask(client, path, **fields):
    return checked(client.post(path, json=fields))


def refused(client, path, status, message, **fields):
    error = checked(client.post(path, json=fields), status=status)["error"]
    assert re.search(message, error), error
    assert error.endswith("."), error


# Text.


def close_to(found, expected):
    """Compares a translation with the runtime's: scores of a batch differ in their last bits."""
    assert found["text"] == expected.text
    assert found["score"] == pytest.approx(expected.score, rel=1e-3)
    assert found["cut"] == expected.cut
    assert found.get("codes", []) == list(expected.codes)
    others = found.get("alternatives", [])
    assert [other["text"] for other in others] == [other.text for other in expected.others]


@pytest.mark.parametrize("model", ["beam", "latent"])
def test_translations_are_the_runtime_s(client, models, model):
    found = [ask(client, "/v1/translate", model=model, text=text) for text in TEXTS]
    for answer, expected in zip(found, models[model].translate(TEXTS), strict=True):
        assert answer["model"] == model
        close_to(answer["translations"], expected)


def test_several_texts_are_a_list(client):
    answer = ask(client, "/v1/translate", model="beam", text=TEXTS)
    single = [ask(client, "/v1/translate", model="beam", text=text) for text in TEXTS]
    texts = [found["translations"]["text"] for found in single]
    assert [found["text"] for found in answer["translations"]] == texts
    assert len(ask(client, "/v1/translate", model="beam", text=["one"])["translations"]) == 1


def test_segments_are_the_text_in_parts(client):
    answer = ask(client, "/v1/translate", model="latent", text=TEXTS)
    for found in answer["translations"]:
        assert "".join(segment["text"] for segment in found["segments"]) == found["text"]
        places = [segment["code"] for segment in found["segments"]]
        assert places == sorted(places)
        assert not places or (places[0] >= 0 and places[-1] < len(found["codes"]))
    assert any(len(found["segments"]) > 2 for found in answer["translations"])


def test_given_codes_are_decoded(client, models):
    codes = [[2, 7, 4], [11]]
    answer = ask(client, "/v1/translate", model="latent", text=["one two", "five"], codes=codes)
    expected = models["latent"].decode_codes(zip(["one two", "five"], codes, strict=True))
    for found, one in zip(answer["translations"], expected, strict=True):
        close_to(found, one)
    alone = ask(client, "/v1/translate", model="latent", text="one two", codes=codes[0])
    assert alone["translations"]["text"] == answer["translations"][0]["text"]
    own = ask(client, "/v1/translate", model="latent", text="one two")["translations"]
    again = ask(client, "/v1/translate", model="latent", text="one two", codes=own["codes"])
    assert again["translations"]["text"] == own["text"]


def test_samples_depend_on_seed_and_place_alone(client, models):
    fields = {"model": "latent", "temperature": 1.5, "seed": 5}
    texts = ["one two three"] * 6
    answer = ask(client, "/v1/translate", text=texts, **fields)["translations"]
    expected = models["latent"].translate(texts, temperature=1.5, seed=5)
    assert [found["codes"] for found in answer] == [list(one.codes) for one in expected]
    assert len({str(found["codes"]) for found in answer}) > 3
    alone = ask(client, "/v1/translate", text=texts[0], **fields)["translations"]
    assert alone["codes"] == answer[0]["codes"]


def test_scores_are_the_runtime_s(client, models):
    pairs = [("one two", "zwei eins"), ("five", "fünf"), ("two", "")]
    sources, targets = ([pair[side] for pair in pairs] for side in (0, 1))
    answer = ask(client, "/v1/score", model="latent", source=sources, target=targets)
    for found, one in zip(answer["scores"], models["latent"].score(pairs), strict=True):
        assert found["score"] == pytest.approx(one.score, rel=1e-3)
        assert [t["log_prob"] for t in found["tokens"]] == pytest.approx(
            [token.log_prob for token in one.tokens], rel=1e-2, abs=1e-3
        )
    alone = ask(client, "/v1/score", model="latent", source="five", target="fünf")
    assert alone["scores"]["score"] == pytest.approx(answer["scores"][1]["score"], rel=1e-3)


def test_answers_to_many_clients_are_not_mixed_up(client, models):
    texts = [" ".join(["one", "two", "three"][: n % 3 + 1]) + f" {n}" for n in range(60)]
    found = models["beam"].translate(texts)
    expected = {text: one.text for text, one in zip(texts, found, strict=True)}

    def translate(text):
        return ask(client, "/v1/translate", model="beam", text=text)["translations"]["text"]

    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        found = dict(zip(texts, pool.map(translate, texts), strict=True))
    assert found == expected


@pytest.mark.parametrize(
    ("fields", "status", "message"),
    [
        ({}, 422, "text is null, expected a string or an array"),
        ({"text": "a", "model": "none"}, 404, "No model 'none' for this, expected .* beam, latent"),
        ({"text": "a", "model": None}, 422, "model is missing, expected one of: beam, latent"),
        ({"text": "a", "model": "images"}, 404, "No model 'images' for this"),
        ({"text": []}, 422, "text has 0 elements, expected 1 to 20"),
        ({"text": ["a"] * 21}, 422, "text has 21 elements, expected 1 to 20"),
        ({"text": "a" * 201}, 422, r"text\[0\] has 201 characters, expected at most 200"),
        (
            {"text": ["a", "one " * 40]},
            422,
            r"text\[1\] has \d+ tokens, expected at most 32 for model beam",
        ),
        ({"text": ["a", 7]}, 422, r"text\[1\] is a number, expected a string"),
        ({"text": "a", "texts": "b"}, 422, "Unknown field 'texts', did you mean text"),
        ({"text": "a", "alpha": "b"}, 422, "alpha is a string, expected a number"),
        ({"text": "a", "alpha": True}, 422, "alpha is a boolean, expected a number"),
        ({"text": "a", "alpha": 1e300}, 422, "alpha is out of range, expected 0 to 10"),
        ({"text": "a", "extra_length": 0}, 422, "extra_length is 0, expected 1 to 200"),
        ({"text": "a", "extra_length": 1.5}, 422, "extra_length is a number, expected an integer"),
        ({"text": "a", "seed": 10**30}, 422, "seed is too large, expected 0 to 2147483647"),
        ({"text": "a", "temperature": 0.5}, 422, "exported for beam search and cannot sample"),
        ({"text": "a", "codes": [1]}, 422, "Model beam has no latents: omit codes"),
    ],
)
def test_wrong_requests_for_translations(client, fields, status, message):
    refused(client, "/v1/translate", status, message, **{"model": "beam", **fields})


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        ([], r"codes\[0\] has 0 elements"),
        ([1] * 1000, r"codes\[0\] has 1000 elements"),
        ([12], r"codes\[0\]\[0\] is not a code: expected an integer from 0 to 11"),
        ([-1], "is not a code"),
        ([True], "is not a code"),
        ([1.0], "is not a code"),
        (5, r"codes\[0\] is a number, expected an array of integers"),
        ({"a": 1}, r"codes\[0\] is an object"),
    ],
)
def test_wrong_codes(client, codes, message):
    refused(client, "/v1/translate", 422, message, model="latent", text="a", codes=codes)
    many = {"model": "latent", "text": ["a", "b"], "codes": [[1]]}
    refused(client, "/v1/translate", 422, "expected one array for each text, 2 in all", **many)


def test_half_a_surrogate_pair(client):
    body = b'{"model": "beam", "text": "a\\ud800"}'
    answer = checked(client.post("/v1/translate", content=body), status=422)
    assert "character 1 is half a surrogate pair" in answer["error"]


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (b"", 400, "not JSON"),
        (b"{", 400, "not JSON"),
        (b'{"text": NaN}', 400, "NaN is not a JSON number"),
        (b'{"text": \xff}', 400, "not UTF-8: byte 9"),
        (b"[" * 50_000, 400, "nested too deeply"),
        (b'{"seed": ' + b"9" * 5000 + b"}", 400, "not JSON"),
        (b'["a"]', 422, "The body is an array, expected an object"),
        (b'{"text": "a", "model": "beam", "alpha": 1e999}', 422, "alpha is out of range"),
    ],
)
def test_bodies_that_are_no_object(client, body, status, message):
    answer = checked(client.post("/v1/translate", content=body), status=status)
    assert message in answer["error"]


# The shape of TensorFlow Serving.


def test_predict(client):
    path = "/v1/models/{name}:predict"
    texts = ["one two", "five"]
    url = path.format(name="latent")
    rows = checked(client.post(url, json={"instances": texts}), path)["predictions"]
    named = {"signature_name": "serving_default", "instances": [{"text": text} for text in texts]}
    assert checked(client.post(url, json=named), path)["predictions"] == rows
    columns = checked(client.post(url, json={"inputs": {"text": texts}}), path)["outputs"]
    assert columns["text"] == [row["text"] for row in rows]
    assert columns["codes"] == [row["codes"] for row in rows]
    assert checked(client.post(url, json={"inputs": texts}), path)["outputs"] == columns
    versioned = client.post("/v1/models/latent/versions/1:predict", json={"instances": texts})
    assert versioned.json()["predictions"] == rows


@pytest.mark.parametrize(
    ("name", "fields", "status", "message"),
    [
        ("none", {"instances": ["a"]}, 404, "No model 'none', expected one of: beam, latent"),
        ("images", {"instances": ["a"]}, 422, "does not translate"),
        ("beam", {}, 422, 'Expected "instances"'),
        ("beam", {"instances": [["a"]]}, 422, "text 0 is an array"),
        ("beam", {"instances": []}, 422, "instances has 0 elements"),
        ("beam", {"inputs": {"text": [3]}}, 422, "text 0 is a number"),
        ("beam", {"inputs": []}, 422, "inputs has 0 elements"),
        ("beam", {"instances": ["a"], "signature_name": "x"}, 422, "expected serving_default"),
    ],
)
def test_wrong_requests_for_predictions(client, name, fields, status, message):
    response = client.post(f"/v1/models/{name}:predict", json=fields)
    assert message in checked(response, "/v1/models/{name}:predict", status)["error"]


def test_status(client):
    answer = checked(client.get("/v1/models/beam"), "/v1/models/{name}")
    assert answer["model_version_status"][0]["state"] == "AVAILABLE"
    checked(client.get("/v1/models/other"), "/v1/models/{name}", 404)


# Images.


def png(array: np.ndarray) -> str:
    file = io.BytesIO()
    Image.fromarray(array).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def array_of(base64_png: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(base64_png))))


def test_samples_are_the_runtime_s(client, models):
    settings = {"seed": 3, "temperature": 0.8, "top_k": 5}
    answer = ask(client, "/v1/images/sample", num=5, **settings)
    codes = models["images"].sample(5, **settings)
    assert answer["codes"] == codes.reshape(5, -1).tolist()
    for image, expected in zip(answer["images"], models["images"].decode(codes), strict=True):
        assert np.abs(array_of(image).astype(int) - expected[..., 0]).max() <= 1


def test_images_are_encoded_and_decoded(client, models):
    pictures = np.random.default_rng(0).integers(0, 256, [2, 8, 8], np.uint8)
    answer = ask(client, "/v1/images/encode", images=[png(picture) for picture in pictures])
    codes = models["images"].encode(pictures[..., None])
    assert answer["codes"] == codes.reshape(2, -1).tolist()
    for original, picture in zip(answer["originals"], pictures, strict=True):
        np.testing.assert_array_equal(array_of(original), picture)
    again = ask(client, "/v1/images/decode", codes=answer["codes"])
    for image, reconstruction, picture, psnr in zip(
        again["images"], answer["reconstructions"], pictures, answer["psnr"], strict=True
    ):
        image = array_of(image).astype(np.float64)
        assert np.abs(image - array_of(reconstruction)).max() <= 1
        assert psnr == pytest.approx(10 * np.log10(255**2 / np.mean((image - picture) ** 2)), 0.02)


def test_pictures_of_any_size_are_fitted(client):
    picture = np.zeros([30, 50, 3], np.uint8)
    answer = ask(client, "/v1/images/encode", images=[png(picture)])
    assert array_of(answer["originals"][0]).shape == (8, 8)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        ("!", r"images\[1\] is not base64"),
        (7, r"images\[1\] is a number, expected an image file in base64"),
        ("YWJj", r"images\[1\] is not an image file. Expected one of: PNG"),
        (
            png(np.zeros([100, 51], np.uint8)),
            r"images\[1\] has 51 x 100 pixels, expected at most 5000",
        ),
        (png(np.zeros([40, 40], np.uint8))[:80] + "AAAA", r"images\[1\].* cannot be read"),
    ],
)
def test_wrong_images(client, image, message):
    good = png(np.zeros([8, 8], np.uint8))
    refused(client, "/v1/images/encode", 422, message, images=[good, image])


def test_a_small_file_of_a_huge_image_is_not_decoded(client):
    for side, message in (
        (5000, "5000 x 5000 pixels"),
        (30_000, "too many pixels, expected at most 5000"),
    ):
        file = io.BytesIO()
        Image.new("1", (side, side)).save(file, "PNG")
        image = base64.b64encode(file.getvalue()[:50_000]).decode()
        refused(client, "/v1/images/encode", 422, message, images=[image])


@pytest.mark.parametrize(
    ("path", "fields", "message"),
    [
        ("sample", {"num": 7}, "num is 7, expected 1 to 6"),
        ("sample", {"temperature": 0}, "temperature is out of range"),
        ("sample", {"top_k": -1}, "top_k is -1"),
        ("decode", {"codes": [[0] * 31]}, r"codes\[0\] has 31 elements, expected 32"),
        ("decode", {"codes": [[12] * 32]}, r"codes\[0\]\[0\] is not a code"),
        ("decode", {"codes": [[0] * 32] * 7}, "codes has 7 elements, expected 1 to 6"),
        ("decode", {}, "codes is null, expected an array"),
        ("encode", {"images": "a"}, "images is a string, expected an array"),
    ],
)
def test_wrong_requests_for_images(client, path, fields, message):
    refused(client, f"/v1/images/{path}", 422, message, **fields)


# The rest.


def test_cards(client):
    cards = {card["name"]: card for card in checked(client.get("/v1/models"))["models"]}
    assert list(cards) == ["beam", "latent", "images"]
    assert cards["beam"]["latents"] is None
    assert cards["latent"]["latents"]["num_codes"] == 12
    assert cards["latent"]["languages"] == ["en", "de"]
    image = cards["images"]["image"]
    assert (image["rows"], image["columns"], image["num_codebooks"]) == (4, 4, 2)


def test_what_codes_stood_for(client, stored_exports):
    path = "/v1/models/{name}/codes"
    answer = checked(client.get("/v1/models/latent/codes"), path)
    assert answer["codes"] == json.loads((stored_exports / "latent" / "phrases.json").read_text())
    assert len(answer["codes"]) == 12
    assert any(answer["codes"])


def test_an_export_without_phrases_says_so(client):
    path = "/v1/models/{name}/codes"
    error = checked(client.get("/v1/models/beam/codes"), path, 404)["error"]
    assert "has no phrases for its codes" in error


def test_health_and_metrics(client, services):
    assert checked(client.get("/healthz")) == {"status": "ok"}
    ask(client, "/v1/translate", model="beam", text="one")
    text = client.get("/metrics").text
    assert 't2t_requests_total{endpoint="translate",status="200"}' in text
    assert 't2t_queue_rows{model="latent"} 0' in text
    for line in text.splitlines():
        assert re.fullmatch(r'# (HELP|TYPE) .+|\w+(\{(\w+="[^"]*",?)+\})? [\d.e+-]+', line), line


def test_the_page_is_served(client):
    page = client.get("/")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    for path in STATIC.iterdir():
        response = client.get(f"/{path.name}")
        assert response.content == path.read_bytes()
        etag = response.headers["etag"]
        assert client.get(f"/{path.name}", headers={"If-None-Match": etag}).status_code == 304
    named = set(re.findall(r'(?:href|src)="([^"]+)"', page.text))
    assert named <= {path.name for path in STATIC.iterdir()}


@pytest.mark.parametrize(
    "path",
    [
        "/../setup.py",
        "/%2e%2e/app.py",
        "/static/index.html",
        "/index.html%00",
        "/v1/models/../../x",
    ],
)
def test_no_path_reaches_a_file(run_app, services, metrics, exchange, path):
    port = run_app(make_app(services, LIMITS, metrics), LIMITS)
    head = f"GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    assert exchange(port, head.encode()).startswith(b"HTTP/1.1 404 ")


def test_the_description_names_every_address(services, metrics):
    app = make_app(services, LIMITS, metrics)
    pages = {path.name for path in STATIC.iterdir()} | {""}
    routes = {
        (route.path, method.lower())
        for route in app._app.routes
        for method in route.methods - {"HEAD"}
        if route.path[1:] not in pages
    }
    described = {(p, m) for p, item in OPENAPI["paths"].items() for m in item if m != "parameters"}
    assert routes == described

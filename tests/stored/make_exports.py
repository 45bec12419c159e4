"""Makes the archive of exports beside this file, of the runs in the archive of `make.py`.

It was run once, with the code of export format 1. Later code must load the exports and do with them
what TensorFlow did: `tests/test_stored_exports.py`.

    python tests/stored/make_exports.py tests/stored/format_2.tar.xz tests/stored/exports_1.tar.xz
"""

from __future__ import annotations

import json
import pathlib
import random
import sys
import tarfile
import tempfile
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from t2t_vqem.data.vocabulary import Vocabulary
from t2t_vqem.decoding.options import parse_options
from t2t_vqem.export.exporter import export_run, make_graphs
from t2t_vqem.export.loading import load_rescorer, load_run
from t2t_vqem.output_dir import OutputDir
from t2t_vqem.runtime import ImageRuntime, TextRuntime, manifest

WORDS = ("one", "two", "three", "four", "five")
# Name -> run, options of decoding, rescorer, precision.
EXPORTS = {
    "greedy": ("transformer", "", None, "none"),
    "beam": ("transformer", "beam_size=3,num_best=3", None, "none"),
    "exact": ("transformer_nat", "", None, "none"),
    "latent": ("transformer_nat", "", None, "int8"),
    "rescored": ("transformer_nat", "num_candidates=3", "transformer", "none"),
    "images": ("vqvae", "", None, "none"),
}
_NOISE = 1e-3  # of the weights: what it changes is decided by too little to be tested
_NUM_LINES = 12


def lines() -> list[str]:
    """Returns lines to translate, some of them odd."""
    rng = random.Random(1)
    usual = [" ".join(rng.choices(WORDS, k=rng.randint(1, 9))) for _ in range(200)]
    return ["  two  spaces ", "\u2581 one", "\U0001f600 three\x00", "five " * 60, *usual]


def hypothesis(found: Any) -> dict[str, Any]:
    """Returns what is compared of a translation."""
    others = [(other.text, other.score) for other in found.others]
    return {"text": found.text, "score": found.score, "codes": found.codes, "others": others}


def text_expected(model: TextRuntime) -> dict[str, dict[str, Any]]:
    """Returns, for each line, what the model makes of it."""
    sources = lines()
    found = {
        line: {"best": h}
        for line, h in zip(sources, map(hypothesis, model.translate(sources)), strict=True)
    }
    if model.can_sample:
        drawn = model.translate(sources, temperature=1.5, top_k=20, seed=7)
        for line, h in zip(sources, drawn, strict=True):
            found[line]["drawn"] = hypothesis(h)
    pairs = [(line, found[line]["best"]["text"]) for line in sources]
    for line, scored in zip(sources, model.score(pairs), strict=True):
        found[line]["scored"] = {"score": scored.score, "codes": scored.codes}
    if model.has_latents:
        requests = [(line, [number % 12, 3, 11]) for number, line in enumerate(sources)]
        for (line, codes), h in zip(requests, model.decode_codes(requests), strict=True):
            found[line]["decoded"] = {"of": codes, **hypothesis(h)}
    return found


def stable(expected: Callable[[], dict[str, Any]], weights: Sequence[Any]) -> dict[str, Any]:
    """Returns what stays as it is, except for scores, when the weights change by very little."""
    first = expected()
    before = [variable.numpy() for variable in weights]
    for seed in range(3):
        rng = np.random.default_rng(seed)
        for variable, value in zip(weights, before, strict=True):
            noise = 1 + _NOISE * rng.standard_normal(value.shape)
            variable.assign((value * noise).astype(value.dtype))
        again = expected()
        first = {
            key: value
            for key, value in first.items()
            if _without_scores(value) == _without_scores(again[key])
        }
    for variable, value in zip(weights, before, strict=True):
        variable.assign(value)
    return first


def _without_scores(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_scores(v) for k, v in value.items() if k != "score"}
    if isinstance(value, (list, tuple)):
        return [_without_scores(v) for v in value]
    return None if isinstance(value, float) else value


def expected_of(name: str, folder: pathlib.Path, description: Any) -> dict[str, Any]:
    """Returns what TensorFlow does with the functions of an export."""
    run, options, rescorer, _ = EXPORTS[name]
    loaded = load_run(OutputDir(str(folder / "runs" / run)))
    if loaded.vocabulary is None:
        model = ImageRuntime(description, make_graphs(loaded, parse_options("")))
        images = np.random.default_rng(0).integers(0, 256, [6, 8, 8, 1]).astype(np.uint8)
        codes = model.sample(6, temperature=0.8, seed=5)
        return {
            "images": images.tolist(),
            "codes": model.encode(images).tolist(),
            "sampled": codes.tolist(),
            "decoded": model.decode(codes).tolist(),
        }
    chooses = rescorer and load_rescorer(str(folder / "runs" / rescorer), loaded.vocabulary)
    graphs = make_graphs(loaded, parse_options(options), chooses or None)
    vocabulary = Vocabulary(str(folder / "runs" / run / "vocab.model"))
    model = TextRuntime(description, vocabulary, graphs)
    found = stable(lambda: text_expected(model), graphs.variables_used)
    print(name, len(found), "lines stay", file=sys.stderr)
    return dict(list(found.items())[:_NUM_LINES])


def main(arguments: Sequence[str]) -> None:
    """Makes the exports and what is expected of them, and packs them."""
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        with tarfile.open(arguments[0]) as archive:
            archive.extractall(folder, filter="data")
        expected: dict[str, Any] = {"lines": lines()}
        for export, (run, options, rescorer, quantize) in EXPORTS.items():
            description = export_run(
                OutputDir(str(folder / "runs" / run)),
                str(folder / export),
                quantize=quantize,
                options=parse_options(options),
                rescore_dir=rescorer and str(folder / "runs" / rescorer),
                data_dir=str(folder / "data"),
            )
            if quantize == "none":  # 8 bits give other texts on other processors
                expected[export] = expected_of(export, folder, description)
        (folder / "expected.json").write_text(json.dumps(expected))
        with tarfile.open(arguments[1], "w:xz") as archive:
            for part in (*EXPORTS, "expected.json"):
                archive.add(folder / part, arcname=part)
    print(f"export format {manifest.FORMAT}", file=sys.stderr)


if __name__ == "__main__":
    main(sys.argv[1:])

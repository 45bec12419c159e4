"""A folder that any static web server can host: the page, with a model that runs in the browser."""

from __future__ import annotations

import hashlib
import importlib.resources
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from t2t_vqem.constants import WEB, UsageError
from t2t_vqem.data.vocabulary import Vocabulary
from t2t_vqem.decoding.greedy import POSITION_MULTIPLE
from t2t_vqem.export.graphs import Graphs
from t2t_vqem.files import write_file, write_json
from t2t_vqem.ops.shapes import rounded_up
from t2t_vqem.runtime import manifest as manifests
from t2t_vqem.runtime import text
from t2t_vqem.runtime.cards import image_card, text_card
from t2t_vqem.runtime.interpreters import Interpreters
from t2t_vqem.runtime.manifest import PHRASES, TEXT, Manifest, file_hash

_SHORTEST = 16  # number of ids in the shortest of the static shapes
_PADDING = {"codes": -1, "latents": -1}  # of outputs and inputs; 0 for the others
_MOST_IMAGES = 64  # drawn at once
_PAGE, _VENDOR, _LICENCES, _OPENAPI = "page", "vendor", "LICENSES.txt", "openapi.json"
_INDEX, _FILES, _LIST, _MODELS = "index.html", "files.js", "models.json", "models"
_HEAD = '<meta charset="utf-8">\n'
# The policy of the page, see docs/serving.md. WebAssembly counts as a script that is compiled at
# run time. A policy in the page cannot hold frame-ancestors, which needs a header.
POLICY = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; "
    "img-src 'self' blob: data:; connect-src 'self'; manifest-src 'self'; "
    "base-uri 'none'; form-action 'none'"
)


_METAS = (
    f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
    f'<meta name="models" content="{_LIST}">\n'
)


def static_lengths(max_length: int) -> list[int]:
    """Returns the numbers of ids for which a model has static shapes, each twice the one before."""
    lengths = []
    while (length := _SHORTEST << len(lengths)) < max_length:
        lengths.append(length)
    return [*lengths, max_length]


class _Sizes(NamedTuple):
    codes: int  # of an input
    tokens: int  # of the outputs


def _sizes(length: int, manifest: Manifest) -> _Sizes:
    """Returns the sizes of the function for a number of source ids."""
    ratio = max(1, manifest.tokens_per_latent)
    positions = rounded_up(length + manifest.decoding["extra_length"], POSITION_MULTIPLE)
    num_codes = -(-positions // ratio)
    # The end of a sentence may follow the positions of all latents; it is rounded to a latent.
    return _Sizes(codes=num_codes, tokens=(num_codes + 1) * ratio + 1)


def static_graphs(graphs: Graphs, manifest: Manifest) -> Graphs:
    """Returns the functions for batches of one row and static lengths, the only ones in a browser.

    The name of a function ends in its number of source ids, as "translate_16". Alpha and extra
    length are those of the manifest. Only the sizes of inputs and outputs are static: a latent
    model still decodes no more positions than it has latents.

    Args:
        graphs: functions of any batch and length, see `text_graphs` and `image_graphs`.
        manifest: the manifest of the export.
    """
    if manifest.kind != TEXT:
        functions = {name: _with_one_row(graphs.functions[name]) for name in graphs.functions}
        return Graphs(functions, graphs.variables_used)
    functions = {}
    for length in static_lengths(manifest.max_length):
        for name in (text.TRANSLATE, text.DECODE_CODES):
            if name in graphs.functions:
                made = _with_length(graphs.functions[name], length, manifest)
                functions[f"{name}_{length}"] = made
    return Graphs(functions, graphs.variables_used)


def _with_one_row(function: Any) -> Any:
    """Returns a function of images for one row."""
    compute = function.get_concrete_function()
    specs = [
        tf.TensorSpec([1, *spec.shape[1:]] if spec.shape.rank else [], spec.dtype, name=spec.name)
        for spec in function.input_signature
    ]
    (output,) = compute.structured_outputs

    def of_one(*inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        found = compute(*inputs)[output]
        return {output: tf.reshape(found, [1, *compute.structured_outputs[output].shape[1:]])}

    return tf.function(of_one, input_signature=specs, autograph=False)


def _with_length(function: Any, length: int, manifest: Manifest) -> Any:
    """Returns a function of text for one row of `length` ids."""
    compute = function.get_concrete_function()
    sizes = _sizes(length, manifest)
    shapes = {"inputs": [1, length], "codes": [1, sizes.codes], "row_ids": [1]}
    constants = {name: manifest.decoding[name] for name in ("alpha", "extra_length")}
    specs = [
        tf.TensorSpec(shapes.get(spec.name, []), spec.dtype, name=spec.name)
        for spec in function.input_signature
        if spec.name not in constants
    ]

    def of_one(*inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        given = {spec.name: value for spec, value in zip(specs, inputs, strict=True)}
        for spec in function.input_signature:
            if spec.name in constants:
                given[spec.name] = tf.constant(constants[spec.name], spec.dtype)
        outputs = compute(**given)
        rows = manifest.decoding["num_best"] if "codes" not in given else 1
        return {
            name: _padded(value, rows, sizes.tokens, _PADDING.get(name, 0))
            for name, value in outputs.items()
        }

    return tf.function(of_one, input_signature=specs, autograph=False)


def _padded(value: tf.Tensor, rows: int, width: int, padding: int) -> tf.Tensor:
    """Returns an output [rows] or [rows, <= width] with a static shape."""
    if value.shape.rank == 1:
        return tf.reshape(value, [rows])
    missing = width - tf.shape(value)[1]
    padding = tf.cast(padding, value.dtype)
    return tf.reshape(tf.pad(value, [[0, 0], [0, missing]], constant_values=padding), [rows, width])


class StaticInterpreters:
    """`Backend` over a model of `static_graphs`: chooses a length, and computes row by row."""

    def __init__(self, path: str, manifest: Manifest):
        """Loads the model file.

        Args:
            path: path of the model file.
            manifest: the manifest of the export.
        """
        self._inner = Interpreters(path)
        self._manifest = manifest

    @property
    def concurrency(self) -> int:
        """See `Backend`."""
        return self._inner.concurrency

    def inputs(self, signature: str) -> Sequence[str] | None:
        """See `Backend`."""
        if self._manifest.kind == TEXT:
            signature = f"{signature}_{static_lengths(self._manifest.max_length)[0]}"
        return self._inner.inputs(signature)

    def call(self, signature: str, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """See `Backend`."""
        if self._manifest.kind == TEXT:
            signature, inputs = self._fitted(signature, inputs)
        rows = max(len(value) for value in inputs.values() if value.ndim)
        found = [
            self._inner.call(
                signature,
                {name: x[row : row + 1] if x.ndim else x for name, x in inputs.items()},
            )
            for row in range(rows)
        ]
        return {name: np.concatenate([each[name] for each in found]) for name in found[0]}

    def _fitted(
        self, signature: str, inputs: Mapping[str, np.ndarray]
    ) -> tuple[str, dict[str, np.ndarray]]:
        """Returns the function of the shortest length that fits, and its padded inputs."""
        for length in static_lengths(self._manifest.max_length):
            sizes = {"inputs": length, "codes": _sizes(length, self._manifest).codes}
            missing = {
                name: sizes[name] - inputs[name].shape[1] for name in sizes if name in inputs
            }
            if min(missing.values()) >= 0:
                break
        padded = {
            name: np.pad(inputs[name], [[0, 0], [0, n]], constant_values=_PADDING.get(name, 0))
            for name, n in missing.items()
        }
        return f"{signature}_{length}", {**inputs, **padded}


def model_folder(folder: str, name: str) -> str:
    """Returns the folder of a model in a folder for the web."""
    return os.path.join(folder, _MODELS, name)


def _card(name: str, manifest: Manifest, vocabulary: Vocabulary | None) -> dict[str, Any]:
    """Returns what the page reads of a model: what a server describes, and how to run it."""
    if vocabulary is None:
        return {**image_card(name, manifest, most_images=_MOST_IMAGES), "local": {}}
    decoding = manifest.decoding
    local = {
        "lengths": static_lengths(manifest.max_length),
        "temperature": decoding["sampling_temperature"],
        "top_k": decoding["sampling_top_k"],
        "byte_ids": vocabulary.byte_ids,
    }
    card = text_card(
        name,
        manifest,
        can_sample=decoding["beam_size"] == 1,
        phrases=any(os.path.basename(file) == PHRASES for file in manifest.files),
    )
    return {**card, "local": local}


def check_browser_files() -> None:
    """Checks that the third-party files of the page exist.

    Raises:
        UsageError: they do not exist.
    """
    folder = importlib.resources.files("t2t_vqem.export").joinpath(_PAGE, _VENDOR)
    if not folder.joinpath(_LICENCES).is_file():
        raise UsageError(
            f"--format=web needs LiteRT.js and SentencePiece for browsers in {folder}, and they "
            "are not there: run `make web` in a checkout of the repository, which gets them with "
            "npm, and export with that checkout or with a wheel that is built from it"
        )


class OtherModel(NamedTuple):
    """A model of another export for the web."""

    folder: str  # of the export
    card: dict[str, Any]

    @property
    def name(self) -> str:
        """Name of the model."""
        return self.card["name"]


def models_of(folders: Sequence[str], name: str) -> list[OtherModel]:
    """Returns the models of other exports for the web, which a page can offer too.

    Args:
        folders: the exports.
        name: name of the model that is exported with them.

    Raises:
        UsageError: a folder is not such an export, or two models have the same name.
    """
    found: dict[str, OtherModel] = {}
    for folder in folders:
        other = manifests.read(folder)
        if other.engine != WEB:
            raise UsageError(
                f"{folder} is an export for {other.engine}, expected one for {WEB}: t2t-exporter "
                f"--format={WEB} makes it"
            )
        manifests.check_files(folder, other)
        with open(os.path.join(folder, _LIST), encoding="utf-8") as file:
            models = [OtherModel(folder, card) for card in json.load(file)["models"]]
        for model in models:
            if model.name == name or model.name in found:
                raise UsageError(
                    f"{folder} has a model of the name {model.name!r} as well: export one of them "
                    "to a folder of another name, which is also the name of the model"
                )
            found[model.name] = model
    return list(found.values())


def write_page(
    folder: str,
    name: str,
    manifest: Manifest,
    vocabulary: Vocabulary | None,
    *,
    others: Sequence[OtherModel] = (),
) -> None:
    """Writes the page beside the model of an export.

    Args:
        folder: the export's folder, with the files of the model in `model_folder`.
        name: name of the model on the page.
        manifest: the manifest of the export.
        vocabulary: its vocabulary; None for a model of images.
        others: models of other folders, see `models_of`.
    """
    cards = [_card(name, manifest, vocabulary)]
    for other in others:
        shutil.copytree(model_folder(other.folder, other.name), model_folder(folder, other.name))
        cards.append(other.card)
    page = importlib.resources.files("t2t_vqem.export").joinpath(_PAGE)
    static = importlib.resources.files("t2t_vqem.server").joinpath("static")
    _copy(static, folder, without=(_OPENAPI,))
    _copy(page, folder)
    os.makedirs(os.path.join(folder, _VENDOR))
    _copy(page.joinpath(_VENDOR), os.path.join(folder, _VENDOR))
    index = static.joinpath(_INDEX).read_text(encoding="utf-8")
    write_file(os.path.join(folder, _INDEX), index.replace(_HEAD, _HEAD + _METAS, 1).encode())
    write_json(os.path.join(folder, _LIST), {"models": cards})
    _write_list(folder)


def _copy(source: Any, folder: str, without: Sequence[str] = ()) -> None:
    """Copies the files of a folder of the package, but no folders in it."""
    for file in source.iterdir():
        if file.is_file() and file.name not in without:
            write_file(os.path.join(folder, file.name), file.read_bytes())


def _write_list(folder: str) -> None:
    """Writes the list of files that the service worker keeps for use without a network.

    It holds a hash of them all, so that browsers notice when the folder is replaced.
    """
    hashes = {
        os.path.relpath(path, folder).replace(os.sep, "/"): file_hash(path)
        for parent, _, names in os.walk(folder)
        for path in (os.path.join(parent, name) for name in names)
    }
    version = hashlib.sha256(json.dumps(hashes, sort_keys=True).encode()).hexdigest()[:16]
    listed = {"version": version, "files": sorted(hashes)}
    write_file(os.path.join(folder, _FILES), f"self.FOLDER = {json.dumps(listed)};\n".encode())

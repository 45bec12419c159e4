"""The manifest of an export: the contents of the folder, and how to use them.

A folder holds MANIFEST, the model, the vocabulary of a text model, and CARD for human readers.
Formats are numbered: each version reads its own format and all earlier ones.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping
from typing import Any

from t2t_vqem.constants import UsageError

FORMAT = 1
MANIFEST = "manifest.json"
MODEL = "model.tflite"
VOCABULARY = "vocab.model"
CARD = "README.md"
PHRASES = "phrases.json"  # phrases of each code of a latent model, with their counts
TEXT, IMAGES = "text", "images"
_CHUNK = 2**20
_AGAIN = "Copy the folder again, or export the run again with t2t-exporter"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Manifest:
    """The description of an export.

    Attributes:
        kind: "text" or "images".
        engine: format of the model: "litert", "saved_model" or "ctranslate2".
        model: registered name of the model.
        files: hash of each file (sha256) that the engine reads, by its name.
        quantize: "none" or "int8".
        decoding: the `DecodeOptions` of the graph, and the defaults of its inputs.
        languages: codes of the source and the target language.
        max_length: the largest number of ids of a source, including EOS; longer ones are truncated.
        max_extra_length: number of tokens by which a translation may exceed its source.
        num_codes: number of codes in each codebook; 0 for a model without codes.
        tokens_per_latent: number of positions of a latent in `Hypothesis.raw_tokens`.
        group_size: number of tokens in a group, for a model with grouped targets; 1: no groups.
        image_shape: height, width and channels of images.
        code_shape: latents and codebooks of an image.
        about: everything else: where it comes from and how good it is.
    """

    kind: str
    engine: str
    model: str
    files: Mapping[str, str]
    quantize: str = "none"
    decoding: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    languages: tuple[str, ...] = ()
    max_length: int = 0
    max_extra_length: int = 0
    num_codes: int = 0
    tokens_per_latent: int = 0
    group_size: int = 1
    image_shape: tuple[int, ...] = ()
    code_shape: tuple[int, ...] = ()
    about: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Returns the manifest as JSON, for `read`."""
        return {"format": FORMAT, **dataclasses.asdict(self)}


def read(folder: str) -> Manifest:
    """Reads the manifest of an export.

    Raises:
        UsageError: the folder is not an export, has a newer format, or its manifest is damaged.
    """
    path = os.path.join(folder, MANIFEST)
    try:
        with open(path, encoding="utf-8") as file:
            content = json.load(file)
    except FileNotFoundError as error:
        raise UsageError(
            f"{folder} is not an exported model: it has no {MANIFEST}. t2t-exporter makes one from "
            "the output directory of a run"
        ) from error
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{path} cannot be read: {error}. {_AGAIN}") from error
    if not isinstance(content, dict) or not isinstance(content.get("format"), int):
        raise UsageError(f"{path} is not a manifest of an export: it has no format. {_AGAIN}")
    if content["format"] > FORMAT:
        raise UsageError(
            f"{folder} has format {content['format']}, and this version reads up to {FORMAT}: "
            "install a newer t2t-vqem, or export the run again with this one"
        )
    fields = {field.name: field for field in dataclasses.fields(Manifest)}
    values = {name: _as_tuple(content[name]) for name in fields if name in content}
    try:
        return _checked(Manifest(**values))
    except (TypeError, ValueError) as error:
        raise UsageError(f"{path} is damaged: {error}. {_AGAIN}") from error


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _checked(manifest: Manifest) -> Manifest:
    for field in dataclasses.fields(Manifest):
        value = getattr(manifest, field.name)
        kind = field.type.partition("[")[0]
        expected = {"str": str, "int": int, "tuple": tuple, "Mapping": dict}[kind]
        if not isinstance(value, expected) or (expected is int and isinstance(value, bool)):
            raise ValueError(f"{field.name} is {value!r}, expected a {kind}")
    if manifest.kind not in (TEXT, IMAGES):
        raise ValueError(f"kind is {manifest.kind!r}, expected {TEXT!r} or {IMAGES!r}")
    return manifest


def check_files(folder: str, manifest: Manifest) -> None:
    """Checks that all files exist and are complete.

    Raises:
        UsageError: a file is missing or has other contents.
    """
    for name, expected in manifest.files.items():
        path = os.path.join(folder, name)
        if os.path.normpath(name) != name or os.path.isabs(name) or name.startswith(".."):
            raise UsageError(f"{folder} names a file outside of it, {name!r}: do not use it")
        try:
            found = file_hash(path)
        except OSError as error:
            raise UsageError(f"{path} cannot be read ({error.strerror}). {_AGAIN}") from error
        if found != expected:
            raise UsageError(
                f"{path} is not the file that was exported: its hash is {found[:12]}, expected "
                f"{str(expected)[:12]}. {_AGAIN}"
            )


def file_hash(path: str) -> str:
    """Returns the sha256 of a file, in hex."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()

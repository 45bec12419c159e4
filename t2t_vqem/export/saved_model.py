"""A SavedModel with text as input and output, for TensorFlow Serving and for GPUs.

The signature `serving_default` takes text and tokenises it in the graph by tensorflow-text, as
`data.vocabulary` does; `translate` takes ids. Import tensorflow_text before loading it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from t2t_vqem.constants import EOS_ID, FILL_ID, PAD_ID
from t2t_vqem.data.vocabulary import Vocabulary
from t2t_vqem.export.graphs import Graphs
from t2t_vqem.extras import import_extra
from t2t_vqem.runtime.manifest import Manifest
from t2t_vqem.runtime.results import Hypothesis
from t2t_vqem.runtime.text import TRANSLATE, TRANSLATE_ONE

FOLDER = "saved_model"
_MARK = "\u2581"  # SentencePiece writes it for a space, and reads it as one
_STAND_IN = "\U0010fffd"  # replaces it in the tokeniser: the last private-use character
_BLANK = r"[\s\p{Z}\x1c-\x1f\x{85}]*"
_SEPARATORS = r"\r\n|[\n\r\x0b\x0c\x1c\x1d\x1e\x{85}\x{2028}\x{2029}]"
_REPLACEMENT = "\ufffd"
_BATCH = 32


class TextModel(tf.Module):
    """Translates text; tokenises and detokenises in the graph."""

    def __init__(self, graphs: Graphs, vocabulary: Vocabulary, manifest: Manifest):
        """Makes the signatures.

        Args:
            graphs: the functions on ids.
            vocabulary: its SentencePiece model is stored in the graph.
            manifest: the export's limits and defaults.
        """
        super().__init__(name="text_model")
        text = import_extra("tensorflow_text", "export")
        self.graphs = graphs
        self.tokenizer = text.SentencepieceTokenizer(model=vocabulary.model)
        self._manifest = manifest
        self._mark = vocabulary.encode(_MARK)[-3:]  # the ids of its three bytes
        self._stand_in = vocabulary.encode(_STAND_IN)[-4:]
        self._leading = f"^ {{0,{vocabulary.leading_spaces}}}"
        pieces = [vocabulary.piece(id_) for id_ in range(vocabulary.size)]
        self._pieces = tf.constant([_spelling(piece) for piece in pieces])
        self._bytes = tf.constant([_byte(piece) for piece in pieces], tf.int32)
        self.serve = tf.function(
            self._serve, input_signature=[tf.TensorSpec([None], tf.string, name="text")]
        )

    def ids(self, lines: tf.Tensor) -> tf.Tensor:
        """Returns the ids of lines [B]: int32 [B, S], each row cut to max_length, with its EOS."""
        given = tf.strings.regex_replace(lines, _MARK, _STAND_IN)
        ids = self.tokenizer.tokenize(given).to_tensor(PAD_ID)
        # Replace the four byte ids of the stand-in by the three of the mark.
        padded = tf.pad(ids, [[0, 0], [0, 3]])
        size = tf.shape(ids)[1]
        found = tf.reduce_all(
            tf.stack([padded[:, i : i + size] == byte for i, byte in enumerate(self._stand_in)]), 0
        )
        for place, byte in enumerate([*self._mark, PAD_ID]):
            moved = tf.pad(found, [[0, 0], [place, 0]])[:, :size]
            ids = tf.where(moved, byte, ids)
        kept = tf.ragged.boolean_mask(ids, ids != PAD_ID)[:, : self._manifest.max_length - 1]
        end = tf.fill([tf.shape(lines)[0], 1], EOS_ID)
        return tf.concat([kept, tf.RaggedTensor.from_tensor(end)], 1).to_tensor(PAD_ID)

    def text(self, tokens: tf.Tensor) -> tf.Tensor:
        """Returns the text of tokens int32 [N, T], each row up to its EOS: strings [N]."""
        before = tf.cumsum(tf.cast(tokens == EOS_ID, tf.int32), axis=1)
        real = (before == 0) & (tokens != PAD_ID) & (tokens != FILL_ID)
        tokens = tf.ragged.boolean_mask(tokens, real).to_tensor(-1)
        known = tf.maximum(tokens, 0)
        spelt = tf.where(tokens < 0, "", tf.gather(self._pieces, known))
        values = tf.where(tokens < 0, -1, tf.gather(self._bytes, known))
        spelt = tf.where(_invalid(values), _REPLACEMENT, spelt)
        joined = tf.strings.reduce_join(spelt, 1)
        joined = tf.strings.regex_replace(joined, self._leading, "")
        return tf.strings.regex_replace(joined, _SEPARATORS, " ")

    def _serve(self, lines: tf.Tensor) -> dict[str, tf.Tensor]:
        decoding = self._manifest.decoding
        rows = tf.shape(lines)[0]
        settings = {
            "inputs": self.ids(lines),
            "extra_length": tf.constant(decoding["extra_length"]),
            "alpha": tf.constant(decoding["alpha"], tf.float32),
            "temperature": tf.constant(decoding["sampling_temperature"], tf.float32),
            "top_k": tf.constant(decoding["sampling_top_k"]),
            "seed": tf.constant(0),
            "row_ids": tf.range(rows),
        }
        function = self.graphs.functions[TRANSLATE]
        found = function(*(settings[name] for name in self.graphs.inputs(TRANSLATE)))
        blank = tf.strings.regex_full_match(lines, _BLANK)
        num = decoding["num_best"]
        texts = tf.where(tf.repeat(blank, num), "", self.text(found["tokens"]))
        outputs = {
            "text": tf.reshape(texts, [rows, num]),
            "scores": tf.reshape(found["scores"], [rows, num]),
        }
        if "codes" in found:
            outputs["codes"] = tf.reshape(found["codes"], [rows, num, -1])
        return outputs


def _invalid(values: tf.Tensor) -> tf.Tensor:
    """Returns which bytes int32 [N, T] belong to no character of UTF-8; -1 stands for no byte.

    SentencePiece replaces each of them, TensorFlow's own conversion several of them at once. A byte
    that continues a character cannot begin one, so each byte is decided by its neighbours.
    """
    size = tf.shape(values)[1]
    padded = tf.pad(values, [[0, 0], [0, 3]], constant_values=-1)
    first, *rest = (padded[:, i : i + size] for i in range(4))
    continues = [(value >= 0x80) & (value < 0xC0) for value in rest]
    second = rest[0]  # the first two bytes exclude long forms, surrogates and too large numbers
    begins = [
        (first >= 0) & (first < 0x80),
        (first >= 0xC2) & (first < 0xE0),
        (first >= 0xE0)
        & (first < 0xF0)
        & ((first != 0xE0) | (second >= 0xA0))
        & ((first != 0xED) | (second < 0xA0)),
        (first >= 0xF0)
        & (first < 0xF5)
        & ((first != 0xF0) | (second >= 0x90))
        & ((first != 0xF4) | (second < 0x90)),
    ]
    valid = values < 0
    for length, begin in enumerate(begins, start=1):
        for following in continues[: length - 1]:
            begin &= following
        for place in range(length):
            valid |= tf.pad(begin, [[0, 0], [place, 0]])[:, :size]
    return ~valid


def _byte(piece: str) -> int:
    """Returns the byte that a piece of the vocabulary stands for; -1 if it is no byte."""
    return int(piece[3:5], 16) if len(piece) == 6 and piece.startswith("<0x") else -1


def _spelling(piece: str) -> bytes:
    """Returns the bytes that a piece of the vocabulary stands for."""
    if (byte := _byte(piece)) >= 0:
        return bytes([byte])
    return piece.replace(_MARK, " ").encode()


def write(graphs: Graphs, vocabulary: Vocabulary | None, manifest: Manifest, folder: str) -> None:
    """Writes the SavedModel of a text or image run into the subfolder FOLDER."""
    signatures: dict[str, Any] = {
        name: function for name, function in graphs.signatures.items() if name != TRANSLATE_ONE
    }
    module: tf.Module = graphs
    if vocabulary is not None:
        module = TextModel(graphs, vocabulary, manifest)
        signatures["serving_default"] = module.serve.get_concrete_function()
    tf.saved_model.save(module, os.path.join(folder, FOLDER), signatures=signatures)


class ServedIds:
    """`Backend` that calls an export's functions on ids or on images."""

    concurrency = 1  # TensorFlow divides the work itself

    def __init__(self, folder: str):
        """Loads the SavedModel in an export."""
        self._loaded = tf.saved_model.load(os.path.join(folder, FOLDER))

    def inputs(self, signature: str) -> list[str] | None:
        """See `Backend`."""
        found = self._loaded.signatures.get(signature)
        return None if found is None else list(found.structured_input_signature[1])

    def call(self, signature: str, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """See `Backend`."""
        given = {name: tf.constant(value) for name, value in inputs.items()}
        found = self._loaded.signatures[signature](**given)
        return {name: value.numpy() for name, value in found.items()}


class Served:
    """Translates with a SavedModel as users do; the exporter compares it with the run."""

    def __init__(self, folder: str):
        """Loads the SavedModel in an export."""
        import_extra("tensorflow_text", "export")
        loaded = tf.saved_model.load(os.path.join(folder, FOLDER))
        self._loaded = loaded
        self._serve = loaded.signatures["serving_default"]

    def translate(self, lines: Iterable[str]) -> Iterator[Hypothesis]:
        """Yields a hypothesis for each line."""
        lines = list(lines)
        for start in range(0, len(lines), _BATCH):
            found = self._serve(text=tf.constant(lines[start : start + _BATCH]))
            texts, scores = (found[name].numpy()[:, 0] for name in ("text", "scores"))
            for text, score in zip(texts, scores, strict=True):
                yield Hypothesis(text.decode(), float(np.float32(score)))

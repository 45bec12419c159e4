"""The weights of a trained `transformer` as a CTranslate2 model."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from t2t_vqem.constants import EOS_ID, PAD_ID, UNK_ID
from t2t_vqem.data.lines import one_line
from t2t_vqem.data.vocabulary import Vocabulary
from t2t_vqem.extras import import_extra
from t2t_vqem.layers.common import sinusoidal_positions
from t2t_vqem.models.transformer import Transformer
from t2t_vqem.runtime.manifest import Manifest
from t2t_vqem.runtime.results import Hypothesis

FOLDER = "ctranslate2"
_SPECIAL = {PAD_ID: "<pad>", EOS_ID: "</s>", UNK_ID: "<unk>"}


def names_of(vocabulary: Vocabulary) -> list[str]:
    """Returns the name that each piece has in CTranslate2, by id."""
    return [_SPECIAL.get(id_) or vocabulary.piece(id_) for id_ in range(vocabulary.size)]


def write(
    model: Transformer, vocabulary: Vocabulary, max_positions: int, folder: str, quantize: str
) -> None:
    """Writes a model into the subfolder FOLDER.

    Args:
        model: a built transformer.
        vocabulary: its vocabulary.
        max_positions: largest length of a source or a translation; beyond it CTranslate2 raises
            an error.
        folder: the export's folder.
        quantize: "none" or "int8".
    """
    import_extra("ctranslate2", "export")
    from ctranslate2.specs import common_spec, transformer_spec

    hparams = model.hparams
    spec = transformer_spec.TransformerSpec.from_config(
        (hparams.num_encoder_layers, hparams.num_decoder_layers),
        hparams.num_heads,
        pre_norm=True,
        activation=common_spec.Activation.RELU,
    )
    table = np.asarray(model.embedding.table)
    # CTranslate2's own table begins at position 1, ours at 0.
    positions = sinusoidal_positions(max_positions, hparams.hidden_size)
    spec.encoder.embeddings[0].weight = table
    spec.decoder.embeddings.weight = table
    spec.decoder.projection.weight = table
    for ours, theirs in ((model.encoder, spec.encoder), (model.decoder, spec.decoder)):
        theirs.position_encodings.encodings = positions
        _norm(theirs.layer_norm, ours.norm)
        for block, layer in zip(ours.blocks, theirs.layer, strict=True):
            _block(layer, block)
    names = names_of(vocabulary)
    spec.config.decoder_start_token = names[PAD_ID]
    spec.config.bos_token = names[PAD_ID]
    spec.config.eos_token = names[EOS_ID]
    spec.config.unk_token = names[UNK_ID]
    spec.config.layer_norm_epsilon = model.encoder.norm.epsilon
    spec.register_source_vocabulary(names)
    spec.register_target_vocabulary(names)
    spec.validate()
    spec.optimize(quantization=None if quantize == "none" else quantize)
    path = os.path.join(folder, FOLDER)
    os.makedirs(path)
    spec.save(path)


def _norm(theirs: Any, ours: Any) -> None:
    theirs.gamma, theirs.beta = np.asarray(ours.gamma), np.asarray(ours.beta)


def _dense(theirs: Any, ours: Any) -> None:
    theirs.weight = np.ascontiguousarray(np.asarray(ours.kernel).T)
    size = theirs.weight.shape[0]
    theirs.bias = np.zeros(size, np.float32) if ours.bias is None else np.asarray(ours.bias)


def _block(theirs: Any, ours: Any) -> None:
    _norm(theirs.self_attention.layer_norm, ours.attention_norm)
    _dense(theirs.self_attention.linear[0], ours.attention.query_key_value)
    _dense(theirs.self_attention.linear[1], ours.attention.output_transform)
    if ours.cross is not None:
        _norm(theirs.attention.layer_norm, ours.cross_norm)
        _dense(theirs.attention.linear[0], ours.cross.query_transform)
        _dense(theirs.attention.linear[1], ours.cross.key_value)
        _dense(theirs.attention.linear[2], ours.cross.output_transform)
    _norm(theirs.ffn.layer_norm, ours.feed_forward_norm)
    _dense(theirs.ffn.linear_0, ours.feed_forward.expand)
    _dense(theirs.ffn.linear_1, ours.feed_forward.contract)


class Served:
    """Translates with a CTranslate2 model as users do; the exporter compares it with the run."""

    def __init__(
        self, manifest: Manifest, vocabulary: Vocabulary, folder: str, *, threads: int = 1
    ):
        """Loads the model in an export."""
        ctranslate2 = import_extra("ctranslate2", "export")
        self._manifest, self._vocabulary = manifest, vocabulary
        self._names = names_of(vocabulary)
        self._ids = {name: id_ for id_, name in enumerate(self._names)}
        self._translator = ctranslate2.Translator(
            os.path.join(folder, FOLDER), intra_threads=threads
        )

    def translate(self, lines: Iterable[str]) -> Iterator[Hypothesis]:
        """Yields a hypothesis for each line."""
        most, decoding = self._manifest.max_length, self._manifest.decoding
        for line in lines:
            if not line.strip():
                yield Hypothesis("", 0.0)
                continue
            ids = [*self._vocabulary.encode(line)[: most - 1], EOS_ID]
            (found,) = self._translator.translate_batch(
                [[self._names[id_] for id_ in ids]],
                beam_size=decoding["beam_size"],
                length_penalty=decoding["alpha"] if decoding["beam_size"] > 1 else 1,
                max_decoding_length=len(ids) + decoding["extra_length"],
                return_scores=True,
            )
            tokens = [self._ids[name] for name in found.hypotheses[0]]
            yield Hypothesis(one_line(self._vocabulary.decode(tokens)), found.scores[0])

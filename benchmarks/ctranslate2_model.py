"""The weights of a trained `transformer` as a CTranslate2 model."""

from __future__ import annotations

import os

import ctranslate2
import numpy as np
from ctranslate2.specs import common_spec, transformer_spec

from t2t_vqem.constants import EOS_ID, PAD_ID, UNK_ID
from t2t_vqem.layers.common import sinusoidal_positions
from t2t_vqem.models.transformer import Transformer

EOS = "</s>"
_SPECIAL = {PAD_ID: "<pad>", EOS_ID: EOS, UNK_ID: "<unk>"}
_MAX_POSITIONS = 1024


def token(id_: int) -> str:
    """Returns the name of an id in the CTranslate2 model."""
    return _SPECIAL.get(id_, str(id_))


def token_id(name: str) -> int:
    """Returns the id of a name; the inverse of `token`."""
    return int(name) if name.isdigit() else {v: k for k, v in _SPECIAL.items()}[name]


def convert(model: Transformer, vocab_size: int, directory: str) -> None:
    """Writes `model` to `directory`, in float32.

    The vocabulary of the result consists of ids written as digits, so both systems get the same
    pieces. CTranslate2 quantises when it loads the model with `compute_type="int8"`.
    """
    hparams = model.hparams
    spec = transformer_spec.TransformerSpec.from_config(
        (hparams.num_encoder_layers, hparams.num_decoder_layers),
        hparams.num_heads,
        pre_norm=True,
        activation=common_spec.Activation.RELU,
    )
    table = np.asarray(model.embedding.table)
    positions = sinusoidal_positions(_MAX_POSITIONS, hparams.hidden_size)
    spec.encoder.embeddings[0].weight = table
    spec.decoder.embeddings.weight = table
    spec.decoder.projection.weight = table
    for ours, theirs in ((model.encoder, spec.encoder), (model.decoder, spec.decoder)):
        theirs.position_encodings.encodings = positions
        _norm(theirs.layer_norm, ours.norm)
        for block, layer in zip(ours.blocks, theirs.layer, strict=True):
            _block(layer, block)
    spec.config.decoder_start_token = token(PAD_ID)
    spec.config.bos_token = token(PAD_ID)
    spec.config.eos_token = token(EOS_ID)
    spec.config.unk_token = token(UNK_ID)
    spec.config.layer_norm_epsilon = model.encoder.norm.epsilon
    names = [token(i) for i in range(vocab_size)]
    spec.register_source_vocabulary(names)
    spec.register_target_vocabulary(names)
    spec.validate()
    os.makedirs(directory, exist_ok=True)
    spec.save(directory)


def load(
    directory: str,
    *,
    compute_type: str,
    intra_threads: int,
    inter_threads: int = 1,
    device: str = "cpu",
) -> ctranslate2.Translator:
    """Loads a converted model on the CPU or, if `device` is "cuda", on the GPU."""
    return ctranslate2.Translator(
        directory,
        device=device,
        compute_type=compute_type,
        intra_threads=intra_threads,
        inter_threads=inter_threads,
    )


def _block(layer, block) -> None:
    attention = layer.self_attention
    _norm(attention.layer_norm, block.attention_norm)
    _linear(attention.linear[0], block.attention.query_key_value)
    _linear(attention.linear[1], block.attention.output_transform)
    if block.cross is not None:
        _norm(layer.attention.layer_norm, block.cross_norm)
        _linear(layer.attention.linear[0], block.cross.query_transform)
        _linear(layer.attention.linear[1], block.cross.key_value)
        _linear(layer.attention.linear[2], block.cross.output_transform)
    _norm(layer.ffn.layer_norm, block.feed_forward_norm)
    _linear(layer.ffn.linear_0, block.feed_forward.expand)
    _linear(layer.ffn.linear_1, block.feed_forward.contract)


def _norm(spec, layer) -> None:
    spec.gamma = np.asarray(layer.gamma)
    spec.beta = np.asarray(layer.beta)


def _linear(spec, layer) -> None:
    spec.weight = np.ascontiguousarray(np.asarray(layer.kernel).T)  # CTranslate2 has [out, in]
    if layer.bias is not None:
        spec.bias = np.asarray(layer.bias)

"""Converts a SentencePiece model of any origin into a vocabulary of this package.

The pieces, their scores and the normalisation stay as they are. Only the special pieces move: PAD,
EOS and UNK get the ids of `constants`, and other control pieces, such as a beginning of sentence,
which text never contains, are left out. A model without byte fallback gets it, with 256 pieces for
single bytes at the end. So nothing is unknown, and whatever reads a vocabulary can read the result.
"""

from __future__ import annotations

from t2t_vqem.constants import EOS_ID, PAD_ID, UNK_ID, UsageError

_BYTES = [f"<0x{byte:02X}>" for byte in range(256)]


def convert(path: str) -> bytes:
    """Returns the model in a file as the model of a `Vocabulary`.

    A model that t2t-datagen wrote is returned unchanged.

    Args:
        path: file of a SentencePiece model of the type unigram or BPE.

    Raises:
        UsageError: the file is missing, or is not such a model.
    """
    from google.protobuf.message import DecodeError
    from sentencepiece import sentencepiece_model_pb2

    try:
        with open(path, "rb") as file:
            content = file.read()
    except OSError as error:
        raise UsageError(
            f"sentencepiece_model={path}: cannot be read ({error.strerror})."
        ) from error
    model = sentencepiece_model_pb2.ModelProto()
    try:
        model.ParseFromString(content)
    except DecodeError as error:
        raise UsageError(
            f"sentencepiece_model={path}: not a SentencePiece model ({error}). Expected the file "
            "that ends in .model, not the list of pieces that ends in .vocab."
        ) from error
    kinds = sentencepiece_model_pb2.TrainerSpec.ModelType
    kind = kinds.Name(model.trainer_spec.model_type).lower()
    if not model.pieces or kind not in ("unigram", "bpe"):
        raise UsageError(
            f"sentencepiece_model={path}: got a model of type {kind} with {len(model.pieces)} "
            "pieces, expected a unigram or BPE model."
        )
    if model.trainer_spec.treat_whitespace_as_suffix:
        raise UsageError(
            f"sentencepiece_model={path}: its pieces end with the space after a word "
            "(treat_whitespace_as_suffix), expected pieces that begin with the space before it."
        )
    if not _is_ready(model):
        _rewrite(model)
        content = model.SerializeToString(deterministic=True)
    return content


def _is_ready(model) -> bool:
    spec = model.trainer_spec
    special = {PAD_ID: spec.pad_piece, EOS_ID: spec.eos_piece, UNK_ID: spec.unk_piece}
    return (
        spec.byte_fallback
        and len(model.pieces) > len(special)
        and all(model.pieces[id_].piece == piece for id_, piece in special.items())
        and model.pieces[UNK_ID].type == model.SentencePiece.UNKNOWN
        and all(model.pieces[id_].type == model.SentencePiece.CONTROL for id_ in (PAD_ID, EOS_ID))
        and sum(p.type == model.SentencePiece.CONTROL for p in model.pieces) == 2
    )


def _rewrite(model) -> None:
    """Moves the special pieces and adds byte pieces."""
    kinds, spec = model.SentencePiece, model.trainer_spec
    unknown = next((p for p in model.pieces if p.type == kinds.UNKNOWN), kinds(piece="<unk>"))
    kept = [p for p in model.pieces if p.type not in (kinds.UNKNOWN, kinds.CONTROL)]
    taken = {p.piece for p in (unknown, *kept)}
    added = [] if spec.byte_fallback else [kinds(piece=b, type=kinds.BYTE) for b in _BYTES]
    # A piece may have the name of a byte piece; text that contains it is then spelt in bytes.
    kept = [p for p in kept if spec.byte_fallback or p.piece not in _BYTES]
    special = {}
    for id_, name in ((PAD_ID, "<pad>"), (EOS_ID, "</s>")):
        while name in taken:  # the text has a piece of this name
            name = f"<{name}>"
        special[id_] = kinds(piece=name, type=kinds.CONTROL)
    special[UNK_ID] = kinds(piece=unknown.piece, type=kinds.UNKNOWN)
    pieces = [special[id_] for id_ in sorted(special)] + kept + added
    del model.pieces[:]
    model.pieces.extend(pieces)
    spec.pad_id, spec.eos_id, spec.unk_id, spec.bos_id = PAD_ID, EOS_ID, UNK_ID, -1
    spec.pad_piece, spec.eos_piece = special[PAD_ID].piece, special[EOS_ID].piece
    spec.unk_piece = unknown.piece
    spec.byte_fallback = True
    spec.vocab_size = len(pieces)

"""Subword vocabulary: SentencePiece with byte fallback, lossless in both directions.

`decode(encode(s)) == s` for every text `s` of one line. Text is not normalised and no white space
is removed. Characters without a piece are encoded as UTF-8 bytes, so nothing is unknown. A user's
own model (see `sentencepiece_model`) may normalise: then decoding gives the normalised text.
"""

from __future__ import annotations

import functools
import hashlib
import io
import re
from collections.abc import Iterable, Sequence
from typing import overload

import numpy as np

from t2t_vqem.constants import EOS_ID, FILL_ID, PAD_ID, UNK_ID, UsageError
from t2t_vqem.files import write_file

# SentencePiece represents a space by this character, so it mistakes the character for a space.
_SPACE_MARK = "\u2581"
# The number of threads is fixed, because the result of training depends on it (through the order of
# floating-point sums).
_TRAINING_THREADS = 16
# Longer lines are cut, for training only: a few very long lines would need most of the memory.
_MAX_TRAINING_CHARS = 1024
# SentencePiece starts a thread to encode a list, which takes longer than encoding a few lines.
_FEW_LINES = 8


class Vocabulary:
    """A trained vocabulary. PAD, EOS and UNK have the ids of `constants`; UNK never occurs.

    Args:
        model_path: file of the SentencePiece model.

    Attributes:
        model: the content of the file.
        byte_ids: the id of each single byte [256].

    Raises:
        UsageError: the file is missing, is not a SentencePiece model, or its special ids or byte
            pieces are not as expected.
    """

    def __init__(self, model_path: str):
        import sentencepiece

        try:
            with open(model_path, "rb") as file:
                self.model = file.read()
        except OSError as error:
            raise UsageError(
                f"{model_path}: vocabulary cannot be read ({error.strerror}). "
                "t2t-datagen writes it beside the records."
            ) from error
        self._processor = sentencepiece.SentencePieceProcessor()
        try:
            self._processor.LoadFromSerializedProto(self.model)
        except (RuntimeError, UnicodeError) as error:
            raise UsageError(f"{model_path}: not a SentencePiece model ({error}).") from error
        sp = self._processor
        ids = {"PAD": sp.pad_id(), "EOS": sp.eos_id(), "UNK": sp.unk_id()}
        if ids != {"PAD": PAD_ID, "EOS": EOS_ID, "UNK": UNK_ID}:
            raise UsageError(
                f"{model_path}: special ids {ids}, expected PAD {PAD_ID}, EOS {EOS_ID}, "
                f"UNK {UNK_ID}. Use a vocabulary trained by t2t-datagen."
            )
        self.byte_ids = [sp.PieceToId(f"<0x{byte:02X}>") for byte in range(256)]
        if UNK_ID in self.byte_ids:
            raise UsageError(
                f"{model_path}: the model has no pieces for single bytes, expected one trained "
                "with byte fallback. Use a vocabulary trained by t2t-datagen."
            )

    @functools.cached_property
    def size(self) -> int:
        """Number of ids, including the special ones."""
        return self._processor.GetPieceSize()

    @property
    def hash(self) -> str:
        """Hash of the model. Vocabularies with the same hash have the same ids."""
        return hashlib.sha256(self.model).hexdigest()

    @functools.cached_property
    def word_starts(self) -> np.ndarray:
        """Which pieces begin with a space and so begin a word: bool [size]."""
        return np.array([piece.startswith(_SPACE_MARK) for piece in self._pieces])

    @functools.cached_property
    def _pieces(self) -> list[str]:
        return [self._processor.IdToPiece(id_) for id_ in range(self.size)]

    @functools.cached_property
    def byte_starts(self) -> np.ndarray:
        """Which pieces are a single byte that begins a character: bool [size]."""
        pieces = map(self._processor.IdToPiece, range(self.size))
        bytes_ = {f"<0x{byte:02X}>" for byte in range(256) if byte >> 6 != 0b10}
        return np.array([piece in bytes_ for piece in pieces])

    @functools.cached_property
    def _proto(self):
        from sentencepiece import sentencepiece_model_pb2

        return sentencepiece_model_pb2.ModelProto.FromString(self.model)

    @functools.cached_property
    def kind(self) -> str:
        """The type of the model: "unigram" or "bpe"."""
        spec = self._proto.trainer_spec
        return (
            spec.DESCRIPTOR.fields_by_name["model_type"]
            .enum_type.values_by_number[spec.model_type]
            .name.lower()
        )

    @functools.cached_property
    def _scores(self) -> np.ndarray:
        """The log-probability of each piece in nats, float64 [size]."""
        return np.array([self._processor.GetScore(id_) for id_ in range(self.size)])

    @functools.cached_property
    def leading_spaces(self) -> int | str:
        """How many spaces decoding removes at the beginning of a text; "" for all of them."""
        spec = self._proto.normalizer_spec
        return "" if spec.remove_extra_whitespaces else int(spec.add_dummy_prefix)

    def piece(self, id_: int) -> str:
        """Returns how the vocabulary writes an id: a space is U+2581, a byte "<0x0A>"."""
        return self._pieces[id_]

    @overload
    def encode(self, text: str) -> list[int]: ...
    @overload
    def encode(self, text: list[str]) -> list[list[int]]: ...
    def encode(self, text):
        """Returns the ids of a text, or of each text in a list, without EOS.

        Raises:
            UsageError: a text contains a lone surrogate, which UTF-8 cannot encode.
        """
        if not isinstance(text, str):
            if len(text) <= _FEW_LINES:
                return [self.encode(t) for t in text]
            try:
                # One thread: callers that want to use more cores run more processes.
                plain = self._processor.EncodeAsIds(
                    [t.replace(_SPACE_MARK, "") for t in text], num_threads=1
                )
            except (RuntimeError, TypeError, UnicodeError):
                return [self.encode(t) for t in text]  # raises an error that names the text
            return [
                self.encode(t) if _SPACE_MARK in t else ids
                for t, ids in zip(text, plain, strict=True)
            ]
        try:
            if _SPACE_MARK in text:
                return self._encode_with_marks(text)
            return self._processor.EncodeAsIds(text)
        except (RuntimeError, UnicodeError) as error:
            raise UsageError(f"text {text[:80]!r} is not valid Unicode: {error}") from error

    def segmentations(self, text: str, num_best: int) -> list[tuple[list[int], float]]:
        """Returns the most probable segmentations of a text, with log-probabilities in nats.

        Only a unigram model has them. Single bytes, which all segmentations have in common, count
        as 0. For a text with the character that stands for a space, it is only one.
        """
        if _SPACE_MARK in text:
            return [(self.encode(text), 0.0)]
        found = self._processor.NBestEncodeAsIds(text, num_best)
        return [(ids, float(self._scores[ids].sum())) for ids in found]

    def _encode_with_marks(self, text: str) -> list[int]:
        """Encodes a text that contains the space mark.

        Replaces the mark by another character before encoding, and that character's byte pieces by
        those of the mark afterwards.
        """
        stand_in, spelt = self._stand_in(text)
        ids = self._processor.EncodeAsIds(text.replace(_SPACE_MARK, stand_in))
        result: list[int] = []
        position = 0
        while position < len(ids):
            if ids[position : position + len(spelt)] == spelt:
                result += self._ids_of_bytes(_SPACE_MARK)
                position += len(spelt)
            else:
                result.append(ids[position])
                position += 1
        return result

    def _stand_in(self, text: str) -> tuple[str, list[int]]:
        """Returns a character that is neither in the text nor in a piece, and its byte ids."""
        for code in range(0x10FFFD, 0x100000, -1):  # private use
            char = chr(code)
            spelt = self._ids_of_bytes(char)
            if char not in text and self._processor.EncodeAsIds("a" + char)[-len(spelt) :] == spelt:
                return char, spelt
        raise UsageError("the text uses all 65,533 characters of private-use plane 16.")

    def _ids_of_bytes(self, char: str) -> list[int]:
        return [self.byte_ids[byte] for byte in char.encode()]

    def decode(self, ids: Sequence[int] | np.ndarray) -> str:
        """Returns the text of the ids [T] before the first EOS, without PAD and FILL.

        The result is one line: a line feed, which does not occur in training text, becomes a space.
        Bytes that are not valid UTF-8 become U+FFFD.

        Raises:
            IndexError: an id is not in the vocabulary.
        """
        kept = np.asarray(ids).reshape(-1).tolist()
        if EOS_ID in kept:
            kept = kept[: kept.index(EOS_ID)]
        for id_ in (min(kept, default=0), max(kept, default=0)):
            if not 0 <= id_ < self.size:
                raise IndexError(f"id {id_} is not in the vocabulary of {self.size} pieces.")
        kept = [id_ for id_ in kept if id_ not in (PAD_ID, FILL_ID)]
        return self._processor.DecodeIds(kept).replace("\n", " ")

    @staticmethod
    def train(sentences: Iterable[str], size: int, path: str, seed: int) -> Vocabulary:
        """Trains a vocabulary, writes it to `path` and returns it.

        The same sentences in the same order give the same file. If the text does not have enough
        different pieces, the vocabulary is smaller than `size`.

        Args:
            sentences: lines of text. Training needs about 20 times their size in memory.
            size: number of ids, including the special ones and 256 for single bytes.
            path: the file to write.
            seed: seed of the trainer's random numbers.

        Raises:
            UsageError: `size` is too small for the characters of the text, or there is no text.
        """
        import sentencepiece

        model = io.BytesIO()
        sentencepiece.set_random_generator_seed(seed)
        try:
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=(line[:_MAX_TRAINING_CHARS] for line in sentences),
                model_writer=model,
                model_type="unigram",
                vocab_size=size,
                hard_vocab_limit=False,
                byte_fallback=True,
                normalization_rule_name="identity",
                remove_extra_whitespaces=False,
                max_sentence_length=4 * _MAX_TRAINING_CHARS,
                pad_id=PAD_ID,
                eos_id=EOS_ID,
                unk_id=UNK_ID,
                bos_id=-1,
                num_threads=_TRAINING_THREADS,
                minloglevel=2,
            )
        except RuntimeError as error:
            raise UsageError(_training_failure(str(error), size)) from error
        write_file(path, model.getvalue())
        return Vocabulary(path)


def _training_failure(error: str, size: int) -> str:
    needed = re.search(r"smaller than required_chars. \d+ vs (\d+)", error)
    if needed:
        return (
            f"vocab_size {size} is too small: the text needs at least {needed[1]} (3 special ids, "
            f"256 bytes and its characters). Raise vocab_size, preferably to a few thousand."
        )
    if "sentences_.empty()" in error:
        return (
            "no text to train the vocabulary on: expected lines of text in the training split, got "
            "only empty ones."
        )
    return f"the vocabulary could not be trained: {error}"

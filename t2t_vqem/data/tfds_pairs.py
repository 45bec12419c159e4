"""Parallel text of a TFDS data set."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from t2t_vqem.constants import DEV, TEST, TRAIN, UsageError
from t2t_vqem.data import tfds
from t2t_vqem.data.text_source import PairSource

SPLITS = {TRAIN: "train", DEV: "validation", TEST: "test"}  # TFDS's usual names


class TfdsPairs(PairSource):
    """A translation data set that TFDS has prepared. Never uses the network.

    Args:
        directory: the folder of the prepared version, which contains dataset_info.json.
        languages: codes of the source and the target language.
        splits: for each split, that of TFDS or a part of it.
    """

    def __init__(
        self, directory: str, languages: tuple[str, str], splits: Mapping[str, str] = SPLITS
    ):
        self._directory = directory
        self._languages = languages
        self._splits = splits

    def describe(self) -> str:
        return f"TFDS data set {self._directory}"

    def fingerprint(self) -> dict[str, str]:
        return tfds.hash_records(self._directory)

    def pairs(self, split: str) -> Iterator[tuple[bytes, bytes]]:
        builder = tfds.open_tfds(self._directory)
        key = self._find_text(builder.info.features)
        for example in tfds.examples(builder, self._splits[split]):
            pair = example[key] if key else example
            source, target = (_one_line(pair[code]) for code in self._languages)
            yield source, target

    def _find_text(self, features) -> str | None:
        """Returns the name of the feature that holds the languages; None if all are features."""
        nested = {key: value for key, value in features.items() if hasattr(value, "keys")}
        for key, found in {None: features, **nested}.items():
            if all(code in found for code in self._languages):
                return key
        there = [name for found in (features, *nested.values()) for name in found]
        unknown = next((code for code in self._languages if code not in there), "")
        raise UsageError(
            f"unknown language {unknown!r}: {self._directory} has {', '.join(there)}. Set "
            "source_language and target_language; the data set must be one of translations."
        )


def _one_line(text: bytes) -> bytes:
    return re.sub(rb"\r\n|\n", b" ", text)

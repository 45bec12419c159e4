"""English-German translation of generated sentences, which need no download."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable

from t2t_vqem.constants import DEV, MAX_SEED, TEST, TRAIN, UsageError
from t2t_vqem.extras import import_extra
from t2t_vqem.fields import option
from t2t_vqem.problems.cldr_text import phrases
from t2t_vqem.registry import problems
from t2t_vqem.text_problem import TextConfig, TextProblem

# Increase this when a change of templates or words changes the sentences of a seed, so that older
# data is not mistaken for the new data.
_TEXT_VERSION = 1


@problems.register()
class TranslateEndeCldr(TextProblem):
    """Generated sentences with dates, numbers, units and names from CLDR, English to German.

    Needs no download, but the extra "demo" (Babel). No sentence of dev or test is in train, not
    even with different case or punctuation.
    """

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Config(TextConfig):
        """Settings for the generated sentences."""

        train_size: int = option(20_000, "number of sentences for training", minimum=1)
        dev_size: int = option(500, "number of sentences for choosing a checkpoint", minimum=1)
        test_size: int = option(500, "number of sentences for testing", minimum=1)
        vocab_size: int = 3000
        seed: int = option(
            0,
            "seed of the sentences and of the sample to train the vocabulary on",
            minimum=0,
            maximum=MAX_SEED,
        )

        def __post_init__(self) -> None:
            super().__post_init__()
            if (self.source_language, self.target_language) != ("en", "de"):
                raise UsageError(
                    f"got source_language={self.source_language!r} and "
                    f"target_language={self.target_language!r}, expected 'en' and 'de': "
                    "translate_ende_cldr has only English to German. Omit these settings."
                )

    config: Config

    @property
    def samples_version(self) -> str:
        """Includes Babel's version, because CLDR's expressions change between versions."""
        babel = import_extra("babel", "demo").__version__
        return f"CLDR sentences {_TEXT_VERSION}, Babel {babel}"

    @functools.cached_property
    def _phrases(self) -> dict[str, list[phrases.Phrase]]:
        config = self.config
        sizes = {TRAIN: config.train_size, DEV: config.dev_size, TEST: config.test_size}
        return phrases.generate(sizes, config.seed)

    def generate_samples(self, split: str) -> Iterable[tuple[str, str]]:
        """Returns the sentences of a split."""
        return ((phrase.source, phrase.target) for phrase in self._phrases[split])

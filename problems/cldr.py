"""The embedded problem: real English-German sentences that need no download."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable

from t2t_vqem.constants import DEV, SPLITS, TEST, TRAIN, UsageError
from t2t_vqem.data.text_source import GeneratedPairs, PairSource
from t2t_vqem.extras import import_extra
from t2t_vqem.fields import option
from t2t_vqem.problems.cldr_text import phrases
from t2t_vqem.registry import problems
from t2t_vqem.text_problem import TextConfig, TextProblem

# Raise when templates or words change what a seed gives: data made before is then not taken for it.
_TEXT_VERSION = 1


@problems.register()
class TranslateEndeCldr(TextProblem):
    """Sentences around dates, numbers, units and names from CLDR, English to German, generated.

    Needs no download, but the extra "demo" (Babel). No sentence of dev or test is in train, not
    even with other case or punctuation.
    """

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Config(TextConfig):
        """Settings for the generated sentences."""

        train_size: int = option(20_000, "sentences to train on", minimum=1)
        dev_size: int = option(500, "sentences to choose a checkpoint by", minimum=1)
        test_size: int = option(500, "sentences to test on", minimum=1)
        vocab_size: int = option(
            3000, "ids of the vocabulary, with 3 special ones and 256 for bytes", minimum=260
        )
        seed: int = option(0, "seed of the sentences and of the vocabulary's sample", minimum=0)

        def __post_init__(self) -> None:
            super().__post_init__()
            if (self.source_language, self.target_language) != ("en", "de"):
                raise UsageError(
                    "translate_ende_cldr has English (en) to German (de) only, got "
                    f"source_language={self.source_language!r} and "
                    f"target_language={self.target_language!r}."
                )

    config: Config

    def source(self, *, source_dir: str | None, tfds_dir: str | None) -> PairSource:
        """Returns the generated sentences; see `Problem.source`."""
        for flag, value in (("source_dir", source_dir), ("tfds_dir", tfds_dir)):
            if value:
                raise UsageError(
                    f"--{flag}={value}: {self.name} generates its text. Leave the flag out, or "
                    "translate your own text with --problem=translate_text."
                )
        config = self.config
        sizes = {TRAIN: config.train_size, DEV: config.dev_size, TEST: config.test_size}

        @functools.cache
        def generated() -> dict[str, list[phrases.Phrase]]:
            return phrases.generate(sizes, config.seed)

        def pairs(split: str) -> Callable[[], Iterable[tuple[str, str]]]:
            return lambda: ((phrase.source, phrase.target) for phrase in generated()[split])

        # Another Babel has another CLDR, which words some things in another way.
        babel = import_extra("babel", "demo").__version__
        version = f"CLDR sentences {_TEXT_VERSION}, Babel {babel}"
        return GeneratedPairs(version, {split: pairs(split) for split in SPLITS})

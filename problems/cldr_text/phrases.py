"""The phrases of the embedded problem, drawn from all templates and split without overlap."""

from __future__ import annotations

import hashlib
import random
import re
import unicodedata
from collections.abc import Mapping
from typing import NamedTuple

from t2t_vqem.constants import UsageError
from t2t_vqem.problems.cldr_text import about_quantity, about_time, about_world
from t2t_vqem.problems.cldr_text.values import Cldr

TEMPLATES = (
    *about_time.TEMPLATES,
    *about_world.TEMPLATES,
    *about_quantity.TEMPLATES,
)

# Of a hundred phrases, so many belong to dev and to test, whatever the sizes that are asked for.
_DEV_PERCENT = 5
_TEST_PERCENT = 5
# Give up when this many draws in a row bring nothing that a split still needs.
_MAX_VAIN_DRAWS = 20_000
_NOT_WORD = re.compile(r"[^\w]+")


class Phrase(NamedTuple):
    """One sentence in both languages, and the template that it comes from."""

    source: str
    target: str
    template: str


def normalize(text: str) -> str:
    """The text without case, punctuation and spacing, to tell phrases that differ in nothing else.

    Signs between digits go too: "1,234" and "12.34" are the same. That drops a few phrases that
    do differ, and lets none slip into two splits.
    """
    return _NOT_WORD.sub("", unicodedata.normalize("NFKC", text).casefold())


def split_of(source: str) -> str:
    """The split that an English phrase belongs to: a pure function of its normalised text."""
    digest = hashlib.sha256(normalize(source).encode()).digest()
    percent = int.from_bytes(digest[:8], "big") % 100
    if percent < _TEST_PERCENT:
        return "test"
    return "dev" if percent < _TEST_PERCENT + _DEV_PERCENT else "train"


def generate(sizes: Mapping[str, int], seed: int) -> dict[str, list[Phrase]]:
    """Draws phrases until every split has its size.

    A phrase is drawn once: neither its English nor its German side, normalised, comes again in any
    split. The same sizes and seed give the same phrases with the same version of Babel; a phrase
    never changes its split with the seed.

    Args:
        sizes: number of phrases by split: "train", "dev", "test".
        seed: of the draws.

    Returns:
        Phrases by split, in the order drawn.

    Raises:
        UsageError: when the templates cannot give as many different phrases.
    """
    cldr, rng = Cldr(), random.Random(seed)
    phrases: dict[str, list[Phrase]] = {split: [] for split in sizes}
    seen: set[str] = set()
    missing, vain = sum(sizes.values()), 0
    while missing:
        template = TEMPLATES[rng.randrange(len(TEMPLATES))]
        phrase = Phrase(*template.draw(cldr, rng), template.name)
        split = split_of(phrase.source)
        keys = {f"en {normalize(phrase.source)}", f"de {normalize(phrase.target)}"}
        if keys & seen or len(phrases[split]) >= sizes[split]:
            vain += 1
            if vain > _MAX_VAIN_DRAWS:
                got = {name: len(found) for name, found in phrases.items()}
                raise UsageError(
                    f"translate_ende_cldr has no more new phrases: found {got}, asked for "
                    f"{dict(sizes)}. Ask for fewer with "
                    "--problem_params='train_size=...,dev_size=...,test_size=...'"
                )
            continue
        vain = 0
        seen |= keys
        phrases[split].append(phrase)
        missing -= 1
    return phrases

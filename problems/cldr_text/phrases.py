"""Draws phrases from all templates and divides them into splits without overlap."""

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

# The share of all possible phrases that belongs to dev and to test. It does not depend on the
# requested sizes.
_DEV_PERCENT = 5
_TEST_PERCENT = 5
# Raise an error when this many draws in a row give no new phrase for a split that is not full.
_MAX_USELESS_DRAWS = 20_000
_NOT_WORD = re.compile(r"[^\w]+")


class Phrase(NamedTuple):
    """One sentence in both languages, and the name of its template."""

    source: str
    target: str
    template: str


def normalize(text: str) -> str:
    """Returns the text without case, punctuation and spaces, to compare phrases by.

    Signs between digits are also removed, so "1,234" equals "12.34". This drops a few phrases that
    do differ, but no phrase gets into two splits.
    """
    return _NOT_WORD.sub("", unicodedata.normalize("NFKC", text).casefold())


def split_of(source: str) -> str:
    """Returns the split of an English phrase: a pure function of its normalised text."""
    digest = hashlib.sha256(normalize(source).encode()).digest()
    percent = int.from_bytes(digest[:8], "big") % 100
    if percent < _TEST_PERCENT:
        return "test"
    return "dev" if percent < _TEST_PERCENT + _DEV_PERCENT else "train"


def generate(sizes: Mapping[str, int], seed: int) -> dict[str, list[Phrase]]:
    """Draws phrases until every split has its size.

    No two phrases, in the same or in different splits, have the same normalised English or German
    text. The same sizes and seed give the same phrases with the same version of Babel. The split of
    a phrase does not depend on the seed.

    Args:
        sizes: number of phrases by split: "train", "dev", "test".
        seed: seed of the random draws.

    Returns:
        Phrases by split, in the order drawn.

    Raises:
        UsageError: the templates do not have that many different phrases.
    """
    cldr, rng = Cldr(), random.Random(seed)
    phrases: dict[str, list[Phrase]] = {split: [] for split in sizes}
    seen: set[str] = set()
    missing, useless = sum(sizes.values()), 0
    while missing:
        template = TEMPLATES[rng.randrange(len(TEMPLATES))]
        phrase = Phrase(*template.draw(cldr, rng), template.name)
        split = split_of(phrase.source)
        keys = {f"en {normalize(phrase.source)}", f"de {normalize(phrase.target)}"}
        if keys & seen or len(phrases[split]) >= sizes[split]:
            useless += 1
            if useless > _MAX_USELESS_DRAWS:
                got = {name: len(found) for name, found in phrases.items()}
                raise UsageError(
                    f"translate_ende_cldr has no more new phrases: found {got}, expected "
                    f"{dict(sizes)}. Reduce the sizes with "
                    "--problem_params='train_size=...,dev_size=...,test_size=...'"
                )
            continue
        useless = 0
        seen |= keys
        phrases[split].append(phrase)
        missing -= 1
    return phrases

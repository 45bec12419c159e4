"""Templates of the embedded problem: how a sentence is declared, and what its slots draw from.

A template is a function from `Cldr` and slot values to a sentence in both languages; the decorator
declares what each slot draws from. Drawing and wording are apart, so that a test can word a
sentence it chose. Templates live in the `about_*` modules.
"""

from __future__ import annotations

import datetime
import random
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

from t2t_vqem.problems.cldr_text.values import Cldr

T = TypeVar("T")
Draw = Callable[[random.Random], Any]
Wording = Callable[..., tuple[str, str]]


class Template(NamedTuple):
    """A sentence with slots in both languages."""

    name: str
    slots: dict[str, Draw]
    word: Wording

    def draw(self, cldr: Cldr, rng: random.Random) -> tuple[str, str]:
        """One sentence with fresh slot values: (English, German)."""
        return self.word(cldr, **{name: slot(rng) for name, slot in self.slots.items()})


def template(collection: list[Template], **slots: Draw) -> Callable[[Wording], Wording]:
    """Adds the decorated function to a collection, with what its slots draw from."""

    def decorate(word: Wording) -> Wording:
        collection.append(Template(word.__name__, slots, word))
        return word

    return decorate


def capitalize(text: str) -> str:
    """Upper case for the first letter only: the Iran -> The Iran."""
    return text[:1].upper() + text[1:]


def one_of(items: Sequence[T]) -> Callable[[random.Random], T]:
    """Draws one item."""
    return lambda rng: items[rng.randrange(len(items))]


def some_of(items: Sequence[T], low: int, high: int) -> Callable[[random.Random], list[T]]:
    """Draws between low and high different items, in any order."""

    def draw(rng: random.Random) -> list[T]:
        count = rng.randint(low, high)
        chosen: list[T] = []
        while len(chosen) < count:
            item = items[rng.randrange(len(items))]
            if item not in chosen:
                chosen.append(item)
        return chosen

    return draw


def whole(low: int, high: int) -> Callable[[random.Random], int]:
    """Draws an integer from low to high; low itself more often, so that singulars are seen."""
    return lambda rng: low if rng.random() < 0.12 else rng.randint(low, high)


def between(low: int, high: int) -> Callable[[random.Random], int]:
    """Draws an integer from low to high, all alike."""
    return lambda rng: rng.randint(low, high)


def measured(low: int, high: int) -> Callable[[random.Random], float]:
    """Draws a quantity: whole half of the time, else with one decimal; low itself more often."""

    def draw(rng: random.Random) -> float:
        if rng.random() < 0.08:
            return low
        number = round(rng.uniform(low, high), 1)
        return int(number) if rng.random() < 0.5 or number == int(number) else number

    return draw


def price(rng: random.Random) -> float:
    """Draws a price with cents, from under ten to a few thousand."""
    return round(10 ** rng.uniform(0.3, 3.5), 2)


def large(*units: int) -> Callable[[random.Random], int]:
    """Draws 1.2 to 89 of one of the units, such as 10**6; never exactly one."""

    def draw(rng: random.Random) -> int:
        tenths = (*range(12, 100), *range(110, 900, 10))
        return units[rng.randrange(len(units))] // 10 * tenths[rng.randrange(len(tenths))]

    return draw


def day(rng: random.Random) -> datetime.date:
    """Draws a day between 1950 and 2039."""
    return datetime.date(1950, 1, 1) + datetime.timedelta(days=rng.randrange(32800))


def past_day(rng: random.Random) -> datetime.date:
    """Draws a day between 1950 and 2024."""
    return datetime.date(1950, 1, 1) + datetime.timedelta(days=rng.randrange(27394))


def span_of_days(rng: random.Random) -> tuple[datetime.date, datetime.date]:
    """Draws the first and the last of two to thirty days."""
    first = day(rng)
    return first, first + datetime.timedelta(days=rng.randint(1, 29))


def clock(rng: random.Random) -> datetime.time:
    """Draws a time of day in steps of five minutes."""
    return datetime.time(rng.randrange(24), 5 * rng.randrange(12))


def span_of_hours(rng: random.Random) -> tuple[datetime.time, datetime.time]:
    """Draws opening hours: quarter hours in the morning and in the afternoon."""
    first = datetime.time(rng.randint(7, 11), 15 * rng.randrange(4))
    return first, datetime.time(rng.randint(13, 22), 15 * rng.randrange(4))

"""Sentence templates, and random values for their slots.

A template is a function from `Cldr` and slot values to a sentence in both languages. Its decorator
declares how the value of each slot is drawn. Drawing the values and rendering the sentence are
separate steps, so that a test can render chosen values. The templates are in the `about_*` modules.
"""

from __future__ import annotations

import datetime
import random
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

from t2t_vqem.problems.cldr_text.values import Cldr

T = TypeVar("T")
Draw = Callable[[random.Random], Any]
Render = Callable[..., tuple[str, str]]


class Template(NamedTuple):
    """A sentence with slots in both languages."""

    name: str
    slots: dict[str, Draw]
    render: Render

    def draw(self, cldr: Cldr, rng: random.Random) -> tuple[str, str]:
        """Returns a sentence with random slot values: (English, German)."""
        return self.render(cldr, **{name: slot(rng) for name, slot in self.slots.items()})


def template(collection: list[Template], **slots: Draw) -> Callable[[Render], Render]:
    """Decorates a function: adds it to `collection` as a template with these slots."""

    def decorate(render: Render) -> Render:
        collection.append(Template(render.__name__, slots, render))
        return render

    return decorate


def capitalize(text: str) -> str:
    """Capitalises the first letter and leaves the others as they are: the Iran -> The Iran."""
    return text[:1].upper() + text[1:]


def one_of(items: Sequence[T]) -> Callable[[random.Random], T]:
    """Draws one item."""
    return lambda rng: items[rng.randrange(len(items))]


def some_of(items: Sequence[T], low: int, high: int) -> Callable[[random.Random], list[T]]:
    """Draws `low` to `high` different items, in random order."""

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
    """Draws an integer from low to high; low more often, so that the singular is not rare."""
    return lambda rng: low if rng.random() < 0.12 else rng.randint(low, high)


def between(low: int, high: int) -> Callable[[random.Random], int]:
    """Draws an integer from low to high, uniformly."""
    return lambda rng: rng.randint(low, high)


def measured(low: int, high: int) -> Callable[[random.Random], float]:
    """Draws a quantity: about half are integers, half have one decimal; low is more frequent."""

    def draw(rng: random.Random) -> float:
        if rng.random() < 0.08:
            return low
        number = round(rng.uniform(low, high), 1)
        return int(number) if rng.random() < 0.5 or number == int(number) else number

    return draw


def price(rng: random.Random) -> float:
    """Draws a price with cents between 2 and 3162, log-uniformly."""
    return round(10 ** rng.uniform(0.3, 3.5), 2)


def large(*units: int) -> Callable[[random.Random], int]:
    """Draws 1.2 to 89 times one of the units, such as 10**6; never exactly one unit."""

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
    """Draws the first and the last day of a span of two to thirty days."""
    first = day(rng)
    return first, first + datetime.timedelta(days=rng.randint(1, 29))


def clock(rng: random.Random) -> datetime.time:
    """Draws a time of day in steps of five minutes."""
    return datetime.time(rng.randrange(24), 5 * rng.randrange(12))


def span_of_hours(rng: random.Random) -> tuple[datetime.time, datetime.time]:
    """Draws opening hours in steps of 15 minutes, from the morning to the afternoon or evening."""
    first = datetime.time(rng.randint(7, 11), 15 * rng.randrange(4))
    return first, datetime.time(rng.randint(13, 22), 15 * rng.randrange(4))

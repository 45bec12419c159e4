"""Sentences about prices, currencies, measures and counts."""

from __future__ import annotations

from t2t_vqem.problems.cldr_text import lexicon
from t2t_vqem.problems.cldr_text.template import (
    Template,
    capitalize,
    large,
    measured,
    one_of,
    past_day,
    price,
    some_of,
    template,
    whole,
)
from t2t_vqem.problems.cldr_text.values import Cldr, Pair

TEMPLATES: list[Template] = []

BUSINESS = (("earned", "verdient"), ("lost", "verloren"), ("invested", "investiert"))
# (English, German participle, auxiliary): the perfect with "haben" or "sein".
ACTIONS = (
    ("voted", "abgestimmt", "haben"),
    ("answered", "geantwortet", "haben"),
    ("came", "gekommen", "sind"),
    ("stayed at home", "zu Hause geblieben", "sind"),
)
SIDES = (("left", "links"), ("right", "rechts"))


@template(
    TEMPLATES,
    adjective=one_of(lexicon.ADJECTIVES),
    good=one_of(lexicon.GOODS),
    amount=whole(2, 999),
    currency=one_of(lexicon.CURRENCIES),
)
def costs(c: Cldr, adjective, good, amount, currency) -> tuple[str, str]:
    """Plural currency names; adjective after the definite article."""
    money = c.named_money(amount, currency)
    return (
        f"The {adjective.en} {good.en} costs {money.en}.",
        f"{capitalize(good.the_with(adjective.de))} kostet {money.de}.",
    )


@template(
    TEMPLATES,
    person=one_of(lexicon.PERSONS),
    adjective=one_of(lexicon.ADJECTIVES),
    good=one_of(lexicon.GOODS),
    amount=price,
    currency=one_of(lexicon.SYMBOL_CURRENCIES),
)
def bought_for(c: Cldr, person, adjective, good, amount, currency) -> tuple[str, str]:
    """Prices with a currency symbol; indefinite accusative; perfect, participle at the end."""
    money = c.money(amount, currency)
    article = "an" if adjective.en[0] in "aeiou" else "a"
    return (
        f"{capitalize(person.en)} bought {article} {adjective.en} {good.en} for {money.en}.",
        f"{capitalize(person.de)} {person.has()[1]} für {money.de} "
        f"{good.a_accusative_with(adjective.de)} gekauft.",
    )


@template(
    TEMPLATES,
    amount=whole(1, 2000),
    currency=one_of(lexicon.CURRENCIES[1:]),
    worth=measured(1, 90),
)
def currency_worth(c: Cldr, amount, currency, worth) -> tuple[str, str]:
    """Singular and plural of currencies, with the verb that agrees; "wert" at the end."""
    money, euros = c.named_money(amount, currency), c.named_money(worth, "EUR")
    be, sein = ("is", "ist") if amount == 1 else ("are", "sind")
    return (
        f"{money.en} {be} worth {euros.en}.",
        f"{money.de} {sein} {euros.de} wert.",
    )


@template(
    TEMPLATES,
    good=one_of(lexicon.GOODS),
    adjective=one_of(lexicon.ADJECTIVES[:3]),
    amount=whole(2, 999),
    currency=one_of(("EUR", "USD", "GBP", "CHF")),
)
def although_old(c: Cldr, good, adjective, amount, currency) -> tuple[str, str]:
    """Clause with "obwohl"; inversion; "it" becomes er, sie or es."""
    money = c.named_money(amount, currency)
    return (
        f"Although the {good.en} is {adjective.en}, it costs {money.en}.",
        f"Obwohl {good.the()} {adjective.de} ist, kostet {good.pronoun()} {money.de}.",
    )


@template(
    TEMPLATES,
    action=one_of(BUSINESS),
    date=past_day,
    number=large(10**6, 10**9),
    currency=one_of(("EUR", "USD")),
)
def quarter_result(c: Cldr, action, date, number, currency) -> tuple[str, str]:
    """Quarters; millions of a currency; inversion and participle at the end."""
    quarter, money = c.quarter(date), c.compact(number)
    # The plural name, whatever the number: 1.2 million euros.
    name = c.named_money(2, currency)
    return (
        f"In the {quarter.en} of {date.year}, the company {action[0]} {money.en} "
        f"{name.en.removeprefix('2 ')}.",
        f"Im {quarter.de} {date.year} hat das Unternehmen {money.de} "
        f"{name.de.removeprefix('2 ')} {action[1]}.",
    )


@template(
    TEMPLATES,
    number=whole(1, 300),
    unit=one_of(("length-kilometer", "length-meter", "length-mile")),
    way=one_of(lexicon.WAYS),
    side=one_of(SIDES),
)
def turns_after(c: Cldr, number, unit, way, side) -> tuple[str, str]:
    """Units in the dative plural: nach 3 Kilometern; separated verb: biegt ... ab."""
    distance = c.unit_dative(number, unit)
    return (
        f"After {distance.en}, the {way.en} turns {side[0]}.",
        f"Nach {distance.de} biegt {way.the()} {side[1]} ab.",
    )


def _ingredient(c: Cldr, name: str, number: int, choice: int) -> Pair:
    german, units = lexicon.INGREDIENTS[name]
    quantity = c.unit(number, units[choice % len(units)])
    return Pair(f"{quantity.en} of {name}", f"{quantity.de} {german}")


@template(
    TEMPLATES,
    names=some_of(tuple(lexicon.INGREDIENTS), 2, 3),
    numbers=some_of(tuple(range(1, 10)), 3, 3),
    choices=some_of(range(4), 3, 3),
)
def recipe(c: Cldr, names, numbers, choices) -> tuple[str, str]:
    """Measured ingredients: "of" is omitted in German; list; clause order changes."""
    parts = []
    for name, number, choice in zip(names, numbers, choices, strict=False):
        units = lexicon.INGREDIENTS[name][1]
        small = units[choice % len(units)] in ("mass-gram", "volume-milliliter")
        parts.append(_ingredient(c, name, number * 50 if small else number, choice))
    needed = c.list(parts)
    return (
        f"You need {needed.en} for this recipe.",
        f"Für dieses Rezept braucht man {needed.de}.",
    )


@template(
    TEMPLATES,
    speed=whole(20, 199),
    fine=whole(15, 900),
    currency=one_of(("EUR", "USD", "CHF", "GBP")),
)
def speeding(c: Cldr, speed, fine, currency) -> tuple[str, str]:
    """Clause with "wer"; units with "pro"; infinitive at the end."""
    fast, money = c.unit(speed, "speed-kilometer-per-hour"), c.named_money(fine, currency)
    return (
        f"Anyone who drives faster than {fast.en} must pay a fine of {money.en}.",
        f"Wer schneller als {fast.de} fährt, muss {money.de} Strafe zahlen.",
    )


@template(
    TEMPLATES,
    adjective=one_of((lexicon.ADJECTIVES[1], lexicon.ADJECTIVES[0], lexicon.ADJECTIVES[2])),
    memory=whole(1, 512),
    unit=one_of(("digital-gigabyte", "digital-megabyte")),
    power=whole(1, 900),
)
def computer(c: Cldr, adjective, memory, unit, power) -> tuple[str, str]:
    """Two measures; weak adjective."""
    size, watts = c.unit(memory, unit), c.unit(power, "power-watt")
    return (
        f"The {adjective.en} computer has {size.en} of memory and uses {watts.en}.",
        f"Der {adjective.de}e Computer hat {size.de} Speicher und verbraucht {watts.de}.",
    )


@template(
    TEMPLATES,
    site=one_of(lexicon.SITES[:4]),
    number=measured(1, 150),
    unit=one_of(("area-hectare", "area-square-kilometer", "area-square-meter")),
)
def covers(c: Cldr, site, number, unit) -> tuple[str, str]:
    """English verb, German adjective: ist 3 Hektar groß."""
    area = c.unit(number, unit)
    return (
        f"The {site.en} covers {area.en}.",
        f"{capitalize(site.the())} ist {area.de} groß.",
    )


@template(TEMPLATES, number=whole(20, 9999), group=one_of(lexicon.GROUPS), action=one_of(ACTIONS))
def how_many(c: Cldr, number, group, action) -> tuple[str, str]:
    """Question; genitive plural; perfect with "haben" or "sein"."""
    total = c.number(number)
    return (
        f"How many of the {total.en} {group.en} {action[0]}?",
        f"Wie viele der {total.de} {group.de} {action[2]} {action[1]}?",
    )


@template(
    TEMPLATES,
    names=some_of(lexicon.CITIES, 2, 2),
    number=whole(1, 150),
    unit=one_of(("length-meter", "length-foot")),
)
def taller_than(c: Cldr, names, number, unit) -> tuple[str, str]:
    """Comparison with a measure; the demonstrative agrees: der in Rom."""
    difference = c.unit(number, unit)
    first, second = (c.city(name) for name in names)
    return (
        f"The tower in {first.en} is {difference.en} taller than the one in {second.en}.",
        f"Der Turm in {first.de} ist {difference.de} höher als der in {second.de}.",
    )

"""Sentences about countries, cities, languages and scripts."""

from __future__ import annotations

from t2t_vqem.problems.cldr_text import lexicon
from t2t_vqem.problems.cldr_text.template import (
    Template,
    between,
    capitalize,
    large,
    measured,
    one_of,
    past_day,
    some_of,
    template,
    whole,
)
from t2t_vqem.problems.cldr_text.values import Cldr, Country, Pair

TEMPLATES: list[Template] = []

TRADE = (("Exports to", "Ausfuhren"), ("Imports from", "Einfuhren"))
TREND = (("rose", "gestiegen"), ("fell", "gesunken"))
# (English, German noun, ending of the possessive determiner before the noun).
VISITS = (("visit to", "Besuch", ""), ("trip to", "Reise", "e"))
AGREEMENTS = (
    ("agreement", "das Abkommen"),
    ("treaty", "den Vertrag"),
    ("declaration", "die Erklärung"),
)
TRAVELERS = (
    ("We will spend our", "Wir werden unseren"),
    ("I will spend my", "Ich werde meinen"),
    ("They will spend their", "Sie werden ihren"),
    ("She will spend her", "Sie wird ihren"),
)


def _inside(country: Country) -> Pair:
    return Pair(country.en, country.inside)


@template(TEMPLATES, countries=some_of(lexicon.COUNTRIES, 2, 4), agreement=one_of(AGREEMENTS))
def countries_signed(c: Cldr, countries, agreement) -> tuple[str, str]:
    """List of subjects, some with an article; participle at the end."""
    forms = [c.country(code) for code in countries]
    subjects = c.list([Pair(form.en, form.de) for form in forms])
    return (
        f"{capitalize(subjects.en)} have signed the {agreement[0]}.",
        f"{capitalize(subjects.de)} haben {agreement[1]} unterzeichnet.",
    )


@template(TEMPLATES, countries=some_of(lexicon.COUNTRIES, 2, 3), traveler=one_of(TRAVELERS))
def vacation_in(c: Cldr, countries, traveler) -> tuple[str, str]:
    """List with "or"; each country with its own preposition; infinitive at the end."""
    places = c.list([_inside(c.country(code)) for code in countries], style="or")
    return (
        f"{traveler[0]} vacation in {places.en}.",
        f"{traveler[1]} Urlaub {places.de} verbringen.",
    )


@template(
    TEMPLATES,
    possessive=one_of(tuple(lexicon.POSSESSIVES)),
    number=whole(1, 60),
    visit=one_of(VISITS),
    country=one_of(lexicon.COUNTRIES),
)
def ordinal_visit(c: Cldr, possessive, number, visit, country) -> tuple[str, str]:
    """Ordinal; possessive that agrees; in + dative for a visit, direction for a trip."""
    nth, where = c.ordinal(number), c.country(country)
    place = where.inside if visit[1] == "Besuch" else where.towards
    stem = lexicon.POSSESSIVES[possessive]
    return (
        f"This is {possessive} {nth.en} {visit[0]} {where.en}.",
        f"Das ist {stem}{visit[2]} {nth.de} {visit[1]} {place}.",
    )


@template(
    TEMPLATES,
    athlete=one_of(lexicon.ATHLETES),
    country=one_of(lexicon.COUNTRIES),
    number=whole(1, 60),
)
def ordinal_place(c: Cldr, athlete, country, number) -> tuple[str, str]:
    """Ordinal in the accusative; perfect."""
    nth, where = c.ordinal(number), c.country(country)
    verb = "haben" if athlete.plural else "hat"
    return (
        f"The {athlete.en} from {where.en} took {nth.en} place.",
        f"{capitalize(athlete.the())} {where.origin} {verb} den {nth.de} Platz belegt.",
    )


@template(TEMPLATES, country=one_of(lexicon.COUNTRIES), languages=some_of(lexicon.LANGUAGES, 2, 4))
def languages_spoken(c: Cldr, country, languages) -> tuple[str, str]:
    """Place first, so the German subject follows its verb; list of languages."""
    where = c.country(country)
    spoken = c.list([Pair(*c.language(code)[:2]) for code in languages])
    return (
        f"Many people in {where.en} speak {spoken.en}.",
        f"{capitalize(where.inside)} sprechen viele Menschen {spoken.de}.",
    )


@template(
    TEMPLATES,
    writing=one_of(lexicon.WRITINGS),
    languages=some_of(lexicon.LANGUAGES, 2, 2),
)
def translated_from(c: Cldr, writing, languages) -> tuple[str, str]:
    """Languages as inflected nouns: aus dem Französischen ins Deutsche."""
    source, target = (c.language(code) for code in languages)
    was, wurde = ("were", "wurden") if writing.plural else ("was", "wurde")
    return (
        f"The {writing.en} {was} translated from {source.en} into {target.en}.",
        f"{capitalize(writing.the())} {wurde} aus dem {source.dative} ins {target.accusative} "
        "übersetzt.",
    )


@template(
    TEMPLATES,
    person=one_of(lexicon.PERSONS),
    languages=some_of(lexicon.LANGUAGES, 1, 2),
    country=one_of(lexicon.COUNTRIES),
)
def learn_before(c: Cldr, person, languages, country) -> tuple[str, str]:
    """Modal verb with infinitive at the end; clause with "bevor"."""
    learned = c.list([Pair(*c.language(code)[:2]) for code in languages])
    where = c.country(country)
    wants, moves = ("want", "move") if person.plural else ("wants", "moves")
    return (
        f"{capitalize(person.en)} {wants} to learn {learned.en} before {person.pronoun_en} "
        f"{moves} to {where.en}.",
        f"{capitalize(person.de)} {person.verb('möchte', 'möchten')} {learned.de} lernen, "
        f"bevor {person.pronoun_de} {where.towards} {person.verb('zieht', 'ziehen')}.",
    )


@template(
    TEMPLATES,
    adjective=one_of(lexicon.ADJECTIVES[:3]),
    writing=one_of(lexicon.WRITINGS),
    script=one_of(lexicon.SCRIPTS),
    city=one_of(lexicon.CITIES),
)
def written_in_script(c: Cldr, adjective, writing, script, city) -> tuple[str, str]:
    """Scripts as dative adjectives; adjective ending after the article; passive of a state."""
    hand, where = c.script(script), c.city(city)
    are, sind = ("are", "sind") if writing.plural else ("is", "ist")
    return (
        f"The {adjective.en} {writing.en} from {where.en} {are} written in {hand.en}.",
        f"{capitalize(writing.the_with(adjective.de))} aus {where.de} {sind} in {hand.de} "
        "geschrieben.",
    )


@template(TEMPLATES, number=large(10**6), country=one_of(lexicon.COUNTRIES))
def population(c: Cldr, number, country) -> tuple[str, str]:
    """Large numbers in words; place first."""
    people, where = c.compact(number), c.country(country)
    return (
        f"About {people.en} people live in {where.en}.",
        f"{capitalize(where.inside)} leben rund {people.de} Menschen.",
    )


@template(
    TEMPLATES,
    trade=one_of(TRADE),
    country=one_of(lexicon.COUNTRIES),
    trend=one_of(TREND),
    percent=measured(2, 90),
    date=past_day,
)
def trade_changed(c: Cldr, trade, country, trend, percent, date) -> tuple[str, str]:
    """Percentages; direction or origin of the country; perfect with "sein"."""
    share, when, where = c.percent(percent), c.month_and_year(date), c.country(country)
    place = where.towards if trade[1] == "Ausfuhren" else where.origin
    return (
        f"{trade[0]} {where.en} {trend[0]} by {share.en} in {when.en}.",
        f"Die {trade[1]} {place} sind im {when.de} um {share.de} {trend[1]}.",
    )


@template(
    TEMPLATES,
    site=one_of(lexicon.SITES),
    number=measured(1, 99),
    unit=one_of(("length-kilometer", "length-mile")),
    city=one_of(lexicon.CITIES),
)
def distance_from(c: Cldr, site, number, unit, city) -> tuple[str, str]:
    """Separated "entfernt"; units in the plural."""
    distance, where = c.unit(number, unit), c.city(city)
    return (
        f"The {site.en} is {distance.en} from {where.en}.",
        f"{capitalize(site.the())} liegt {distance.de} von {where.de} entfernt.",
    )


@template(
    TEMPLATES,
    day=one_of((("Today", "Heute"), ("Tomorrow", "Morgen"), ("Next week", "Nächste Woche"))),
    city=one_of(lexicon.CITIES),
    trend=one_of((("rise", "steigt"), ("fall", "sinkt"))),
    number=between(-25, 40),
)
def temperature(c: Cldr, day, city, trend, number) -> tuple[str, str]:
    """Inversion after an adverb; negative numbers."""
    degrees, where = c.unit(number, "temperature-celsius"), c.city(city)
    return (
        f"{day[0]}, the temperature in {where.en} will {trend[0]} to {degrees.en}.",
        f"{day[1]} {trend[1]} die Temperatur in {where.de} auf {degrees.de}.",
    )

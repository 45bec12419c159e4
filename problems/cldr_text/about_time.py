"""Sentences about dates, times and spans of time."""

from __future__ import annotations

from t2t_vqem.problems.cldr_text import lexicon
from t2t_vqem.problems.cldr_text.template import (
    Template,
    capitalize,
    clock,
    day,
    one_of,
    past_day,
    span_of_days,
    span_of_hours,
    template,
    whole,
)
from t2t_vqem.problems.cldr_text.values import Cldr

TEMPLATES: list[Template] = []

# Main clauses before a subordinate clause, which has its verb at the end in German.
CLAIMS = (
    ("We know that", "Wir wissen, dass"),
    ("I think that", "Ich glaube, dass"),
    ("She says that", "Sie sagt, dass"),
    ("It is certain that", "Es steht fest, dass"),
    ("The newspaper reports that", "Die Zeitung berichtet, dass"),
    ("Nobody told us that", "Niemand hat uns gesagt, dass"),
)
QUESTIONS = (
    ("Can you tell me", "Können Sie mir sagen"),
    ("Do you know", "Wissen Sie"),
    ("I wonder", "Ich frage mich"),
    ("She wants to know", "Sie möchte wissen"),
)
# (English verb, German finite verb, its separated prefix): findet ... statt.
SEPARABLE = (
    ("takes place", "findet", "statt"),
    ("is canceled", "fällt", "aus"),
)
SPAN_UNITS = ("minute", "hour", "day", "week", "month", "year")
LONG_UNITS = ("day", "week", "month", "year")


@template(TEMPLATES, event=one_of(lexicon.EVENTS), date=day, verb=one_of(SEPARABLE))
def event_on_date(c: Cldr, event, date, verb) -> tuple[str, str]:
    """Full date; separated verb: findet ... statt."""
    on = c.weekday(date), c.date(date, "long")
    if verb[0] == "takes place":
        english = f"The {event.en} takes place on {on[0].en}, {on[1].en}."
    else:
        english = f"The {event.en} on {on[0].en}, {on[1].en}, {verb[0]}."
    german = f"{capitalize(event.the())} {verb[1]} am {on[0].de}, dem {on[1].de}, {verb[2]}."
    return english, german


@template(TEMPLATES, event=one_of(lexicon.EVENTS), days=span_of_days)
def event_postponed(c: Cldr, event, days) -> tuple[str, str]:
    """Two dates without a year; perfect passive with its verbs at the end."""
    old, new = c.day_and_month(days[0]), c.day_and_month(days[1])
    return (
        f"The {event.en} has been postponed from {old.en} to {new.en}.",
        f"{capitalize(event.the())} ist vom {old.de} auf den {new.de} verschoben worden.",
    )


@template(TEMPLATES, event=one_of(lexicon.BOOKABLE), days=span_of_days)
def event_interval(c: Cldr, event, days) -> tuple[str, str]:
    """CLDR's date interval."""
    interval = c.interval(*days)
    return (
        f"The {event.en} ({interval.en}) is fully booked.",
        f"{capitalize(event.the())} ({interval.de}) ist ausgebucht.",
    )


@template(TEMPLATES, claim=one_of(CLAIMS), event=one_of(lexicon.EVENTS), date=day, time=clock)
def event_that_clause(c: Cldr, claim, event, date, time) -> tuple[str, str]:
    """Subordinate clause: time before verb, verb at the end; day and time swap positions."""
    at, on = c.time(time), c.weekday(date)
    return (
        f"{claim[0]} the {event.en} begins at {at.en} on {on.en}.",
        f"{claim[1]} {event.the()} am {on.de} um {at.de} beginnt.",
    )


@template(TEMPLATES, place=one_of(lexicon.OPEN_PLACES), date=day, hours=span_of_hours)
def opening_hours(c: Cldr, place, date, hours) -> tuple[str, str]:
    """Repeated weekday: montags; span of times."""
    weekday, span = c.weekday(date), c.time_span(*hours)
    return (
        f"The {place.en} is open {span.en} on {weekday.en}s.",
        f"{capitalize(place.the())} ist {weekday.de.lower()}s {span.de} geöffnet.",
    )


@template(
    TEMPLATES,
    question=one_of(QUESTIONS),
    place=one_of(lexicon.OPEN_PLACES),
    date=day,
    time=clock,
)
def open_question(c: Cldr, question, place, date, time) -> tuple[str, str]:
    """Indirect question with "ob": verb at the end."""
    weekday, at = c.weekday(date), c.time(time)
    mark = "." if question[0] in ("I wonder", "She wants to know") else "?"
    return (
        f"{question[0]} whether the {place.en} is still open at {at.en} on {weekday.en}s{mark}",
        f"{question[1]}, ob {place.the()} {weekday.de.lower()}s um {at.de} noch geöffnet ist{mark}",
    )


@template(TEMPLATES, city=one_of(lexicon.CITIES), time=clock, platform=whole(1, 24))
def train_leaves(c: Cldr, city, time, platform) -> tuple[str, str]:
    """Separated verb: fährt ... ab."""
    to, at, track = c.city(city), c.time(time), c.number(platform)
    return (
        f"The train to {to.en} leaves at {at.en} from platform {track.en}.",
        f"Der Zug nach {to.de} fährt um {at.de} von Gleis {track.de} ab.",
    )


@template(
    TEMPLATES, claim=one_of(CLAIMS), city=one_of(lexicon.CITIES), time=clock, late=whole(1, 59)
)
def bus_arrives_late(c: Cldr, claim, city, time, late) -> tuple[str, str]:
    """Separable verb in a subordinate clause: not separated, at the end."""
    origin, at, delay = c.city(city), c.time(time), c.unit_dative(late, "duration-minute")
    return (
        f"{claim[0]} the bus from {origin.en} arrives at {at.en} with a delay of {delay.en}.",
        f"{claim[1]} der Bus aus {origin.de} um {at.de} mit {delay.de} Verspätung ankommt.",
    )


@template(
    TEMPLATES,
    number=whole(1, 40),
    unit=one_of(LONG_UNITS),
    person=one_of(lexicon.PERSONS),
    country=one_of(lexicon.COUNTRIES),
)
def travels_in(c: Cldr, number, unit, person, country) -> tuple[str, str]:
    """Relative time in the future; inversion; accusative of direction: in die Schweiz."""
    when, where = c.later(number, unit), c.country(country)
    verb = person.verb("reist", "reisen")
    return (
        f"{capitalize(when.en)}, {person.en} will travel to {where.en}.",
        f"{capitalize(when.de)} {verb} {person.de} {where.towards}.",
    )


@template(
    TEMPLATES,
    number=whole(1, 40),
    unit=one_of(SPAN_UNITS),
    person=one_of(lexicon.PERSONS),
    country=one_of(lexicon.COUNTRIES),
)
def returned_ago(c: Cldr, number, unit, person, country) -> tuple[str, str]:
    """Relative time in the past; perfect with "sein"; dative of origin: aus den Niederlanden."""
    when, where = c.ago(number, unit), c.country(country)
    verb = person.verb("ist", "sind")
    return (
        f"{capitalize(person.en)} returned from {where.en} {when.en}.",
        f"{capitalize(person.de)} {verb} {when.de} {where.origin} zurückgekehrt.",
    )


@template(
    TEMPLATES,
    number=whole(1, 30),
    unit=one_of(LONG_UNITS),
    person=one_of(lexicon.PERSONS),
    country=one_of(lexicon.COUNTRIES),
)
def living_since(c: Cldr, number, unit, person, country) -> tuple[str, str]:
    """English perfect continuous, German present with "seit" and the dative."""
    span, where = c.since(number, unit), c.country(country)
    verb = person.verb("lebt", "leben")
    return (
        f"{capitalize(person.en)} {person.has()[0]} been living in {where.en} {span.en}.",
        f"{capitalize(person.de)} {verb} {span.de} {where.inside}.",
    )


@template(
    TEMPLATES,
    person=one_of(lexicon.PERSONS),
    number=whole(1, 40),
    unit=one_of(("hour", "day", "week")),
    state=one_of((("tired", "müde"), ("happy", "froh"), ("proud", "stolz"))),
)
def worked_because(c: Cldr, person, number, unit, state) -> tuple[str, str]:
    """Clause with "weil" and the perfect: participle, then auxiliary; pronouns agree."""
    span = c.unit(number, f"duration-{unit}")
    english_be, german_be = ("are", "sind") if person.plural else ("is", "ist")
    have = person.has()
    return (
        f"{capitalize(person.en)} {english_be} {state[0]} because {person.pronoun_en} "
        f"{have[0]} worked for {span.en}.",
        f"{capitalize(person.de)} {german_be} {state[1]}, weil {person.pronoun_de} "
        f"{span.de} gearbeitet {have[1]}.",
    )


@template(
    TEMPLATES,
    event=one_of(lexicon.EVENTS),
    number=whole(1, 20),
    unit=one_of(("minute", "hour")),
    time=clock,
)
def if_longer(c: Cldr, event, number, unit, time) -> tuple[str, str]:
    """Conditional clause first: the main clause begins with its verb."""
    span, at = c.unit(number, f"duration-{unit}"), c.time(time)
    return (
        f"If the {event.en} lasts longer than {span.en}, we will take the bus at {at.en}.",
        f"Wenn {event.the()} länger als {span.de} dauert, nehmen wir den Bus um {at.de}.",
    )


@template(
    TEMPLATES,
    document=one_of(lexicon.DOCUMENTS),
    date=day,
    width=one_of(("short", "medium", "long")),
)
def send_by(c: Cldr, document, date, width) -> tuple[str, str]:
    """Polite imperative; separated verb; dates of three widths."""
    by = c.date(date, width)
    return (
        f"Please send us the {document.en} by {by.en}.",
        f"Bitte schicken Sie uns {document.the_accusative()} bis zum {by.de} zu.",
    )


@template(TEMPLATES, person=one_of(lexicon.ONE_PERSON), date=past_day, city=one_of(lexicon.CITIES))
def born_on(c: Cldr, person, date, city) -> tuple[str, str]:
    """Passive of the past: wurde ... geboren."""
    on, at = c.date(date, "long"), c.city(city)
    return (
        f"{capitalize(person.en)} was born in {at.en} on {on.en}.",
        f"{capitalize(person.de)} wurde am {on.de} in {at.de} geboren.",
    )


@template(
    TEMPLATES,
    caller=one_of(lexicon.CALLERS),
    number=whole(1, 50),
    unit=one_of(SPAN_UNITS),
    country=one_of(lexicon.COUNTRIES),
)
def called_ago(c: Cldr, caller, number, unit, country) -> tuple[str, str]:
    """Relative clause whose pronoun has the noun's gender: das Kind, das."""
    when, where = c.ago(number, unit), c.country(country)
    relative = lexicon.NOMINATIVE[caller.gender]
    have, come = ("haben", "kommen") if caller.plural else ("hat", "kommt")
    return (
        f"The {caller.en} who called {when.en} {'come' if caller.plural else 'comes'} "
        f"from {where.en}.",
        f"{capitalize(caller.the())}, {relative} {when.de} angerufen {have}, {come} "
        f"{where.origin}.",
    )


@template(TEMPLATES, zone=one_of(lexicon.ZONES), time=clock, date=day)
def broadcast(c: Cldr, zone, time, date) -> tuple[str, str]:
    """Time zone, in the genitive in German."""
    at, named, on = c.time(time), c.zone(zone), c.weekday(date)
    return (
        f"On {on.en}, the broadcast starts at {at.en} {named.en}.",
        f"Am {on.de} beginnt die Übertragung um {at.de} {named.de}.",
    )


@template(TEMPLATES, place=one_of(lexicon.OPEN_PLACES), since=past_day, until=day)
def closed_since(c: Cldr, place, since, until) -> tuple[str, str]:
    """Months and years: seit März 2024."""
    since, end = c.month_and_year(since), c.month(until)
    return (
        f"The {place.en} has been closed since {since.en} and will reopen in {end.en}.",
        f"{capitalize(place.the())} ist seit {since.de} geschlossen und öffnet im {end.de} wieder.",
    )

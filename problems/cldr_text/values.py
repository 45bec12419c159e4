"""CLDR's expressions for dates, numbers, units and names, in English and German.

`Cldr` wraps Babel and returns a `Pair` for every value. If German grammar needs a form for which
CLDR has no pattern, a method derives it: the dative of a unit, or a language after "aus dem".
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Sequence
from typing import NamedTuple

from t2t_vqem.extras import import_extra
from t2t_vqem.problems.cldr_text import lexicon

# CLDR separates numbers and signs by no-break and thin spaces. They are replaced by plain spaces.
_SPECIAL_SPACES = re.compile("[\u00a0\u2009\u202f]")
_ORDINAL_SUFFIX = {"one": "st", "two": "nd", "few": "rd", "other": "th"}
_PERCENT_FORMAT = {"en": "#,##0.##%", "de": "#,##0.## %"}
_SECONDS = {
    "minute": 60,
    "hour": 3600,
    "day": 86400,
    "week": 604800,
    "month": 2592000,
    "year": 31536000,
}


class Pair(NamedTuple):
    """The expression for one value in English and in German."""

    en: str
    de: str


class Country(NamedTuple):
    """The name of a country in the forms that the templates use."""

    en: str  # with "the" if English uses it
    de: str  # nominative, with its article: die Schweiz
    inside: str  # in der Schweiz, auf Kuba
    origin: str  # aus der Schweiz
    towards: str  # in die Schweiz, nach Kuba


class Language(NamedTuple):
    """The name of a language, and its German forms after "aus dem" and "ins"."""

    en: str
    de: str  # Französisch
    dative: str  # aus dem Französischen
    accusative: str  # ins Französische


class Cldr:
    """Formats values in English and German as CLDR does."""

    def __init__(self) -> None:
        """Loads Babel.

        Raises:
            MissingExtraError: Babel is not installed; the message names the extra "demo".
        """
        self._dates = import_extra("babel.dates", "demo")
        self._numbers = import_extra("babel.numbers", "demo")
        self._units = import_extra("babel.units", "demo")
        self._lists = import_extra("babel.lists", "demo")
        locale = import_extra("babel", "demo").Locale
        self._en, self._de = locale.parse("en_US"), locale.parse("de_DE")

    def _both(self, function, *args, **kwargs) -> Pair:
        texts = (function(*args, locale=locale, **kwargs) for locale in (self._en, self._de))
        return Pair(*(_SPECIAL_SPACES.sub(" ", text) for text in texts))

    # Dates and times.

    def date(self, date: datetime.date, width: str) -> Pair:
        """A date of width "short", "medium", "long" or "full": March 5, 2026 / 5. März 2026."""
        return self._both(self._dates.format_date, date, width)

    def weekday(self, date: datetime.date) -> Pair:
        """The day of the week: Thursday / Donnerstag."""
        return self._both(self._dates.format_date, date, "EEEE")

    def month(self, date: datetime.date) -> Pair:
        """The month: March / März."""
        return self._both(self._dates.format_date, date, "MMMM")

    def month_and_year(self, date: datetime.date) -> Pair:
        """Month and year: March 2026 / März 2026."""
        return self._both(self._dates.format_date, date, "MMMM y")

    def day_and_month(self, date: datetime.date) -> Pair:
        """Day and month: March 5 / 5. März."""
        return self._both(
            lambda skeleton, locale: self._dates.format_skeleton(skeleton, date, locale=locale),
            "MMMMd",
        )

    def interval(self, start: datetime.date, end: datetime.date) -> Pair:
        """A span of days: Mar 5 – 9, 2026 / 5.–9. März 2026."""
        return self._both(self._dates.format_interval, start, end, "yMMMd")

    def quarter(self, date: datetime.date) -> Pair:
        """A quarter of a year: 1st quarter / 1. Quartal."""
        return self._both(self._dates.format_date, date, "QQQQ")

    def time(self, time: datetime.time) -> Pair:
        """A time of day: 3:30 PM / 15:30 Uhr."""
        english, german = self._both(self._dates.format_time, time, "short")
        return Pair(english, f"{german} Uhr")

    def time_span(self, start: datetime.time, end: datetime.time) -> Pair:
        """From one time of day to another: from 9:15 AM to 5:30 PM / von 09:15 bis 17:30 Uhr."""
        first, last = self.time(start), self.time(end)
        german = first.de.removesuffix(" Uhr")
        return Pair(f"from {first.en} to {last.en}", f"von {german} bis {last.de}")

    def zone(self, zone: str) -> Pair:
        """A time zone that follows a time: Central European Time / mitteleuropäischer Zeit."""
        tz = self._dates.get_timezone(zone)
        english, german = self._both(self._dates.get_timezone_name, tz, zone_variant="generic")
        adjective, noun = german.rsplit(" ", 1)
        if adjective.endswith("e"):  # "Moskauer Zeit" does not inflect
            adjective = f"{adjective[0].lower()}{adjective[1:]}r"
        return Pair(english, f"{adjective} {noun}")

    def later(self, number: int, unit: str) -> Pair:
        """A relative time in the future: in 3 days / in 3 Tagen."""
        return self._relative(number, unit)

    def ago(self, number: int, unit: str) -> Pair:
        """A relative time in the past: 3 days ago / vor 3 Tagen."""
        return self._relative(-number, unit)

    def since(self, number: int, unit: str) -> Pair:
        """A span up to now: for 3 days / seit 3 Tagen. The dative is that of a relative time."""
        german = self.later(number, unit).de.removeprefix("in ")
        return Pair(f"for {self.unit(number, f'duration-{unit}').en}", f"seit {german}")

    def _relative(self, number: int, unit: str) -> Pair:
        return self._both(
            self._dates.format_timedelta,
            datetime.timedelta(seconds=number * _SECONDS[unit]),
            granularity=unit,
            threshold=10**9,  # never switch to a larger unit
            add_direction=True,
        )

    # Numbers and quantities.

    def number(self, number: float) -> Pair:
        """A number: 1,234.5 / 1.234,5."""
        return self._both(self._numbers.format_decimal, number)

    def compact(self, number: float) -> Pair:
        """A large number in words: 3.4 million / 3,4 Millionen."""
        return self._both(
            self._numbers.format_compact_decimal, number, format_type="long", fraction_digits=1
        )

    def percent(self, percent: float) -> Pair:
        """A percentage: 12.5% / 12,5 %."""
        texts = (
            self._numbers.format_percent(
                percent / 100, format=_PERCENT_FORMAT[locale.language], locale=locale
            )
            for locale in (self._en, self._de)
        )
        return Pair(*texts)

    def money(self, amount: float, currency: str) -> Pair:
        """A price with the currency's symbol: €1,234.50 / 1.234,50 €."""
        return self._both(self._numbers.format_currency, amount, currency)

    def named_money(self, amount: float, currency: str) -> Pair:
        """An amount with the currency's name: 17 Swedish kronor / 17 Schwedische Kronen."""
        return self._both(
            self._numbers.format_currency,
            amount,
            currency,
            format="#,##0.##",
            format_type="name",
            currency_digits=False,
        )

    def unit(self, number: float, unit: str) -> Pair:
        """A quantity with a unit, by CLDR's name of the unit: 3 kilometers / 3 Kilometer."""
        return self._both(self._units.format_unit, number, unit, "long")

    def unit_dative(self, number: float, unit: str) -> Pair:
        """A quantity with a unit, in the dative in German: nach 3 Kilometern."""
        english, german = self.unit(number, unit)
        if number != 1 and not german.endswith(("n", "s", "ß")):
            german += "n"
        return Pair(english, german)

    def ordinal(self, number: int) -> Pair:
        """An ordinal number in digits: 22nd / 22."""
        return Pair(f"{number}{_ORDINAL_SUFFIX[self._en.ordinal_form(number)]}", f"{number}.")

    # Names.

    def country(self, code: str) -> Country:
        """The forms of a country's name, by its ISO 3166 code."""
        english, german = self._en.territories[code], self._de.territories[code]
        if code in lexicon.ENGLISH_THE:
            english = f"the {english}"
        gender = lexicon.ARTICLE_COUNTRIES.get(code)
        if gender is None:
            place = "auf" if code in lexicon.ON_ISLANDS else "in"
            return Country(english, german, f"{place} {german}", f"aus {german}", f"nach {german}")
        weak, strong = _decline(german, gender)
        subject = f"{lexicon.NOMINATIVE[gender]} {weak}"
        target = f"{lexicon.ACCUSATIVE[gender]} {weak}"
        dative = f"{lexicon.DATIVE[gender]} {strong}"
        place, source = ("auf", "von") if code in lexicon.ISLAND_GROUPS else ("in", "aus")
        inside = f"{place} {dative}".replace("in dem ", "im ")
        towards = f"{place} {target}".replace("in das ", "ins ")
        return Country(english, subject, inside, f"{source} {dative}", towards)

    def language(self, code: str) -> Language:
        """The forms of a language's name, by its ISO 639 code."""
        english, german = self._en.languages[code], self._de.languages[code]
        if german.endswith("isch") or german == "Deutsch":  # a nominalised adjective
            return Language(english, german, f"{german}en", f"{german}e")
        return Language(english, german, german, german)

    def script(self, code: str) -> Pair:
        """A script that follows "in": Greek script / griechischer Schrift."""
        english, german = self._en.scripts[code], self._de.scripts[code]
        return Pair(f"{english} script", f"{german[0].lower()}{german[1:]}er Schrift")

    def city(self, zone: str) -> Pair:
        """A city, by the name of its time zone: Vienna / Wien."""
        return self._both(self._dates.get_timezone_location, zone, return_city=True)

    def list(self, items: Sequence[Pair], style: str = "standard") -> Pair:
        """A list with "and", or with "or" if `style` is "or": A, B, and C / A, B und C."""
        texts = (
            self._lists.format_list(list(column), style=style, locale=locale)
            for column, locale in zip(zip(*items, strict=True), (self._en, self._de), strict=True)
        )
        return Pair(*texts)


def _decline(name: str, gender: str) -> tuple[str, str]:
    """Inflects a name after an article: (nominative and accusative, dative).

    Adjectives are inflected: (das) Vereinigte Königreich, (im) Vereinigten Königreich. So are
    plural nouns: (die) Niederlande, (in den) Niederlanden.
    """
    words = name.split(" ")
    adjectives, noun = words[:-1], words[-1]
    stems = [re.sub("(e|es)$", "", adjective) for adjective in adjectives]
    plural = gender == "p"
    weak = "en" if plural else "e"
    dative_noun = f"{noun}n" if plural and not noun.endswith(("n", "s")) else noun
    return (
        " ".join([*(stem + weak for stem in stems), noun]),
        " ".join([*(stem + "en" for stem in stems), dative_noun]),
    )

"""Vocabulary of the generated sentences: words with the data that German grammar needs.

CLDR has names, but not the data to inflect them in a German sentence. These tables have it: the
gender of nouns, verb forms for persons, and the article and preposition of countries.
"""

from __future__ import annotations

from typing import NamedTuple


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split())


class Noun(NamedTuple):
    """A German noun with its gender "m", "f", "n" or "p" (plural), and its English name."""

    en: str
    de: str
    gender: str

    @property
    def plural(self) -> bool:
        """Whether the noun is plural and takes plural verbs, in both languages."""
        return self.gender == "p"

    def the(self) -> str:
        """The noun with the definite article in the nominative: der Vertrag."""
        return f"{NOMINATIVE[self.gender]} {self.de}"

    def the_accusative(self) -> str:
        """The noun with the definite article in the accusative: den Vertrag."""
        return f"{ACCUSATIVE[self.gender]} {self.de}"

    def the_with(self, adjective: str) -> str:
        """Article, adjective and noun in the nominative: der alte Mantel, die alten Briefe."""
        ending = "en" if self.plural else "e"
        return f"{NOMINATIVE[self.gender]} {adjective}{ending} {self.de}"

    def a_accusative_with(self, adjective: str) -> str:
        """Indefinite article, adjective and noun in the accusative: einen alten Mantel."""
        article, ending = {"m": ("einen ", "en"), "f": ("eine ", "e"), "n": ("ein ", "es")}[
            self.gender
        ]
        return f"{article}{adjective}{ending} {self.de}"

    def pronoun(self) -> str:
        """The personal pronoun that replaces the noun, in the nominative: er, sie, es."""
        return PRONOUN[self.gender]


NOMINATIVE = {"m": "der", "f": "die", "n": "das", "p": "die"}
ACCUSATIVE = {"m": "den", "f": "die", "n": "das", "p": "die"}
DATIVE = {"m": "dem", "f": "der", "n": "dem", "p": "den"}
PRONOUN = {"m": "er", "f": "sie", "n": "es", "p": "sie"}


class Person(NamedTuple):
    """A person or persons for the subject of a sentence; the German form is the nominative."""

    en: str
    de: str
    pronoun_en: str
    pronoun_de: str

    @property
    def plural(self) -> bool:
        """Whether the verb is in the plural."""
        return self.pronoun_en == "they"

    def has(self) -> tuple[str, str]:
        """The verb "have" in the third person: has/hat or have/haben."""
        return ("have", "haben") if self.plural else ("has", "hat")

    def verb(self, singular: str, plural: str) -> str:
        """The German verb form that agrees with the person."""
        return plural if self.plural else singular


class Adjective(NamedTuple):
    """An adjective in English, and its German stem without an ending."""

    en: str
    de: str


PERSONS = (
    Person("Anna", "Anna", "she", "sie"),
    Person("Peter", "Peter", "he", "er"),
    Person("Maria", "Maria", "she", "sie"),
    Person("my sister", "meine Schwester", "she", "sie"),
    Person("my brother", "mein Bruder", "he", "er"),
    Person("our teacher", "unser Lehrer", "he", "er"),
    Person("his grandmother", "seine Großmutter", "she", "sie"),
    Person("her uncle", "ihr Onkel", "he", "er"),
    Person("the minister", "der Minister", "he", "er"),
    Person("the actress", "die Schauspielerin", "she", "sie"),
    Person("our neighbors", "unsere Nachbarn", "they", "sie"),
    Person("her parents", "ihre Eltern", "they", "sie"),
    Person("the children", "die Kinder", "they", "sie"),
    Person("the engineers", "die Ingenieure", "they", "sie"),
    Person("my friends", "meine Freunde", "they", "sie"),
)

ONE_PERSON = tuple(person for person in PERSONS if not person.plural)

# The German stem of each possessive determiner: ihr Besuch, ihre Reise.
POSSESSIVES = {"my": "mein", "his": "sein", "her": "ihr", "our": "unser"}

EVENTS = (
    Noun("meeting", "Sitzung", "f"),
    Noun("conference", "Konferenz", "f"),
    Noun("concert", "Konzert", "n"),
    Noun("exam", "Prüfung", "f"),
    Noun("course", "Kurs", "m"),
    Noun("lecture", "Vortrag", "m"),
    Noun("exhibition", "Ausstellung", "f"),
    Noun("wedding", "Hochzeit", "f"),
    Noun("tour", "Führung", "f"),
    Noun("performance", "Aufführung", "f"),
)

BOOKABLE = tuple(event for event in EVENTS if event.en in ("course", "tour", "conference"))

GOODS = (
    Noun("coat", "Mantel", "m"),
    Noun("table", "Tisch", "m"),
    Noun("chair", "Stuhl", "m"),
    Noun("carpet", "Teppich", "m"),
    Noun("suitcase", "Koffer", "m"),
    Noun("lamp", "Lampe", "f"),
    Noun("watch", "Uhr", "f"),
    Noun("camera", "Kamera", "f"),
    Noun("guitar", "Gitarre", "f"),
    Noun("book", "Buch", "n"),
    Noun("bicycle", "Fahrrad", "n"),
    Noun("painting", "Gemälde", "n"),
    Noun("shelf", "Regal", "n"),
)

ADJECTIVES = (
    Adjective("old", "alt"),
    Adjective("new", "neu"),
    Adjective("small", "klein"),
    Adjective("red", "rot"),
    Adjective("green", "grün"),
    Adjective("beautiful", "schön"),
)

DOCUMENTS = (
    Noun("contract", "Vertrag", "m"),
    Noun("letter", "Brief", "m"),
    Noun("application", "Antrag", "m"),
    Noun("invoice", "Rechnung", "f"),
    Noun("form", "Formular", "n"),
    Noun("report", "Bericht", "m"),
    Noun("certificate", "Zeugnis", "n"),
    Noun("documents", "Unterlagen", "p"),
    Noun("photos", "Fotos", "p"),
)

WRITINGS = (
    Noun("novel", "Roman", "m"),
    Noun("poem", "Gedicht", "n"),
    Noun("letter", "Brief", "m"),
    Noun("inscription", "Inschrift", "f"),
    Noun("manuscript", "Handschrift", "f"),
    Noun("letters", "Briefe", "p"),
    Noun("songs", "Lieder", "p"),
)

OPEN_PLACES = (
    Noun("library", "Bibliothek", "f"),
    Noun("museum", "Museum", "n"),
    Noun("pharmacy", "Apotheke", "f"),
    Noun("bakery", "Bäckerei", "f"),
    Noun("town hall", "Rathaus", "n"),
    Noun("swimming pool", "Schwimmbad", "n"),
    Noun("supermarket", "Supermarkt", "m"),
    Noun("botanical garden", "Botanische Garten", "m"),
)

SITES = (
    Noun("village", "Dorf", "n"),
    Noun("castle", "Schloss", "n"),
    Noun("airport", "Flughafen", "m"),
    Noun("farm", "Bauernhof", "m"),
    Noun("lake", "See", "m"),
    Noun("factory", "Fabrik", "f"),
)

WAYS = (
    Noun("road", "Straße", "f"),
    Noun("path", "Weg", "m"),
    Noun("river", "Fluss", "m"),
    Noun("bus", "Bus", "m"),
    Noun("procession", "Umzug", "m"),
)

CALLERS = (
    Noun("man", "Mann", "m"),
    Noun("woman", "Frau", "f"),
    Noun("child", "Kind", "n"),
    Noun("journalist", "Journalistin", "f"),
    Noun("lawyer", "Anwalt", "m"),
    Noun("women", "Frauen", "p"),
    Noun("students", "Studenten", "p"),
)

ATHLETES = (
    Noun("runner", "Läufer", "m"),
    Noun("swimmer", "Schwimmerin", "f"),
    Noun("team", "Mannschaft", "f"),
    Noun("skier", "Skifahrer", "m"),
    Noun("players", "Spieler", "p"),
)

# Groups for "wie viele der ...": the genitive plural equals the nominative without the article.
GROUPS = (
    Noun("members", "Mitglieder", "p"),
    Noun("residents", "Einwohner", "p"),
    Noun("participants", "Teilnehmer", "p"),
    Noun("guests", "Gäste", "p"),
    Noun("workers", "Arbeiter", "p"),
)

# Ingredients of recipes with suitable units: {English: (German, units)}.
POWDERS = ("mass-gram", "mass-kilogram", "volume-cup", "volume-tablespoon")
LIQUIDS = ("volume-liter", "volume-milliliter", "volume-cup", "volume-tablespoon")
INGREDIENTS = {
    "flour": ("Mehl", POWDERS),
    "sugar": ("Zucker", POWDERS),
    "rice": ("Reis", POWDERS),
    "butter": ("Butter", POWDERS),
    "salt": ("Salz", ("mass-gram", "volume-teaspoon")),
    "cinnamon": ("Zimt", ("mass-gram", "volume-teaspoon")),
    "milk": ("Milch", LIQUIDS),
    "water": ("Wasser", LIQUIDS),
    "oil": ("Öl", LIQUIDS),
}

# Countries without an article in German: in Österreich, nach Österreich, aus Österreich.
PLAIN_COUNTRIES = _names(
    "AT DE FR IT ES PT BE LU DK SE NO FI IS IE PL HU RO BG GR HR SI RS AL EE LV LT RU AM AZ GE "
    "KZ UZ KG TJ CN JP KR KP IN PK NP BT LK TH VN LA KH MY ID AU NZ CA MX GT HN CR PA CO VE EC "
    "PE BO CL AR UY PY BR EG LY TN DZ MA ML GH TG NG CM AO ZM ZW BW NA ZA MZ TZ KE UG RW ET SO "
    "JO IL KW QA LI ME NI HT AF"
)
# Islands whose German names take "auf" for the place: auf Kuba; but aus Kuba, nach Kuba.
ON_ISLANDS = ("CU", "CY", "JM", "MG", "MT")
# Countries with an article in German, and the gender of the name.
ARTICLE_COUNTRIES = {
    "CH": "f",
    "UA": "f",
    "SK": "f",
    "MN": "f",
    "DO": "f",
    "CF": "f",
    "IR": "m",
    "IQ": "m",
    "LB": "m",
    "YE": "m",
    "SD": "m",
    "TD": "m",
    "GB": "n",
    "NL": "p",
    "US": "p",
    "AE": "p",
    "PH": "p",
    "MV": "p",
    "BS": "p",
    "SC": "p",
}
COUNTRIES = (*PLAIN_COUNTRIES, *ON_ISLANDS, *ARTICLE_COUNTRIES)
# The island groups among these: auf den Malediven, von den Malediven, auf die Malediven.
ISLAND_GROUPS = ("PH", "MV", "BS", "SC")
# Countries with "the" in English.
ENGLISH_THE = ("NL", "US", "AE", "GB", "PH", "MV", "BS", "SC", "DO", "CF")

LANGUAGES = _names(
    "sq ar hy bg zh da de en et fi fr ka el he hi hu id it ja ko hr lv lt ms mk nl no fa pl pt "
    "ro ru sv sr sk sl es sw th cs tr uk ur vi"
)
SCRIPTS = _names("Arab Armn Cyrl Ethi Geor Glag Grek Hebr Latn Mong Phnx Syrc Tibt")
CURRENCIES = _names("EUR USD GBP CHF JPY SEK NOK DKK PLN CZK HUF CAD AUD NZD INR MXN ZAR ISK")
# Currencies whose CLDR symbol is the same single character in both languages.
SYMBOL_CURRENCIES = ("EUR", "USD", "GBP")
CITIES = _names(
    "Europe/Vienna Europe/Moscow Europe/Rome Asia/Tokyo Europe/Berlin America/New_York "
    "Europe/Prague Europe/Warsaw Europe/Lisbon Asia/Shanghai Africa/Cairo Europe/Brussels "
    "Europe/Athens Europe/Budapest Europe/Bucharest Europe/Copenhagen Europe/Dublin "
    "Europe/Helsinki Europe/London Europe/Madrid Europe/Oslo Europe/Paris Europe/Riga "
    "Europe/Sofia Europe/Stockholm Europe/Zagreb Europe/Zurich Europe/Belgrade Africa/Nairobi "
    "Africa/Tunis Asia/Seoul Asia/Bangkok Asia/Jakarta Asia/Baghdad Asia/Damascus "
    "America/Toronto America/Chicago America/Los_Angeles America/Havana America/Lima "
    "Australia/Sydney Asia/Singapore Africa/Algiers"
)
ZONES = ("Europe/Berlin", "Europe/Athens", "Europe/Lisbon", "Europe/Moscow", "Asia/Tokyo")

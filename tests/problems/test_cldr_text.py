"""The generated sentences: their grammar against hand-written pairs, splits, distribution."""

import collections
import datetime
import random
import re

import pytest

from t2t_vqem.constants import SPLITS, UsageError
from t2t_vqem.problems.cldr_text import lexicon, phrases
from t2t_vqem.problems.cldr_text.values import Cldr

SIZES = {"train": 4000, "dev": 150, "test": 150}
MARCH_5 = datetime.date(2026, 3, 5)  # a Thursday
MARCH_9 = datetime.date(2026, 3, 9)
HALF_PAST_THREE = datetime.time(15, 30)


@pytest.fixture(scope="module")
def cldr() -> Cldr:
    return Cldr()


@pytest.fixture(scope="module")
def generated() -> dict[str, list[phrases.Phrase]]:
    return phrases.generate(SIZES, seed=7)


def noun(words, english: str):
    return next(word for word in words if word.en == english)


def event(english: str):
    return noun(lexicon.EVENTS, english)


def person(english: str):
    return noun(lexicon.PERSONS, english)


def place(english: str):
    return noun(lexicon.OPEN_PLACES, english)


def good(english: str):
    return noun(lexicon.GOODS, english)


def adjective(english: str):
    return noun(lexicon.ADJECTIVES, english)


KNOW = ("We know that", "Wir wissen, dass")

# (template, slot values, English, German). The sentences are hand-written, not copied from output.
EXPECTED = [
    (
        "event_on_date",
        {
            "event": event("meeting"),
            "date": MARCH_5,
            "verb": ("takes place", "findet", "statt"),
        },
        "The meeting takes place on Thursday, March 5, 2026.",
        "Die Sitzung findet am Donnerstag, dem 5. März 2026, statt.",
    ),
    (
        "event_on_date",
        {"event": event("course"), "date": MARCH_9, "verb": ("is canceled", "fällt", "aus")},
        "The course on Monday, March 9, 2026, is canceled.",
        "Der Kurs fällt am Montag, dem 9. März 2026, aus.",
    ),
    (
        "event_postponed",
        {"event": event("concert"), "days": (MARCH_5, MARCH_9)},
        "The concert has been postponed from March 5 to March 9.",
        "Das Konzert ist vom 5. März auf den 9. März verschoben worden.",
    ),
    (
        "event_interval",
        {"event": event("tour"), "days": (MARCH_5, MARCH_9)},
        "The tour (Mar 5 – 9, 2026) is fully booked.",
        "Die Führung (5.–9. März 2026) ist ausgebucht.",
    ),
    (
        "event_that_clause",
        {"claim": KNOW, "event": event("exam"), "date": MARCH_9, "time": HALF_PAST_THREE},
        "We know that the exam begins at 3:30 PM on Monday.",
        "Wir wissen, dass die Prüfung am Montag um 15:30 Uhr beginnt.",
    ),
    (
        "opening_hours",
        {
            "place": place("museum"),
            "date": MARCH_5,
            "hours": (datetime.time(9, 15), datetime.time(17, 30)),
        },
        "The museum is open from 9:15 AM to 5:30 PM on Thursdays.",
        "Das Museum ist donnerstags von 09:15 bis 17:30 Uhr geöffnet.",
    ),
    (
        "open_question",
        {
            "question": ("Do you know", "Wissen Sie"),
            "place": place("bakery"),
            "date": MARCH_9,
            "time": HALF_PAST_THREE,
        },
        "Do you know whether the bakery is still open at 3:30 PM on Mondays?",
        "Wissen Sie, ob die Bäckerei montags um 15:30 Uhr noch geöffnet ist?",
    ),
    (
        "open_question",
        {
            "question": ("I wonder", "Ich frage mich"),
            "place": place("supermarket"),
            "date": MARCH_9,
            "time": HALF_PAST_THREE,
        },
        "I wonder whether the supermarket is still open at 3:30 PM on Mondays.",
        "Ich frage mich, ob der Supermarkt montags um 15:30 Uhr noch geöffnet ist.",
    ),
    (
        "train_leaves",
        {"city": "Europe/Vienna", "time": datetime.time(0, 5), "platform": 7},
        "The train to Vienna leaves at 12:05 AM from platform 7.",
        "Der Zug nach Wien fährt um 00:05 Uhr von Gleis 7 ab.",
    ),
    (
        "bus_arrives_late",
        {"claim": KNOW, "city": "Europe/Rome", "time": HALF_PAST_THREE, "late": 20},
        "We know that the bus from Rome arrives at 3:30 PM with a delay of 20 minutes.",
        "Wir wissen, dass der Bus aus Rom um 15:30 Uhr mit 20 Minuten Verspätung ankommt.",
    ),
    (
        "travels_in",
        {"number": 3, "unit": "day", "person": person("my sister"), "country": "CH"},
        "In 3 days, my sister will travel to Switzerland.",
        "In 3 Tagen reist meine Schwester in die Schweiz.",
    ),
    (
        "travels_in",
        {"number": 1, "unit": "year", "person": person("my friends"), "country": "GB"},
        "In 1 year, my friends will travel to the United Kingdom.",
        "In 1 Jahr reisen meine Freunde ins Vereinigte Königreich.",
    ),
    (
        "returned_ago",
        {"number": 2, "unit": "week", "person": person("her parents"), "country": "NL"},
        "Her parents returned from the Netherlands 2 weeks ago.",
        "Ihre Eltern sind vor 2 Wochen aus den Niederlanden zurückgekehrt.",
    ),
    (
        "returned_ago",
        {"number": 1, "unit": "month", "person": person("Anna"), "country": "MV"},
        "Anna returned from the Maldives 1 month ago.",
        "Anna ist vor 1 Monat von den Malediven zurückgekehrt.",
    ),
    (
        "living_since",
        {"number": 5, "unit": "month", "person": person("our neighbors"), "country": "IR"},
        "Our neighbors have been living in Iran for 5 months.",
        "Unsere Nachbarn leben seit 5 Monaten im Iran.",
    ),
    (
        "living_since",
        {"number": 30, "unit": "year", "person": person("the minister"), "country": "CU"},
        "The minister has been living in Cuba for 30 years.",
        "Der Minister lebt seit 30 Jahren auf Kuba.",
    ),
    (
        "worked_because",
        {
            "person": person("his grandmother"),
            "number": 12,
            "unit": "hour",
            "state": ("tired", "müde"),
        },
        "His grandmother is tired because she has worked for 12 hours.",
        "Seine Großmutter ist müde, weil sie 12 Stunden gearbeitet hat.",
    ),
    (
        "worked_because",
        {"person": person("the children"), "number": 1, "unit": "day", "state": ("proud", "stolz")},
        "The children are proud because they have worked for 1 day.",
        "Die Kinder sind stolz, weil sie 1 Tag gearbeitet haben.",
    ),
    (
        "if_longer",
        {"event": event("lecture"), "number": 2, "unit": "hour", "time": HALF_PAST_THREE},
        "If the lecture lasts longer than 2 hours, we will take the bus at 3:30 PM.",
        "Wenn der Vortrag länger als 2 Stunden dauert, nehmen wir den Bus um 15:30 Uhr.",
    ),
    (
        "send_by",
        {"document": noun(lexicon.DOCUMENTS, "contract"), "date": MARCH_5, "width": "long"},
        "Please send us the contract by March 5, 2026.",
        "Bitte schicken Sie uns den Vertrag bis zum 5. März 2026 zu.",
    ),
    (
        "send_by",
        {"document": noun(lexicon.DOCUMENTS, "photos"), "date": MARCH_5, "width": "short"},
        "Please send us the photos by 3/5/26.",
        "Bitte schicken Sie uns die Fotos bis zum 05.03.26 zu.",
    ),
    (
        "born_on",
        {"person": person("my brother"), "date": datetime.date(1984, 12, 24), "city": "Asia/Tokyo"},
        "My brother was born in Tokyo on December 24, 1984.",
        "Mein Bruder wurde am 24. Dezember 1984 in Tokio geboren.",
    ),
    (
        "called_ago",
        {
            "caller": noun(lexicon.CALLERS, "child"),
            "number": 5,
            "unit": "minute",
            "country": "IQ",
        },
        "The child who called 5 minutes ago comes from Iraq.",
        "Das Kind, das vor 5 Minuten angerufen hat, kommt aus dem Irak.",
    ),
    (
        "called_ago",
        {"caller": noun(lexicon.CALLERS, "women"), "number": 3, "unit": "day", "country": "US"},
        "The women who called 3 days ago come from the United States.",
        "Die Frauen, die vor 3 Tagen angerufen haben, kommen aus den Vereinigten Staaten.",
    ),
    (
        "broadcast",
        {"zone": "Europe/Berlin", "time": datetime.time(20, 15), "date": MARCH_5},
        "On Thursday, the broadcast starts at 8:15 PM Central European Time.",
        "Am Donnerstag beginnt die Übertragung um 20:15 Uhr mitteleuropäischer Zeit.",
    ),
    (
        "broadcast",
        {"zone": "Europe/Moscow", "time": datetime.time(8, 0), "date": MARCH_9},
        "On Monday, the broadcast starts at 8:00 AM Moscow Time.",
        "Am Montag beginnt die Übertragung um 08:00 Uhr Moskauer Zeit.",
    ),
    (
        "closed_since",
        {
            "place": place("town hall"),
            "since": datetime.date(2019, 5, 3),
            "until": datetime.date(2026, 10, 1),
        },
        "The town hall has been closed since May 2019 and will reopen in October.",
        "Das Rathaus ist seit Mai 2019 geschlossen und öffnet im Oktober wieder.",
    ),
    (
        "countries_signed",
        {"countries": ["IR", "DE", "CH"], "agreement": ("treaty", "den Vertrag")},
        "Iran, Germany, and Switzerland have signed the treaty.",
        "Der Iran, Deutschland und die Schweiz haben den Vertrag unterzeichnet.",
    ),
    (
        "vacation_in",
        {
            "countries": ["IT", "LB", "PH"],
            "traveler": ("We will spend our", "Wir werden unseren"),
        },
        "We will spend our vacation in Italy, Lebanon, or the Philippines.",
        "Wir werden unseren Urlaub in Italien, im Libanon oder auf den Philippinen verbringen.",
    ),
    (
        "ordinal_visit",
        {
            "possessive": "her",
            "number": 22,
            "visit": ("visit to", "Besuch", ""),
            "country": "UA",
        },
        "This is her 22nd visit to Ukraine.",
        "Das ist ihr 22. Besuch in der Ukraine.",
    ),
    (
        "ordinal_visit",
        {"possessive": "our", "number": 3, "visit": ("trip to", "Reise", "e"), "country": "JP"},
        "This is our 3rd trip to Japan.",
        "Das ist unsere 3. Reise nach Japan.",
    ),
    (
        "ordinal_place",
        {"athlete": noun(lexicon.ATHLETES, "swimmer"), "country": "IT", "number": 11},
        "The swimmer from Italy took 11th place.",
        "Die Schwimmerin aus Italien hat den 11. Platz belegt.",
    ),
    (
        "ordinal_place",
        {"athlete": noun(lexicon.ATHLETES, "players"), "country": "AE", "number": 1},
        "The players from the United Arab Emirates took 1st place.",
        "Die Spieler aus den Vereinigten Arabischen Emiraten haben den 1. Platz belegt.",
    ),
    (
        "languages_spoken",
        {"country": "CH", "languages": ["fr", "de", "it"]},
        "Many people in Switzerland speak French, German, and Italian.",
        "In der Schweiz sprechen viele Menschen Französisch, Deutsch und Italienisch.",
    ),
    (
        "translated_from",
        {"writing": noun(lexicon.WRITINGS, "novel"), "languages": ["fr", "de"]},
        "The novel was translated from French into German.",
        "Der Roman wurde aus dem Französischen ins Deutsche übersetzt.",
    ),
    (
        "translated_from",
        {"writing": noun(lexicon.WRITINGS, "songs"), "languages": ["hi", "pl"]},
        "The songs were translated from Hindi into Polish.",
        "Die Lieder wurden aus dem Hindi ins Polnische übersetzt.",
    ),
    (
        "learn_before",
        {"person": person("Peter"), "languages": ["es", "pt"], "country": "BR"},
        "Peter wants to learn Spanish and Portuguese before he moves to Brazil.",
        "Peter möchte Spanisch und Portugiesisch lernen, bevor er nach Brasilien zieht.",
    ),
    (
        "written_in_script",
        {
            "adjective": adjective("old"),
            "writing": noun(lexicon.WRITINGS, "poem"),
            "script": "Grek",
            "city": "Europe/Athens",
        },
        "The old poem from Athens is written in Greek script.",
        "Das alte Gedicht aus Athen ist in griechischer Schrift geschrieben.",
    ),
    (
        "written_in_script",
        {
            "adjective": adjective("small"),
            "writing": noun(lexicon.WRITINGS, "letters"),
            "script": "Hebr",
            "city": "Africa/Cairo",
        },
        "The small letters from Cairo are written in Hebrew script.",
        "Die kleinen Briefe aus Kairo sind in hebräischer Schrift geschrieben.",
    ),
    (
        "population",
        {"number": 8_900_000, "country": "AT"},
        "About 8.9 million people live in Austria.",
        "In Österreich leben rund 8,9 Millionen Menschen.",
    ),
    (
        "trade_changed",
        {
            "trade": ("Exports to", "Ausfuhren"),
            "country": "TD",
            "trend": ("rose", "gestiegen"),
            "percent": 12.5,
            "date": datetime.date(1999, 3, 1),
        },
        "Exports to Chad rose by 12.5% in March 1999.",
        "Die Ausfuhren in den Tschad sind im März 1999 um 12,5 % gestiegen.",
    ),
    (
        "trade_changed",
        {
            "trade": ("Imports from", "Einfuhren"),
            "country": "ES",
            "trend": ("fell", "gesunken"),
            "percent": 7,
            "date": datetime.date(2010, 8, 1),
        },
        "Imports from Spain fell by 7% in August 2010.",
        "Die Einfuhren aus Spanien sind im August 2010 um 7 % gesunken.",
    ),
    (
        "distance_from",
        {
            "site": noun(lexicon.SITES, "castle"),
            "number": 3.5,
            "unit": "length-kilometer",
            "city": "Europe/Prague",
        },
        "The castle is 3.5 kilometers from Prague.",
        "Das Schloss liegt 3,5 Kilometer von Prag entfernt.",
    ),
    (
        "temperature",
        {
            "day": ("Tomorrow", "Morgen"),
            "city": "Europe/Moscow",
            "trend": ("fall", "sinkt"),
            "number": -12,
        },
        "Tomorrow, the temperature in Moscow will fall to -12 degrees Celsius.",
        "Morgen sinkt die Temperatur in Moskau auf -12 Grad Celsius.",
    ),
    (
        "costs",
        {
            "adjective": adjective("old"),
            "good": good("lamp"),
            "amount": 250,
            "currency": "SEK",
        },
        "The old lamp costs 250 Swedish kronor.",
        "Die alte Lampe kostet 250 Schwedische Kronen.",
    ),
    (
        "bought_for",
        {
            "person": person("Maria"),
            "adjective": adjective("old"),
            "good": good("table"),
            "amount": 1234.5,
            "currency": "EUR",
        },
        "Maria bought an old table for €1,234.50.",
        "Maria hat für 1.234,50 € einen alten Tisch gekauft.",
    ),
    (
        "bought_for",
        {
            "person": person("the engineers"),
            "adjective": adjective("red"),
            "good": good("bicycle"),
            "amount": 99,
            "currency": "USD",
        },
        "The engineers bought a red bicycle for $99.00.",
        "Die Ingenieure haben für 99,00 $ ein rotes Fahrrad gekauft.",
    ),
    (
        "currency_worth",
        {"amount": 1, "currency": "GBP", "worth": 1.2},
        "1 British pound is worth 1.2 euros.",
        "1 Britisches Pfund ist 1,2 Euro wert.",
    ),
    (
        "currency_worth",
        {"amount": 1700, "currency": "DKK", "worth": 228},
        "1,700 Danish kroner are worth 228 euros.",
        "1.700 Dänische Kronen sind 228 Euro wert.",
    ),
    (
        "although_old",
        {
            "good": good("coat"),
            "adjective": adjective("old"),
            "amount": 80,
            "currency": "EUR",
        },
        "Although the coat is old, it costs 80 euros.",
        "Obwohl der Mantel alt ist, kostet er 80 Euro.",
    ),
    (
        "quarter_result",
        {
            "action": ("earned", "verdient"),
            "date": datetime.date(2003, 8, 20),
            "number": 3_400_000,
            "currency": "EUR",
        },
        "In the 3rd quarter of 2003, the company earned 3.4 million euros.",
        "Im 3. Quartal 2003 hat das Unternehmen 3,4 Millionen Euro verdient.",
    ),
    (
        "turns_after",
        {
            "number": 12,
            "unit": "length-kilometer",
            "way": noun(lexicon.WAYS, "road"),
            "side": ("left", "links"),
        },
        "After 12 kilometers, the road turns left.",
        "Nach 12 Kilometern biegt die Straße links ab.",
    ),
    (
        "turns_after",
        {
            "number": 1,
            "unit": "length-meter",
            "way": noun(lexicon.WAYS, "path"),
            "side": ("right", "rechts"),
        },
        "After 1 meter, the path turns right.",
        "Nach 1 Meter biegt der Weg rechts ab.",
    ),
    (
        "recipe",
        {"names": ["flour", "milk", "salt"], "numbers": [5, 2, 1], "choices": [0, 2, 3]},
        "You need 250 grams of flour, 2 cups of milk, and 1 teaspoon of salt for this recipe.",
        "Für dieses Rezept braucht man 250 Gramm Mehl, 2 Tassen Milch und 1 Teelöffel Salz.",
    ),
    (
        "speeding",
        {"speed": 80, "fine": 70, "currency": "CHF"},
        "Anyone who drives faster than 80 kilometers per hour must pay a fine of 70 Swiss francs.",
        "Wer schneller als 80 Kilometer pro Stunde fährt, muss 70 Schweizer Franken Strafe zahlen.",
    ),
    (
        "computer",
        {
            "adjective": adjective("new"),
            "memory": 16,
            "unit": "digital-gigabyte",
            "power": 350,
        },
        "The new computer has 16 gigabytes of memory and uses 350 watts.",
        "Der neue Computer hat 16 Gigabyte Speicher und verbraucht 350 Watt.",
    ),
    (
        "covers",
        {"site": noun(lexicon.SITES, "farm"), "number": 1, "unit": "area-hectare"},
        "The farm covers 1 hectare.",
        "Der Bauernhof ist 1 Hektar groß.",
    ),
    (
        "how_many",
        {
            "number": 1234,
            "group": noun(lexicon.GROUPS, "members"),
            "action": ("voted", "abgestimmt", "haben"),
        },
        "How many of the 1,234 members voted?",
        "Wie viele der 1.234 Mitglieder haben abgestimmt?",
    ),
    (
        "taller_than",
        {"names": ["Europe/Rome", "Europe/Warsaw"], "number": 30, "unit": "length-foot"},
        "The tower in Rome is 30 feet taller than the one in Warsaw.",
        "Der Turm in Rom ist 30 Fuß höher als der in Warschau.",
    ),
]


@pytest.mark.parametrize(
    ("name", "values", "english", "german"), EXPECTED, ids=[case[0] for case in EXPECTED]
)
def test_sentence(cldr, name, values, english, german):
    template = next(template for template in phrases.TEMPLATES if template.name == name)
    assert template.render(cldr, **values) == (english, german)


def test_every_template_has_an_expected_pair():
    names = [template.name for template in phrases.TEMPLATES]
    assert sorted(set(names)) == sorted(names)
    assert {case[0] for case in EXPECTED} == set(names)


@pytest.mark.parametrize(
    ("code", "german", "inside", "origin", "towards"),
    [
        ("AT", "Österreich", "in Österreich", "aus Österreich", "nach Österreich"),
        ("SK", "die Slowakei", "in der Slowakei", "aus der Slowakei", "in die Slowakei"),
        ("SD", "der Sudan", "im Sudan", "aus dem Sudan", "in den Sudan"),
        ("NL", "die Niederlande", "in den Niederlanden", "aus den Niederlanden", None),
        ("BS", "die Bahamas", "auf den Bahamas", "von den Bahamas", "auf die Bahamas"),
        (
            "DO",
            "die Dominikanische Republik",
            "in der Dominikanischen Republik",
            "aus der Dominikanischen Republik",
            "in die Dominikanische Republik",
        ),
    ],
)
def test_country_forms(cldr, code, german, inside, origin, towards):
    country = cldr.country(code)
    assert (country.de, country.inside, country.origin) == (german, inside, origin)
    assert country.towards == (towards or "in die Niederlande")


def test_splits_are_disjoint_on_both_sides(generated):
    for side in ("source", "target"):
        texts = [
            phrases.normalize(getattr(phrase, side))
            for split in SPLITS
            for phrase in generated[split]
        ]
        assert len(set(texts)) == len(texts) == sum(SIZES.values())


def test_a_phrase_keeps_its_split_under_another_seed(generated):
    other = phrases.generate({"train": 500, "dev": 30, "test": 30}, seed=8)
    trained = {phrases.normalize(phrase.source) for phrase in generated["train"]}
    held_out = {phrases.normalize(p.source) for split in ("dev", "test") for p in other[split]}
    assert not trained & held_out


def test_normalize_ignores_case_punctuation_and_spaces():
    assert phrases.normalize("At 3:30\u202fPM, go!") == phrases.normalize("at 330 pm go")
    assert phrases.normalize("Österreich") != phrases.normalize("Osterreich")


def test_generation_is_deterministic(generated):
    assert phrases.generate(SIZES, seed=7) == generated
    assert phrases.generate(SIZES, seed=8)["test"] != generated["test"]


def test_sizes(generated):
    assert {split: len(generated[split]) for split in SPLITS} == SIZES


def test_more_phrases_than_there_are(monkeypatch):
    few = tuple(t for t in phrases.TEMPLATES if t.name == "event_interval")
    render = lambda c, event: (f"The {event.en}.", event.the())  # noqa: E731
    slots = {"event": few[0].slots["event"]}
    monkeypatch.setattr(phrases, "TEMPLATES", (few[0]._replace(slots=slots, render=render),))
    with pytest.raises(UsageError, match=r"no more new phrases.*expected \{'train': 99"):
        phrases.generate({"train": 99, "dev": 0, "test": 0}, seed=0)


def test_no_template_dominates(generated):
    for split in SPLITS:
        counts = collections.Counter(phrase.template for phrase in generated[split])
        assert max(counts.values()) <= 0.15 * SIZES[split]
    counts = collections.Counter(phrase.template for phrase in generated["train"])
    assert set(counts) == {template.name for template in phrases.TEMPLATES}


def test_text_is_clean(generated):
    for split in SPLITS:
        for phrase in generated[split]:
            for text in phrase[:2]:
                assert text == " ".join(text.split()), phrase  # no double or special spaces
                assert text[0].isupper() or text[0].isdigit(), phrase
                assert text.endswith((".", "?")), phrase
                assert not text.endswith(".."), phrase


def test_umlauts_are_there(generated):
    letters = set("".join(phrase.target for phrase in generated["train"]))
    assert set("äöüÄÖÜß") <= letters


def test_all_plural_categories_occur(generated):
    english = " ".join(phrase.source for phrase in generated["train"])
    german = " ".join(phrase.target for phrase in generated["train"])
    for text in ("1 kilometer", "kilometers", "1 year", "years", "21st", "22nd", "3rd", "5th"):
        assert re.search(rf"\b{text}\b", english), text
    for text in ("1 Monat", "Monaten", r"1 \w+ Krone ist", r"\d+ \w+ Kronen sind"):
        assert re.search(rf"\b{text}\b", german), text


def test_drawing_uses_nothing_but_its_generator(cldr):
    for template in phrases.TEMPLATES:
        random.seed(0)
        first = template.draw(cldr, random.Random(3))
        random.seed(1)
        assert template.draw(cldr, random.Random(3)) == first

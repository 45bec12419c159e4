"""Files with both languages: what is read, and that damage is told with file and line."""

from __future__ import annotations

import gzip
import json
import pathlib
import random
import tracemalloc
from xml.sax.saxutils import escape

import hypothesis
import pytest
from hypothesis import strategies as st

from t2t_vqem.constants import UsageError
from t2t_vqem.data.parallel_files import format_of, read_pairs

LANGUAGES = ("en", "de")
SIDE = st.text(st.characters(exclude_characters="\n\r\t", exclude_categories=["Cs"]), min_size=1)
# What XML can hold, without white space at the ends, which a segment loses.
XML_SIDE = st.text(
    st.characters(exclude_categories=["Cs", "Cc", "Cn", "Z"]), min_size=1, max_size=20
)


def read(path: pathlib.Path, content: bytes | str) -> list[tuple[str, str]]:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    pairs = read_pairs([str(path)], LANGUAGES)
    return [(source.decode(), target.decode()) for source, target in pairs]


def tmx(units: str, head: str = '<?xml version="1.0" encoding="UTF-8"?>') -> str:
    return f'{head}\n<tmx version="1.4"><header srclang="en"/><body>\n{units}</body></tmx>\n'


def unit(en: str, de: str) -> str:
    return (
        f'<tu><tuv xml:lang="en"><seg>{en}</seg></tuv>\n<tuv xml:lang="de"><seg>{de}</seg></tuv>'
        "</tu>\n"
    )


@pytest.mark.parametrize(
    ("name", "suffix"),
    [
        ("a.tsv", ".tsv"),
        ("a.de.TSV.gz", ".tsv"),
        ("x/a.jsonl.zst", ".jsonl"),
        ("a.tmx.xz", ".tmx"),
        ("a.en", None),
        ("tsv", None),
        ("a.tsv.en", None),
    ],
)
def test_formats_by_name(name, suffix):
    assert format_of(name) == suffix


@hypothesis.given(st.lists(st.tuples(SIDE, SIDE), min_size=1, max_size=5))
def test_every_pair_comes_back_from_tsv_and_json_lines(tmp_path_factory, pairs):
    folder = tmp_path_factory.mktemp("pairs")
    # A first line that names both languages is a header.
    rows = "".join(f"{source}\t{target}\r\n" for source, target in pairs)
    assert read(folder / "a.tsv", f"en\tde\r\n{rows}") == pairs
    for ascii_ in (True, False):
        objects = (
            json.dumps(dict(zip(LANGUAGES, p, strict=True)), ensure_ascii=ascii_) for p in pairs
        )
        assert read(folder / "a.jsonl", "\n".join(objects)) == pairs


@hypothesis.given(st.lists(st.tuples(XML_SIDE, XML_SIDE), min_size=1, max_size=5))
def test_every_pair_comes_back_from_tmx(tmp_path_factory, pairs):
    units = "".join(unit(escape(source), escape(target)) for source, target in pairs)
    path = tmp_path_factory.mktemp("pairs") / "a.tmx"
    assert read(path, tmx(units)) == pairs
    utf16 = tmx(units, '<?xml version="1.0" encoding="UTF-16"?>').encode("utf-16")
    assert read(path, utf16) == pairs


def test_tsv_is_read_as_it_is(tmp_path):
    text = '\ufeff"a\t"b\u2028\x00\r\n\tx\n a \t b '
    assert read(tmp_path / "a.tsv", text) == [('"a', '"b\u2028\x00'), ("", "x"), (" a ", " b ")]
    header = "id\tde\ten\n1\teins\tone\n2\tzwei\ttwo\n"
    assert read(tmp_path / "b.tsv", header) == [("one", "eins"), ("two", "zwei")]
    assert read(tmp_path / "c.tsv.gz", gzip.compress(b"one\teins\n")) == [("one", "eins")]


def test_json_lines_may_nest_the_text_and_hold_line_breaks(tmp_path):
    rows = [
        {"en": "one\n  two", "de": "eins\r\nzwei", "score": 1},
        {"translation": {"en": "\u2028", "de": "\x00"}},
    ]
    text = "\n".join(map(json.dumps, rows))
    assert read(tmp_path / "a.jsonl", text) == [("one two", "eins zwei"), ("\u2028", "\x00")]


def test_tmx_text_without_markup_and_with_language_variants(tmp_path):
    units = (
        '<tu><note>x</note><tuv xml:lang="DE_at"><seg>Jause</seg></tuv>'
        '<tuv xml:lang="en-GB"><seg>a <bpt i="1">&lt;b></bpt>snack<ept i="1">&lt;/b></ept>, '
        "<hi>now</hi><ph>\n{0}<sub>no text</sub></ph>\n    please</seg></tuv></tu>\n"
        '<tu><tuv xml:lang="en-US"><seg>color</seg></tuv><tuv lang="en"><seg>colour</seg></tuv>'
        '<tuv xml:lang="de"><seg><![CDATA[<Farbe>]]> &#x41;&amp;</seg></tuv></tu>\n'
        '<tu><tuv xml:lang="en"><seg>only English</seg></tuv></tu>\n' + unit("", "leer")
    )
    doctype = '<!DOCTYPE tmx SYSTEM "tmx14.dtd">'
    expected = [("a snack, now please", "Jause"), ("colour", "<Farbe> A&")]
    assert read(tmp_path / "a.tmx", tmx(units, doctype)) == expected


def test_skipped_units_are_counted(tmp_path, caplog):
    units = unit("one", "eins") + unit("two", "") + unit("", "drei")
    read(tmp_path / "a.tmx", tmx(units))
    assert "2 of 3 translation units have no text in both en and de and are skipped" in caplog.text
    only = '<tu><tuv xml:lang="fr"><seg>un</seg></tuv></tu>'
    with pytest.raises(UsageError, match=r"1 of 1 translation units .* Languages there: fr\."):
        read(tmp_path / "a.tmx", tmx(only))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.tsv", "one\teins\ntwo\n", "line 2: 1 columns, expected 2 as in line 1"),
        ("a.tsv", "a\tb\tc\nd\te\tf\tg\n", "line 2: 4 columns, expected 3 as in line 1"),
        ("a.tsv", "one\n", "line 1: 1 columns, expected source and target, separated by a tab"),
        ("a.tsv", b"one\teins\nx\t\xff\n", "line 2: not UTF-8"),
        ("a.tsv", "", "is empty, expected pairs of sentences"),
        ("a.jsonl", '{"en": "a", "de": "b"}\n{"en": "a"}\n', "line 2: .*KeyError: 'de'"),
        ("a.jsonl", '{"en": "a", "de": 3}\n', 'line 1: .*such as {"en": "...", "de": "..."}'),
        ("a.jsonl", '{"en": "a", "de": "b"}\n\n', "line 2: .*got '' "),
        ("a.jsonl", "[1]\n", "line 1: expected an object"),
        ("a.jsonl", '{"en": "a", "de": "\\ud800"}\n', "line 1: .*surrogates not allowed"),
        ("a.jsonl", "[" * 100_000, "line 1: .*RecursionError"),
        ("a.jsonl", '{"en": "a", "de": ' + "9" * 10_000 + "}", "line 1: expected an object"),
        ("a.tmx", tmx(unit("one", "eins"))[:-9], "line 5: not well-formed TMX"),
        ("a.tmx", tmx(unit("one & two", "eins")), "line 3: not well-formed TMX"),
        ("a.tmx", "<xliff/>", "line 1: the root element is xliff, expected tmx"),
        ("a.tmx", tmx(unit("one\x00", "eins")), "line 3: not well-formed TMX"),
        ("a.tmx", tmx(unit("one", "eins")).encode() + b"\xff", "line 6: not well-formed TMX"),
        ("a.tmx", tmx(""), "is empty"),
        ("a.tmx", "", "line 1: not well-formed TMX .no element found"),
    ],
)  # fmt: skip
def test_damage_is_told_with_file_and_line(tmp_path, name, content, message):
    with pytest.raises(UsageError, match=rf"{tmp_path}/{name},? {message}"):
        read(tmp_path / name, content)


@pytest.mark.parametrize(
    "declaration",
    [
        '<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">',
        '<!ENTITY secret SYSTEM "/etc/passwd">',
        '<!ENTITY % p SYSTEM "http://localhost:1/x.dtd">%p;',
    ],
)
def test_entities_are_refused(tmp_path, declaration):
    text = tmx(unit("&a;", "&secret;"), f"<!DOCTYPE tmx [{declaration}]>")
    with pytest.raises(UsageError, match=r"a\.tmx, line 1: entity '\w+', which is never expanded"):
        read(tmp_path / "a.tmx", text)
    # Declared in a file that is not read.
    text = tmx(unit("&a;", "x"), '<!DOCTYPE tmx SYSTEM "tmx14.dtd">')
    with pytest.raises(UsageError, match=r"a\.tmx, line 3: entity 'a'"):
        read(tmp_path / "a.tmx", text)


@hypothesis.settings(max_examples=60)
@hypothesis.given(st.integers(), st.sampled_from(["a.tmx", "a.tsv", "a.jsonl", "a.tsv.zst"]))
def test_a_changed_byte_never_gives_another_kind_of_error(tmp_path_factory, seed, name):
    rng = random.Random(seed)
    content = {
        "a.tmx": tmx(unit("one &amp; <ph>x</ph>", "eins") * 3),
        "a.tsv": "one\teins\n" * 9,
        "a.tsv.zst": "one\teins\n" * 9,
        "a.jsonl": '{"en": "one \\u00e4", "de": "eins"}\n' * 9,
    }[name].encode()
    if name.endswith(".zst"):
        content = pytest.importorskip("backports.zstd").compress(content)
    damaged = bytearray(content)
    for _ in range(rng.randint(1, 3)):
        damaged[rng.randrange(len(damaged))] = rng.randrange(256)
    try:
        read(tmp_path_factory.mktemp("damaged") / name, bytes(damaged[: rng.randint(1, 10**3)]))
    except UsageError as error:
        assert name in str(error)


def test_memory_does_not_grow_with_a_tmx_file_of_one_line(tmp_path):
    one = unit("one two three", "eins zwei drei").replace("\n", "")
    path = tmp_path / "a.tmx"
    path.write_text(f"<tmx><body>{one * 20_000}</body></tmx>")
    assert path.stat().st_size > 2_000_000
    tracemalloc.start()
    try:
        assert sum(1 for _ in read_pairs([str(path)], LANGUAGES)) == 20_000
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()

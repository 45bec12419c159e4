"""Parsing the value of --hparams."""

import dataclasses

import hypothesis
import hypothesis.strategies as st
import pytest

from t2t_vqem.constants import UsageError
from t2t_vqem.fields import Config, option
from t2t_vqem.overrides import parse_overrides


@dataclasses.dataclass(frozen=True, kw_only=True)
class Example(Config):
    """A configuration with a field of every type."""

    count: int = option(0, "how many")
    rate: float = option(0.0, "how much")
    name: str = option("", "which")
    flag: bool = option(False, "whether")
    sizes: tuple[int, ...] = option((), "how large")
    files: tuple[str, ...] = option((), "from where")
    maybe: int | None = option(None, "perhaps")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", {}),
        ("  ", {}),
        ("count=3", {"count": 3}),
        (" count = 3 ,\n rate = 1e-3 ", {"count": 3, "rate": 1e-3}),
        ("rate=2", {"rate": 2.0}),
        ("flag=true", {"flag": True}),
        ("flag=False", {"flag": False}),
        ("name=soft_em,count=1", {"name": "soft_em", "count": 1}),
        ("name=1", {"name": "1"}),
        ("name=", {"name": ""}),
        ("name=it's", {"name": "it's"}),
        ("name=a=b", {"name": "a=b"}),
        ("name='a, b',count=1", {"name": "a, b", "count": 1}),
        ('name="it\'s, \\"so\\"",flag=true', {"name": 'it\'s, "so"', "flag": True}),
        ("sizes=(1, 2),count=4", {"sizes": (1, 2), "count": 4}),
        ("sizes=[3]", {"sizes": (3,)}),
        ("files=[a.en|a.de*2, b.tsv],count=1", {"files": ("a.en|a.de*2", "b.tsv"), "count": 1}),
        ("files=['a, b.tsv','c']", {"files": ("a, b.tsv", "c")}),
        ("maybe=none", {"maybe": None}),
        ("maybe=4", {"maybe": 4}),
    ],
)
def test_valid_text(text, expected):
    assert parse_overrides(Example, text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("coutn=3", "--hparams: unknown field of Example 'coutn'. Did you mean count"),
        ("count=three", "--hparams: count=three: expected int"),
        ("count=3.5", "--hparams: count=3.5: expected int"),
        ("count='3'", "--hparams: count='3' is of type str, expected int"),
        ("rate=fast", "--hparams: rate=fast: expected float"),
        ("rate=nan", "--hparams: rate=nan is out of range"),
        ("flag=1", "--hparams: flag=1: expected true or false"),
        ("sizes=1", r"--hparams: sizes=1: expected tuple\[int, ...\]"),
        ("files=[a", "expected a quoted or bracketed value and a comma, got '\\[a'"),
        ("files=[a] b", "expected a quoted or bracketed value and a comma"),
        ("files=[a],", "expected a quoted or bracketed value and a comma"),
        ("sizes=[a]", r"sizes=\['a'\] is of type list, expected tuple"),
        ("count=1,count=2", "--hparams: count is given twice"),
        ("count", "--hparams: expected name=value,name=value, got 'count'"),
        ("count=1;rate=2", "--hparams: count=1;rate=2: expected int"),
        ("count=1,", "--hparams: expected name=value after the last comma"),
        ("name='a',", "--hparams: expected name=value after the last comma"),
        (",count=1", "--hparams: expected name=value,name=value, got ',count=1'"),
        ("name='a", "--hparams: expected a quoted or bracketed value and a comma"),
        ("name='a' count=1", "--hparams: expected a quoted or bracketed value and a comma"),
    ],
)
def test_invalid_text_is_an_error(text, message):
    with pytest.raises(UsageError, match=message):
        parse_overrides(Example, text, "--hparams: ")


VALUES = st.fixed_dictionaries(
    {},
    optional={
        "count": st.integers(),
        "rate": st.floats(allow_nan=False, allow_infinity=False),
        "name": st.text(),
        "sizes": st.lists(st.integers()).map(tuple),
        "flag": st.booleans(),
        "maybe": st.none() | st.integers(),
    },
)


@hypothesis.given(VALUES, st.sampled_from(["", " ", "\n "]), st.randoms(use_true_random=False))
def test_written_values_are_read_back(values, space, random):
    names = list(values)
    random.shuffle(names)
    text = f"{space},{space}".join(f"{name}{space}={space}{values[name]!r}" for name in names)
    assert parse_overrides(Example, text) == values


@hypothesis.given(st.text(alphabet="count rate name sizes flag maybe=,'\"()[]0123.e-\\"))
def test_any_text_is_parsed_or_an_error_with_a_message(text):
    try:
        values = parse_overrides(Example, text)
    except UsageError as error:
        assert str(error)
    else:
        Example(**values)

"""Checking, storing and describing fields."""

import dataclasses
import json
import math

import pytest

from t2t_vqem.constants import UsageError
from t2t_vqem.fields import Config, check, describe, from_json, option, to_json


@dataclasses.dataclass(frozen=True, kw_only=True)
class Example(Config):
    """A configuration with a field of every type."""

    count: int = option(3, "how many", minimum=1, maximum=9)
    rate: float = option(0.5, "how much", minimum=0, below=1)
    name: str = option("a", "which", choices=("a", "b"))
    flag: bool = option(False, "whether")
    sizes: tuple[int, ...] = option((1, 2), "how large", minimum=1)
    maybe: str | None = option(None, "perhaps")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"cuont": 3}, "unknown field of Example 'cuont'. Did you mean count"),
        ({"count": "3"}, "count='3' is of type str, expected int: how many"),
        ({"count": 3.0}, "count=3.0 is of type float, expected int"),
        ({"count": True}, "count=True is of type bool, expected int"),
        ({"flag": 1}, "flag=1 is of type int, expected bool"),
        ({"rate": True}, "rate=True is of type bool, expected float"),
        ({"rate": "a"}, "rate='a' is of type str, expected float"),
        ({"rate": math.nan}, "rate=nan is out of range, expected at least 0 and below 1"),
        ({"rate": math.inf}, "rate=inf is out of range"),
        ({"rate": 1.0}, "rate=1.0 is out of range, expected at least 0 and below 1: how much"),
        ({"rate": -0.1}, "rate=-0.1 is out of range"),
        ({"count": 0}, "count=0 is out of range, expected 1 to 9"),
        ({"count": 10}, "count=10 is out of range"),
        ({"name": "c"}, "name='c' is out of range, expected one of 'a', 'b'"),
        ({"sizes": (1, "2")}, r"expected tuple\[int, ...\]"),
        ({"sizes": (1, 0)}, r"sizes=\(1, 0\) is out of range"),
        ({"sizes": 1}, "sizes=1 is of type int"),
        ({"maybe": 1}, r"maybe=1 is of type int, expected str \| None"),
    ],
)
def test_invalid_values_are_errors(values, message):
    with pytest.raises(UsageError, match=message):
        check(Example, values)


def test_the_constructor_also_checks():
    with pytest.raises(UsageError, match="count=0 is out of range"):
        Example(count=0)


def test_values_are_converted_to_the_type_of_the_field():
    example = Example(rate=0, sizes=[4, 5], maybe="x")
    assert example == Example(rate=0.0, sizes=(4, 5), maybe="x")
    assert isinstance(example.rate, float)
    assert isinstance(example.sizes, tuple)


def test_limits_are_inclusive():
    assert Example(count=1).count == 1
    assert Example(count=9).count == 9


def test_json_round_trip():
    example = Example(count=7, rate=0.25, name="b", flag=True, sizes=(3,), maybe="ü")
    assert from_json(Example, json.loads(json.dumps(to_json(example)))) == example


def test_unknown_stored_fields_are_errors_and_missing_ones_have_their_default():
    assert from_json(Example, {"count": 5}) == Example(count=5)
    with pytest.raises(UsageError, match="stored Example: unknown field of Example 'old'"):
        from_json(Example, {"old": 1})


def test_describe_shows_every_field_with_type_value_and_description():
    text = describe(Example(count=7))
    for field in dataclasses.fields(Example):
        assert field.metadata["meaning"] in text
    assert "count: int = 7" in text
    assert "how many (1 to 9)" in text
    assert "sizes: tuple[int, ...] = (1, 2)" in text
    assert "count: int = 3" in describe(Example)

"""Parses the values of `--hparams` and `--problem_params`: "name=value,name=value"."""

import ast
import re
import types
import typing
from collections.abc import Iterator
from typing import Any

from t2t_vqem.constants import UsageError
from t2t_vqem.fields import check, field_of, type_name

BOOLEANS = {"true": True, "false": False}


class _Bare(str):
    """A value without quotes, to be converted to the type of its field."""


def parse_overrides(cls: type, text: str, where: str = "") -> dict[str, Any]:
    """Parses values for fields of a dataclass.

    A value that begins with a quote or a bracket is a Python literal and may contain commas:
    "name='a, b',sizes=(1, 2)". Names in square brackets need no quotes: "train=[a.tsv, b.tsv]". Any
    other value ends at the next comma and is converted to the type
    of its field: "source_language=de,num_heads=4,shuffle=true".

    Args:
        cls: the dataclass.
        text: name=value pairs, separated by commas.
        where: prefix of every error message, such as "--hparams: ".

    Returns:
        Values by field name, of the fields' types and within their limits.

    Raises:
        UsageError: `text` is not such a list, gives a name twice or an unknown field, or a value
            has the wrong type or is out of range.
    """
    hints = typing.get_type_hints(cls)
    values: dict[str, Any] = {}
    for name, value in _pairs(text, where):
        field_of(cls, name, where)
        if name in values:
            raise UsageError(f"{where}{name} is given twice")
        if isinstance(value, _Bare):
            value = _read(value, hints[name], f"{where}{name}")
        values |= check(cls, {name: value}, where)
    return values


def _pairs(text: str, where: str) -> Iterator[tuple[str, Any]]:
    while text.strip():
        match = re.match(r"\s*(\w+)\s*=\s*", text)
        if not match:
            raise UsageError(f"{where}expected name=value,name=value, got {text.strip()!r}")
        text = text[match.end() :]
        if text[:1] in ("'", '"', "(", "["):
            value, text = _literal(text, where)
        else:
            bare, comma, text = text.partition(",")
            value = _Bare(bare.strip())
            if comma and not text.strip():
                raise UsageError(f"{where}expected name=value after the last comma")
        yield match[1], value


def _literal(text: str, where: str) -> tuple[Any, str]:
    """Returns the literal at the start of `text`, and the rest after the comma that follows it."""
    for comma in [match.start() for match in re.finditer(",", text)] + [len(text)]:
        try:
            value = ast.literal_eval(text[:comma].strip())
        except (SyntaxError, TypeError, ValueError, MemoryError, RecursionError):
            continue  # the comma is inside the literal
        if comma + 1 == len(text):
            raise UsageError(f"{where}expected name=value after the last comma")
        return value, text[comma + 1 :]
    names = re.match(r"\[([^][()'\"]*)\]\s*(,|$)", text)
    if names and not (names[2] and names.end() == len(text)):
        return [name.strip() for name in names[1].split(",")], text[names.end() :]
    raise UsageError(f"{where}expected a quoted or bracketed value and a comma, got {text!r}")


def _read(text: str, hint: Any, where: str) -> Any:
    """Converts `text` to the type `hint`."""
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        inner = [argument for argument in typing.get_args(hint) if argument is not type(None)]
        return None if text.lower() == "none" else _read(text, inner[0], where)
    try:
        if hint is bool:
            return BOOLEANS[text.lower()]
        if hint in (int, float, str):
            return hint(text)
    except (KeyError, ValueError):
        pass
    expected = "true or false" if hint is bool else type_name(hint)
    raise UsageError(f"{where}={text}: expected {expected}")

"""Reads a request's body: parses JSON, and checks the types and limits of its fields."""

from __future__ import annotations

import base64
import binascii
import difflib
import json
from collections.abc import Callable
from typing import Any, TypeVar

from t2t_vqem.server.limits import RequestError

_T = TypeVar("_T")


def parse_json(body: bytes) -> Body:
    """Returns the fields of a JSON object.

    Raises:
        RequestError: 400, not JSON; 422, not an object.
    """
    try:
        value = json.loads(body.decode("utf-8"), parse_constant=_no_constant)
    except UnicodeDecodeError as error:
        raise RequestError(400, f"The body is not UTF-8: byte {error.start} is invalid.") from error
    except RecursionError as error:
        raise RequestError(400, "The body is nested too deeply.") from error
    except ValueError as error:  # also an integer of thousands of digits
        raise RequestError(400, f"The body is not JSON: {error}.") from error
    if not isinstance(value, dict):
        raise RequestError(422, f"The body is {_kind(value)}, expected an object.")
    return Body(value)


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")


def _kind(value: Any) -> str:
    kinds = {bool: "a boolean", int: "a number", float: "a number", str: "a string"}
    kinds |= {list: "an array", dict: "an object", type(None): "null"}
    return kinds[type(value)]


class Body:
    """The fields of an object. Each field is taken once; fields left at the end are an error."""

    def __init__(self, fields: dict[str, Any]):
        self._fields = fields
        self._known: list[str] = []

    def __contains__(self, name: str) -> bool:
        return name in self._fields

    def take(self, name: str, default: Any = None) -> Any:
        """Removes a field and returns it unchecked."""
        self._known.append(name)
        return self._fields.pop(name, default)

    def integer(self, name: str, default: int, *, least: int, most: int) -> int:
        """Returns an integer.

        Raises:
            RequestError: 422, not an integer, or out of range.
        """
        value = self.take(name, default)
        if isinstance(value, bool) or not isinstance(value, int):
            raise RequestError(422, f"{name} is {_kind(value)}, expected an integer.")
        if not least <= value <= most:
            shown = value if abs(value) < 10**12 else "too large" if value > 0 else "too small"
            raise RequestError(422, f"{name} is {shown}, expected {least} to {most}.")
        return value

    def number(self, name: str, default: float, *, least: float, most: float) -> float:
        """Returns a number.

        Raises:
            RequestError: 422, not a number, or out of range.
        """
        value = self.take(name, default)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise RequestError(422, f"{name} is {_kind(value)}, expected a number.")
        if not least <= value <= most:  # also false for infinite values, such as 1e999
            raise RequestError(422, f"{name} is out of range, expected {least:g} to {most:g}.")
        return float(value)

    def optional(self, name: str, read: Callable[..., _T], **bounds: float) -> _T | None:
        """Returns the value that `integer` or `number` reads; None if the field is missing."""
        if name not in self._fields:
            return self.take(name)
        return read(name, None, **bounds)

    def string(self, name: str, *, most: int) -> str | None:
        """Returns a string of at most `most` characters; None if the field is missing.

        Raises:
            RequestError: 422, not a string, too long, or not valid Unicode.
        """
        value = self.take(name)
        return None if value is None else check_text(value, name, most)

    def strings(self, name: str, *, most: int, chars: int) -> tuple[list[str], bool]:
        """Returns a list of one or more strings, and whether the field was an array.

        Raises:
            RequestError: 422, missing, of another type, too many, or one is too long.
        """
        value = self.take(name)
        listed = isinstance(value, list)
        if isinstance(value, str):
            value = [value]
        if not isinstance(value, list):
            raise RequestError(
                422, f"{name} is {_kind(value)}, expected a string or an array of strings."
            )
        check_count(len(value), name, most)
        checked = [check_text(text, f"{name}[{i}]", chars) for i, text in enumerate(value)]
        return checked, listed

    def array(self, name: str, *, most: int) -> list[Any]:
        """Returns an array of 1 to `most` elements.

        Raises:
            RequestError: 422, missing, of another type, empty or too long.
        """
        value = self.take(name)
        if not isinstance(value, list):
            raise RequestError(422, f"{name} is {_kind(value)}, expected an array.")
        check_count(len(value), name, most)
        return value

    def end(self) -> None:
        """Checks that every field was taken.

        Raises:
            RequestError: 422, a field was not.
        """
        for name in self._fields:
            close = difflib.get_close_matches(name[:80], self._known, 1)
            hint = f", did you mean {close[0]}" if close else ""
            known = ", ".join(self._known)
            raise RequestError(
                422, f"Unknown field {name[:80]!r}{hint}; expected some of: {known}."
            )


def check_count(count: int, name: str, most: int, least: int = 1) -> None:
    """Raises a RequestError if there are fewer than `least` or more than `most`."""
    if not least <= count <= most:
        expected = most if least == most else f"{least} to {most}"
        raise RequestError(422, f"{name} has {count} elements, expected {expected}.")


def check_text(value: Any, name: str, most: int) -> str:
    """Checks and returns a text of at most `most` characters; raises a RequestError if invalid."""
    if not isinstance(value, str):
        raise RequestError(422, f"{name} is {_kind(value)}, expected a string.")
    if len(value) > most:
        raise RequestError(422, f"{name} has {len(value)} characters, expected at most {most}.")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise RequestError(
                422,
                f"{name} is not valid Unicode: character {error.start} is half a surrogate pair.",
            ) from error
    return value


def check_codes(value: Any, name: str, *, below: int, most: int, least: int = 1) -> list[int]:
    """Checks and returns an array of `least` to `most` integers, from 0 to `below` - 1.

    Raises:
        RequestError: 422, anything else.
    """
    if not isinstance(value, list):
        raise RequestError(422, f"{name} is {_kind(value)}, expected an array of integers.")
    check_count(len(value), name, most, least)
    for i, number in enumerate(value):
        if type(number) is not int or not 0 <= number < below:
            raise RequestError(
                422, f"{name}[{i}] is not a code: expected an integer from 0 to {below - 1}."
            )
    return value


def check_base64(value: Any, name: str) -> bytes:
    """Returns the bytes of a base64 string; raises a RequestError if it is invalid."""
    if not isinstance(value, str):
        raise RequestError(422, f"{name} is {_kind(value)}, expected an image file in base64.")
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError) as error:
        raise RequestError(422, f"{name} is not base64: {error}.") from error

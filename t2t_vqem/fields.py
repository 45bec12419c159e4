"""Declaring, checking, storing and showing the fields of a configuration.

A configuration is a frozen dataclass derived from `Config`, whose fields are declared with
`option`. A class derived from another changes the default of a field by giving the value alone:

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Config(TextConfig):
        vocab_size: int = 4000
"""

import dataclasses
import math
import types
import typing
from typing import Any, TypeVar

from t2t_vqem.constants import UsageError
from t2t_vqem.registry import unknown_name

C = TypeVar("C")


def option(
    default: Any,
    meaning: str,
    *,
    minimum: float | None = None,
    maximum: float | None = None,
    below: float | None = None,
    choices: tuple[Any, ...] | None = None,
) -> Any:
    """Declares a field of a `Config`.

    Args:
        default: value if none is set.
        meaning: meaning, unit and source, for --registry_help.
        minimum: smallest value allowed.
        maximum: largest value allowed.
        below: the value must be smaller than this.
        choices: all values allowed.
    """
    limits = {"minimum": minimum, "maximum": maximum, "below": below, "choices": choices}
    return dataclasses.field(default=default, metadata={"meaning": meaning, **limits})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """A configuration whose values are checked when it is created."""

    def __init_subclass__(cls, **kwargs: Any):
        """Keeps meaning and limits of inherited fields of which only the default is given."""
        super().__init_subclass__(**kwargs)
        above = {
            field.name: field
            for base in reversed(cls.__mro__[1:])
            if dataclasses.is_dataclass(base)
            for field in dataclasses.fields(base)
        }
        for name, field in above.items():
            value = vars(cls).get(name, field)
            if not isinstance(value, dataclasses.Field):
                if name not in cls.__annotations__:  # otherwise dataclasses would not see the value
                    cls.__annotations__[name] = field.type
                setattr(cls, name, dataclasses.field(default=value, metadata=field.metadata))

    def __post_init__(self) -> None:
        for name, value in check(type(self), vars(self)).items():
            object.__setattr__(self, name, value)


def check(cls: type, values: dict[str, Any], where: str = "") -> dict[str, Any]:
    """Checks values against the names, types and limits of a dataclass's fields.

    Args:
        cls: the dataclass.
        values: values by field name; not every field needs one.
        where: prefix of every message, such as "--hparams: ".

    Returns:
        The values in the types of their fields: an int becomes a float, and a list a tuple, if
        the field has that type.

    Raises:
        UsageError: a name is not a field (the message shows similar names), or a value has the
            wrong type or is out of range.
    """
    hints = typing.get_type_hints(cls)
    checked = {}
    for name, value in values.items():
        field = field_of(cls, name, where)
        try:
            checked[name] = _convert(value, hints[name])
        except TypeError:
            raise UsageError(
                f"{where}{name}={value!r} is of type {type(value).__name__}, "
                f"expected {type_name(hints[name])}: {meaning(field)}"
            ) from None
        _check_limits(field, checked[name], where)
    return checked


def field_of(cls: type, name: str, where: str = "") -> dataclasses.Field:
    """Returns the field `name` of a dataclass.

    Raises:
        UsageError: there is no such field; the message begins with `where` and shows similar names.
    """
    fields = {field.name: field for field in dataclasses.fields(cls)}
    if name not in fields:
        raise UsageError(where + unknown_name(f"field of {cls.__name__}", name, sorted(fields)))
    return fields[name]


def _convert(value: Any, hint: Any) -> Any:
    """Returns `value` as the type `hint`; raises TypeError if it is not of that type."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        for argument in arguments:
            try:
                return _convert(value, argument)
            except TypeError:
                continue
        raise TypeError
    if origin is tuple and isinstance(value, (tuple, list)):
        return tuple(_convert(item, arguments[0]) for item in value)
    # bool is a subclass of int, but True is not a number of layers.
    if hint is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    if hint is Any or (hint is type(None) and value is None):
        return value
    if isinstance(hint, type) and type(value) is hint:
        return value
    raise TypeError


def _check_limits(field: dataclasses.Field, value: Any, where: str) -> None:
    expected = limits(field)
    low, high = field.metadata.get("minimum"), field.metadata.get("maximum")
    below, choices = field.metadata.get("below"), field.metadata.get("choices")
    for item in value if isinstance(value, tuple) else (value,):
        wrong = isinstance(item, float) and not math.isfinite(item)
        if isinstance(item, (int, float)) and not isinstance(item, bool):
            wrong = wrong or (low is not None and item < low)
            wrong = wrong or (high is not None and item > high)
            wrong = wrong or (below is not None and item >= below)
        wrong = wrong or (choices is not None and item not in choices)
        if wrong:
            raise UsageError(
                f"{where}{field.name}={value!r} is out of range, expected "
                f"{expected or 'a finite number'}: {meaning(field)}"
            )


def limits(field: dataclasses.Field) -> str:
    """Returns the values that `field` allows, "at least 0 and below 1"; "" if all are allowed."""
    low, high = field.metadata.get("minimum"), field.metadata.get("maximum")
    below, choices = field.metadata.get("below"), field.metadata.get("choices")
    parts = ["one of " + ", ".join(map(repr, choices))] if choices else []
    if low is not None and high is not None:
        parts.append(f"{low} to {high}")
    else:
        parts += [f"at least {low}"] if low is not None else []
        parts += [f"at most {high}"] if high is not None else []
    parts += [f"below {below}"] if below is not None else []
    return " and ".join(parts)


def default_of(field: dataclasses.Field) -> Any:
    """Returns the default of `field`, dataclasses.MISSING if it has none."""
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


def meaning(field: dataclasses.Field) -> str:
    """Returns the description of `field`."""
    return field.metadata.get("meaning", "")


def type_name(hint: Any) -> str:
    """Returns "int" for int, "str | None" for the union of both."""
    return hint.__name__ if isinstance(hint, type) and not typing.get_args(hint) else str(hint)


def to_json(config: Any) -> dict[str, Any]:
    """Returns the fields of a configuration as values that `json.dump` writes."""
    return _as_json(dataclasses.asdict(config))


def json_defaults(cls: type) -> dict[str, Any]:
    """Returns the defaults of the fields that have one, in the form of `to_json`."""
    defaults = {field.name: default_of(field) for field in dataclasses.fields(cls)}
    return _as_json({k: v for k, v in defaults.items() if v is not dataclasses.MISSING})


def _as_json(values: dict[str, Any]) -> dict[str, Any]:
    return {name: list(v) if isinstance(v, tuple) else v for name, v in values.items()}


def from_json(cls: type[C], values: dict[str, Any]) -> C:
    """Returns the configuration from the output of `to_json`.

    A field that was added later has its default.

    Raises:
        UsageError: `cls` does not have a stored field, or does not allow its value.
    """
    return cls(**check(cls, values, f"stored {cls.__name__}: "))


def describe(config: Any) -> str:
    """Returns a list of the fields of a configuration, or of its class: type, value, meaning."""
    cls = config if isinstance(config, type) else type(config)
    hints = typing.get_type_hints(cls)
    lines = []
    for field in dataclasses.fields(cls):
        value = default_of(field) if config is cls else getattr(config, field.name)
        shown = "(required)" if value is dataclasses.MISSING else repr(value)
        lines.append(f"  {field.name}: {type_name(hints[field.name])} = {shown}")
        allowed = limits(field)
        lines.append(f"      {meaning(field)}" + (f" ({allowed})" if allowed else ""))
    return "\n".join(lines)

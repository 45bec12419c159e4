"""Typed, frozen configuration: hyperparameters of models and settings of problems.

A configuration is a frozen dataclass derived from `Config`, whose fields are declared with
`option`. `resolve` fills one from a registered set and what the user overrides, `describe` shows
one, `to_json` and `from_json` store one. Nothing here imports TensorFlow.
"""

import dataclasses
import math
import types
import typing
from typing import Any, ClassVar, TypeVar

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
    choices: tuple[str, ...] | None = None,
) -> Any:
    """Declares a field of a `Config`.

    Args:
        default: its value where nobody sets one.
        meaning: what it means, its unit and its source, for the listing.
        minimum: smallest value allowed.
        maximum: largest value allowed.
        below: the value must be smaller than this.
        choices: all values allowed.
    """
    limits = {"minimum": minimum, "maximum": maximum, "below": below, "choices": choices}
    return dataclasses.field(default=default, metadata={"meaning": meaning, **limits})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """A configuration whose values are checked when it is made."""

    def __post_init__(self) -> None:
        for name, value in check(type(self), vars(self)).items():
            object.__setattr__(self, name, value)


@dataclasses.dataclass(frozen=True, kw_only=True)
class HParams(Config):
    """Hyperparameters of every model. A model's own class derives from this and names the model."""

    model: ClassVar[str]

    batch_size: int = option(
        4096,
        "size of a global micro-batch, whatever the number of replicas. Text: padded target "
        "positions, rows times length. Images: images",
        minimum=1,
    )
    num_buckets: int = option(
        6, "at most this many lengths of batches; each is compiled once", minimum=1
    )
    max_length: int = option(
        256, "positions of either side with EOS; what is longer is cut, and counted", minimum=2
    )
    accumulate_steps: int = option(
        1, "micro-batches whose gradients are added before an update", minimum=1
    )
    learning_rate: float = option(
        1e-3, "highest learning rate that the schedule reaches", minimum=0
    )
    warmup_steps: int = option(
        4000, "updates in which the learning rate rises linearly from 0", minimum=0
    )
    schedule: str = option(
        "rsqrt", "registered schedule: how the learning rate goes on after the warm-up"
    )
    adam_beta1: float = option(0.9, "Adam: decay of the mean of gradients", minimum=0, below=1)
    adam_beta2: float = option(0.997, "Adam: decay of the mean of squares", minimum=0, below=1)
    adam_epsilon: float = option(1e-9, "Adam: added to the root of the mean of squares", minimum=0)
    weight_decay: float = option(
        0.0, "decoupled decay of weight matrices, times the learning rate; 0 for none", minimum=0
    )
    clip_norm: float = option(
        1.0, "largest global norm of an update's gradient, per target token; 0 for any", minimum=0
    )
    ema_decay: float = option(
        0.0,
        "decay of the averaged copy of the weights that inference uses; 0 for no copy",
        minimum=0,
        below=1,
    )
    dtype: str = option(
        "float32", "of activations; variables are float32 always", choices=("float32", "bfloat16")
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class TransformerHParams(HParams):
    """Hyperparameters of the autoregressive Transformer (Vaswani et al., 2017), pre-norm."""

    model: ClassVar[str] = "transformer"

    num_encoder_layers: int = option(6, "layers of the encoder", minimum=1)
    num_decoder_layers: int = option(6, "layers of the decoder", minimum=1)
    hidden_size: int = option(
        512, "width of embeddings and layers; num_heads divides it", minimum=2
    )
    filter_size: int = option(2048, "width inside the feed-forward layers", minimum=1)
    num_heads: int = option(8, "heads of each attention", minimum=1)
    dropout: float = option(
        0.1,
        "probability to drop a unit of the embeddings or of a layer's output",
        minimum=0,
        below=1,
    )
    attention_dropout: float = option(
        0.1, "probability to drop an attention weight", minimum=0, below=1
    )
    relu_dropout: float = option(
        0.1, "probability to drop a unit inside the feed-forward layers", minimum=0, below=1
    )
    label_smoothing: float = option(
        0.1,
        "probability mass that the training target spreads over the vocabulary",
        minimum=0,
        below=1,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.hidden_size % self.num_heads:
            raise UsageError(
                f"hidden_size={self.hidden_size} with num_heads={self.num_heads}: expected a "
                f"hidden_size that num_heads divides"
            )


def hparams_class(model: str) -> type[HParams]:
    """Returns the class with the hyperparameters of `model`.

    Raises:
        UsageError: no class that has been imported belongs to that model.
    """
    classes = hparams_classes()
    if model not in classes:
        raise UsageError(unknown_name("model with hyperparameters", model, sorted(classes)))
    return classes[model]


def hparams_classes() -> dict[str, type[HParams]]:
    """Returns the imported subclasses of `HParams` by the model that each names as its own."""
    found: dict[str, type[HParams]] = {}
    pending = [HParams]
    while pending:
        cls = pending.pop()
        pending += cls.__subclasses__()
        if "model" in vars(cls):
            found[cls.model] = cls
    return found


def check(cls: type, values: dict[str, Any], where: str = "") -> dict[str, Any]:
    """Checks values against the names, types and limits of a dataclass's fields.

    Args:
        cls: the dataclass.
        values: by field name; not every field needs one.
        where: beginning of every message, such as "--hparams: ".

    Returns:
        The values in their fields' types: an int where a float is expected is made one, and a
        list where a tuple is.

    Raises:
        UsageError: a name that is no field (the message has the nearest), or a value of the wrong
            type or out of range.
    """
    hints = typing.get_type_hints(cls)
    fields = {field.name: field for field in dataclasses.fields(cls)}
    checked = {}
    for name, value in values.items():
        if name not in fields:
            raise UsageError(where + unknown_name(f"field of {cls.__name__}", name, sorted(fields)))
        try:
            checked[name] = _convert(value, hints[name])
        except TypeError:
            raise UsageError(
                f"{where}{name}={value!r} is of type {type(value).__name__}, "
                f"expected {type_name(hints[name])}: {meaning(fields[name])}"
            ) from None
        _check_limits(fields[name], checked[name], where)
    return checked


def _convert(value: Any, hint: Any) -> Any:
    """Returns `value` as the type `hint`; raises TypeError where it is not of that type."""
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
    # bool is a subclass of int, but True is no number of layers.
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
            wrong |= low is not None and item < low
            wrong |= high is not None and item > high
            wrong |= below is not None and item >= below
        wrong |= choices is not None and item not in choices
        if wrong:
            raise UsageError(
                f"{where}{field.name}={value!r} is out of range, expected "
                f"{expected or 'a finite number'}: {meaning(field)}"
            )


def limits(field: dataclasses.Field) -> str:
    """Returns the values that `field` allows, "from 0 to below 1"; "" for any."""
    low, high = field.metadata.get("minimum"), field.metadata.get("maximum")
    below, choices = field.metadata.get("below"), field.metadata.get("choices")
    parts = ["one of " + ", ".join(map(repr, choices))] if choices else []
    parts += [f"from {low}"] if low is not None else []
    parts += [f"to {high}"] if high is not None else []
    parts += [f"below {below}"] if below is not None else []
    return " ".join(parts)


def meaning(field: dataclasses.Field) -> str:
    """Returns what `field` means, in words."""
    return field.metadata.get("meaning", "")


def type_name(hint: Any) -> str:
    """Returns "int" for int, "str | None" for the union of both."""
    return hint.__name__ if isinstance(hint, type) and not typing.get_args(hint) else str(hint)


def to_json(config: Any) -> dict[str, Any]:
    """Returns the fields of a configuration as values that `json.dump` writes."""
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in dataclasses.asdict(config).items()
    }


def from_json(cls: type[C], values: dict[str, Any]) -> C:
    """Returns the configuration that `to_json` was given.

    A field that was added since then has its default.

    Raises:
        UsageError: a field that `cls` does not have, or a value that it does not allow.
    """
    return cls(**check(cls, values, f"stored {cls.__name__}: "))


def describe(config: Any) -> str:
    """Returns the fields of a configuration, or of its class: type, value and meaning each."""
    cls = config if isinstance(config, type) else type(config)
    hints = typing.get_type_hints(cls)
    lines = []
    for field in dataclasses.fields(cls):
        value = field.default if config is cls else getattr(config, field.name)
        lines.append(f"  {field.name}: {type_name(hints[field.name])} = {value!r}")
        allowed = limits(field)
        lines.append(f"      {meaning(field)}" + (f" ({allowed})" if allowed else ""))
    return "\n".join(lines)

"""Hyperparameters and settings of a run: from registered sets, gin and flags, checked.

A model's hyperparameters are a frozen dataclass derived from `HParams`. `resolve` builds one from a
registered set and the user's overrides. Nothing here imports TensorFlow.
"""

import dataclasses
import logging
import os
import re
import tokenize
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import gin

from t2t_vqem import registry
from t2t_vqem.constants import UsageError
from t2t_vqem.fields import Config, check, default_of, describe, from_json, meaning, option, to_json
from t2t_vqem.model_config import BottleneckHParams, HParams
from t2t_vqem.overrides import parse_overrides

__all__ = [
    "BottleneckHParams",
    "Config",
    "HParams",
    "Resolved",
    "describe",
    "from_json",
    "hparams_class",
    "option",
    "resolve",
    "to_json",
]


def hparams_class(model: str) -> type[HParams]:
    """Returns the class with the hyperparameters of `model`.

    Raises:
        UsageError: there is no such model, or its hyperparameters are not registered.
    """
    if model not in registry.model_hparams.names() and model in registry.models.names():
        raise UsageError(
            f"the model {model!r} has no registered hyperparameters: expected a frozen dataclass "
            f"that derives from HParams, decorated with @registry.model_hparams.register({model!r})"
        )
    return registry.model_hparams.get(model)


class Resolved(NamedTuple):
    """The configuration of a run."""

    problem_config: Any  # the problem's Config, None without a problem
    hparams: HParams | None  # None without a set, a model and a base
    gin_text: str  # a gin file that gives the same configuration


def resolve(
    *,
    problem: str | None = None,
    model: str | None = None,
    hparams_set: str | None = None,
    gin_files: Sequence[str] = (),
    gin_params: Sequence[str] = (),
    hparams: str = "",
    problem_params: str = "",
    base: Resolved | None = None,
) -> Resolved:
    """Returns the settings of a run, checked.

    Hyperparameters come from the set, then the gin files in order, then the gin parameters, then
    `hparams`; a later value replaces an earlier one. A problem's settings come from its defaults,
    the same gin files and parameters, then `problem_params`. In gin, the name of the model or the
    problem comes before the field: `transformer.hidden_size = 256`.

    Args:
        problem: registered problem whose settings are wanted.
        model: registered model; needed only if neither a set nor a base gives one.
        hparams_set: registered set to start from.
        gin_files: paths of gin files.
        gin_params: gin bindings.
        hparams: "name=value,name=value".
        problem_params: the same for the problem's settings.
        base: settings of an earlier run, to start from if no set is named.

    Raises:
        UsageError: an unknown name, a value of the wrong type or out of range, gin that cannot be
            parsed, or a set that belongs to another model.
    """
    start = _starting_hparams(model, hparams_set, base)
    if start is None and hparams:
        raise UsageError(f"--hparams={hparams!r} needs --hparams_set or --model")
    if problem is None and problem_params:
        raise UsageError(f"--problem_params={problem_params!r} needs --problem")
    names = registry.model_hparams.names() + registry.problems.names()
    gin.clear_config()
    _declare(names)
    problem_class = registry.problems.get(problem).Config if problem else None
    if problem_class is not None:
        _bind(problem, _values(base.problem_config) if base else _defaults(problem_class))
    if start is not None:
        _bind(start.model, _values(start))
    _parse_gin(gin_files, gin_params, names)
    _bind_overrides(problem, problem_class, problem_params, "--problem_params")
    _bind_overrides(start and start.model, start and type(start), hparams, "--hparams")
    config = problem_class and _build(problem, problem_class)
    resolved = start and _build(start.model, type(start))
    chosen = {problem: problem_class, **({start.model: type(start)} if start else {})}
    _refuse_lost_bindings(names, chosen)
    return Resolved(config, resolved, gin.operative_config_str())


def _starting_hparams(
    model: str | None, hparams_set: str | None, base: Resolved | None
) -> HParams | None:
    if hparams_set:
        start = registry.hparams_sets.get(hparams_set)()
        hparams_class(start.model)  # raises if a plug-in did not register the class
        if model and model != start.model:
            raise UsageError(
                f"--hparams_set={hparams_set} is for the model {start.model!r}, got --model={model}"
            )
        return start
    if base is not None and base.hparams is not None:
        if model and model != base.hparams.model:
            raise UsageError(
                f"--model={model}: the output directory holds a run of {base.hparams.model!r}"
            )
        return base.hparams
    return hparams_class(model)() if model else None


def _values(config: Any) -> dict[str, Any]:
    return {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}


def _defaults(cls: type) -> dict[str, Any]:
    values = {field.name: default_of(field) for field in dataclasses.fields(cls)}
    return {name: value for name, value in values.items() if value is not dataclasses.MISSING}


# What gin configures: for each model and problem, a function that returns its bindings. The
# dataclasses are built from these later, because gin does not know their types, and lets explicit
# arguments win over bindings.
_configurables: dict[str, Callable[[], dict[str, Any]]] = {}


def _declare(names: Sequence[str]) -> None:
    for name in names:
        if name not in _configurables:
            _configurables[name] = gin.external_configurable(
                lambda **values: values, name=name, module="t2t_vqem"
            )


def _bind(name: str, values: dict[str, Any]) -> None:
    for field, value in values.items():
        gin.bind_parameter(f"{name}.{field}", value)


def _bind_overrides(name: str | None, cls: type | None, text: str, flag: str) -> None:
    if name and cls and text:
        _bind(name, parse_overrides(cls, text, f"{flag}: "))


def _parse_gin(files: Sequence[str], params: Sequence[str], names: Sequence[str]) -> None:
    try:
        for path in files:
            _parse_gin_file(path)
        gin.parse_config(list(params))
    except UsageError:
        raise
    except (OSError, SyntaxError, TypeError, ValueError, tokenize.TokenError) as error:
        message = str(error)
        unknown = re.search(r"No configurable matching '([^']*)'", message)
        if unknown:
            message += "\n" + registry.unknown_name("model or problem", unknown[1], sorted(names))
        raise UsageError(f"gin: {message}") from error


def _parse_gin_file(path: str) -> None:
    if "://" in path:
        gin.parse_config_file(path)
        return
    if not os.path.exists(path):
        raise UsageError(f"--gin_file={path}: there is no such file")
    try:
        with open(path, encoding="utf-8-sig") as file:  # skips a byte-order mark
            gin.parse_config(file)
    except UnicodeDecodeError as error:
        raise UsageError(f"--gin_file={path}: not UTF-8 ({error.reason})") from error


def _refuse_lost_bindings(names: Sequence[str], chosen: dict[str | None, type | None]) -> None:
    """Raises for bindings that gin accepts but nothing uses; warns of those for other runs."""
    scoped = re.search(r"^# Parameters for (\S+)/(\S+):$", gin.config_str(), re.MULTILINE)
    if scoped and scoped[2] in names:
        raise UsageError(
            f"gin: {scoped[1]}/{scoped[2]} is bound in a scope, and scopes are not supported: "
            f"write {scoped[2]}"
        )
    operative = gin.operative_config_str()  # contains the macros that were used
    for name, cls in chosen.items():
        for field in dataclasses.fields(cls) if cls else ():
            used = re.search(rf"^{field.name} = ", operative, re.MULTILINE)
            if _is_macro(field.name) and not used:
                raise UsageError(
                    f"gin: {field.name} = ... defines a macro: write {name}.{field.name} = ..."
                )
    for name in names:
        others = {} if name in chosen else gin.get_bindings(name, resolve_references=False)
        if others:
            logging.getLogger(__name__).warning(
                "gin sets %s of %r, which is not part of this run: ignored", ", ".join(others), name
            )


def _is_macro(name: str) -> bool:
    try:
        gin.query_parameter(f"%{name}")
    except ValueError:
        return False
    return True


def _build(name: str, cls: type) -> Any:
    try:
        bound = _configurables[name]()
    except TypeError as error:
        macro = re.search(r"call to configurable 'macro' .* in scope '([^']*)'", str(error))
        reason = f"%{macro[1]} is used, but not defined" if macro else str(error)
        raise UsageError(f"gin: {name}: {reason}") from error
    values = check(cls, bound, f"gin: {name}: ")
    for field in dataclasses.fields(cls):
        if field.name not in values and default_of(field) is dataclasses.MISSING:
            raise UsageError(
                f"{name} needs {field.name}: {meaning(field)}. "
                f"Give it with --problem_params='{field.name}=...'"
            )
    return cls(**values)

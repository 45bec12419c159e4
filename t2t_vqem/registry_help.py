"""The text of --registry_help: the registered objects and their settings."""

import inspect

from t2t_vqem import registry
from t2t_vqem.config import describe
from t2t_vqem.constants import UsageError

# Models by their hyperparameters, because the implementations import TensorFlow.
REGISTRIES = (
    registry.problems,
    registry.model_hparams,
    registry.hparams_sets,
    registry.schedules,
)


def registry_help(name: str | None = None) -> str:
    """Returns the list of everything registered, or the description and settings of `name`.

    Args:
        name: a registered problem, model, hparams set or schedule; None or "" for the list. If
            several kinds have that name, all are shown.

    Raises:
        UsageError: nothing is registered under that name; the message shows similar names.
    """
    if not name:
        return "\n\n".join([_listing(kind) for kind in REGISTRIES] + _not_available())
    found = [kind for kind in REGISTRIES if name in kind.names()]
    if not found:
        everything = sorted({other for kind in REGISTRIES for other in kind.names()})
        raise UsageError(
            registry.unknown_name("problem, model, hparams set or schedule", name, everything)
        )
    return "\n\n".join(_details(kind, name) for kind in found)


def _listing(kind: registry.Registry) -> str:
    names = kind.names()
    width = max(map(len, names), default=0)
    lines = [f"{kind.kind.capitalize()}s:"]
    lines += [f"  {name:{width}}  {kind.summary(name)}" for name in names] or ["  none"]
    return "\n".join(lines)


def _not_available() -> list[str]:
    failures = {module: error for kind in REGISTRIES for module, error in kind.failures().items()}
    lines = [f"  {module}: {error}" for module, error in failures.items()]
    return ["\n".join(["Not available:", *lines])] if lines else []


def _details(kind: registry.Registry, name: str) -> str:
    value = kind.get(name)
    lines = [f"{kind.kind} {name}, registered at {kind.origin(name)}", ""]
    lines += [inspect.getdoc(value) or "(no description)"]
    if kind is registry.problems:
        lines += ["", f"Data: {value.data_origin()}."]
        lines += _fields("Settings (--problem_params, or gin as NAME.FIELD)", value.Config)
    elif kind is registry.model_hparams:
        lines += _fields("Hyperparameters, with their defaults", value)
    elif kind is registry.hparams_sets:
        hparams = value()
        lines += _fields(f"Hyperparameters of the model {hparams.model}, as set here", hparams)
    return "\n".join(lines)


def _fields(title: str, config: object) -> list[str]:
    return ["", f"{title}:", describe(config)]

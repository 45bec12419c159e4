"""Registries of problems, models, hparams sets and schedules, filled by decorators.

Looking up a name first imports the registry's home package, so that callers need not import the
module that registers the name. Plug-ins register further objects, see `load_plugins`.
"""

import contextlib
import difflib
import importlib
import importlib.metadata
import importlib.util
import inspect
import os
import pkgutil
import re
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any, Generic, NamedTuple, TypeVar

from t2t_vqem.constants import UsageError

T = TypeVar("T")

PLUGIN_GROUP = "t2t_vqem.plugins"

# Import errors by module or entry point. They are not raised, because a problem whose optional
# dependency is missing must not break the others. The error for an unknown name shows them.
_plugin_failures: dict[str, Exception] = {}

_usr_dirs: set[str] = set()  # real paths of the user's folders that were imported


class RegistryError(UsageError):
    """A name is not registered, or is registered already."""


class _Entry(NamedTuple):
    value: Any
    origin: str  # file:line of the registration


class Registry(Generic[T]):
    """Objects of one kind, by name."""

    def __init__(self, kind: str, home: str, *, suffix: str = ""):
        """Creates an empty registry.

        Args:
            kind: name of the kind of objects, for messages: "problem".
            home: package or module whose modules register; imported by the first look-up.
            suffix: ending of the objects' own names that is removed in the registered name.
        """
        self.kind = kind
        self._home = home
        self._suffix = suffix
        self._entries: dict[str, _Entry] = {}
        self._failures: dict[str, Exception] = {}
        self._loaded = False
        self._lock = threading.RLock()

    def register(self, name: str | None = None) -> Callable[[T], T]:
        """Returns a decorator that registers a class or function and returns it unchanged.

        Args:
            name: None for the snake_case form of the object's own name, without the suffix.

        Raises:
            RegistryError: the name is already registered (the message shows both places), or is
                not in snake_case.
        """
        frame = sys._getframe(1)  # the line of the decorator; a class does not know its own line
        origin = f"{frame.f_code.co_filename}:{frame.f_lineno}"

        def decorate(value: T) -> T:
            key = snake_case(value.__name__.removesuffix(self._suffix)) if name is None else name
            if not re.fullmatch(r"[a-z][a-z0-9_]*", key):  # it names gin parameters and folders
                raise RegistryError(
                    f"{self.kind} {key!r} at {origin}: expected a name in snake_case, of the "
                    f"letters a to z, digits and underscores"
                )
            with self._lock:
                if key in self._entries:
                    raise RegistryError(
                        f"{self.kind} {key!r} is registered twice: at {self._entries[key].origin} "
                        f"and at {origin}. Rename one of them"
                    )
                self._entries[key] = _Entry(value, origin)
            return value

        return decorate

    def get(self, name: str) -> T:
        """Returns the object that is registered under `name`.

        Raises:
            RegistryError: nothing is. The message shows similar names, or all names if there are no
                similar ones, and the modules that could not be imported.
        """
        return self._entry(name).value

    def name_of(self, value: T) -> str:
        """Returns the name that `value` is registered under.

        Raises:
            RegistryError: it is not registered.
        """
        for name, entry in self._entries.items():
            if entry.value is value:
                return name
        raise RegistryError(
            f"{value.__qualname__} (in {value.__module__}) is not registered as a {self.kind}: "
            f"decorate it with the registry's register()"
        )

    def names(self) -> list[str]:
        """Returns all registered names, sorted."""
        self._load()
        return sorted(self._entries)

    def origin(self, name: str) -> str:
        """Returns where `name` was registered, as "file:line"."""
        return self._entry(name).origin

    def summary(self, name: str) -> str:
        """Returns the first line of the docstring of the object with this name."""
        documentation = inspect.getdoc(self._entry(name).value) or ""
        return documentation.partition("\n")[0]

    def failures(self) -> dict[str, Exception]:
        """Returns the errors of the modules that could not be imported, by module."""
        self._load()
        return {**self._failures, **_plugin_failures}

    @contextlib.contextmanager
    def temporary(self) -> Iterator[None]:
        """Removes, on exit, the objects that were registered inside the context."""
        self._load()  # otherwise the names of the home package would be removed, too
        saved = dict(self._entries)
        try:
            yield
        finally:
            self._entries = saved

    def _entry(self, name: str) -> _Entry:
        self._load()
        if name not in self._entries:
            message = unknown_name(self.kind, name, sorted(self._entries))
            for module, error in self.failures().items():
                message += f"\n  not available: {module} ({type(error).__name__}: {error})"
            raise RegistryError(message)
        return self._entries[name]

    def _load(self) -> None:
        with self._lock:
            if self._loaded:
                return
            self._loaded = (
                True  # set first, because a module may look up a name while it is imported
            )
            self._import(self._home)
            home = sys.modules.get(self._home)
            prefix = f"{self._home}."
            for module in pkgutil.walk_packages(
                getattr(home, "__path__", ()), prefix, onerror=lambda name: None
            ):
                self._import(module.name)

    def _import(self, module: str) -> None:
        try:
            importlib.import_module(module)
        except Exception as error:
            self._failures[module] = error


def snake_case(name: str) -> str:
    """Returns "translate_ende" for "TranslateEnde", "vqvae_model" for "VQVAEModel"."""
    name = re.sub(r"([A-Z]+)([A-Z][a-z])", r"\1_\2", name)
    return re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", name).lower()


def unknown_name(kind: str, name: str, names: list[str]) -> str:
    """Returns the message for a name that is not among `names`, with similar ones or else all."""
    similar = difflib.get_close_matches(name, names, n=3, cutoff=0.6)
    if similar:
        return f"unknown {kind} {name!r}. Did you mean {' or '.join(similar)}?"
    return f"unknown {kind} {name!r}. Expected one of: {', '.join(names) or '(there is none)'}"


def load_plugins(usr_dir: str | None = None) -> None:
    """Imports plug-ins: installed packages and the user's own folder.

    Installed packages name a module in the entry-point group `t2t_vqem.plugins`; if it cannot be
    imported, the error for an unknown name says so. The user's own folder is imported as a
    package, as in Tensor2Tensor: its `__init__.py` imports the modules that register something.
    Errors of that import are raised. Calling this again changes nothing.

    Args:
        usr_dir: the folder, None or "" for none.

    Raises:
        UsageError: `usr_dir` is not a folder with an `__init__.py`, or has the name of another
            module.
    """
    for entry_point in importlib.metadata.entry_points(group=PLUGIN_GROUP):
        try:
            entry_point.load()
        except Exception as error:
            _plugin_failures[f"plug-in {entry_point.name} = {entry_point.value}"] = error
    if usr_dir:
        path = os.path.realpath(os.path.expanduser(usr_dir))
        _import_usr_dir(path)
        _usr_dirs.add(path)


def named_usr_dirs() -> set[str]:
    """Returns the real paths of the user's folders that `load_plugins` has imported."""
    return set(_usr_dirs)


def _import_usr_dir(path: str) -> None:
    init = os.path.join(path, "__init__.py")
    if not os.path.isfile(init):
        raise UsageError(
            f"--t2t_usr_dir={path}: expected a folder with an __init__.py that imports the modules "
            f"that register problems, models or hparams sets, but there is no {init}"
        )
    name = os.path.basename(path)
    spec = importlib.util.find_spec(name)  # of the module in sys.modules, if it is there
    if spec is None:
        spec = importlib.util.spec_from_file_location(name, init, submodule_search_locations=[path])
    if os.path.realpath(spec.origin or "") != init:
        raise UsageError(
            f"--t2t_usr_dir={path}: another module is called {name!r}. Rename the folder to a name "
            f"that no installed package has"
        )
    if name in sys.modules:
        return
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # before it runs, because `from . import mine` looks it up
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise


# A model is registered twice under one name: its hyperparameters, which need no TensorFlow, and its
# implementation, which does.
problems: Registry[type] = Registry("problem", "t2t_vqem.problems")
model_hparams: Registry[type] = Registry("model", "t2t_vqem.hparams", suffix="HParams")
models: Registry[type] = Registry("model", "t2t_vqem.models")
hparams_sets: Registry[Callable[[], Any]] = Registry("hparams set", "t2t_vqem.hparams")
schedules: Registry[Callable[..., Any]] = Registry("schedule", "t2t_vqem.ops.schedules")

"""Modules import from lower layers only, never bare, and TensorFlow only where it is wanted."""

import ast
import pathlib
import subprocess
import sys
from collections.abc import Iterator
from typing import NamedTuple

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
MAPPED = ("problems", "hparams", "bin")  # folder x is installed as t2t_vqem.x

# From low to high. A module imports from lower rows, and from the package that it is in.
LAYERS = (
    {"constants"},
    {"registry", "extras", "files", "tf_config"},
    {"fields", "capabilities", "run_plugins"},
    {"overrides", "quantizer_options"},
    {"model_config"},
    {"config"},
    {"registry_help"},
    {"ops", "data"},
    {"runtime"},
    {"server"},
    {"layers", "decoding", "metrics"},
    {"problem", "models"},
    {"image_problem", "text_problem"},
    {"output_dir"},
    {"inference"},
    {"export"},
    {"distilled_problem"},
    {"training"},
    {"problems", "hparams"},
    {"api"},
    {"bin"},
)
LEVEL = {unit: level for level, row in enumerate(LAYERS) for unit in row}
LEVEL[""] = len(LAYERS)  # the package itself: its names are those of all modules

# Sets are written and read without a model; the server knows exports only.
ONLY = {
    "hparams": {"constants", "registry", "fields", "config"},
    "server": {"constants", "extras", "data", "runtime"},
}

# What a layer may name in annotations, by an import under `if TYPE_CHECKING:`: a model the class of
# its hyperparameters, which stands above it beside the sets.
# The package itself names what is public, for type checkers alone: at run time it imports nothing.
ANNOTATIONS = {"models": {"hparams"}, "": set(LEVEL)}

# Without TensorFlow at import time: commands start at once, and workers of t2t-datagen are small.
WITHOUT_TENSORFLOW = {unit for row in LAYERS[:7] for unit in row} | {
    "data",
    "runtime",
    "server",
    "problem",
    "image_problem",
    "text_problem",
    "distilled_problem",
    "problems",
    "hparams",
    "api",
    "bin",
}
HEAVY = ("tensorflow", "keras", "tensorflow_datasets", "tensorflow_text", "torch", "jax")


def modules() -> dict[str, pathlib.Path]:
    """Returns the path of every module by its name, "t2t_vqem.problems.translate"."""
    found = {}
    for folder in ("t2t_vqem", *MAPPED):
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            parts = parts if folder == "t2t_vqem" else ("t2t_vqem", *parts)
            found[".".join(parts).removesuffix(".__init__")] = path
    return found


MODULES = modules()


def unit_of(module: str) -> str:
    """Returns "problems" for "t2t_vqem.problems.translate", "" for "t2t_vqem"."""
    return module.split(".")[1] if "." in module else ""


class Import(NamedTuple):
    """An imported name and where it is imported."""

    name: str
    line: int
    in_function: bool
    for_annotations: bool  # under `if TYPE_CHECKING:`, so never run


def imports(
    tree: ast.AST, in_function: bool = False, for_annotations: bool = False
) -> Iterator[Import]:
    """Yields each import of a module."""
    for node in ast.iter_child_nodes(tree):
        where = getattr(node, "lineno", 0), in_function, for_annotations
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, *where) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            source = "." * node.level + (node.module or "")
            if source == "t2t_vqem":  # its names are modules, or its own __version__
                yield from (Import(f"t2t_vqem.{alias.name}", *where) for alias in node.names)
            else:
                yield Import(source, *where)
        elif isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            yield from imports(ast.Module(node.body, []), in_function, True)
            yield from imports(ast.Module(node.orelse, []), in_function, for_annotations)
        else:
            function = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
            yield from imports(node, in_function or function, for_annotations)


def violations(module: str, source: str) -> list[str]:
    """Returns what is wrong with the imports of a module, one line each."""
    unit = unit_of(module)
    wrong = []
    for name, line, in_function, for_annotations in imports(ast.parse(source)):
        top = name.split(".")[0]
        other = unit_of(name) if top == "t2t_vqem" else None
        if top == "":
            wrong.append(f"line {line}: relative import of {name}, expected the full name")
        elif top in MAPPED:
            wrong.append(f"line {line}: bare import of {name}, expected t2t_vqem.{name}")
        elif for_annotations and other in ANNOTATIONS.get(unit, ()):
            continue
        elif other is not None and other not in ("", "__version__", unit):
            if other not in LEVEL:
                wrong.append(f"line {line}: {name} is in no layer")
            elif LEVEL[other] >= LEVEL[unit]:
                wrong.append(f"line {line}: {unit} imports {name}, which is no lower layer")
            elif other not in ONLY.get(unit, LEVEL):
                wrong.append(f"line {line}: {unit} imports {name}, allowed are {ONLY[unit]}")
        elif top in HEAVY and not in_function and unit in WITHOUT_TENSORFLOW:
            wrong.append(f"line {line}: imports {name} at import time")
    return wrong


def test_every_module_is_in_a_layer():
    units = {unit_of(module) for module in MODULES} - {""}
    assert units <= set(LEVEL), f"add to LAYERS: {units - set(LEVEL)}"


@pytest.mark.parametrize("module", MODULES)
def test_imports(module):
    assert not violations(module, MODULES[module].read_text(encoding="utf-8"))


@pytest.mark.parametrize("folder", MAPPED)
def test_no_module_shadows_a_mapped_folder(folder):
    # An editable install would import the module, a wheel the folder.
    assert not (ROOT / "t2t_vqem" / f"{folder}.py").exists()
    assert not (ROOT / "t2t_vqem" / folder).exists()


@pytest.mark.parametrize(
    ("module", "source", "message"),
    [
        ("t2t_vqem.ops.masks", "from t2t_vqem.layers.attention import X", "no lower layer"),
        ("t2t_vqem.ops.masks", "def f():\n  import t2t_vqem.models", "no lower layer"),
        ("t2t_vqem.ops.masks", "from t2t_vqem import problem", "no lower layer"),
        ("t2t_vqem.layers.x", "from t2t_vqem.decoding import beam", "no lower layer"),
        ("t2t_vqem.problems.x", "from t2t_vqem.hparams import transformer", "no lower layer"),
        ("t2t_vqem.hparams.x", "from t2t_vqem.models import base", "allowed are"),
        ("t2t_vqem.models.x", "from t2t_vqem.hparams.x import y", "no lower layer"),
        ("t2t_vqem.models.x", "if TYPE_CHECKING:\n  import t2t_vqem.bin.x", "no lower layer"),
        (
            "t2t_vqem.models.x",
            "if TYPE_CHECKING:\n  pass\nelse:\n  import hparams.x",
            "bare import",
        ),
        ("t2t_vqem.layers.x", "if TYPE_CHECKING:\n  import t2t_vqem.hparams.x", "no lower layer"),
        ("t2t_vqem.ops.x", "from t2t_vqem.utils import y", "in no layer"),
        ("t2t_vqem.bin.x", "import problems", "bare import of problems"),
        ("t2t_vqem.bin.x", "from hparams.transformer import y", "bare import of hparams"),
        ("t2t_vqem.bin.x", "from . import y", "relative import"),
        ("t2t_vqem.data.x", "import tensorflow as tf", "at import time"),
        ("t2t_vqem.problems.x", "if True:\n  from keras import ops", "at import time"),
        ("t2t_vqem.problem", "class A:\n  import tensorflow.io", "at import time"),
    ],
)
def test_the_check_can_fail(module, source, message):
    assert message in violations(module, source)[0]


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("t2t_vqem.bin.x", "from t2t_vqem import __version__, registry"),
        ("t2t_vqem.ops.x", "import tensorflow as tf"),
        ("t2t_vqem.data.x", "def f():\n  import tensorflow as tf"),
        ("t2t_vqem.layers.x", "from t2t_vqem.layers.common import y"),
        ("t2t_vqem.hparams.x", "from t2t_vqem.config import HParams"),
        ("t2t_vqem.models.x", "if TYPE_CHECKING:\n  from t2t_vqem.hparams.x import XHParams"),
    ],
)
def test_the_check_allows(module, source):
    assert violations(module, source) == []


def test_tensorflow_is_not_imported_by_a_detour():
    light = [module for module in MODULES if unit_of(module) in WITHOUT_TENSORFLOW]
    program = "import importlib, sys\n" + "\n".join(
        f"importlib.import_module({module!r})\n"
        f"assert 'tensorflow' not in sys.modules, 'by {module}'\n"
        f"assert 'keras' not in sys.modules, 'by {module}'"
        for module in light
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr

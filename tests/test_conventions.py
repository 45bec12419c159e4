"""Rules for every source file and everything registered."""

from __future__ import annotations

import ast
import pathlib
import re
from collections.abc import Iterator

import pytest

from t2t_vqem import registry

ROOT = pathlib.Path(__file__).resolve().parents[1]
MAPPED = ("problems", "hparams", "bin")  # installed below t2t_vqem
CODE = ("t2t_vqem", *MAPPED)
TEXT_SUFFIXES = {".py", ".md", ".toml", ".cfg", ".txt", ".gin", ".yml", ".yaml", ".sh"}
# The beginning of a path of a particular machine; "a/home/b" and URLs do not match.
MACHINE_PATH = re.compile(r"(?<![\w.])/(?:root|home|mnt|Users)/")


def files(*folders: str, suffixes: set[str]) -> list[pathlib.Path]:
    found = [
        path
        for folder in folders
        for path in (ROOT / folder).rglob("*")
        if path.suffix in suffixes and not {"__pycache__", "results"} & set(path.parts)
    ]
    return sorted(found)


def relative(path: pathlib.Path) -> str:
    return str(path.relative_to(ROOT))


MODULES = files(*CODE, suffixes={".py"})
ALL_TEXT = sorted(
    files(*CODE, "tests", "benchmarks", "docs", suffixes=TEXT_SUFFIXES)
    + [p for p in ROOT.iterdir() if p.suffix in TEXT_SUFFIXES or p.name == "Makefile"]
)


def public_definitions(tree: ast.Module) -> Iterator[tuple[str, ast.AST]]:
    """Yields the classes and functions of a module whose names are not private."""
    kinds = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for node in tree.body:
        if isinstance(node, kinds) and not node.name.startswith("_"):
            yield node.name, node


def undocumented(path: pathlib.Path) -> list[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    missing = [] if ast.get_docstring(tree) else ["the module"]
    return missing + [
        f"{name} (line {node.lineno})"
        for name, node in public_definitions(tree)
        if not ast.get_docstring(node)
    ]


def test_there_is_something_to_check():
    assert len(MODULES) > 20
    assert ROOT / "t2t_vqem" / "registry.py" in MODULES
    assert pathlib.Path(__file__).resolve() in ALL_TEXT


@pytest.mark.parametrize("path", ALL_TEXT, ids=relative)
def test_text_file(path):
    text = path.read_text(encoding="utf-8")
    lines = text.split("\n")
    if path.name != "Makefile":  # its recipes begin with a tab
        tabs = [number for number, line in enumerate(lines, 1) if "\t" in line]
        assert not tabs, f"tabs in lines {tabs}; write \\t in strings"
    paths = [line for line in lines if MACHINE_PATH.search(line) and path.name != "Makefile"]
    assert path == pathlib.Path(__file__).resolve() or not paths, f"paths of one machine: {paths}"
    assert not text or text.endswith("\n"), "no line feed at the end"


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("open('/home/me/x')", True),
        ("/root/.cache", True),
        ("--data_dir=/mnt/data", True),
        ("a/home/b", False),
        ("https://example.org/mnt/", False),
    ],
)
def test_machine_path_pattern(line, found):
    assert bool(MACHINE_PATH.search(line)) == found


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_module(path):
    missing = undocumented(path)
    assert not missing, f"no docstring: {', '.join(missing)}"


def test_undocumented_finds_missing_docstrings(tmp_path):
    path = tmp_path / "module.py"
    path.write_text("def f(): pass\ndef _g(): pass\nclass C:\n    'Text.'\n", encoding="utf-8")
    assert undocumented(path) == ["the module", "f (line 1)"]


@pytest.mark.parametrize(
    "kind",
    [registry.problems, registry.models, registry.hparams_sets],
    ids=["problems", "models", "hparams_sets"],
)
def test_every_registered_entry_has_a_summary(kind):
    names = kind.names()
    assert names
    for name in names:
        assert re.fullmatch(r"[a-z][a-z0-9_]*", name), name
        # The line that --registry_help shows.
        summary = kind.summary(name)
        assert re.fullmatch(r"[A-Z].{10,}[.]", summary), f"{name}: {summary!r}"

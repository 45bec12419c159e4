"""Commands in the documentation use flags, names and settings that exist."""

import ast
import copy
import importlib
import pathlib
import re
import shlex
from collections.abc import Iterator

import pytest
from absl import flags

from t2t_vqem import registry
from t2t_vqem.bin import t2t_datagen
from t2t_vqem.config import resolve
from t2t_vqem.registry_help import registry_help

ROOT = pathlib.Path(__file__).resolve().parents[1]
PAGES = [
    *sorted(ROOT.glob("*.md")),
    ROOT / "benchmarks" / "README.md",
    *sorted(ROOT.glob("docs/*.md")),
]
SOURCES = sorted(
    path for folder in ("bin", "hparams", "problems") for path in ROOT.glob(f"{folder}/*.py")
)

NAMED = {
    "problem": registry.problems,
    "model": registry.models,
    "hparams_set": registry.hparams_sets,
}


def commands_in(text: str) -> Iterator[list[str]]:
    """Yields the words of each t2t-* command in shell code, without what it is piped to."""
    for line in re.sub(r"\\\n\s*", " ", text).splitlines():
        if "t2t-" not in line:
            continue
        lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;<>()")
        lexer.whitespace_split = True
        command: list[str] = []
        for word in [*lexer, ";"]:
            if set(word) <= set("|&;<>()"):
                if command and command[0].startswith("t2t-"):
                    yield command
                command = []
            elif command or not re.fullmatch(r"export|exec|\w+=.*", word):  # precedes the command
                command.append(word)


def page_commands(path: pathlib.Path) -> Iterator[list[str]]:
    """Yields the commands in the shell and YAML blocks of a page."""
    for block in re.findall(r"^```(?:bash|yaml)\n(.*?)^```", path.read_text("utf-8"), re.M | re.S):
        yield from commands_in(block)


def docstring_commands(path: pathlib.Path) -> Iterator[list[str]]:
    """Yields the indented commands in a module's docstrings."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        text = (ast.get_docstring(node) or "") if isinstance(node, documented) else ""
        joined = re.sub(r"\\\n\s*", " ", text)
        yield from commands_in("\n".join(re.findall(r"^ +(t2t-.*)$", joined, re.M)))


def check_command(command: list[str]) -> None:
    """Raises if a command could not be run as written; files and folders need not exist."""
    module = importlib.import_module("t2t_vqem.bin." + command[0].replace("-", "_"))
    values = copy.deepcopy(module.FLAGS)
    for name in values:
        values[name].unparse()  # another test may have run the command
    rest = values([re.sub(r"\$\w+", "1", word) for word in command])  # a shell variable
    assert rest == command[:1], f"not a flag: {rest[1:]}"
    given = {name: values[name].value for name in values if values[name].present}
    if "t2t_usr_dir" in given:
        return  # it has names from the reader's own plug-in
    for flag, kind in NAMED.items():
        if flag in given:
            kind.get(given[flag])
    if given.get("registry_help") not in (None, "true"):
        registry_help(given["registry_help"])
    if {"problem", "hparams_set", "model"} & set(given):
        resolve(
            problem=given.get("problem"),
            model=given.get("model"),
            hparams_set=given.get("hparams_set"),
            gin_params=given.get("gin_param", ()),
            hparams=given.get("hparams", ""),
            problem_params=given.get("problem_params", ""),
        )


def found_commands() -> list:
    found = [(path, command) for path in PAGES for command in page_commands(path)]
    found += [(path, command) for path in SOURCES for command in docstring_commands(path)]
    return [
        pytest.param(command, id=f"{path.relative_to(ROOT)}: {' '.join(command)[:60]}")
        for path, command in found
    ]


@pytest.mark.parametrize("command", found_commands())
def test_command(command):
    check_command(command)


def test_make_targets_in_the_pages_exist():
    makefile = (ROOT / "Makefile").read_text("utf-8")
    for path in PAGES:
        for target in re.findall(r"^make (\w+)", path.read_text("utf-8"), re.M):
            assert re.search(rf"^{target}:", makefile, re.M), f"{path.name}: make {target}"


def heading_anchors(text: str) -> set[str]:
    """Returns the anchors that a page's headings have on GitHub."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S), re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in headings}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_between_pages_have_targets(path):
    for target in re.findall(r"\]\((?!https?:)([^)]*)\)", path.read_text("utf-8")):
        name, _, anchor = target.partition("#")
        page = (path.parent / name).resolve() if name else path
        assert page.exists(), target
        assert not anchor or anchor in heading_anchors(page.read_text("utf-8")), target


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_by_label_have_their_definition(path):
    text = path.read_text("utf-8")
    used = re.findall(r"\]\[([\w-]+)\]", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S))
    assert sorted(set(used)) == sorted(re.findall(r"^\[([\w-]+)\]: https://", text, re.M))


def test_ci_runs_make_test():
    assert "\nmake test\n" in (ROOT / ".ci" / "run").read_text("utf-8")


def test_commands_are_found():
    text = (
        "cd x\nA=1 t2t-bleu --translation='a b' \\\n  --reference=c | head  # t2t-no\n"
        "t2t-demo > x\nexport A=$(t2t-make-tf-configs --index=$B)\nexec t2t-trainer --output_dir=x"
    )
    assert list(commands_in(text)) == [
        ["t2t-bleu", "--translation=a b", "--reference=c"],
        ["t2t-demo"],
        ["t2t-make-tf-configs", "--index=$B"],
        ["t2t-trainer", "--output_dir=x"],
    ]


def test_flags_of_an_earlier_command_do_not_count():
    t2t_datagen.FLAGS(["t2t-datagen", "--t2t_usr_dir=mine"])
    try:
        with pytest.raises(ValueError, match="unknown problem 'mine'"):
            check_command(["t2t-datagen", "--problem=mine"])
    finally:
        t2t_datagen.FLAGS["t2t_usr_dir"].unparse()


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["t2t-bleu", "--translations=a"], "Unknown command line flag 'translations'"),
        (["t2t-bleu", "a"], "not a flag"),
        (["t2t-nothing"], "t2t_nothing"),
        (["t2t-datagen", "--problem=translate_ende_wmt41"], "Did you mean translate_ende_wmt14"),
        (["t2t-datagen", "--problem=translate_text", "--problem_params=x=1"], "unknown field"),
    ],
)
def test_the_check_can_fail(command, message):
    with pytest.raises((flags.Error, ValueError, AssertionError, ImportError), match=message):
        check_command(command)

"""Words that the project has replaced by the field's own do not come back."""

from __future__ import annotations

import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
FOLDERS = ("t2t_vqem", "problems", "hparams", "bin", "tests", "benchmarks", "docs")
OWN = pathlib.Path(__file__).resolve()

# Each pattern with what to write instead. Only what a pattern can tell safely: "turn" and "near"
# have a plain sense too.
REPLACED = {
    r"There is: ": "Expected one of:",
    r"\blikeliest\b": "most probable",
    r"\bhardly anybody\b": "rarely used",
    r"\bthat nobody uses\b": "unused",
    r"\btells? (?:the )?(?:latents?|codes?) from\b": "predicts ... from",
    r"\bone by one and then\b": "autoregressively, then",
    r"(?<!would )\bha(?:s|ve) to be\b": "must be",
    r"(?<!not )\bbut for\b(?! all\b)": "except for",
}


def plain(text: str) -> str:
    """Joins the lines of sentences that go over several, also of comments."""
    return re.sub(r"[ \t]*\n[ \t]*(?:#[ \t]*)?", " ", text)


def replaced_words(text: str) -> list[str]:
    """Returns what is to be written otherwise, one message each."""
    text = plain(text)
    return [
        f"{text[max(0, match.start() - 30) : match.end() + 20]!r}: write {better!r}"
        for pattern, better in REPLACED.items()
        for match in re.finditer(pattern, text)
        # "not for text, but for images" contrasts.
        if not (match[0] == "but for" and re.search(r"\bnot\b[^.;]*$", text[: match.start()]))
    ]


def files() -> list[pathlib.Path]:
    found = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*")] + [*ROOT.iterdir()]
    return sorted(
        path
        for path in found
        if path.suffix in {".py", ".md"} and path != OWN and "results" not in path.parts
    )


@pytest.mark.parametrize("path", files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_file_has_the_field_s_words(path):
    assert replaced_words(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("unknown kind 'x'. There is: a, b", 1),
        ("There is: a\nThere is: b", 2),
        ("codes that hardly\n    # anybody uses", 1),
        ("all but\nfor the first", 1),
        ("it says a few codes one by one and then a sentence", 1),
        ("it has to be a folder; they have to be folders", 2),
        ("it tells latents from the source", 1),
        ("There is one. It would have to be copied. It has to begin.", 0),
        ("It is not for text, but for images.", 0),
        ("It tells padding from tokens, the most probable ones.", 0),
    ],
)
def test_the_patterns(text, count):
    assert len(replaced_words(text)) == count

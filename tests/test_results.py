"""The figures in README.md and benchmarks/README.md are those of the results files they name."""

import pathlib
import re
from collections.abc import Iterator
from typing import NamedTuple

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PAGES = (ROOT / "README.md", ROOT / "benchmarks" / "README.md")
NUMBER = r"[-+]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?"
LINK = re.compile(r"\]\((?:benchmarks/)?results/(\w+\.md)\)")


class Row(NamedTuple):
    """One row of a table of results."""

    cells: dict[str, str]  # by the header of their column
    files: tuple[str, ...]  # names of the results files


def rows(text: str) -> Iterator[Row]:
    """Yields the rows of tables that name their results files, in the table or just before it."""
    files: tuple[str, ...] = ()
    header: list[str] = []
    for paragraph in re.split(r"\n\s*\n", text):
        lines = paragraph.strip().splitlines()
        if re.search(r"Results:\s+\[", paragraph):
            files = tuple(LINK.findall(paragraph))
        if not lines or not lines[0].startswith("|"):
            continue
        header, _, *body = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
        for cells in body:
            named = tuple(LINK.findall(" ".join(cells))) or files
            if named and not cells[0].startswith("goal"):
                yield Row(dict(zip(header, cells, strict=True)), named)


def figures(row: Row) -> Iterator[float]:
    """Yields the numbers that are the whole content of a cell, except goals."""
    for column, cell in row.cells.items():
        if re.fullmatch(NUMBER, cell) and not column.startswith("goal"):
            yield float(cell.replace(",", ""))


def numbers_in(*names: str) -> set[float]:
    """Returns all numbers of results files."""
    text = "\n".join((RESULTS / name).read_text("utf-8") for name in names)
    return {float(number.replace(",", "")) for number in re.findall(NUMBER, text)}


def all_rows() -> list:
    return [
        pytest.param(row, id=f"{page.parent.name}: {' '.join(row.cells.values())[:60]}")
        for page in PAGES
        for row in rows(page.read_text("utf-8"))
    ]


@pytest.mark.parametrize("row", all_rows())
def test_figures(row):
    shown = list(figures(row))
    assert shown, "no figure"
    missing = set(shown) - numbers_in(*row.files)
    assert not missing, f"{sorted(missing)} are not in {', '.join(row.files)}"


@pytest.mark.parametrize("path", sorted(RESULTS.glob("*.md")), ids=lambda path: path.name)
def test_every_results_file_is_named_with_its_command(path):
    page = PAGES[1].read_text("utf-8")
    assert f"(results/{path.name})" in page
    command = re.search(r"^- command: `(.*)`$", path.read_text("utf-8"), re.MULTILINE)
    if command:  # a file with several commands lists them itself
        assert f"\n{command[1]}\n" in page


def test_the_readme_has_at_most_eight_results():
    assert 0 < len(list(rows(PAGES[0].read_text("utf-8")))) <= 8


def test_a_wrong_figure_is_detected():
    text = (
        "Results: [a](results/long_run.md).\n\n"
        "| model | most | goal |\n|---|---|---|\n| vqvae | 1006 | 9 |\n| x | 1,007.5 | |\n"
    )
    right, wrong = rows(text)
    assert list(figures(right)) == [1006.0]
    assert set(figures(right)) <= numbers_in(*right.files)
    assert set(figures(wrong)) - numbers_in(*wrong.files) == {1007.5}

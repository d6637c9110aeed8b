"""docs/papers.md: its code names exist, and its equations are cited where a search for them looks."""

from __future__ import annotations

import re
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from mnpo.sim.catalogue import CATALOGUE

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "papers.md").read_text(encoding="utf-8")
NAMES = sorted(set(re.findall(r"`(mnpo(?:\.\w+)+)`", PAGE)))
CONCEPTS = (ROOT / "docs" / "concepts.md").read_text(encoding="utf-8")


def mnpo_rows() -> list[tuple[str, str, str]]:
    """Equation, label in docs/concepts.md and code of every row about MNPO."""
    section = PAGE.split("## MNPO, arXiv 2509.23102")[1].split("\n## ")[0]
    rows = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in row] for row in rows]
    return [(row[0], row[2], row[3]) for row in cells if row[0] != "equation"]


def sources() -> dict[str, str]:
    folders = ("mnpo", "sim", "llm", "cli")
    files = [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]
    return {str(path): path.read_text(encoding="utf-8") for path in files}


@pytest.mark.parametrize("name", NAMES)
def test_a_code_name_exists(name: str) -> None:
    if name.startswith("mnpo.llm") and find_spec("torch") is None:
        pytest.skip("the extra [llm] is not installed")
    parts = name.split(".")
    found: Any = None
    for end in range(len(parts), 0, -1):
        try:
            found = import_module(".".join(parts[:end]))
        except ModuleNotFoundError as error:
            if not name.startswith(str(error.name)):
                raise
            continue
        for part in parts[end:]:
            found = getattr(found, part)
        break
    assert found is not None


@pytest.mark.parametrize("game", re.findall(r"game `([\w-]+)`", PAGE))
def test_a_game_is_in_the_catalogue(game: str) -> None:
    assert game in CATALOGUE


@pytest.mark.parametrize(
    "cited", sorted({part for equation, _, _ in mnpo_rows() for part in equation.split(", ")})
)
def test_an_equation_of_the_paper_is_found(cited: str) -> None:
    """In docs/concepts.md or in the code, in a line or table row that also says MNPO or its version."""
    version, number = re.fullmatch(r"(v1 )?(.*)", cited).groups()
    table = CONCEPTS.split("## Numbers in the paper")[1].split("\n## ")[0]
    rows = [line.strip("|").split("|") for line in table.splitlines() if line.startswith("|")]
    column = 3 if version else 2
    in_table = any(re.search(rf"{re.escape(number)}\b", row[column]) for row in rows if len(row) > column)
    prose = rf"MNPO[^\n]*\b{re.escape(number)}\b"
    assert in_table or any(re.search(prose, text) for text in [CONCEPTS, *sources().values()])


@pytest.mark.parametrize(("equation", "labels", "code"), mnpo_rows())
def test_a_label_is_an_equation_of_concepts(equation: str, labels: str, code: str) -> None:
    for label in re.findall(r"\((\w+)\)", labels):
        assert f'<a id="eq-{label}"></a>' in CONCEPTS
    assert code.startswith("`mnpo.")


@pytest.mark.parametrize("name", sorted(set(re.findall(r"\b\d{4}\.\d{5}\b", PAGE))))
def test_a_paper_is_cited_in_the_code(name: str) -> None:
    """Whoever looks a paper up finds the line that computes it."""
    assert any(name in text for text in sources().values())

"""Pages say what they are, lines are short, links lead somewhere, and lists are those of the code."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
PAGES = [*DOCS.rglob("*.md"), *DOCS.parent.glob("*.md")]


@pytest.mark.parametrize("page", list(DOCS.rglob("*.md")), ids=lambda page: page.name)
def test_a_page_says_whether_it_is_tutorial_guide_explanation_or_reference(page: Path) -> None:
    assert re.search(
        r"\*This page is an? (tutorial|guide|explanation|reference)", page.read_text("utf-8")[:600]
    )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_lines_are_under_120_characters(page: Path) -> None:
    long = [line for line in page.read_text("utf-8").splitlines() if len(line) >= 120]
    assert not long


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files_and_headings_that_are_there(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8")):
        if "://" in target:
            continue
        file, _, anchor = target.partition("#")
        there = (page.parent / file).resolve() if file else page
        assert there.exists(), target
        if anchor:
            text = there.read_text("utf-8")
            headings = [re.sub(r"[^\w\- ]", "", h.lower()).strip().replace(" ", "-")
                        for h in re.findall(r"^#+ (.+)$", text, re.MULTILINE)]  # fmt: skip
            assert anchor in headings or f'id="{anchor}"' in text, target


def test_generated_lists_are_those_of_the_code() -> None:
    pytest.importorskip("datasets")
    found = importlib.util.spec_from_file_location("generate", DOCS / "generate.py")
    assert found is not None
    assert found.loader is not None
    generate = importlib.util.module_from_spec(found)
    found.loader.exec_module(generate)
    pages = [page for page in DOCS.rglob("*.md") if "<!-- generated:" in page.read_text("utf-8")]
    assert len(pages) >= 4
    stale = [
        str(page) for page in pages if generate.generated(page.read_text("utf-8")) != page.read_text("utf-8")
    ]
    assert not stale, f"run make docs: {stale}"

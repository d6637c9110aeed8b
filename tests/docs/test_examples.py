"""The Python of the docs runs as it stands, on a small model in place of the named one; each example is short."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("transformers")

ROOT = Path(__file__).parents[2]
NAMED = "HuggingFaceTB/SmolLM2-135M-Instruct"


def blocks(page: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (ROOT / page).read_text("utf-8"), re.DOTALL)


def run(page: str, given: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Run a page's examples one after the other, as a notebook would."""
    for number, block in enumerate(blocks(page), start=1):
        source = folder / f"{Path(page).stem}_{number}.py"  # functions must have a source
        source.write_text(block.replace(NAMED, given.get("folder", NAMED)), encoding="utf-8")
        exec(compile(source.read_text("utf-8"), str(source), "exec"), given)
    return given


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    from mnpo.llm.models import tiny

    monkeypatch.chdir(tmp_path)
    return str(tiny.build("tiny:llama", tmp_path))


@pytest.mark.slow
def test_the_notebook_guide_runs_from_top_to_bottom(small: str, tmp_path: Path) -> None:
    found = run("docs/guides/notebooks.md", {"folder": small, "__name__": "notebook"}, tmp_path)
    assert found["trainer"].state.global_step == 2
    assert found["samples"].models[0].drawn > 0
    assert found["record"].iterations[0].win_rate["reference"].keys() == {"judge"}


@pytest.mark.parametrize("page", ["docs/guides/notebooks.md", "docs/guides/oracles.md", "README.md"])
def test_examples_are_under_fifteen_lines(page: str) -> None:
    for block in blocks(page):
        assert len([line for line in block.splitlines() if line.strip()]) < 15


def test_the_judges_of_the_guide_judge(tmp_path: Path) -> None:
    import torch

    from mnpo.llm.oracles.base import Question
    from mnpo.llm.oracles.panel import build

    found = run("docs/guides/oracles.md", {"__name__": "judges"}, tmp_path)
    for judge in (found["judge"], found["Shorter"]):
        (member,) = build({"kind": "python", "function": judge}).members
        ((answer,),) = list(
            member.oracle.answer([Question("Hi", "one", "one two three")], torch.device("cpu"))
        )
        assert answer[0] == 0
        assert answer[1] > 0.5


def test_the_readme_solves_the_game_that_it_shows(tmp_path: Path) -> None:
    source = blocks("README.md")[0]
    found: dict[str, Any] = {}
    exec(source, found)
    assert found["found"].certificate.holds

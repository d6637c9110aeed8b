"""The structure is what pyproject.toml and the docs say it is."""

from __future__ import annotations

import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
FOLDERS = {"mnpo": "mnpo", "mnpo.sim": "sim", "mnpo.llm": "llm", "mnpo.cli": "cli"}


def test_every_module_of_the_mathematics_is_kept_from_files_plots_and_torch() -> None:
    contracts = SETTINGS["tool"]["importlinter"]["contracts"]
    (kept,) = [c["source_modules"] for c in contracts if c["name"].startswith("the mathematics")]
    there = {f"mnpo.{file.stem}" for file in (ROOT / "mnpo").glob("*.py") if file.stem != "__init__"}
    assert set(kept) == there | {"mnpo.oracles"}


def test_every_package_is_installed() -> None:
    found = set()
    for name, folder in FOLDERS.items():
        for init in (ROOT / folder).rglob("__init__.py"):
            inner = init.parent.relative_to(ROOT / folder).parts
            found.add(".".join([name, *inner]))
    assert found == set(SETTINGS["tool"]["setuptools"]["packages"])


def test_no_test_file_is_longer_than_300_lines() -> None:
    long = {
        str(file.relative_to(ROOT)): count
        for file in (ROOT / "tests").rglob("*.py")
        if (count := len(file.read_text("utf-8").splitlines())) > 300
    }
    assert not long


def test_rooms_are_drawn_in_the_architecture() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    rooms = {path.name for path in (ROOT / "llm").iterdir() if path.is_dir() and path.name != "__pycache__"}
    files = {file.name for file in (ROOT / "llm").glob("*.py")} - {"__init__.py"}
    assert not [name for name in rooms if f"    {name}/ " not in page]
    assert not [name for name in files if f"    {name} " not in page]

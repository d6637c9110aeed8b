"""The package as it stands in this checkout, installed or not, and the packages that it needs."""

from __future__ import annotations

import importlib.util
import os
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
#: Measured beside mnpo, where they are installed.
OTHERS = ("trl>=1.16", "vllm>=0.11", "flash-attn")


def installed_here() -> bool:
    """Whether `import mnpo.llm` gives this checkout: another copy must not be measured in its place."""
    try:
        found = importlib.util.find_spec("mnpo.llm")
    except ImportError:
        return False
    return (
        found is not None and found.origin is not None and Path(found.origin).resolve().parent == ROOT / "llm"
    )


def linked(parent: Path) -> Path:
    """Make a folder that holds the package `mnpo` as pyproject.toml maps it, of links; return the folder."""
    home = parent / "mnpo"
    home.mkdir()
    for name, folder in PROJECT["tool"]["setuptools"]["package-dir"].items():
        _, _, inner = name.partition(".")
        if inner:
            (home / inner).symlink_to(ROOT / folder, target_is_directory=True)
        else:
            for entry in (ROOT / folder).iterdir():
                (home / entry.name).symlink_to(entry)
    return parent


def environment(scratch: Path) -> tuple[dict[str, str], str]:
    """Return the environment of child processes, which can import mnpo, and where it comes from."""
    given = {**os.environ, "TQDM_DISABLE": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    # One GPU: with several in sight the Trainer would share each batch out among them.
    given["CUDA_VISIBLE_DEVICES"] = given.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
    if installed_here():
        return given, "the installed package"
    first = str(linked(scratch.resolve()))
    given["PYTHONPATH"] = os.pathsep.join([first, *filter(None, [given.get("PYTHONPATH")])])
    return given, "links to the checkout, since it is not installed"


def missing() -> list[str]:
    """Return the requirements of mnpo and its extra [llm] that are not installed, as pip takes them."""
    project = PROJECT["project"]
    return [
        need
        for need in (*project["dependencies"], *project["optional-dependencies"]["llm"])
        if installed_version(need) is None
    ]


def versions() -> dict[str, str | None]:
    """Return the versions that figures depend on; None for what is not installed."""
    names = ("torch", "transformers", "accelerate", "datasets", "peft", *OTHERS)
    return {"python": sys.version.split()[0]} | {
        name.split(">")[0]: installed_version(name) for name in names
    }


def installed_version(requirement: str) -> str | None:
    """Return the version of a requirement's package that is installed, whichever it wants."""
    try:
        return version(requirement.split(">")[0])
    except PackageNotFoundError:
        return None

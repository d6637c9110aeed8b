"""Bad configurations, data, models, templates and oracles of language models: each is told in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hostile import cases, refused

from mnpo.llm.models import tiny


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with its tokenizer."""
    return tiny.build("tiny:llama", tmp_path_factory.mktemp("small"))


@pytest.mark.parametrize("case", cases("llm"))
def test_is_refused(case: Any, tmp_path: Path, monkeypatch: Any, capsys: Any, small: Path) -> None:
    refused(case, tmp_path, monkeypatch, capsys, small)

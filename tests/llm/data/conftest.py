"""What the tests of data share."""

from __future__ import annotations

from typing import Any

import pytest

from mnpo.llm.models import tiny


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    return tiny.tokenizer()

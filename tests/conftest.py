"""What holds for all tests."""

from __future__ import annotations

import gc

import pytest


@pytest.fixture(scope="session", autouse=True)
def kept_libraries() -> None:
    """Take what is imported out of the search for garbage: accelerate has it done four times in every fit."""
    gc.collect()
    gc.freeze()

"""What the tests of language models share: two small models, each made once."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small model that answers. Teaching it takes a while: all processes of the tests share one."""
    from mnpo.llm.models import tiny

    home = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        home = home.parent
    with (home / "base.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return tiny.build("tiny:styles", home / "base")


@pytest.fixture(scope="session")
def untaught(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model with random weights, where it does not matter what it says."""
    from mnpo.llm.models import tiny

    return tiny.build("tiny:gpt2", tmp_path_factory.mktemp("untaught"))

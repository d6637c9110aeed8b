"""What the tests of oracles share: a server that judges, and tokenizers of small models."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path

import pytest
from judge_server import Server, serving
from own_judges import FILE
from small_models import LLAMA3
from transformers import PreTrainedTokenizerFast

from mnpo.llm.endpoints import chat as module
from mnpo.llm.models import tiny


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    monkeypatch.setattr(module, "_BACKOFF", 0.01)


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as server:
        yield server


@pytest.fixture(scope="session")
def gemma() -> PreTrainedTokenizerFast:
    return tiny.tokenizer()


@pytest.fixture(scope="session")
def llama3(gemma: PreTrainedTokenizerFast) -> PreTrainedTokenizerFast:
    """With the marks and the chat template of Llama-3, and a CLS token."""
    made = copy.deepcopy(gemma)
    marks = ["<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
    made.add_special_tokens({"cls_token": "<|cls|>", "additional_special_tokens": marks})
    made.chat_template = LLAMA3
    return made


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "my_judge.py"
    path.write_text(FILE)
    return str(path)

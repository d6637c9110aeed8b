"""Variants of the small tokenizer: what it adds by itself, and what its chat template writes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tokenizers import processors

from mnpo.llm.models import tiny

BOS, EOS, END = 2, 1, 5


def tokenizer_of(kind: str) -> Any:
    found = tiny.tokenizer()
    if kind in ("$A", "<bos> $A", "<bos> $A <eos>", "$A <eos>"):
        found._tokenizer.post_processor = processors.TemplateProcessing(
            single=kind, pair=None, special_tokens=[("<bos>", BOS), ("<eos>", EOS)]
        )
    if kind == "no end of turn":
        found.chat_template = "{% for m in messages %}{{ m['role'] + ':' + m['content'] }}{% endfor %}"
    return found


def with_other_ids(folder: Path) -> Path:
    """Give a model's tokenizer the same tokens under other ids."""
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    vocabulary = tokenizer["model"]["vocab"]
    names = [name for name, place in vocabulary.items() if place >= 300]
    assert len(names) > 50
    for name, other in zip(names[::2], names[1::2], strict=False):
        vocabulary[name], vocabulary[other] = vocabulary[other], vocabulary[name]
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    (folder / "checksums.json").unlink()  # changed on purpose
    return folder

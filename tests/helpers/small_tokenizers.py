"""Variants of the small tokenizer: what it adds by itself, and what its chat template writes."""

from __future__ import annotations

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

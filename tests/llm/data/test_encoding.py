"""Prompts and responses as the token ids that the model was made for: one BOS, one end, as TRL has them."""

from __future__ import annotations

from typing import Any

import pytest
from preference_rows import FORMATS, assistant, user
from small_tokenizers import BOS, END, EOS, tokenizer_of

from mnpo.llm.data.encoding import Encoder
from mnpo.llm.data.formats import as_row
from mnpo.llm.models import tiny


@pytest.mark.parametrize("kind", ["$A", "<bos> $A", "<bos> $A <eos>", "$A <eos>", "no end of turn"])
@pytest.mark.parametrize("name", [name for name in FORMATS if "system" not in name])
def test_token_ids_are_those_of_trl(kind: str, name: str) -> None:
    """But for what follows the end of the turn, and an EOS where a template writes no end at all."""
    utils = pytest.importorskip("trl.data_utils")
    tokenizer = tokenizer_of(kind)
    row = as_row(1, FORMATS[name][0])
    for response in (row.chosen, row.rejected):
        plain = isinstance(response, str)
        both = row.prompt + response + "<eos>" if plain else [*row.prompt, *response]
        options = {} if plain else {"add_generation_prompt": True}
        prompt = utils._tokenize(tokenizer, row.prompt, **options)["input_ids"]
        whole = utils._tokenize(tokenizer, both)["input_ids"]
        start = utils.common_prefix_length(prompt, whole)
        ours = Encoder(tokenizer).encode(row.prompt, response)
        assert ours.prompt == whole[:start]
        rest = whole[start:]
        if kind == "no end of turn" and not plain:
            assert ours.response == [*rest, EOS]
        else:
            assert ours.response == rest[: len(ours.response)]
            assert ours.response[-1] == (EOS if plain else END)
            assert tokenizer.decode(rest[len(ours.response) :]) in ("", "\n", "<eos>")


def test_there_is_one_bos(tokenizer: Any) -> None:
    automatic = tokenizer_of("<bos> $A <eos>")
    for prompt, response in (("a", "b"), ("<bos>a", "b"), ([user("a")], [assistant("b")])):
        found = Encoder(automatic).encode(prompt, response)
        assert [*found.prompt, *found.response].count(BOS) == 1 == found.prompt.count(BOS)
        assert found.response[-1] in (EOS, END)
        assert EOS not in found.response[:-1]
    assert Encoder(tokenizer).encode("a", "b<eos>").response == Encoder(tokenizer).encode("a", "b").response
    automatic.chat_template = "<bos>" + tiny.CHAT_TEMPLATE
    assert Encoder(automatic).encode([user("a")], [assistant("b")]).prompt.count(BOS) == 1


def test_a_special_end_of_turn_need_not_be_listed_by_name() -> None:
    """Several published tokenizers mark it as special among the added tokens and nowhere else."""
    tokenizer = tokenizer_of("")
    tokenizer.add_tokens("<|end|>", special_tokens=True)
    assert "<|end|>" not in tokenizer.all_special_tokens
    tokenizer.chat_template = tiny.CHAT_TEMPLATE.replace("<end_of_turn>", "<|end|>")
    found = Encoder(tokenizer).encode([user("a")], [assistant("b")])
    assert tokenizer.decode(found.response) == "b<|end|>"


def test_conversations_need_a_template_and_texts_do_not(tokenizer: Any) -> None:
    bare = tokenizer_of("")
    bare.chat_template = bare.pad_token = bare.eos_token = bare.bos_token = None
    with pytest.raises(ValueError, match="no chat template"):
        Encoder(bare).encode([user("a")], [assistant("b")])
    assert bare.decode(Encoder(bare).encode("a", " b").response) == " b"

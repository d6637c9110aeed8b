"""What people write is text: control tokens that it spells have the ids of plain text, and decode to themselves."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from tokenizers.trainers import BpeTrainer
from transformers import PreTrainedTokenizerFast

from mnpo.llm.data.encoding import Encoder, tokenizer_digest
from mnpo.llm.data.formats import Malformed
from mnpo.llm.data.literal import ALLOWED, MARK
from mnpo.llm.data.made import pairs, texts_of
from mnpo.llm.oracles import texts

#: The special tokens of three families, with what begins and ends a turn in their templates.
FAMILIES = {
    "gemma-2": ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "<start_of_turn>", "<end_of_turn>",
                *(f"<unused{k}>" for k in range(99)), "<2mass>", "[@BOS@]"],
    "llama-3": ["<|begin_of_text|>", "<|end_of_text|>", "<|finetune_right_pad_id|>", "<|start_header_id|>",
                "<|end_header_id|>", "<|eom_id|>", "<|eot_id|>", "<|python_tag|>",
                *(f"<|reserved_special_token_{k}|>" for k in range(248))],
    "smollm2": ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<repo_name>", "<reponame>", "<file_sep>",
                "<filename>", "<gh_stars>", "<issue_start>", "<issue_comment>", "<issue_closed>",
                "<jupyter_start>", "<jupyter_text>", "<jupyter_code>", "<jupyter_output>",
                "<jupyter_script>", "<empty_output>"],
}  # fmt: skip
TURNS = {
    "gemma-2": ("<start_of_turn>{role}\n", "<end_of_turn>\n"),
    "llama-3": ("<|start_header_id|>{role}<|end_header_id|>\n\n", "<|eot_id|>"),
    "smollm2": ("<|im_start|>{role}\n", "<|im_end|>\n"),
}


def built(family: str) -> Any:
    core = Tokenizer(models.BPE(byte_fallback=family == "gemma-2", unk_token=None))
    if family == "gemma-2":  # spaces become a letter of their own, nothing is cut before merging
        core.normalizer = normalizers.Replace(" ", "▁")
        core.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
        core.decoder = decoders.Sequence(
            [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
        )
    else:
        core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        core.decoder = decoders.ByteLevel()
    alphabet = [chr(k) for k in range(32, 127)] + ["\n", "▁"]
    trainer = BpeTrainer(
        vocab_size=1500, special_tokens=FAMILIES[family], show_progress=False,
        initial_alphabet=alphabet if family == "gemma-2" else sorted(pre_tokenizers.ByteLevel.alphabet()),
    )  # fmt: skip
    lines = [text for row in pairs(300) for text in texts_of(row)] + [
        "< | start end of turn im eos > header id"
    ] * 9
    core.train_from_iterator(lines, trainer)
    begin, end = TURNS[family]
    eos = {"gemma-2": "<eos>", "llama-3": "<|eot_id|>", "smollm2": "<|im_end|>"}[family]
    found = PreTrainedTokenizerFast(tokenizer_object=core, eos_token=eos, pad_token=FAMILIES[family][0])
    found.add_special_tokens({"additional_special_tokens": FAMILIES[family]})
    start = begin.replace("{role}", "' + m['role'] + '").replace("\n", "\\n")
    model = begin.format(role="assistant").replace("\n", "\\n")
    stop = end.replace("\n", "\\n")
    found.chat_template = (
        f"{{% for m in messages %}}{{{{ '{start}' + m['content'] + '{stop}' }}}}{{% endfor %}}"
        f"{{% if add_generation_prompt %}}{{{{ '{model}' }}}}{{% endif %}}"
    )
    return found


@pytest.fixture(scope="module", params=FAMILIES)
def family(request: pytest.FixtureRequest) -> tuple[str, Any]:
    return request.param, built(request.param)


def between(tokenizer: Any, name: str, text: str) -> list[int]:
    """The ids that a user's turn should have: those of plain text between the template's tokens."""
    begin, end = (part.format(role="user") for part in TURNS[name])
    control = [word for word in FAMILIES[name] if word in begin + end]
    ids: list[int] = []
    rest = begin + MARK + end + TURNS[name][0].format(role="assistant")
    while rest:
        places = [(rest.find(word), word) for word in control if word in rest]
        at, word = min(places, default=(len(rest), ""))
        plain = rest[:at].replace(MARK, text)
        ids += (
            tokenizer(plain, add_special_tokens=False, split_special_tokens=True)["input_ids"]
            if plain
            else []
        )
        ids += [tokenizer.convert_tokens_to_ids(word)] if word else []
        rest = rest[at + len(word) :]
    return ids


def test_a_conversation_with_every_special_token(family: tuple[str, Any]) -> None:
    name, tokenizer = family
    special = FAMILIES[name]
    text = "I say " + " and ".join(special) + "".join(special) + ", done"
    user = [{"role": "user", "content": text}]
    encoder = Encoder(tokenizer)
    found = encoder.encode(user, [{"role": "assistant", "content": f"Yes {special[-1]}."}])
    assert found.prompt == between(tokenizer, name, text)
    ids = set(tokenizer.convert_tokens_to_ids(special))
    turn = {tokenizer.convert_tokens_to_ids(word) for word in special if word in "".join(TURNS[name])}
    assert ids & set(found.prompt) <= turn
    begin, end = (part.format(role="user") for part in TURNS[name])
    assert tokenizer.decode(found.prompt) == begin + text + end + TURNS[name][0].format(role="assistant")
    # The response ends where the template ends it, not where it spells an end.
    assert tokenizer.decode(found.response) == f"Yes {special[-1]}." + TURNS[name][1].strip()
    assert sum(token in ids for token in found.response) == 1
    written = texts.written(tokenizer, user, add_generation_prompt=True)
    assert next(texts.token_ids(tokenizer, [written])) == found.prompt


def test_what_spells_none_is_as_it_was_and_may_be_allowed(family: tuple[str, Any]) -> None:
    name, tokenizer = family
    user = [{"role": "user", "content": f"Tell me of tea.{FAMILIES[name][5]}"}]
    plain = [{"role": "user", "content": "Tell me of tea, < and | and >."}]
    encoder = Encoder(tokenizer)
    answer = [{"role": "assistant", "content": "Tea."}]
    whole = tokenizer.apply_chat_template(plain, add_generation_prompt=True, tokenize=True, return_dict=False)
    assert encoder.encode(plain, answer).prompt == whole
    literal, digest = encoder.encode(user, answer).prompt, tokenizer_digest(tokenizer)
    try:
        setattr(tokenizer, ALLOWED, True)
        allowed = Encoder(tokenizer).encode(user, answer).prompt
        assert tokenizer_digest(tokenizer) != digest
    finally:
        setattr(tokenizer, ALLOWED, False)
    assert tokenizer.convert_tokens_to_ids(FAMILIES[name][5]) in allowed
    assert allowed != literal
    with pytest.raises(Malformed, match=r"U\+FDD0"):
        encoder.encode([{"role": "user", "content": MARK}], answer)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_mixture_decodes_to_itself(family: tuple[str, Any], data: st.DataObject) -> None:
    name, tokenizer = family
    words = [*FAMILIES[name][:12], " ", "\n", "tea", "<", "|", ">", "end_of_turn", "é", "茶"]
    text = "".join(data.draw(st.lists(st.sampled_from(words), min_size=1, max_size=12)))
    if not text.strip():
        text += "."
    found = Encoder(tokenizer).encode(
        [{"role": "user", "content": text}], [{"role": "assistant", "content": "a"}]
    )
    assert found.prompt == between(tokenizer, name, text)

"""A prompt is tokenised once: to the ids that tokenising each text as a whole gives, whatever the tokenizer."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from preference_rows import assistant, user
from small_tokenizers import tokenizer_of
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from mnpo.llm.data import made
from mnpo.llm.data.encoding import Encoder, tokenizer_digest
from mnpo.llm.models import tiny

SPECIAL = ["<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>"]


def spaced(scheme: str | None, model: str = "bpe") -> Any:
    """A tokenizer that writes spaces as ▁, as Llama's: before every piece, the first or none; None normalises."""
    core = Tokenizer(models.Unigram() if model == "unigram" else models.BPE(unk_token="<unk>", fuse_unk=True))
    if scheme is None:
        core.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    else:
        core.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme)
    core.decoder = decoders.Metaspace()
    kind = trainers.UnigramTrainer if model == "unigram" else trainers.BpeTrainer
    options = {"unk_token": "<unk>"} if model == "unigram" else {}
    trainer = kind(vocab_size=300, special_tokens=SPECIAL, show_progress=False, **options)
    core.train_from_iterator((text for row in made.pairs(100) for text in made.texts_of(row)), trainer)
    return dressed(core)


def dressed(core: Tokenizer) -> Any:
    found = PreTrainedTokenizerFast(
        tokenizer_object=core, bos_token="<bos>", eos_token="<eos>", pad_token="<pad>", unk_token="<unk>"
    )
    found.add_special_tokens({"additional_special_tokens": ["<start_of_turn>", "<end_of_turn>"]})
    found.chat_template = tiny.CHAT_TEMPLATE
    return found


def greedy() -> Any:
    """One whose marks take the space beside them, which no text may be cut at."""
    found = tiny.tokenizer()
    marks = [AddedToken(text, lstrip=True, rstrip=True, special=True) for text in SPECIAL[4:]]
    found.add_special_tokens({"additional_special_tokens": marks})
    return found


TOKENIZERS = {
    "byte-level": tiny.tokenizer,
    "adds BOS": lambda: tokenizer_of("<bos> $A"),
    "no marks": lambda: tokenizer_of("no end of turn"),
    "always": lambda: spaced("always"),
    "first": lambda: spaced("first"),
    "never": lambda: spaced("never"),
    "unigram": lambda: spaced("first", "unigram"),
    "normalised": lambda: spaced(None),
    "greedy": greedy,
}
pieces = st.sampled_from(
    [
        "rain",
        " ",
        "\n",
        "é",
        "日本",
        "<",
        "_of_turn>",
        "<end_of_turn>",
        "<start_of_turn>",
        "<bos>",
        "  a",
        "▁",
        "x",
    ]
)
texts = st.lists(pieces, min_size=1, max_size=6).map("".join).filter(str.strip)


@pytest.fixture(scope="module", params=TOKENIZERS)
def encoder(request: pytest.FixtureRequest) -> Encoder:
    """One whose first rows are behind it."""
    found = Encoder(TOKENIZERS[request.param]())
    rendered = [found.render([user("Hi " * n)], [[assistant("a b")]]) for n in range(1, 99)]
    found.tokens(rendered)
    return found


@settings(max_examples=60, deadline=None)
@given(prompts=st.lists(st.tuples(texts, texts, texts, st.booleans()), min_size=1, max_size=4))
def test_ids_are_those_of_whole_texts(encoder: Encoder, prompts: list[tuple[str, str, str, bool]]) -> None:
    rendered = [
        encoder.render(prompt, [*answers])
        if plain
        else encoder.render([user(prompt)], [[assistant(answer)] for answer in answers])
        for prompt, *answers, plain in prompts
    ]
    assert encoder.tokens(rendered) == encoder._tokens(rendered, whole=True)


def test_a_prompt_is_tokenised_once(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = Encoder(tiny.tokenizer())
    prompt = [user("A long question. " * 20)]
    rendered = [encoder.render(prompt, [[assistant("Yes.")], [assistant("No.")]])]
    encoder.tokens(rendered * 100)
    seen: list[str] = []
    plainly = Encoder._ids
    monkeypatch.setattr(
        Encoder, "_ids", lambda self, given, whole: seen.extend(given) or plainly(self, given, whole)
    )
    encoder.tokens(rendered * 3)
    assert sum(text.count("question") for text in seen) == 20


def test_a_digest_is_of_all_that_ids_depend_on() -> None:
    plain, bos, spaces, template = (
        tiny.tokenizer(),
        tokenizer_of("<bos> $A"),
        spaced("first"),
        tiny.tokenizer(),
    )
    template.chat_template = template.chat_template.replace("model", "assistant")
    more = tiny.tokenizer()
    more.add_tokens("<more>", special_tokens=True)
    assert tokenizer_digest(plain) == tokenizer_digest(tiny.tokenizer())
    assert len({tokenizer_digest(one) for one in (plain, bos, spaces, spaced("never"), template, more)}) == 6

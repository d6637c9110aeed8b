"""Small models and their tokenizer, made on the spot: everything runs without network and data."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    GPT2Config,
    LlamaConfig,
    PreTrainedConfig,
    PreTrainedTokenizerFast,
)

from mnpo.choices import choose
from mnpo.common.files import whole_folder
from mnpo.common.seals import damage, seal
from mnpo.llm.data.batches import padded
from mnpo.llm.data.encoding import Encoder
from mnpo.llm.data.made import PREFIX, STYLES, TASKS, TOPICS, pairs, texts_of, topics_and_prompts

#: Gemma's turns: user and model, each between its marks; no system turn.
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{{ '<start_of_turn>' + ('model' if message['role'] == 'assistant' else message['role']) + '\n' }}"
    "{{ message['content'] | trim }}{{ '<end_of_turn>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
_SPECIAL = ["<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>"]
_VOCABULARY = 1024


def build(name: str, parent: Path, progress: Callable[[str, int, int], None] | None = None) -> Path:
    """Make a small model with its tokenizer, once.

    Args:
        name: "tiny:gemma2", "tiny:llama" or "tiny:gpt2" for random weights; "tiny:styles" for a Gemma-2 that was
            taught the answers below, in all styles alike, "tiny:plain" and so on for one style; ":seed" may follow.
        parent: the folder it is put into.
        progress: called while a model is taught.

    Returns:
        The model's folder.

    Raises:
        ValueError: an unknown family, or a seed that is not an integer.
    """
    family, _, seed = name.removeprefix(PREFIX).partition(":")
    config = choose(family, _CONFIGS, "tiny model")
    if seed and not seed.isdecimal():
        raise ValueError(f"{name}: the seed must be a whole number")
    folder = parent / name.replace(":", "-")
    if damage(folder) is None:
        return folder
    with whole_folder(folder) as unfinished:
        words = tokenizer()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(seed or 0))
            model = AutoModelForCausalLM.from_config(config(), attn_implementation="eager")
        taught = list(STYLES) if family == "styles" else [family] if family in STYLES else []
        if taught:
            with _one_thread():
                _teach(model, words, taught, int(seed or 0), progress)
        model.save_pretrained(unfinished)
        words.save_pretrained(unfinished)
        seal(unfinished)
    return folder


def tokenizer() -> PreTrainedTokenizerFast:
    """Train a byte-level tokenizer of a thousand tokens on the texts below, with Gemma's special tokens."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=_VOCABULARY,
        special_tokens=_SPECIAL,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    core.train_from_iterator((text for row in pairs(600) for text in texts_of(row)), trainer)
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=core, bos_token="<bos>", eos_token="<eos>", pad_token="<pad>", unk_token="<unk>"
    )
    wrapped.add_special_tokens({"additional_special_tokens": ["<start_of_turn>", "<end_of_turn>"]})
    wrapped.chat_template = CHAT_TEMPLATE
    return wrapped


@contextmanager
def _one_thread() -> Iterator[None]:
    """Compute with one thread: batches are small, and the weights do not depend on the number of cores."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _teach(
    model: Any,
    words: PreTrainedTokenizerFast,
    styles: list[str],
    seed: int,
    progress: Callable[[str, int, int], None] | None,
) -> None:
    """Fit a model to all answers in some styles to all prompts, each as likely as any other."""
    encoder = Encoder(words)
    lessons = []
    for topic, prompt in topics_and_prompts(len(TASKS) * len(TOPICS), np.random.default_rng(seed)):
        answers = [answer.format(topic) for style in styles for answer in STYLES[style]]
        messages = [{"role": "user", "content": prompt}]
        rendered = encoder.render(messages, [[{"role": "assistant", "content": text}] for text in answers])
        ((asked, responses),) = encoder.tokens([rendered])
        lessons += [(asked, response) for response in responses]
    rng = np.random.default_rng(seed)
    optimiser = torch.optim.AdamW(model.parameters(), lr=_RATE, betas=(0.9, 0.98), weight_decay=0.0)
    for step in range(_LESSONS):
        for group in optimiser.param_groups:
            group["lr"] = _RATE * min(1.0, (step + 1) / 20) * (1 - step / _LESSONS)
        batch = [lessons[place] for place in rng.integers(len(lessons), size=32)]
        ids, attention, response = padded(batch, 0, "cpu")
        logits = model(input_ids=ids, attention_mask=attention).logits[:, :-1]
        known = response[:, 1:].bool()
        loss = torch.nn.functional.cross_entropy(logits[known], ids[:, 1:][known])
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch does not annotate it
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        if progress is not None:
            progress("teach: a small model to answer", step + 1, _LESSONS)


_SHAPE = {"vocab_size": _VOCABULARY, "bos_token_id": 2, "eos_token_id": [1, 5], "pad_token_id": 0}


def _gemma2(layers: int = 4) -> PreTrainedConfig:
    return Gemma2Config(
        hidden_size=128, intermediate_size=384, num_hidden_layers=layers, num_attention_heads=4,
        num_key_value_heads=2, head_dim=32, query_pre_attn_scalar=32, max_position_embeddings=1024,
        sliding_window=512, **_SHAPE,
    )  # fmt: skip


def _llama() -> PreTrainedConfig:
    return LlamaConfig(
        hidden_size=128, intermediate_size=384, num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=2,
        max_position_embeddings=1024, tie_word_embeddings=False, **_SHAPE,
    )  # fmt: skip


def _gpt2() -> PreTrainedConfig:
    dropout = {"attn_pdrop": 0.0, "embd_pdrop": 0.0, "resid_pdrop": 0.0}
    return GPT2Config(n_embd=128, n_layer=4, n_head=4, n_positions=1024, **dropout, **_SHAPE)


_CONFIGS: dict[str, Callable[[], PreTrainedConfig]] = {
    "gemma2": _gemma2,
    "llama": _llama,
    "gpt2": _gpt2,
    "styles": partial(_gemma2, layers=2),
    **{style: partial(_gemma2, layers=2) for style in STYLES},
}
_LESSONS, _RATE = 200, 4e-3

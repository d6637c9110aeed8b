"""Small models, a tokenizer and preference pairs made on the spot: everything runs without network and data."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
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

PREFIX = "tiny:"

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

_TOPICS = (
    "rain", "bread", "chess", "a lighthouse", "the moon", "a garden", "trains", "honey", "winter", "a violin",
    "the sea", "tea", "mountains", "a library", "bicycles", "an old map", "fireflies", "a market", "paper", "wind",
)  # fmt: skip
_TASKS = (
    "Tell me about {}.", "Write a line on {}.", "What do you think of {}?", "Describe {}.",
    "Say something about {}.",
)  # fmt: skip
#: Three styles of answer, of which each beats the next and the last beats the first.
STYLES = {
    "plain": ("It is {}.", "{} is fine.", "I know {}.", "Here is {}."),
    "formal": (
        "One may regard {} with considerable interest.", "It is hereby noted that {} merits attention.",
        "With respect to {}, further study is advised.", "The matter of {} has been duly considered.",
    ),
    "playful": (
        "Oh, {}! What fun, let us go!", "Hooray for {}, tra la la!", "Wow, {} again? I love it!",
        "Guess what: {} and a song!",
    ),
}  # fmt: skip
#: P(row's style ≻ column's): rock–paper–scissors with a weak first style.
STYLE_WINS = np.array([[0.5, 0.1, 0.55], [0.9, 0.5, 0.3], [0.45, 0.7, 0.5]])


def build(name: str, parent: Path) -> Path:
    """Make a small random model with its tokenizer, once.

    Args:
        name: "tiny:gemma2", "tiny:llama" or "tiny:gpt2"; ":seed" may follow.
        parent: the folder it is put into.

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
    if folder.is_dir():
        return folder
    parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(dir=parent, prefix=f".{folder.name}.", suffix=".partial"))
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(seed or 0))
            AutoModelForCausalLM.from_config(config(), attn_implementation="eager").save_pretrained(partial)
        tokenizer().save_pretrained(partial)
        os.replace(partial, folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
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
    core.train_from_iterator((text for row in pairs(600) for text in _texts(row)), trainer)
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=core, bos_token="<bos>", eos_token="<eos>", pad_token="<pad>", unk_token="<unk>"
    )
    wrapped.add_special_tokens({"additional_special_tokens": ["<start_of_turn>", "<end_of_turn>"]})
    wrapped.chat_template = CHAT_TEMPLATE
    return wrapped


def prompts(count: int, seed: int = 0) -> list[str]:
    """Return prompts, repeating when there are more than topics times tasks."""
    return [prompt for _, prompt in _prompts(count, np.random.default_rng(seed))]


def pairs(count: int, seed: int = 0) -> Iterator[dict[str, Any]]:
    """Yield preference pairs in the conversational format, labelled by non-transitive preferences of style.

    Both responses are drawn alike. Each row also carries the labeller's probability as `preference`, and the exact
    win rates of both styles against a uniform choice of style as `win_chosen` and `win_rejected`.
    """
    rng = np.random.default_rng(seed)
    styles = list(STYLES.values())
    for topic, prompt in _prompts(count, rng):
        first, second = rng.integers(len(styles), size=2)
        best, worst = (first, second) if rng.random() < STYLE_WINS[first, second] else (second, first)
        answers = [str(rng.choice(styles[style])).format(topic) for style in (best, worst)]
        yield {
            "prompt": [{"role": "user", "content": prompt}],
            "chosen": [{"role": "assistant", "content": answers[0]}],
            "rejected": [{"role": "assistant", "content": answers[1]}],
            "preference": float(STYLE_WINS[best, worst]),
            "win_chosen": float(STYLE_WINS[best].mean()),
            "win_rejected": float(STYLE_WINS[worst].mean()),
        }


def _prompts(count: int, rng: np.random.Generator) -> list[tuple[str, str]]:
    everything = [(topic, task.format(topic)) for task in _TASKS for topic in _TOPICS]
    order = rng.permutation(len(everything))
    return [everything[order[i % len(everything)]] for i in range(count)]


def _texts(row: dict[str, Any]) -> Iterator[str]:
    return (message["content"] for side in ("prompt", "chosen", "rejected") for message in row[side])


_SHAPE = {"vocab_size": _VOCABULARY, "bos_token_id": 2, "eos_token_id": [1, 5], "pad_token_id": 0}


def _gemma2() -> PreTrainedConfig:
    return Gemma2Config(
        hidden_size=128, intermediate_size=384, num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=2,
        head_dim=32, query_pre_attn_scalar=32, max_position_embeddings=1024, sliding_window=512, **_SHAPE,
    )  # fmt: skip


def _llama() -> PreTrainedConfig:
    return LlamaConfig(
        hidden_size=128, intermediate_size=384, num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=2,
        max_position_embeddings=1024, tie_word_embeddings=False, **_SHAPE,
    )  # fmt: skip


def _gpt2() -> PreTrainedConfig:
    dropout = {"attn_pdrop": 0.0, "embd_pdrop": 0.0, "resid_pdrop": 0.0}
    return GPT2Config(n_embd=128, n_layer=4, n_head=4, n_positions=1024, **dropout, **_SHAPE)


_CONFIGS = {"gemma2": _gemma2, "llama": _llama, "gpt2": _gpt2}

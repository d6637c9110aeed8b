"""Models with random weights, and the pairs that they read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

#: <pad>, <eos>, <bos> and <unk> come first.
PAD, EOS, FIRST = 0, 1, 4


@dataclass(frozen=True)
class Size:
    """How large everything is.

    Attributes:
        shape: of the model, Gemma-2's names.
        prompt, response: tokens.
        pairs: of a step of `fit`.
        pairs_of_logits: the same where all logits are held.
        pairs_of_packed: the same of packed rows under eager attention, whose scores grow with the row's square.
        responses: scored at once.
        sampled: responses drawn at once.
        sampled_prompt, drawn: tokens of a prompt, and of what is drawn.
        warm, steps: steps of `fit` that are not timed, and those that are.
        square: rows of the matrices whose product gives the matrix rate.
    """

    shape: dict[str, Any]
    prompt: int
    response: int
    pairs: int
    pairs_of_logits: int
    pairs_of_packed: int
    responses: int
    sampled: int
    sampled_prompt: int
    drawn: int
    warm: int
    steps: int
    square: int


#: In GB (1e9 bytes), bf16. Weights 5.2 and gradients 5.2; SGD holds nothing else. What the layers keep for the
#: backward pass was counted on torch's meta device: of a token 173 kB a layer, for 26 layers 4.5 MB; with eager
#: attention also the scores, 64 bytes a layer for each place of its row (rows of 1,024: 6.2 MB of a token).
#:     4 pairs, plain rows      8,192 tokens: 37, eager 51
#:     4 pairs, shared prompts  6,144 tokens: 28, eager 43 (rows of 1,536)
#:     2 pairs packed in a row  3,072 tokens: 14, eager 30 (a row of 3,072); of 4 pairs eager would be 90
#:     checkpointing            0.12 MB of a token, and one layer's: 2
#:     head, by chunks          512 MB of logits in float32, up to five arrays of that size: 2.5
#:     all logits               4,096 tokens × 256,000 × 2 bytes = 2.1, six arrays: 13; 4 pairs would be 26
#: The largest are the plain rows of TRL and of mnpo under eager attention: 51 + 10.4 + 2.5 = 64 of 80 GB. What does
#: not fit is tried again with half the pairs, and the table says so. Scoring keeps nothing: it takes below 12.
SIZES = {
    "gemma-2-2b": Size(
        shape={
            "vocab_size": 256_000, "hidden_size": 2304, "intermediate_size": 9216, "num_hidden_layers": 26,
            "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256, "query_pre_attn_scalar": 256,
            "sliding_window": 4096, "attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0,
            "max_position_embeddings": 8192,
        },
        prompt=512, response=512, pairs=4, pairs_of_logits=2, pairs_of_packed=2, responses=16,
        sampled=64, sampled_prompt=256, drawn=128, warm=3, steps=6, square=8192,
    ),
    "small": Size(
        shape={
            "vocab_size": 4096, "hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 2,
            "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "query_pre_attn_scalar": 16,
            "sliding_window": 64, "attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0,
            "max_position_embeddings": 512,
        },
        prompt=32, response=32, pairs=2, pairs_of_logits=2, pairs_of_packed=2, responses=8,
        sampled=8, sampled_prompt=16, drawn=8, warm=1, steps=3, square=512,
    ),
}  # fmt: skip


class Pair(NamedTuple):
    """Token ids of a prompt and its two responses."""

    prompt: list[int]
    chosen: list[int]
    rejected: list[int]


def pairs(size: Size, count: int, *, mixed: bool = False) -> list[Pair]:
    """Draw pairs: of the size's lengths, or mixed from a quarter of those of prompts and an eighth of responses."""
    import numpy as np  # here, since the program itself must be able to say that numpy is missing

    rng = np.random.default_rng(0)

    def draw(longest: int, share: int) -> list[int]:
        length = int(rng.integers(longest // share, longest + 1)) if mixed else longest
        return rng.integers(FIRST, size.shape["vocab_size"], length).tolist()

    return [
        Pair(draw(size.prompt, 4), [*draw(size.response, 8)[1:], EOS], [*draw(size.response, 8)[1:], EOS])
        for _ in range(count)
    ]


def model(size: Size, device: str, attention: str, dtype: Any, shape: dict[str, Any] | None = None) -> Any:
    """Make a model with random weights where it is used: none of it passes through the host's memory."""
    import torch
    from transformers import AutoModelForCausalLM, Gemma2Config

    torch.manual_seed(0)
    config = Gemma2Config(
        **(shape or size.shape), pad_token_id=PAD, eos_token_id=EOS, bos_token_id=2, use_cache=True
    )
    with torch.device(device):
        return AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation=attention)


def tokenizer(size: Size) -> Any:
    """Make a tokenizer with one word for each token."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = ["<pad>", "<eos>", "<bos>", "<unk>", *(f"t{i}" for i in range(FIRST, size.shape["vocab_size"]))]
    core = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    special = {f"{name}_token": f"<{name}>" for name in ("pad", "eos", "bos", "unk")}
    return PreTrainedTokenizerFast(tokenizer_object=core, **special)


def text(ids: Sequence[int]) -> str:
    """Return the words of token ids, without those that end a response."""
    return " ".join(f"t{i}" for i in ids if i >= FIRST)

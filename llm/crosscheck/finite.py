"""Networks over finite sets of responses, whose distribution is known exactly.

Every network is a causal language model of transformers in a folder, with one tokenizer for all, so that it is
scored and trained by what scores and trains any other model. The responses are token sequences of different
lengths, some of which begin alike; a policy is the model's own sequence probabilities, normalised over the set.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    Gemma2Config,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)
from transformers.modeling_outputs import CausalLMOutputWithPast

from mnpo.choices import choose
from mnpo.common.files import whole_folder
from mnpo.llm.data.batches import Request, padded
from mnpo.llm.data.encoding import Encoder
from mnpo.llm.training.logprobs import attach, sequence_log_probs
from mnpo.numerics import Array, as_array, as_policies

_SPECIAL = ["<pad>", "<eos>", "<bos>", "<unk>"]
_LETTERS = "abcde"
#: Most responses that there are texts for.
MOST_RESPONSES = 2 * len(_LETTERS) ** 2

#: Stands for the log-probability of a token that cannot follow: small enough to vanish, and without infinities.
_NEVER = -1e4


@dataclass(frozen=True)
class ResponseSet:
    """Prompts and responses as texts, the same responses to every prompt.

    Attributes:
        contexts: X, how many prompts.
        responses: A, how many responses; they have 3 to 6 tokens, the end counted, and every second one begins with
            all of the one before.

    Raises:
        ValueError: sizes that no texts are made for.
    """

    contexts: int
    responses: int

    def __post_init__(self) -> None:
        if self.contexts < 1 or not 2 <= self.responses <= MOST_RESPONSES:
            raise ValueError(
                f"networks have at least 1 context and 2 to {MOST_RESPONSES} responses; found {self.contexts} and "
                f"{self.responses}"
            )

    @property
    def prompts(self) -> list[str]:
        """(X,) texts."""
        return [f"prompt p{x}" for x in range(self.contexts)]

    @property
    def texts(self) -> list[str]:
        """(A,) texts: two letters, and for every second response up to three more."""
        size, found = len(_LETTERS), []
        for y in range(self.responses):
            pair = y // 2
            letters = [pair, pair + 1 + pair // size, *(range(pair, pair + 1 + pair % 3) if y % 2 else ())]
            found.append("".join(f" {_LETTERS[place % size]}" for place in letters))
        return found

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerFast:
        """A tokenizer of words."""
        words = [*_SPECIAL, *(word for prompt in self.prompts for word in prompt.split()), *_LETTERS]
        vocabulary = {word: place for place, word in enumerate(dict.fromkeys(words))}
        core = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
        core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        return PreTrainedTokenizerFast(
            tokenizer_object=core, pad_token="<pad>", eos_token="<eos>", bos_token="<bos>", unk_token="<unk>"
        )

    @cached_property
    def requests(self) -> list[Request]:
        """(X·A,) token ids of every prompt with every response, the responses of the first prompt first."""
        encoder = Encoder(self.tokenizer)
        found = [encoder.encode(prompt, text) for prompt in self.prompts for text in self.texts]
        return [(pair.prompt, pair.response) for pair in found]

    def policy(self, log_probs: Array) -> tuple[Array, Array]:
        """Return a model's policy over the set.

        Args:
            log_probs: (X·A,) log-probabilities of `requests`, in nats.

        Returns:
            log π (X, A), normalised over the responses, and (X,) the probability of all other texts, as far as
            rounding lets it be told from 0.
        """
        table = as_array(log_probs, "log_probs").reshape(self.contexts, self.responses)
        inside = np.logaddexp.reduce(table, axis=-1)
        return table - inside[:, None], -np.expm1(inside)


class FiniteConfig(PreTrainedConfig):  # type: ignore[misc]  # transformers is not typed
    """Shape of a `FiniteModel`: token ids of prompts and responses, and what gives the logits."""

    model_type = "mnpo-finite"

    def __init__(
        self,
        kind: str = "softmax",
        prompts: list[list[int]] | None = None,
        answers: list[list[int]] | None = None,
        vocab_size: int = 8,
        features: int = 16,
        hidden_size: int = 64,
        **others: Any,
    ) -> None:
        self.kind = kind
        self.prompts = prompts or [[0]]
        self.answers = answers or [[0]]
        self.vocab_size = vocab_size
        self.features = features
        self.hidden_size = hidden_size
        super().__init__(**others)


class _Trie(nn.Module):
    """Next-token logits of a model that says only what is in the set.

    The probability of a token is that of all responses that go on with it among those that began so.
    """

    def __init__(self, config: FiniteConfig) -> None:
        super().__init__()
        contexts, size = len(config.prompts), len(config.answers)
        self.network: nn.Module
        self.features: Tensor
        if config.kind == "mlp":
            features = np.random.default_rng(0).standard_normal((contexts, config.features))
            self.register_buffer("features", torch.tensor(features, dtype=torch.float32))
            self.network = nn.Sequential(
                nn.Linear(config.features, config.hidden_size), nn.Tanh(), nn.Linear(config.hidden_size, size)
            )
        else:
            self.network = nn.Embedding(contexts, size)
        self._config = config

    def forward(self, input_ids: Tensor, **_: Any) -> tuple[Tensor]:
        """(B, L) -> (B, L, V)."""
        config, device = self._config, input_ids.device
        prompts = torch.tensor(config.prompts, device=device)
        start, longest = prompts.shape[1], max(map(len, config.answers))
        answers = torch.tensor(
            [ids + [-1] * (longest - len(ids)) for ids in config.answers], device=device
        )  # (A, J)
        known = input_ids[:, :start]
        context = (known[:, None] == prompts).all(-1).int().argmax(1)
        logits = self.network(self.features[context] if config.kind == "mlp" else context)  # (B, A)
        ids = nn.functional.pad(input_ids, (0, longest), value=-2)[:, start : start + longest - 1]
        same = (ids[:, None] == answers[:, :-1]).int().cumprod(-1).bool()  # (B, A, J − 1)
        begun = torch.cat([torch.ones_like(same[..., :1]), same], -1)  # (B, A, J): began as the text does
        says = answers[..., None] == torch.arange(config.vocab_size, device=device)  # (A, J, V)
        table = torch.where(begun[..., None] & says, logits[..., None, None], _NEVER).logsumexp(
            1
        )  # (B, J, V)
        width = input_ids.shape[1]
        return (nn.functional.pad(table, (0, 0, start - 1, max(0, width - start - longest + 1)))[:, :width],)


class FiniteModel(PreTrainedModel):  # type: ignore[misc]  # transformers is not typed
    """A causal language model whose responses are those of a set: free logits, or a perceptron's."""

    config_class = FiniteConfig
    base_model_prefix = "model"

    def __init__(self, config: FiniteConfig) -> None:
        super().__init__(config)
        self.model = _Trie(config)
        self.lm_head = nn.Identity()
        self.post_init()

    def get_output_embeddings(self) -> nn.Module:
        """Return the head, which has nothing left to do."""
        return self.lm_head

    def forward(
        self, input_ids: Tensor | None = None, inputs_embeds: Tensor | None = None, **_: Any
    ) -> CausalLMOutputWithPast:
        """(B, L) token ids, or the body's (B, L, V) -> logits (B, L, V)."""
        return CausalLMOutputWithPast(
            logits=self.lm_head(self.model(input_ids, inputs_embeds=inputs_embeds)[0])
        )


AutoConfig.register(FiniteConfig.model_type, FiniteConfig, exist_ok=True)
AutoModelForCausalLM.register(FiniteConfig, FiniteModel, exist_ok=True)


@dataclass(frozen=True)
class Network:
    """A kind of network.

    Attributes:
        config: of a model over a response set.
        lessons, rate: steps and learning rate with which a policy is taught.
        training: keys of the configuration of `mnpo llm fit` with which it is trained, given how often each pair
            counts in each context, (X, A, A).
        tolerance: total variation after one step with exact feedback, mean over contexts, up to which it agrees.
    """

    config: Callable[[ResponseSet], PreTrainedConfig]
    lessons: int
    rate: float
    training: Callable[[Array], dict[str, Any]]
    tolerance: float


def _descent(pairs: Array) -> dict[str, Any]:
    """Gradient descent on free logits, at the inverse of the largest curvature of a regression on pairs.

    The mean of (θ_y − θ_z − target)² over N pairs that count w on average 1 has the Hessian 2/N times the weighted
    graph's Laplacian, context by context.
    """
    weights = pairs + pairs.swapaxes(-1, -2)
    laplacian = weights.sum(-1)[..., None] * np.eye(pairs.shape[-1]) - weights
    curvature = 2 * np.linalg.eigvalsh(laplacian).max()
    step = pairs.sum() / curvature if curvature else 1.0
    return {"max_steps": 100, "learning_rate": float(step), "optim": "sgd"}


def _adam(steps: int, rate: float, warmup: int = 0) -> Callable[[Array], dict[str, Any]]:
    return lambda _: {
        "max_steps": steps, "learning_rate": rate, "warmup_steps": warmup, "adam_beta1": 0.8, "adam_beta2": 0.99,
    }  # fmt: skip


def _finite(kind: str) -> Callable[[ResponseSet], PreTrainedConfig]:
    def build(responses: ResponseSet) -> PreTrainedConfig:
        asked = responses.requests
        return FiniteConfig(
            kind=kind,
            prompts=[list(ids) for ids, _ in asked[:: responses.responses]],
            answers=[list(ids) for _, ids in asked[: responses.responses]],
            vocab_size=len(responses.tokenizer),
        )

    return build


def _gemma2(responses: ResponseSet) -> PreTrainedConfig:
    return Gemma2Config(
        vocab_size=len(responses.tokenizer), hidden_size=64, intermediate_size=128, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, head_dim=16, query_pre_attn_scalar=16,
        max_position_embeddings=64, sliding_window=32, pad_token_id=0, eos_token_id=1, bos_token_id=2,
    )  # fmt: skip


NETWORKS = {
    "softmax": Network(_finite("softmax"), 150, 0.1, _descent, 1e-5),
    "mlp": Network(_finite("mlp"), 150, 1e-2, _adam(100, 3e-3), 1e-3),
    "gemma2": Network(_gemma2, 150, 4e-3, _adam(225, 1e-3, warmup=20), 1e-2),
}


def make_network(kind: str, responses: ResponseSet, policy: Array, folder: Path, seed: int = 0) -> Path:
    """Make a model and teach it a policy, by maximum likelihood, so that little is left for other texts.

    Args:
        kind: a key of `NETWORKS`.
        responses: what it says.
        policy: (X, A), met as nearly as the lessons go.
        folder: where it is put.
        seed: of the first weights.

    Returns:
        The folder.

    Raises:
        ValueError: an unknown kind, or a policy that does not fit.
    """
    network = choose(kind, NETWORKS, "network")
    shape = (responses.contexts, responses.responses)
    wanted = as_policies(policy, "policy")
    if wanted.shape != shape:
        raise ValueError(f"policy must have shape {shape}; found {wanted.shape}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(network.config(responses), attn_implementation="eager")
    batch = padded(responses.requests, 0, "cpu")
    shares = torch.tensor(wanted.ravel(), dtype=torch.float32)
    attach(model)
    optimiser = torch.optim.Adam(model.parameters(), lr=network.rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, network.lessons)
    for _ in range(network.lessons):
        loss = -(shares * sequence_log_probs(model, *batch)).sum() / responses.contexts
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch does not annotate it
        optimiser.step()
        schedule.step()
    with whole_folder(folder) as partial:
        model.save_pretrained(partial)
        responses.tokenizer.save_pretrained(partial)
    return folder

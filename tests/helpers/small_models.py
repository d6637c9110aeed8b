"""Small models that judge, their tokenizers' texts, and plain computations to compare them with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification, LlamaModel

from mnpo.llm.oracles.base import Question, TextOracle

CPU = torch.device("cpu")
SIZE = 32
LLAMA3 = (
    "{{ bos_token }}{% for message in messages %}{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'"
    " + message['content'] | trim + '<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
TWO_TURNS = [
    {"role": "user", "content": "Tell me about tea."},
    {"role": "assistant", "content": "Which one?"},
    {"role": "user", "content": "Green, and {first} of all."},
]
QUESTIONS = [
    Question("Describe honey.", "It is honey.", "Oh, honey! What fun, let us go!"),
    Question("Describe winter, the sea and a violin.", "Here is winter.", "A {second} thought."),
    Question(TWO_TURNS, "Wow, tea again? I love it! " * 3, "{context}"),
    Question("Say something about an old map.", "", "Yes."),
]


def config(**others: Any) -> LlamaConfig:
    shape = {"hidden_size": SIZE, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    return LlamaConfig(**{"vocab_size": 1040, "initializer_range": 0.3, **shape, **others})


def classifier(folder: Path, tokenizer: Any, **others: Any) -> LlamaForSequenceClassification:
    torch.manual_seed(0)
    network = LlamaForSequenceClassification(config(**others)).eval().requires_grad_(False)
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return network


def answers(oracle: TextOracle, questions: list[Question] = QUESTIONS) -> list[float]:
    found = dict(answer for batch in oracle.answer(questions, CPU) for answer in batch)
    assert sorted(found) == list(range(len(questions)))
    return [found[place] for place in range(len(questions))]


def conversation(tokenizer: Any, question: Question) -> str:
    prompt = question.prompt
    turns = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
    messages = [*turns, {"role": "assistant", "content": question.first}]
    return str(tokenizer.apply_chat_template(messages, tokenize=False))


def ids_of(tokenizer: Any, text: str) -> Tensor:
    return torch.tensor([tokenizer(text, add_special_tokens=False)["input_ids"]])


def states(body: nn.Module, ids: Tensor) -> Tensor:
    with torch.no_grad():
        return body(input_ids=ids).last_hidden_state[0]


def published(
    folder: Path, tokenizer: Any, architecture: str, heads: dict[str, Tensor], **keys: Any
) -> LlamaModel:
    """Save a Llama body and head weights as a published checkpoint names them."""
    torch.manual_seed(1)
    body = LlamaModel(config()).eval()
    tensors = {f"model.{name}": value for name, value in body.state_dict().items()} | heads
    folder.mkdir(exist_ok=True)
    torch.save(tensors, folder / "pytorch_model.bin")
    data = config(**keys).to_dict() | {"architectures": [architecture]}
    (folder / "config.json").write_text(json.dumps(data))
    tokenizer.save_pretrained(folder)
    return body


def language_model(folder: Path, tokenizer: Any) -> LlamaForCausalLM:
    torch.manual_seed(5)
    network = LlamaForCausalLM(config()).eval()
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return network

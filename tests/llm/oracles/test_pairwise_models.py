"""Preference models against plain computations."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from small_models import QUESTIONS, answers, classifier, ids_of, language_model, states
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from mnpo.llm.oracles.base import Question
from mnpo.llm.oracles.pairwise import PairwiseModel


def swapped(questions: list[Question]) -> list[Question]:
    return [Question(prompt, str(second), first) for prompt, first, second in questions]


def rlhflow(question: Question) -> str:
    """The question as the card of RLHFlow/pair-preference-model-LLaMA3-8B puts it together, by concatenation."""
    turns = (
        [{"role": "user", "content": question.prompt}]
        if isinstance(question.prompt, str)
        else question.prompt
    )
    context = "\n" + "".join("\n<turn> " + turn["role"] + "\n " + turn["content"] for turn in turns) + "\n"
    return f"[CONTEXT] {context} [RESPONSE A] {question.first} [RESPONSE B] {question.second} \n"


def share(network: nn.Module, ids: Tensor, tokenizer: Any, choices: str = "AB") -> float:
    with torch.no_grad():
        logits = network(input_ids=ids).logits[0, -1].double()
    first, second = (float(logits[tokenizer.convert_tokens_to_ids(choice)].exp()) for choice in choices)
    return first / (first + second)


def test_a_language_model_prefers_by_the_share_of_its_choice(
    tmp_path: Path, llama3: PreTrainedTokenizerFast
) -> None:
    """In both orders, with texts that look like places, and without BOS as RLHFlow's card."""
    network = language_model(tmp_path, llama3)
    for questions in (QUESTIONS, swapped(QUESTIONS)):
        expected = []
        for question in questions:
            turn = [{"role": "user", "content": rlhflow(question)}]
            text = llama3.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)
            expected.append(share(network, ids_of(llama3, text.replace("<bos>", "")), llama3))
        found = answers(PairwiseModel(name="p", model=str(tmp_path), batch_size=3), questions)
        assert found == pytest.approx(expected, abs=1e-5)
        assert max(expected) - min(expected) > 0.05


def test_an_own_question_and_own_choices(tmp_path: Path, llama3: PreTrainedTokenizerFast) -> None:
    network = language_model(tmp_path, llama3)
    template = "{second} or {first}? {nobody} {context} {second}"
    question = Question("Tea {first}?", "{second}", "{context}")
    turn = [{"role": "user", "content": "{context} or {second}? {nobody} Tea {first}? {context}"}]
    text = llama3.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)
    assert text.startswith("<bos>")
    oracle = PairwiseModel(name="p", model=str(tmp_path), template=template, choices=["1", "2"])
    assert answers(oracle, [question]) == pytest.approx(
        [share(network, ids_of(llama3, text), llama3, "12")], abs=1e-5
    )


@pytest.mark.parametrize("outputs", [1, 2])
def test_a_classifier_of_pairs(tmp_path: Path, llama3: PreTrainedTokenizerFast, outputs: int) -> None:
    network = classifier(tmp_path, llama3, num_labels=outputs)
    expected = []
    for question in QUESTIONS:
        turn = [{"role": "user", "content": rlhflow(question)}]
        text = llama3.apply_chat_template(turn, tokenize=False).replace("<bos>", "")
        logits = network.score(states(network.model, ids_of(llama3, text))[-1]).tolist()
        odds = math.exp(logits[0] - (logits[1] if outputs == 2 else 0.0))
        expected.append(odds / (1 + odds))
    found = answers(PairwiseModel(name="p", model=str(tmp_path), batch_size=3))
    assert found == pytest.approx(expected, abs=1e-5)


def test_a_long_question_loses_only_the_beginning_of_its_context(
    tmp_path: Path, llama3: PreTrainedTokenizerFast
) -> None:
    language_model(tmp_path, llama3)
    question = Question("Hooray for rain, bread, chess and the moon!", "Yes.", "No.")

    def whole(context: str) -> Tensor:
        turn = [{"role": "user", "content": f"{context}|Yes.|No."}]
        return ids_of(llama3, llama3.apply_chat_template(turn, tokenize=False, add_generation_prompt=True))[0]

    words = ids_of(llama3, str(question.prompt))[0]
    shorter = [whole(llama3.decode(words[start:])).tolist() for start in range(1, len(words))]
    longest = len(shorter[len(words) // 2])
    oracle = PairwiseModel(
        name="p", model=str(tmp_path), template="{context}|{first}|{second}", max_length=longest
    )
    (found,) = oracle.sequences(llama3, [question])
    assert found in shorter
    assert longest - 3 < len(found) <= longest
    with pytest.raises(
        ValueError, match=r"question 0 has \d+ tokens without its context; at most 5 are read"
    ):
        answers(PairwiseModel(name="p", model=str(tmp_path), max_length=5), [question])


def test_pairwise_arguments_that_are_refused(tmp_path: Path, llama3: PreTrainedTokenizerFast) -> None:
    language_model(tmp_path / "causal", llama3)
    classifier(tmp_path / "three", llama3, num_labels=3)
    causal = str(tmp_path / "causal")
    with pytest.raises(ValueError, match=r"each of choices must be one token; 'First' is \d"):
        answers(PairwiseModel(name="p", model=causal, choices=["First", "B"]))
    with pytest.raises(ValueError, match="choices must be two texts that differ"):
        PairwiseModel(name="p", model=causal, choices=["A", "A"])
    with pytest.raises(ValueError, match=r"found no \{second\}"):
        PairwiseModel(name="p", model=causal, template="{context} {first}")
    with pytest.raises(ValueError, match="has 3 outputs; it needs 1 or 2"):
        PairwiseModel(name="p", model=str(tmp_path / "three"))
    with pytest.raises(ValueError, match="question 0 has no second response"):
        answers(PairwiseModel(name="p", model=causal), [Question("Tea?", "Yes.")])

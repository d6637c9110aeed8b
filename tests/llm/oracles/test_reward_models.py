"""Reward models against plain computations, one conversation at a time and without padding."""

from __future__ import annotations

import copy
import gc
import json
import math
import random
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from small_models import CPU, QUESTIONS, answers, classifier, conversation, ids_of, states
from tokenizers.processors import TemplateProcessing
from transformers import LlamaForSequenceClassification, PreTrainedTokenizerFast

from mnpo.llm.oracles import texts
from mnpo.llm.oracles.base import Question
from mnpo.llm.oracles.reward import RewardModel


@pytest.mark.parametrize("learnt", ["no padding", "eos"])
@pytest.mark.parametrize("pads", ["<pad>", "<eos>"])
def test_a_batch_gives_what_each_conversation_gives_alone(
    tmp_path: Path, gemma: PreTrainedTokenizerFast, pads: str, learnt: str
) -> None:
    """Also where the template ends with EOS and EOS pads: the last token counts unless the model learnt otherwise."""
    tokenizer = copy.deepcopy(gemma)
    tokenizer.pad_token = pads
    tokenizer.chat_template += "{{ eos_token }}"
    eos = int(tokenizer.eos_token_id)
    network = classifier(tmp_path, tokenizer, num_labels=1, pad_token_id=eos if learnt == "eos" else None)
    expected = []
    for question in QUESTIONS:
        ids = ids_of(tokenizer, conversation(tokenizer, question))
        assert ids[0, -1] == eos
        last = -2 if learnt == "eos" else -1
        expected.append(float(states(network.model, ids)[last] @ network.score.weight[0]))
    alone = answers(RewardModel(name="r", model=str(tmp_path), batch_size=1))
    together = answers(RewardModel(name="r", model=str(tmp_path), batch_size=3))
    assert alone == pytest.approx(expected, abs=1e-5)
    assert together == pytest.approx(expected, abs=1e-5)
    assert max(expected) - min(expected) > 0.1


def test_permuted_questions_have_permuted_answers(tmp_path: Path, gemma: PreTrainedTokenizerFast) -> None:
    classifier(tmp_path, gemma, num_labels=1)
    oracle = RewardModel(name="r", model=str(tmp_path), batch_size=2)
    whole = answers(oracle)
    for seed in range(3):
        order = random.Random(seed).sample(range(len(QUESTIONS)), len(QUESTIONS))
        permuted = answers(oracle, [QUESTIONS[place] for place in order])
        assert permuted == pytest.approx([whole[place] for place in order], abs=1e-5)


def test_of_several_outputs_a_rule_says_which_is_the_reward(
    tmp_path: Path, gemma: PreTrainedTokenizerFast
) -> None:
    network = classifier(tmp_path, gemma, num_labels=3)
    table = torch.stack(
        [network.score(states(network.model, ids_of(gemma, conversation(gemma, q)))[-1]) for q in QUESTIONS]
    ).detach()
    weights = [0.5, -2.0, 1.0]
    for output, expected in ((2, table[:, 2]), (0, table[:, 0]), (weights, table @ torch.tensor(weights))):
        found = answers(RewardModel(name="r", model=str(tmp_path), output=output))
        assert found == pytest.approx(expected.tolist(), abs=1e-5)
    for wrong in (None, 3, -1, True, [1.0, 2.0], [1.0, 2.0, math.nan]):
        with pytest.raises(
            ValueError, match="reward model r has 3 outputs; give output: an index, or 3 weights"
        ):
            RewardModel(name="r", model=str(tmp_path), output=wrong)  # type: ignore[arg-type]  # that is the mistake


def test_a_long_conversation_loses_its_beginning(tmp_path: Path, gemma: PreTrainedTokenizerFast) -> None:
    network = classifier(tmp_path, gemma, num_labels=1)
    ids = ids_of(gemma, conversation(gemma, QUESTIONS[2]))
    short = torch.cat([ids[:, :1], ids[:, -19:]], 1)
    assert short[0, 0] == gemma.bos_token_id
    expected = float(states(network.model, short)[-1] @ network.score.weight[0])
    found = answers(RewardModel(name="r", model=str(tmp_path), max_length=20), [QUESTIONS[2]])
    assert found == pytest.approx([expected], abs=1e-5)


def test_one_bos_whoever_writes_it(gemma: PreTrainedTokenizerFast) -> None:
    adds = copy.deepcopy(gemma)
    adds._tokenizer.post_processor = TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 2)])
    assert adds("a")["input_ids"][0] == 2
    for tokenizer, text, count in (
        (adds, "<bos>tea", 1),
        (adds, "tea", 1),
        (gemma, "<bos>tea", 1),
        (gemma, "tea", 0),
    ):
        (ids,) = texts.token_ids(tokenizer, [text])
        assert ids == [2] * count + gemma("tea", add_special_tokens=False)["input_ids"]


def test_what_cannot_be_answered_is_said(tmp_path: Path, gemma: PreTrainedTokenizerFast) -> None:
    classifier(tmp_path, gemma, num_labels=1)
    oracle = RewardModel(name="r", model=str(tmp_path))
    system = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Tea?"}]
    with pytest.raises(ValueError, match=r"r: question 1: the chat template refuses it: System role"):
        answers(oracle, [QUESTIONS[0], Question(system, "Yes.")])
    with pytest.raises(ValueError, match=r"question 0: a text that is not valid Unicode"):
        answers(oracle, [Question("Tea?", "\ud800")])
    weights = load_file(tmp_path / "model.safetensors")
    for value, message in (
        (math.nan, r"has weights that are not finite: score\.weight"),
        (3e38, r"r: the answer to question \d is not finite"),
    ):
        weights["score.weight"][0] = value
        save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
        with pytest.raises(ValueError, match=message):
            answers(oracle)
    plain = copy.deepcopy(gemma)
    plain.chat_template = None
    shutil.rmtree(tmp_path)
    classifier(tmp_path, plain, num_labels=1)
    with pytest.raises(ValueError, match="no chat template"):
        answers(RewardModel(name="r", model=str(tmp_path)))


def test_the_key_is_what_answers_depend_on(tmp_path: Path, gemma: PreTrainedTokenizerFast) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    classifier(here, gemma, num_labels=1)
    shutil.copytree(here, there)
    key = RewardModel(name="r", model=str(here)).key()
    assert key == RewardModel(name="s", model=str(there), batch_size=2, scale=3).key()
    assert key != RewardModel(name="r", model=str(here), max_length=30).key()
    (there / "chat_template.jinja").write_text("{{ messages }}")
    assert key != RewardModel(name="r", model=str(there)).key()
    json.dumps(key)


def test_the_model_is_freed_when_no_more_answers_are_wanted(
    tmp_path: Path, gemma: PreTrainedTokenizerFast
) -> None:
    def alive() -> int:
        gc.collect()
        return sum(type(thing) is LlamaForSequenceClassification for thing in gc.get_objects())

    classifier(tmp_path, gemma, num_labels=1)
    before = alive()
    batches = RewardModel(name="r", model=str(tmp_path), batch_size=1).answer(QUESTIONS, CPU)
    assert alive() == before
    ((place, _),) = next(batches)
    assert place == 2, "the longest comes first"
    assert alive() == before + 1
    assert torch.is_grad_enabled()
    batches.close()  # type: ignore[attr-defined]  # a generator
    assert alive() == before

"""Reward and preference models against plain computations, one conversation at a time and without padding."""

from __future__ import annotations

import copy
import gc
import json
import math
import random
import shutil
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers.processors import TemplateProcessing
from torch import Tensor, nn
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    LlamaModel,
    PreTrainedTokenizerFast,
)

from mnpo.llm import tiny
from mnpo.llm.oracles import texts
from mnpo.llm.oracles.base import Question, TextOracle
from mnpo.llm.oracles.heads import TURN, detect
from mnpo.llm.oracles.pairwise import PairwiseModel
from mnpo.llm.oracles.reward import RewardModel

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


@pytest.fixture(scope="module")
def gemma() -> PreTrainedTokenizerFast:
    return tiny.tokenizer()


@pytest.fixture(scope="module")
def llama3(gemma: PreTrainedTokenizerFast) -> PreTrainedTokenizerFast:
    """With the marks and the chat template of Llama-3, and a CLS token."""
    made = copy.deepcopy(gemma)
    marks = ["<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
    made.add_special_tokens({"cls_token": "<|cls|>", "additional_special_tokens": marks})
    made.chat_template = LLAMA3
    return made


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


# --- reward models ----------------------------------------------------------------------------------------------


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


def armorm_heads() -> dict[str, Tensor]:
    torch.manual_seed(2)
    sizes = [SIZE, 24, 24, 5]
    layers = {}
    for place, (before, after) in enumerate(pairwise(sizes)):
        layers[f"gating.layers.{place}.weight"] = torch.randn(after, before)
        layers[f"gating.layers.{place}.bias"] = torch.randn(after)
    return {
        "regression_layer.weight": torch.randn(5, SIZE),
        "reward_transform_matrix": torch.randn(5, 5),
        "gating.logit_scale": torch.tensor([1.7]),
        **layers,
    }


ARMORM = {"num_objectives": 5, "gating_temperature": 3, "gating_hidden_dim": 24, "gating_n_hidden": 2}


def test_armorm_weighs_objectives_by_the_prompt(tmp_path: Path, llama3: PreTrainedTokenizerFast) -> None:
    heads = armorm_heads()
    body = published(tmp_path, llama3, "LlamaForRewardModelWithGating", heads, **ARMORM)
    expected = []
    for question in QUESTIONS:
        text = conversation(llama3, question)
        hidden = states(body, ids_of(llama3, text))
        gate = hidden[ids_of(llama3, text[: text.rindex(TURN)]).shape[1]]
        for place in range(2):
            gate = (
                heads[f"gating.layers.{place}.weight"] @ gate + heads[f"gating.layers.{place}.bias"]
            ).clamp(min=0)
        gate = heads["gating.layers.2.weight"] @ gate + heads["gating.layers.2.bias"]
        weights = torch.softmax(gate / 3, 0) * 1.7
        rewards = (heads["regression_layer.weight"] @ hidden[-1]) @ heads["reward_transform_matrix"]
        expected.append(float(weights @ rewards))
    found = answers(RewardModel(name="armo", model=str(tmp_path), batch_size=3))
    assert found == pytest.approx(expected, rel=1e-4, abs=1e-4)


def test_athene_reads_the_appended_cls(tmp_path: Path, llama3: PreTrainedTokenizerFast) -> None:
    """From sharded safetensors; a CLS in the response is not the one that counts."""
    torch.manual_seed(3)
    heads = {"v_head.weight": torch.randn(1, SIZE)}
    body = published(tmp_path, llama3, "CustomAutoModelForSequenceClassification", heads)
    tensors = torch.load(tmp_path / "pytorch_model.bin")
    (tmp_path / "pytorch_model.bin").unlink()
    shards = {
        "model-00001-of-00002.safetensors": list(tensors)[:9],
        "model-00002-of-00002.safetensors": list(tensors)[9:],
    }
    for file, names in shards.items():
        save_file({name: tensors[name] for name in names}, tmp_path / file, {"format": "pt"})
    index = {"metadata": {}, "weight_map": {name: file for file, names in shards.items() for name in names}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    questions = [*QUESTIONS, Question("Tea?", "Tea <|cls|> is fine.")]
    expected = [
        float(
            states(body, ids_of(llama3, conversation(llama3, q) + "<|cls|>"))[-1] @ heads["v_head.weight"][0]
        )
        for q in questions
    ]
    found = answers(RewardModel(name="athene", model=str(tmp_path), batch_size=4), questions)
    assert found == pytest.approx(expected, abs=1e-5)


def drop(name: str) -> Callable[[dict[str, Tensor]], None]:
    return lambda tensors: tensors.__delitem__(name)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (drop("regression_layer.weight"), "has no reward head: regression_layer.weight missing"),
        (drop("gating.logit_scale"), "has no reward head: gating.logit_scale missing"),
        (
            drop("model.layers.1.mlp.up_proj.weight"),
            "lacks weights: model.layers.1.mlp.up_proj.weight missing",
        ),
        (lambda t: t.update({"gating.layers.3.bias": torch.ones(5)}), "does not: gating.layers.3.bias"),
        (
            lambda t: t.update({"regression_layer.weight": torch.ones(6, SIZE)}),
            r"regression_layer.weight is \(6, 32\)",
        ),
    ],
)
def test_weights_that_do_not_fit_are_refused(
    tmp_path: Path, llama3: PreTrainedTokenizerFast, change: Callable[[dict[str, Tensor]], None], reason: str
) -> None:
    published(tmp_path, llama3, "LlamaForRewardModelWithGating", armorm_heads(), **ARMORM)
    tensors = torch.load(tmp_path / "pytorch_model.bin")
    change(tensors)
    torch.save(tensors, tmp_path / "pytorch_model.bin")
    with pytest.raises(ValueError, match=reason):
        answers(RewardModel(name="armo", model=str(tmp_path)))


def test_a_language_model_is_no_reward_model(tmp_path: Path, gemma: PreTrainedTokenizerFast) -> None:
    LlamaForCausalLM(config(num_labels=1)).save_pretrained(tmp_path)
    gemma.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="found the architecture LlamaForCausalLM; known are"):
        RewardModel(name="r", model=str(tmp_path))
    with pytest.raises(ValueError, match=r"has no reward head: score\.weight missing"):
        answers(RewardModel(name="r", model=str(tmp_path), head="skywork"))
    with pytest.raises(ValueError, match="did you mean 'armorm'"):
        RewardModel(name="r", model=str(tmp_path), head="armo-rm")


def test_the_configuration_says_the_head() -> None:
    known = {
        "LlamaForRewardModelWithGating": "armorm",
        "AtheneForSequenceClassification": "athene",
        "CustomAutoModelForSequenceClassification": "athene",
        "Gemma2ForSequenceClassification": "sequence-classification",
    }
    for architecture, head in known.items():
        assert detect(config(architectures=[architecture]), False) == head
    code = config(
        architectures=["OddReward"], auto_map={"AutoModelForSequenceClassification": "odd.OddReward"}
    )
    assert detect(code, True) == "sequence-classification"
    with pytest.raises(ValueError, match="OddReward"):
        detect(code, False)


REMOTE = """
from types import SimpleNamespace
from torch import nn
from transformers import LlamaModel, LlamaPreTrainedModel

class OddReward(LlamaPreTrainedModel):
    def __init__(self, config):
        super().__init__(config)
        self.model = LlamaModel(config)
        self.odd = nn.Linear(config.hidden_size, 1, bias=False)
        self.post_init()

    def forward(self, input_ids, attention_mask):
        hidden = self.model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        return SimpleNamespace(score=self.odd(hidden[:, 0])[:, 0] + attention_mask.sum(1), logits=hidden[:, 0])
"""


def test_trusted_code_gives_its_score(
    tmp_path: Path, llama3: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    torch.manual_seed(4)
    heads, code = (
        {"odd.weight": torch.randn(1, SIZE)},
        {"AutoModelForSequenceClassification": "odd.OddReward"},
    )
    body = published(tmp_path / "model", llama3, "OddReward", heads, auto_map=code)
    (tmp_path / "model" / "odd.py").write_text(REMOTE)
    with pytest.raises(ValueError, match="OddReward"):
        RewardModel(name="odd", model=str(tmp_path / "model"))
    expected = []
    for question in QUESTIONS:
        ids = ids_of(llama3, conversation(llama3, question))
        expected.append(float(states(body, ids)[0] @ heads["odd.weight"][0]) + ids.shape[1])
    oracle = RewardModel(name="odd", model=str(tmp_path / "model"), trust_remote_code=True)
    assert answers(oracle) == pytest.approx(expected, abs=1e-4)


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
    weights["score.weight"][0, 0] = math.nan
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match=r"r: the answer to question \d is not finite"):
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


# --- preference models ------------------------------------------------------------------------------------------


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


def language_model(folder: Path, tokenizer: Any) -> LlamaForCausalLM:
    torch.manual_seed(5)
    network = LlamaForCausalLM(config()).eval()
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return network


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
    (found,) = oracle._sequences(llama3, [question])
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

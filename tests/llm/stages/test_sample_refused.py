"""What cannot be sampled, annotated and fitted together is refused before anything is paid for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from prompt_files import configured, written
from small_tokenizers import with_other_ids

from mnpo.llm.models import tiny
from mnpo.llm.stages.registry import run_here


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["rows=[]"], "has no prompt that can be used: 0 rows read"),
        (['rows=[{"prompt": ""}]'], "has no prompt that can be used: 1 rows read, 0 kept, 1 dropped: empty"),
        (['rows=[{"prompt": "a b c"}]', "max_prompt_length=3"], "1 dropped: too long"),
        (["prompt_dataset_name=nowhere.jsonl"], "no such file"),
        (["prompt_part=[1,200]"], "cannot be split over 200 iterations"),
        (["eval_prompts=100"], "eval_prompts must leave prompts to train on; found 100 of 100"),
        (["prompt_part=[1]"], "prompt_part must be [t, T]"),
        (["temperature=.nan"], "temperature must be a finite number"),
        (["oracle={kind: population, members: [3]}"], "a member must be a name or keys and values; found 3"),
        (["oracle={kind: synthetic, traits: forms, wins: abc}"], "must be finite numbers"),
        (["oracle={kind: synthetic, traits: forms, utilities: {brief: .nan}}"], "utilities.brief must be a finite number"),
        (["oracle={kind: judge, model: m, base_url: 'http://me:secret@localhost/v1'}"], "must not hold a password"),
        (["num_generations=0"], "num_generations must be at least 1; found 0"),
        (["num_generations=1"], "num_generations must be at least 2 to make pairs of kind all; found 1"),
        (["num_generations=2"], "num_generations must be at least 3 for win rates against the policy itself"),
        (["pairing=third", "target=label"], "pairing=third needs target=win-rate"),
        (["group_size=2", "target=label"], "group_size above 1 needs target=win-rate"),
        (["target=reward"], "needs oracles that give rewards; styles tells probabilities"),
        (["rule={name: egpo, eta: 1, tau: 0.1}"], "rule egpo credits the win rate against a policy that nobody plays"),
        (["oracle=style"], "unknown oracle 'style'; did you mean 'styles'?"),
        (["oracle={kind: rewards}"], "unknown kind of oracle 'rewards'; did you mean 'reward'?"),
        (["oracle={kind: population, members: []}"], "needs members"),
        (["oracle={kind: synthetic, traits: forms, utilities: {short: 1}}"], "unknown trait of forms 'short'"),
        (["oracle={kind: synthetic, traits: forms, wins: [[0.5, 0.6], [0.4, 0.5]]}"], "wins must be 3 × 3"),
        (["sampler=vllm"], "needs the extra: pip install 'mnpo"),
        (["top_p=0"], "top_p must be above 0 and at most 1; found 0"),
        (["max_length=10"], "which leaves no room within max_length 10"),
    ],
)  # fmt: skip
def test_what_cannot_be_sampled_is_refused_in_one_line(
    overrides: list[str], message: str, tmp_path: Path
) -> None:
    if overrides[0].startswith("rows="):
        overrides[0] = written(tmp_path, json.loads(overrides[0].removeprefix("rows=")))
    with pytest.raises(ValueError, match=r".") as caught:
        run_here("sample", configured(tmp_path, *overrides))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_opponent_with_other_tokens_is_not_sampled(tmp_path: Path) -> None:
    """Its responses would be read as other words than it wrote."""
    foreign = with_other_ids(tiny.build("tiny:gpt2:1", tmp_path))
    given = [
        "model_name_or_path=tiny:gpt2",
        "rule={name: ht-mnpo, eta: 1, tau: 0.1}",
        f"opponent_models=[{foreign}]",
    ]
    with pytest.raises(
        ValueError, match=r"the tokenizer of the opponent-1 model .* does not match the policy's"
    ):
        run_here("sample", configured(tmp_path, *given))

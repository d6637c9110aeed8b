"""`mnpo llm score`: whose log-probabilities are computed, kept by content, and of which columns."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import load_from_disk
from fits import fit, score, small
from small_tokenizers import with_other_ids

from mnpo.llm.data import made
from mnpo.llm.models import tiny
from mnpo.llm.models.loading import fingerprint, load_model, load_tokenizer
from mnpo.llm.training.anchors import anchor_weights
from mnpo.llm.training.requests import Requests
from mnpo.llm.training.tasks import Task


def test_td_mnpo_scores_the_policies_that_its_rule_weighs(tmp_path: Path) -> None:
    """Three-opponent TD-MNPO scores reference, current and two past policies, and weights them as the rule says."""
    folders = [tiny.build(f"tiny:gemma2:{seed}", tmp_path) for seed in (1, 2, 3)]
    config = small(
        tmp_path,
        f"reference_model_name_or_path={folders[0]}",
        f"past_models=[{folders[1]},{folders[2]}]",
        "rule.players=4", "rule.eta=2", "rule.tau=0.1", "rule.weights=[0.5,0.3,0.2]",
    )  # fmt: skip
    rule = config.update.the_rule()
    assert rule is not None
    assert anchor_weights(rule, config.model.policies()) == pytest.approx(
        {"reference": 0.2, "current": 0.4, "past-1": 0.24, "past-2": 0.16}
    )
    assert Task.configured(config.update).anchors(config.model.policies()) == [
        "reference",
        "current",
        "past-1",
        "past-2",
    ]
    record = score(config)
    assert [row.anchor for row in record.anchors] == ["reference", "current", "past-1", "past-2"]
    assert len({row.mean_chosen for row in record.anchors}) == 4
    assert all(row.reused == 0 for row in record.anchors)
    again = score(config)
    assert all(row.scored == 0 for row in again.anchors)
    # what is older than the past policies given is the last of them; without any it is the policy itself
    short = small(tmp_path, "rule.players=4", f"past_models=[{folders[1]}]")
    assert set(anchor_weights(short.update.the_rule(), short.model.policies())) == {
        "reference",
        "current",
        "past-1",
    }
    alone = small(tmp_path, "rule.players=4")
    assert set(anchor_weights(alone.update.the_rule(), alone.model.policies())) == {"reference", "current"}


def test_ht_and_eo_mnpo_score_players_and_external_models(tmp_path: Path) -> None:
    """HT-MNPO is anchored on the other players, EO-MNPO on models with tokenizers of their own."""
    other, third = (tiny.build(f"tiny:gemma2:{seed}", tmp_path) for seed in (1, 2))
    ht = small(tmp_path, "rule={name: ht-mnpo, eta: 2, tau: 0.1}", f"opponent_models=[{other},{third}]")
    rule = ht.update.the_rule()
    assert rule is not None
    assert anchor_weights(rule, ht.model.policies()) == pytest.approx(
        {"reference": 0.2, "opponent-1": 0.4, "opponent-2": 0.4}
    )
    foreign = with_other_ids(tiny.build("tiny:llama", tmp_path))
    eo = small(
        tmp_path,
        "rule={name: eo-mnpo, eta: 2, tau: 0.1, external_tau: [0.2]}",
        f"external_models=[{foreign}]",
    )
    record = fit(eo)
    assert [row.anchor for row in record.anchors] == ["reference", "external-1", "current"]
    data = load_from_disk(str(tmp_path / "run/scored"))["train"]
    row = data[0]
    encode = load_tokenizer(foreign)
    prompt = encode.apply_chat_template(json.loads(row["prompt"]), tokenize=False, add_generation_prompt=True)
    text = f"{prompt}{row['chosen']}<end_of_turn>"
    ids = encode(text, add_special_tokens=False, return_tensors="pt")["input_ids"]
    start = len(encode(prompt, add_special_tokens=False)["input_ids"])
    with torch.no_grad():
        logps = load_model(foreign)(input_ids=ids).logits.log_softmax(-1)[0]
    expected = sum(float(logps[t - 1, ids[0, t]]) for t in range(start, ids.shape[1]))
    assert row["external-1_chosen"] == pytest.approx(expected, abs=1e-3)
    error = mnpo_error(tmp_path, f"reference_model_name_or_path={foreign}")
    assert "does not match the policy's" in error
    assert "external_models" in error


def mnpo_error(tmp_path: Path, *overrides: str) -> str:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 the caller looks at the message
        fit(small(tmp_path, *overrides, f"output_dir={tmp_path / 'refused'}"))
    return str(caught.value)


def test_scores_belong_to_content(tmp_path: Path) -> None:
    """A changed model, a damaged file and a foreign store are computed again; moved files are not."""
    folder = tiny.build("tiny:gpt2", tmp_path)
    config = small(tmp_path, f"model_name_or_path={folder}", "max_samples=30", "eval_size=5")
    first = score(config).anchors[0]
    copied = shutil.copytree(folder, tmp_path / "elsewhere")
    assert fingerprint(copied) == fingerprint(folder)
    moved = score(small(tmp_path, f"model_name_or_path={copied}", "max_samples=30", "eval_size=5"))
    assert moved.anchors[0].scored == 0
    (file,) = (tmp_path / "run/scores").glob("*/*.blocks")
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1  # a bit flips
    file.write_bytes(bytes(content))
    assert score(config).anchors[0].scored == 0, "the pairs with their scores are still there"
    shutil.rmtree(tmp_path / "run/scored")
    damaged = score(config).anchors[0]
    assert 0 < damaged.scored <= first.scored
    assert damaged.mean_chosen == pytest.approx(first.mean_chosen, rel=1e-6)
    other = tiny.build("tiny:gpt2:9", tmp_path)
    strange = small(tmp_path, f"model_name_or_path={other}", "max_samples=30", "eval_size=5")
    found = score(strange).anchors[0]
    assert found.scored == first.scored
    stores = sorted((tmp_path / "run/scores").iterdir())
    mine = next(s for s in stores if s != file.parent)
    for kept in mine.glob("*.blocks"):
        kept.unlink()
    shutil.copy(file, mine)  # scores of another model under this one's name
    shutil.rmtree(tmp_path / "run/scored")
    assert score(strange).anchors[0].scored == first.scored
    assert len(set(Requests.of([([1, 2], [3]), ([1], [2, 3])]).digests.tolist())) == 2


def test_what_is_scored_is_neither_read_nor_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unless anything that it depends on has changed."""
    given = ("objective=kto", "max_samples=40", "eval_size=8", "model_name_or_path=tiny:gpt2")
    first = score(small(tmp_path, *given))
    (tmp_path / "other").mkdir()
    score(small(tmp_path / "other", *given, "max_samples=30"))
    changed = score(small(tmp_path / "other", *given))
    assert changed.manifest == first.manifest
    assert changed.anchors[0].scored > 0
    stamps = {file: file.stat().st_mtime_ns for file in (tmp_path / "run/scored").rglob("*")}
    monkeypatch.setattr(Requests, "in_table", None)
    again = score(small(tmp_path, *given))
    assert (again.manifest, again.rows) == (first.manifest, first.rows)
    assert [(one.scored, one.reused) for one in again.anchors] == [(0, one.scored) for one in first.anchors]
    assert {file: file.stat().st_mtime_ns for file in (tmp_path / "run/scored").rglob("*")} == stamps


def test_scored_pairs_that_are_damaged_are_written_again(tmp_path: Path) -> None:
    config = small(tmp_path)
    score(config)
    rows = list(load_from_disk(str(tmp_path / "run/scored"))["train"])
    (file,) = (tmp_path / "run/scored/train").glob("*.arrow")
    for damaged in (file.read_bytes()[: file.stat().st_size // 2], None):
        file.unlink() if damaged is None else file.write_bytes(damaged)
        assert all(one.scored == 0 for one in score(config).anchors)
        assert list(load_from_disk(str(tmp_path / "run/scored"))["train"]) == rows


def test_held_out_pairs_must_have_the_columns(tmp_path: Path) -> None:
    bare = [{key: row[key] for key in ("prompt", "chosen", "rejected")} for row in made.pairs(30)]
    file = tmp_path / "held-out.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in bare))
    with pytest.raises(ValueError, match="preference must be in both"):
        score(small(tmp_path, f"eval_dataset_name={file}"))
    with pytest.raises(ValueError, match="needs the columns win_chosen and win_rejected"):
        score(small(tmp_path, f"eval_dataset_name={file}", "target=win-rate"))
    file.write_text("".join(json.dumps({**row, "weight": 2.0}) + "\n" for row in made.pairs(30)))
    with pytest.raises(ValueError, match="weight must be in both"):
        score(small(tmp_path, f"eval_dataset_name={file}"))


def test_an_iteration_trains_on_the_pairs_of_its_own_prompts(tmp_path: Path) -> None:
    """Prompts stand as texts and as messages; those of other iterations, and held-out ones, are left out and counted."""
    rows: list[dict[str, Any]] = [
        {"prompt": f"Tell me about number {place}.", "chosen": "Yes.", "rejected": "No, never."}
        for place in range(12)
    ]
    for row in rows[::2]:
        row["prompt"] = [{"role": "user", "content": row["prompt"]}]
        row |= {side: [{"role": "assistant", "content": row[side]}] for side in ("chosen", "rejected")}
    seen: list[str] = []
    for part in (1, 2):
        home = tmp_path / str(part)
        home.mkdir()
        given = [
            "prompt_dataset_name=null",
            f"prompt_part=[{part},2]",
            "eval_prompts=2",
            "eval_size=0",
            "max_samples=null",
        ]
        record = score(small(home, *given, data=rows))
        assert record.rows["train"]["dropped"] == {"prompt of another iteration": 5, "held-out prompt": 2}
        data = load_from_disk(str(home / "run/scored"))["train"]
        seen += [json.dumps(json.loads(prompt)) for prompt in data["prompt"]]
    assert len(seen) == len(set(seen)) == 10

"""Players and oracles of a run: heterogeneous, external, populations; in one process and in two."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from datasets import load_from_disk
from loops import SMALL, run
from transformers import AutoModelForCausalLM

from mnpo.llm.data import made
from mnpo.llm.models import tiny
from runs import mnpo

PLAYERS = (
    "rule={name: ht-mnpo, eta: 4, tau: 0.05, anchor: %s}",
    "players=[{name: terse, oracle: {name: short, traits: forms, utilities: {brief: 9}}}, "
    "{name: gruff, learning_rate: 5e-4, oracle: {name: rude, traits: styles, utilities: {gruff: 2}}}]",
    "iterations=1",
)


@pytest.mark.parametrize("anchor", ["opponents", "own"])
def test_players_are_paired_anchored_and_judged_as_asked(anchor: str, base: Path, tmp_path: Path) -> None:
    """Each against the other's responses, under its own oracle, anchored as asked; all oracles judge all players."""
    folder = tmp_path / "run"
    record = run(base, folder, PLAYERS[0] % anchor, *PLAYERS[1:])
    assert [row.player for row in record.iterations] == ["terse", "gruff"]
    for row, other in zip(record.iterations, ("gruff", "terse"), strict=True):
        assert set(row.win_rate) == {"reference", "previous", other}
        assert set(row.win_rate[other]) == {"terse", "gruff"}
        fitted = json.loads((Path(row.model).parent / "results.json").read_text())
        named = {"opponents": "opponent-1", "own": "current"}[anchor]
        assert [entry["anchor"] for entry in fitted["anchors"]] == ["reference", named]
    first, second = (row.win_rate for row in record.iterations)
    assert first["gruff"]["terse"].mean == pytest.approx(1 - second["terse"]["terse"].mean)
    # Both start alike, and still draw responses of their own.
    answers = []
    for player in ("terse", "gruff"):
        sampled = json.loads((folder / f"iteration-1/{player}/samples.json").read_text())
        assert [entry["name"] for entry in sampled["models"]] == [
            "policy",
            {"terse": "gruff", "gruff": "terse"}[player],
        ]
        answers.append(list(load_from_disk(sampled["folder"])))
    assert answers[0][0]["responses"] == answers[1][0]["opponents"][0]
    assert answers[0][0]["responses"] != answers[1][0]["responses"]
    assert sampled["models"][1]["drawn"] == 0  # of the other player, who drew them


def test_players_move_towards_what_they_are_paid_for(base: Path, tmp_path: Path) -> None:
    """The sign of the whole loop: two players with opposite tastes part, each preferred by its own oracle."""
    record = run(
        base, tmp_path / "run", PLAYERS[0] % "own", *PLAYERS[1:], "max_steps=40", "prompt_dataset_name=tiny:prompts:60",
        "eval_prompts=20", "eval_generations=4", "per_device_generation_batch_size=64",
        "players=[{name: kind, oracle: {name: k, traits: styles, utilities: {gruff: -3}}}, "
        "{name: gruff, oracle: {name: r, traits: styles, utilities: {gruff: 3}}}]",
    )  # fmt: skip
    kind, gruff = (row.win_rate for row in record.iterations)
    assert kind["gruff"]["kind"].low > 0.55
    assert gruff["kind"]["gruff"].low > 0.55
    assert gruff["reference"]["gruff"].low > 0.5
    # Each has its exploitability under its own oracle, and no gap under another player's.
    for row, other in zip(record.iterations, ("gruff", "kind"), strict=True):
        gap = row.gap[row.player]
        assert gap is not None
        assert (gap.measure, gap.players, row.gap[other]) == ("exploitability", 2, None)
        assert -0.05 < gap.split.low < gap.plug_in.high < 0.3


def test_external_anchors_and_given_pairs_are_used(base: Path, tmp_path: Path) -> None:
    """Iteration 1 on pairs that are there already; an external policy as an anchor throughout."""
    external = tiny.build("tiny:llama", tmp_path)
    record = run(
        base, tmp_path / "run", "first_pairs=dataset", "dataset_name=tiny:pairs:40", "eval_size=8",
        "rule={name: eo-mnpo, eta: 2, tau: 0.1, external_tau: [0.2]}", f"external_models=[{external}]",
    )  # fmt: skip
    rows = json.loads((tmp_path / "run/iteration-1/results.json").read_text())["rows"]["train"]
    assert record.iterations[0].pairs == rows["kept"] - 8 > 20
    assert not (tmp_path / "run/iteration-1/samples.json").exists()
    assert (tmp_path / "run/iteration-2/samples.json").exists()
    for t in (1, 2):
        fitted = json.loads((tmp_path / f"run/iteration-{t}/results.json").read_text())
        assert "external-1" in [entry["anchor"] for entry in fitted["anchors"]]


def test_annotators_of_a_population_are_told_apart(base: Path, tmp_path: Path) -> None:
    """n = 4: group win rates of annotators, each told apart in the evaluation."""
    members = [{"name": style, "traits": "styles", "utilities": {style: 3}, "weight": w}
               for style, w in (("plain", 5), ("formal", 4), ("playful", 3))]  # fmt: skip
    oracle = json.dumps({"kind": "population", "name": "people", "members": members})
    file = tmp_path / "mine.jsonl"
    file.write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in made.prompts(20)))
    arguments = (
        f"oracle={oracle}", "group_size=3", "num_generations=6", "eval_generations=8", "iterations=1",
        f"prompt_dataset_name={file}",
    )  # fmt: skip
    record = run(base, tmp_path / "run", *arguments)
    rates = record.iterations[0].win_rate["reference"]
    assert set(rates) == {"people", "people/plain", "people/formal", "people/playful"}
    mean = sum(w * rates[f"people/{m['name']}"].mean for w, m in zip((5, 4, 3), members, strict=True)) / 12
    assert rates["people"].mean == pytest.approx(mean)
    gap = record.iterations[0].gap["people"]
    assert gap is not None
    assert (gap.measure, gap.players, gap.responses) == ("NashConv", 4, 8)
    assert gap.plug_in.high > 0
    file.write_text(file.read_text() + '{"prompt": "One more?"}\n')
    with pytest.raises(ValueError, match=r"the content of data prompt_dataset_name"):
        run(base, tmp_path / "run", *arguments)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["ddp", "zero3"])
def test_two_processes_make_the_same_run(mode: str, base: Path, tmp_path: Path) -> None:
    """Every stage shared by two processes: the same samples and answers, weights that differ by rounding alone."""
    one = run(base, tmp_path / "one", "iterations=1")
    overrides = [o for o in SMALL if not o.startswith(("iterations", "per_device_train"))]
    found = mnpo(
        "train", "tiny", f"model_name_or_path={base}", f"output_dir={tmp_path / 'two'}", *overrides, "iterations=1",
        "per_device_train_batch_size=4", "--num-processes", "2", "--accelerate", mode, "--json",
    )  # fmt: skip
    two = json.loads(found)
    folders = one.iterations[0].model, two["iterations"][0]["model"]
    a, b = (AutoModelForCausalLM.from_pretrained(folder) for folder in folders)
    for first, second in zip(a.parameters(), b.parameters(), strict=True):
        assert (first - second).abs().max() < 1e-4
    for what in ("samples", "annotations"):
        whole, other = (
            json.loads((tmp_path / f"{run}/iteration-1/{what}.json").read_text()) for run in ("one", "two")
        )
        assert whole["manifest"] == other["manifest"]

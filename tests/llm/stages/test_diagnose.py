"""The diagnosis of a model's samples."""

from __future__ import annotations

from pathlib import Path

import pytest

from mnpo.common.seals import read_sealed
from mnpo.llm.config import Config, load
from mnpo.llm.stages.annotators import annotators
from mnpo.llm.stages.registry import run_here


def configured(model: Path, folder: Path, *more: str, preset: str = "tiny-population") -> Config:
    return load(preset, [f"model_name_or_path={model}", f"output_dir={folder}", "num_generations=6", *more])


def test_a_population_is_diagnosed_and_training_finds_samples_and_answers(base: Path, tmp_path: Path) -> None:
    config = configured(base, tmp_path)
    found = run_here("diagnose", config)
    *members, population = found.diagnosis["transitivity"]
    assert [one["annotator"] for one in members] == ["ann", "bob", "eve"]
    assert all(one["cyclicity"]["mean"] == pytest.approx(0, abs=1e-12) for one in members)
    assert population["cyclicity"]["mean"] > 0
    assert [one["players"] for one in found.diagnosis["equilibria"]] == [2, 3, 4, 6]
    assert 0 < found.diagnosis["disagreement"]["mean"] < 1
    assert read_sealed(tmp_path / "diagnosis.json") == found.as_dict()
    assert (tmp_path / "diagnosis.png").stat().st_size
    assert bool(found.cycles) == (population["triples"]["mean"] > 0)
    assert run_here("sample", config).models[0].drawn == 0
    assert all(asked.asked == 0 for asked in run_here("annotate", config).oracles)


def test_cycles_are_spelled_out_to_read(base: Path, tmp_path: Path) -> None:
    found = run_here("diagnose", configured(base, tmp_path, preset="tiny"))
    assert found.cycles
    page = (tmp_path / "diagnosis.md").read_text()
    for cycle in found.cycles:
        assert all(step["beats_next"] > 0.5 and step["response"] in page for step in cycle["cycle"])


def test_players_oracles_are_annotators_and_one_that_two_share_counts_once() -> None:
    config = load("tiny-heterogeneous", [])
    names, panel = annotators(config.judging, config.loop)
    assert names == ["ann", "bob", "eve"]
    players = [*config.loop.players, config.loop.players[0] | {"name": "zoe"}]
    names, panel = annotators(config.judging, config.having(loop={"players": players}).loop)
    assert names == ["ann", "bob", "eve"]
    assert [member.weight for member in panel.members] == [0.5, 0.25, 0.25]


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        (["num_generations=2"], "at least 3 responses"),
        (["temperature=0"], "all responses to it are the same"),
    ],
)
def test_what_says_nothing_is_refused(base: Path, tmp_path: Path, keys: list[str], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        run_here("diagnose", configured(base, tmp_path, *keys, preset="tiny"))
    assert not (tmp_path / "diagnosis.json").exists()

"""Keys that nothing reads are told before a run begins; what presets and the loop set is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from mnpo.llm.config import Config, load, presets, to_yaml
from mnpo.llm.config.reading import given
from mnpo.llm.config.whole import owners
from mnpo.llm.idle import READERS, idle, whom_it_tests
from mnpo.llm.iterations import config_of


def notes(source: str, *words: str) -> list[str]:
    return list(idle(load(source, words), given(source, words)))


@pytest.mark.parametrize("name", presets())
def test_presets_give_nothing_in_vain(name: str, tmp_path: Path) -> None:
    config = load(name)
    assert notes(name) == []
    (tmp_path / "config.yaml").write_text(to_yaml(config))
    assert notes(str(tmp_path / "config.yaml")) == []
    if config.update.rule is None:
        return
    players = config.loop.player_names()
    one = config_of(config, 2, players[0], {player: ["a", "b"] for player in players})
    (tmp_path / "config.yaml").write_text(to_yaml(one))
    assert notes(str(tmp_path / "config.yaml")) == []


@pytest.mark.parametrize(
    ("key", "value", "more", "other"),
    [
        ("past_models", "[a]", ["objective=dpo"], ["rule.eta=1"]),
        ("target", "reward", ["objective=dpo"], []),
        ("rule", "{name: sppo, eta: 1}", ["objective=dpo"], []),
        ("top_p", "0.5", ["temperature=0"], ["temperature=0.1"]),
        ("vllm", "{a: 1}", [], ["sampler=vllm"]),
        ("per_device_generation_batch_size", "7", ["sampler=vllm"], []),
        ("eval_tau", "0.5", ["eval_gap=false"], ["eval_gap=true"]),
        ("embedding_pairs", "7", [], ["oracle_kind=embedding"]),
        ("attributes", "[a]", [], ["oracle_objective=regression"]),
        ("annotator_labels", "3", [], ["per_annotator=true"]),
        ("test_sets", "3", ["test_set_size=0"], ["test_set_size=3"]),
    ],
)
def test_a_key_that_nothing_reads_is_told(key: str, value: str, more: list[str], other: list[str]) -> None:
    (note,) = [note for note in notes("tiny", *more, f"{key}={value}") if note.startswith(f"{key} ")]
    assert note.startswith(f"{key} has no effect here; it is for ")
    assert not [note for note in notes("tiny", *other, f"{key}={value}") if note.startswith(f"{key} ")]


def test_every_key_of_the_table_is_one() -> None:
    assert {key for reader in READERS for key in reader.keys} <= set(owners())


def test_an_evaluation_without_a_fit_says_whom_it_tests(tmp_path: Path) -> None:
    config: Config = load("tiny", [f"output_dir={tmp_path}"])
    assert list(whom_it_tests(config)) == [
        f"nothing was fitted into {tmp_path}: tiny:styles itself is tested (model_name_or_path)"
    ]
    (tmp_path / "model").mkdir()
    assert list(whom_it_tests(config)) == []
    assert list(whom_it_tests(config.having(evaluation={"eval_model": "x"}))) == []

"""Samples and judgments go through batch by batch: how they are cut, and where a run stops, changes nothing."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from prompt_files import configured, written

from mnpo.llm.config import Config
from mnpo.llm.data.tables import content_digest, open_table
from mnpo.llm.models import tiny
from mnpo.llm.oracles import questions
from mnpo.llm.stages import annotate, evaluate, sample
from mnpo.llm.stages.records import ANNOTATIONS, PREFERENCES, SAMPLES, EncodedPairs
from mnpo.llm.stages.registry import run_here

PANEL = (
    "oracle={kind: population, members: [{name: forms, weight: 2}, {kind: synthetic, name: brief, traits: forms, "
    "utilities: {brief: 1.5}}]}"
)
#: Keeps a list of what it is asked, and fails from the 20th question on where a file says so.
JUDGE = """
from pathlib import Path
HERE = Path(__file__).parent

def judge(prompt, first, second):
    asked = HERE / "asked"
    if (HERE / "down").exists() and len(asked.read_text().splitlines()) >= 20:
        raise RuntimeError("down")
    with asked.open("a") as file:
        print(repr((prompt, first, second)), file=file)
    return len(first) / (len(first) + len(second)) if first or second else 0.5
"""


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.build("tiny:gpt2", tmp_path_factory.mktemp("model"))


def config_of(folder: Path, policy: Path, *overrides: str) -> Config:
    folder.mkdir(exist_ok=True)
    rows: list[Any] = [{"prompt": f"question {i}"} for i in range(9)]
    given = [written(folder, rows), "eval_prompts=3", "num_generations=4", "max_new_tokens=8", "pairing=all"]
    rivals = ["rule={name: ht-mnpo, eta: 1, tau: 0.05, anchor: opponents}", f"opponent_models=[{policy}]"]
    return configured(folder, *given, *rivals, f"model_name_or_path={policy}", "labels=sampled", *overrides)


def left_by(config: Config) -> dict[str, Any]:
    home = config.folders.home
    tables = {name: content_digest(open_table(home / name)) for name in (SAMPLES, ANNOTATIONS, PREFERENCES)}
    encoded = EncodedPairs.read(home / PREFERENCES)
    assert encoded is not None
    assert encoded.digest == tables[PREFERENCES]
    return {**tables, "report": encoded.report, "longest": encoded.longest}


def test_one_row_at_a_time_leaves_the_same(
    policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for size in (1000, 1):
        for module in (sample, annotate, evaluate):
            monkeypatch.setattr(module, "_AT_ONCE", size)
        monkeypatch.setattr(questions, "AT_ONCE", size)
        config = config_of(tmp_path / str(size), policy, PANEL, "opponent_generations=3")
        drawn, made = run_here("sample", config), run_here("annotate", config)
        record = run_here("evaluate", config)
        held = content_digest(open_table(config.folders.home / "held-out"))
        numbers = [(one.drawn, one.reused, one.tokens, one.length, one.ended) for one in drawn.models]
        asked = [(one.asked, one.reused) for one in made.oracles]
        found.append((left_by(config), numbers, asked, held, record.win_rate, record.kl, record.length))
    assert found[0] == found[1]


def test_an_annotation_that_was_left_by_its_judge_goes_on_to_the_same_bits(
    policy: Path, tmp_path: Path
) -> None:
    found, asked = [], []
    for name in ("whole", "left"):
        folder = tmp_path / name
        config = config_of(folder, policy, f"oracle={{kind: python, file: {folder / 'judge.py'}}}")
        (folder / "judge.py").write_text(JUDGE)
        (folder / "asked").touch()
        run_here("sample", config)
        if name == "left":
            (folder / "down").touch()
            with pytest.raises(ValueError, match=r"raised RuntimeError: down.* questions are left; what was"):
                run_here("annotate", config)
            assert not (config.folders.home / PREFERENCES).exists()
            (folder / "down").unlink()
        run_here("annotate", config)
        found.append(left_by(config))
        asked.append(Counter((folder / "asked").read_text().splitlines()))
    assert found[0] == found[1]
    assert asked[0] == asked[1]
    assert set(asked[1].values()) == {1}

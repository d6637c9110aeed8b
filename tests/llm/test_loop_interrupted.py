"""A run of `mnpo llm train` that is killed, moved or left by its judge ends with the same bits."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from counting_judge import Server
from loops import SMALL, in_every_stage, run, run_stage, weights

from mnpo.llm.config import Config, load
from mnpo.llm.loop import train
from mnpo.llm.records import Run
from runs import entries, kill_when, mnpo


@pytest.fixture
def server() -> Iterator[Server]:
    serving = Server()
    thread = threading.Thread(target=serving.serve_forever, daemon=True)
    thread.start()
    yield serving
    serving.shutdown()
    serving.server_close()


def test_a_run_killed_in_every_stage_ends_with_the_same_bits(
    base: Path, tmp_path: Path, server: Server
) -> None:
    """SIGKILL while sampling, annotating, scoring, fitting and evaluating: the same bits, and nothing bought twice."""
    whole = run(base, tmp_path / "whole", server.oracle)
    asked = Counter(server.questions)
    server.questions.clear()
    folder = tmp_path / "killed"
    arguments = ["train", f"model_name_or_path={base}", f"output_dir={folder}", *SMALL, server.oracle]
    bought = {}
    for stage, ready in in_every_stage(folder, server).items():
        kill_when(arguments, ready)
        bought[stage] = [len(entries(folder / what)) for what in ("samples", "answers", "scores")]
    assert 0 < bought["sample"][0] < 15 * 4
    assert 0 < bought["annotate"][1] < bought["score"][1]
    assert 0 < bought["score"][2] < bought["fit"][2]
    assert bought["fit"][0] < bought["evaluate"][0] < bought["second fit"][0]
    assert not (folder / "iteration-2/model").exists()
    record = run(base, folder, server.oracle)
    assert weights(record) == weights(whole)
    for what in ("samples", "answers", "scores"):
        found = entries(folder / what)
        assert len(found) == len(set(found)), f"{what} bought twice"
        assert sorted(found) == sorted(entries(tmp_path / "whole" / what))
    # Questions that were under way when the process was killed were put, but their answers never arrived.
    assert set(server.questions) == set(asked)
    assert server.questions.total() - asked.total() <= 4
    assert [row.win_rate for row in record.iterations] == [row.win_rate for row in whole.iterations]
    assert not list(folder.rglob(".*"))
    again = train(load("tiny", arguments[1:]), lambda stage, _: pytest.fail(f"{stage} was run again"))
    assert again.iterations == record.iterations
    with pytest.raises(
        ValueError, match=r"holds a run with another configuration \(learning_rate: 0.0003 there, 0.1"
    ):
        run(base, folder, server.oracle, "learning_rate=0.1")
    assert weights(Run.read(folder)) == weights(whole)


def test_a_judge_that_is_down_or_answers_out_of_form_stops_the_run_and_it_goes_on(
    base: Path, tmp_path: Path, server: Server
) -> None:
    """The run stops with one line and status 2, says what is left, and goes on when the judge does."""
    folder = tmp_path / "run"
    arguments = [
        "train",
        f"model_name_or_path={base}",
        f"output_dir={folder}",
        *SMALL,
        server.oracle,
        "iterations=1",
    ]
    server.answer = "I like both."
    error = mnpo(*arguments, expect=2)
    line = error.strip().splitlines()[-1]
    assert "gave no verdict" in line
    assert "questions are left" in line
    server.answer = None
    whole = run(base, tmp_path / "whole", server.oracle, "iterations=1")
    assert weights(run(base, folder, server.oracle, "iterations=1")) == weights(whole)
    config = load("tiny", [f"model_name_or_path={base}", f"output_dir={tmp_path / 'down'}", *SMALL,
                           'oracle={kind: judge, name: j, model: m, base_url: "http://127.0.0.1:9/v1", retries: 0}'])  # fmt: skip
    run_stage("sample", config)
    with pytest.raises(ValueError, match=r"does not answer.*of \d+ questions are left"):
        run_stage("annotate", config)


def test_a_run_can_be_moved(base: Path, tmp_path: Path) -> None:
    """Where models lie, and how that is spelt, is no part of a run."""
    run(base, tmp_path / "here", "iterations=1")
    (tmp_path / "here").rename(tmp_path / "there")
    arguments = [f"model_name_or_path={base}", f"output_dir={tmp_path}/./there", *SMALL, "iterations=1"]
    train(load("tiny", arguments), lambda stage, _: pytest.fail(f"{stage} was run again"))
    # A stage that was run by hand with other settings does not pass for the run's own.
    run_stage("evaluate", load(str(tmp_path / "there/iteration-1/config.yaml"), ["eval_generations=1"]))
    stages = []

    def counted(stage: str, config: Config) -> Any:
        stages.append(stage)
        return run_stage(stage, config)

    train(load("tiny", arguments), counted)
    assert stages == ["evaluate"]

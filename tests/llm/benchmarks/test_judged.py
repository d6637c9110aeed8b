"""The judged benchmarks against a judge on the loopback that errs, refuses, times out and contradicts itself."""

from __future__ import annotations

import json
import math
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from judge_server import Reply, Server, fails, says
from typer.testing import CliRunner

from mnpo.cli.main import app
from mnpo.llm.benchmarks.suites import existing
from mnpo.llm.endpoints import chat

COUNT = 8


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    monkeypatch.setattr(chat, "_BACKOFF", 0.01)
    with Server() as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield server
        server.shutdown()


def write(file: Path, rows: list[dict[str, Any]]) -> str:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(file)


@pytest.fixture
def words(server: Server, tmp_path: Path) -> dict[str, list[str]]:
    """Questions, baselines and a player for every benchmark; the k-th answer is "own k" and the baseline's "base k"."""
    judge = f"judge={{model: strict, base_url: '{server.url}', timeout: 0.5, retries: 3, concurrency: 4}}"
    rows = [{"question_id": k, "category": "math" if k == 0 else "writing",
             "turns": [f"first {k}", f"second {k}"]} for k in range(COUNT)]  # fmt: skip
    own = [{"question_id": k, "model": "tested",
            "choices": [{"turns": [f"own {k}", f"own {k} again"]}]} for k in range(COUNT)]  # fmt: skip
    reference = [{"question_id": 0, "choices": [{"turns": ["forty-two", "forty-two"]}]}]
    pairs = [{"question_id": k, "instruction": f"first {k}", "output": f"base {k}"} for k in range(COUNT)]
    shared = [f"model={write(tmp_path / 'tested.jsonl', own)}", judge, "use_cpu=true"]
    one = f"questions={write(tmp_path / 'pairs.jsonl', pairs)}"
    base = f"baselines={write(tmp_path / 'base.jsonl', pairs)}"
    return {
        "mt-bench": [
            *shared, f"questions={write(tmp_path / 'mt.jsonl', rows)}",
            f"references={write(tmp_path / 'ref.jsonl', reference)}", f"output_dir={tmp_path / 'mt'}",
        ],
        "alpaca-eval-2": [*shared, one, base, f"output_dir={tmp_path / 'alpaca'}"],
        "arena-hard": [*shared, one, base, f"output_dir={tmp_path / 'arena'}"],
        "arena-hard-v2": [*shared, one, base, f"output_dir={tmp_path / 'arena2'}"],
    }  # fmt: skip


def run(suite: str, words: list[str]) -> Any:
    result = CliRunner().invoke(app, ["llm", "benchmark", suite, *words, "--json"])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def asked_about(server: Server) -> tuple[int, bool]:
    """Which question the last request was about, and whether the tested model's answer comes first in it."""
    content = server.seen[-1].body["messages"][-1]["content"]
    number = re.search(r"own (\d+)", content)
    assert number is not None
    base = content.find("base ")
    return int(number[1]), base < 0 or content.find("own ") < base


def test_mt_bench(server: Server, words: dict[str, list[str]]) -> None:
    def reply(parts: list[str], before: int) -> Reply:
        with server.lock:
            k, _ = asked_about(server)
            content = server.seen[-1].body["messages"][-1]["content"]
        second = "again" in content
        assert ("forty-two" in content) == (k == 0)
        tries = sum(one.body["messages"][-1]["content"] == content for one in server.seen)
        if k == 1 and not second and tries == 1:
            return fails(500)
        if k == 2 and not second and tries == 1:
            return says("late [[9]]", seconds=1.5)
        if k == 3 and second:
            return says("No number at all.")
        if k == 4 and second:
            return Reply(json.dumps({"error": {"message": "stopped by content_filter"}}), 400)
        if k == 5 and second:
            return says("Rating: [[11]]")
        return says(f"So so. Rating: [[{k + 1}]]" if not second else "Rating: [7]")

    server.reply = reply
    found = run("mt-bench", words["mt-bench"])["suites"]["mt-bench"]
    row = found["models"]["tested"]
    first, second = list(range(1, COUNT + 1)), [7] * (COUNT - 3)
    assert row["score"] == pytest.approx(np.mean(first + second))
    assert row["turns"] == pytest.approx({"1": np.mean(first), "2": 7})
    assert row["categories"]["math"] == pytest.approx(4)
    assert (row["judged"], row["unparsed"], row["refused"], row["retried"]) == (13, 3, 1, 2)
    assert row["low"] < row["score"] < row["high"]
    assert "mnpo's own" in found["judge_prompts"]
    asked = len(server.seen)
    again = run("mt-bench", words["mt-bench"])["suites"]["mt-bench"]["models"]["tested"]
    assert (len(server.seen), again["asked"], again["score"]) == (asked, 0, row["score"])
    home = Path(words["mt-bench"][-1].partition("=")[2])
    alone = existing("mt-bench", [f"judgments={home / 'mt-bench' / 'judgments.jsonl'}"])
    assert alone["models"]["tested"]["score"] == pytest.approx(row["score"])


def test_arena_hard(server: Server, words: dict[str, list[str]]) -> None:
    """Of eight questions: strong wins, a judge that always prefers the first, one that names two verdicts."""

    def reply(parts: list[str], before: int) -> Reply:
        with server.lock:
            k, own_first = asked_about(server)
        if k < 3:
            return says("[[A>>B]]" if own_first else "[[B>>A]]")
        if k == 3:
            return says("[[A>B]]")
        if k == 4:
            return says("[[A>B]] or rather [[B>A]]")
        return says("[[B>A]]" if own_first else "[[A=B]]")

    server.reply = reply
    found = run("arena-hard", words["arena-hard"])["suites"]["arena-hard"]
    row = found["models"]["tested"]
    # Three times two strong wins; a win and a loss; nothing; three times a loss and a tie.
    won, games = 18 + 1 + 3 * 0.5, 18 + 2 + 3 * 2
    assert row["win_rate"] == pytest.approx(100 * won / games)
    assert (row["judged"], row["unparsed"], row["contradicted"]) == (14, 2, 1)
    home = Path(words["arena-hard"][-1].partition("=")[2])
    alone = existing("arena-hard", [f"judgments={home / 'arena-hard' / 'judgments.jsonl'}"])
    assert alone["models"]["tested"]["win_rate"] == pytest.approx(row["win_rate"])
    published = run("arena-hard", [*words["arena-hard"], "protocol=as-published"])["suites"]["arena-hard"]
    # EvalScope takes the first mark: for question 4 a win of whoever comes first.
    assert published["models"]["tested"]["win_rate"] == pytest.approx(100 * (won + 1) / (games + 2))
    assert "EvalScope 1.0.2" in published["protocol"]
    assert published["models"]["tested"]["asked"] == 0
    styled = run("arena-hard-v2", words["arena-hard-v2"])["suites"]["arena-hard-v2"]
    assert styled["models"]["tested"]["win_rate"] == pytest.approx(row["win_rate"])
    assert "style control" in styled["protocol"]


def with_logprobs(name: str, chance: float) -> Reply:
    """A verdict that says `name`, and M with some probability."""
    top = [{"token": t, "logprob": math.log(p)} for t, p in (("M", chance), (" m", 1 - chance)) if p > 0]
    choice = {"index": 0, "message": {"role": "assistant", "content": name}, "finish_reason": "stop",
              "logprobs": {"content": [{"token": name, "logprob": 0.0, "top_logprobs": top}]}}  # fmt: skip
    return Reply(json.dumps({"id": "1", "object": "chat.completion", "choices": [choice]}))


def test_alpaca_eval(server: Server, words: dict[str, list[str]]) -> None:
    """Weighed by log-probabilities where there are some; as published by the first m or M of one order."""

    def reply(parts: list[str], before: int) -> Reply:
        with server.lock:
            k, own_first = asked_about(server)
        if k == 0:
            return says("perhaps neither")
        if k == 1:
            return says("M" if own_first else "m")
        return with_logprobs("M", 0.1 if own_first else 0.8)  # what comes second is favoured by 0.1 besides

    server.reply = reply
    found = run("alpaca-eval-2", words["alpaca-eval-2"])["suites"]["alpaca-eval-2"]
    row = found["models"]["tested"]
    assert row["win_rate"] == pytest.approx(100 * np.mean([0] + [(0.9 + 0.8) / 2] * 6))
    assert (row["unparsed"], row["unjudged"], row["instructions"]) == (2, 1, 7)
    assert 0 < row["lc_win_rate"] < 100
    assert server.seen[-1].body["top_logprobs"] == 5
    home = Path(words["alpaca-eval-2"][-1].partition("=")[2])
    alone = existing("alpaca-eval-2", [f"annotations={home / 'alpaca-eval-2' / 'judgments.csv'}"])
    assert alone["models"]["tested"]["lc_win_rate"] == pytest.approx(row["lc_win_rate"])
    before = len(server.seen)
    published = run("alpaca-eval-2", [*words["alpaca-eval-2"], "protocol=as-published"])
    row = published["suites"]["alpaca-eval-2"]["models"]["tested"]
    assert row["win_rate"] == pytest.approx(100 * 6 / 8)  # what cannot be read is a loss
    assert len(server.seen) - before == COUNT  # one order, without log-probabilities
    assert "lc_win_rate" not in row
    tables = published["tables"]["Table 2: preference alignment"]
    assert tables["rows"][-1]["name"] == "tested"
    assert tables["rows"][-1]["source"] == "as-published, strict"
    assert "| tested | 75.00 |" in (home / "tables.md").read_text()
    assert "tested & 75.00 &" in (home / "tables.tex").read_text()


def test_killed_and_continued(server: Server, words: dict[str, list[str]]) -> None:
    """Nothing is bought twice after SIGKILL."""
    gate = threading.Event()

    def reply(parts: list[str], before: int) -> Reply:
        with server.lock:
            served = len(server.seen)
        if served > 6 and not gate.is_set():
            time.sleep(0.3)
        return says("[[6]]")

    server.reply = reply
    given = [word.replace("timeout: 0.5", "timeout: 30") for word in words["mt-bench"]]
    command = [sys.executable, "-m", "mnpo.cli", "llm", "benchmark", "mt-bench", *given, "--json"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=os.environ)
    while len(server.seen) < 8:
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    gate.set()
    time.sleep(0.5)  # what was under way when it was killed
    before = len(server.seen)
    row = run("mt-bench", given)["suites"]["mt-bench"]["models"]["tested"]
    asked = [one.body["messages"][-1]["content"] for one in server.seen]
    assert row["reused"] >= 3
    assert len(server.seen) - before == row["asked"] == 2 * COUNT - row["reused"]
    # Only those under way, at most four, were sent again.
    assert len(asked) - len(set(asked)) <= 4


@pytest.mark.parametrize(
    ("suite", "drop", "more", "message"),
    [
        ("mt-bench", "judge", [], "mt-bench needs a judge"),
        ("mt-bench", "model", [], "a benchmark needs somebody to test"),
        ("mt-bench", "references", [], r"question 0 \(math\) needs a reference answer"),
        ("mt-bench", "questions", ["questions=nothing.jsonl"], "questions=nothing.jsonl: no such file"),
        ("mt-bench", "", ["judge_prompts=README.md"], "judge prompts README.md"),
        (
            "arena-hard",
            "baselines",
            ["baselines={ref}", "questions={bare}"],
            "question 1 has no answer of the baseline|has no answer",
        ),
        (
            "arena-hard",
            "judge",
            ["judge={model: m, base_url: 'http://127.0.0.1:9/v1', retries: 0}"],
            "does not answer",
        ),
        ("arena-hard", "judge", ["judge={model: m, base_url: 'http://127.0.0.1:9/v1', row: 0}"], "'row'"),
        ("arena-hard", "", ["protocol=other"], "protocol"),
        ("nothing", "", [], "nothing"),
    ],
)
def test_bad_input_is_told(
    words: dict[str, list[str]], tmp_path: Path, suite: str, drop: str, more: list[str], message: str
) -> None:
    given = [word for word in words.get(suite, []) if not drop or not word.startswith(f"{drop}=")]
    write(tmp_path / "bare.jsonl", [{"question_id": 1, "prompt": "first"}])
    files = {"{ref}": str(tmp_path / "ref.jsonl"), "{bare}": str(tmp_path / "bare.jsonl")}
    more = [re.sub(r"{(ref|bare)}", lambda found: files[found[0]], word) for word in more]
    with pytest.raises(ValueError, match=message):
        run(suite, [*given, *more])


def test_judgments_of_another_format(tmp_path: Path) -> None:
    for suite, row, message in (
        ("mt-bench", {"question_id": 1, "turn": 1}, "row 1: lacks 'score'"),
        ("mt-bench", {"question_id": 1, "turn": 1, "score": 12}, "out of range"),
        ("arena-hard", {"uid": "1", "model": "m", "games": [{"score": "A>B"}]}, "1 games"),
        ("arena-hard", {"uid": "1", "model": "m", "games": [{"score": "A"}, None]}, "unknown score 'A'"),
        ("arena-hard", {"uid": "1", "games": []}, "lacks 'model'"),
    ):
        file = write(tmp_path / "judgments.jsonl", [row])
        with pytest.raises(ValueError, match=message):
            existing(suite, [f"judgments={file}"])

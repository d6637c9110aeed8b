"""Whole commands against a lying judge: one line, nothing bought twice, and the key in nothing that they leave."""

from __future__ import annotations

import json
import sys
import threading
import traceback
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from judge_server import KEY, Reply, Server, fails, says
from lies import redirects

from mnpo.cli.main import main

pytestmark = pytest.mark.usefixtures("quiet")
COUNT = 6


class Liar:
    """Tells the key in all that it says, fails first at each question, and at one of them until it is `honest`."""

    def __init__(self, server: Server) -> None:
        self.honest = False
        self.answered: Counter[str] = Counter()
        self._server, self._tried, self._lock = server, Counter[str](), threading.Lock()
        server.reply = self._reply

    def _reply(self, parts: list[str], before: int) -> Reply:
        with self._lock:
            asked = next(
                seen.body["messages"][-1]["content"]
                for seen in self._server.seen[::-1]
                if seen.prompt == parts[0]
            )
            self._tried[asked] += 1
            tries = self._tried[asked]
            if "request 2" in asked and not self.honest:
                return redirects(307, f"https://{KEY}.example/{KEY}?{KEY}")
            if tries == 1:
                lies = (fails(500, KEY), Reply(f'{{"{KEY}'), fails(429, KEY, headers={"Retry-After": "-1"}))
                return lies[len(self._tried) % 3]
            self.answered[asked] += 1
            return says(f"<think>{KEY}</think>With {KEY} the first is better. [[A]] [[7]]")


def write(file: Path, rows: list[dict[str, Any]]) -> str:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(file)


def commands(home: Path, url: str) -> dict[str, list[str]]:
    turns = [f"request {k}" for k in range(COUNT)]
    players = [
        write(home / f"{name}.jsonl", [{"prompt": turn, "response": f"{name} {turn}"} for turn in turns])
        for name in ("one", "two")
    ]
    prompts = write(home / "prompts.jsonl", [{"prompt": turn} for turn in turns])
    rows = [{"question_id": k, "category": "writing", "turns": [turn]} for k, turn in enumerate(turns)]
    own = [{"question_id": k, "model": "m", "choices": [{"turns": [f"own {k}"]}]} for k in range(COUNT)]
    at = f'model: m, base_url: "{url}", api_key_env: JUDGE_KEY, retries: 3, concurrency: 1, timeout: 5'
    shared = [f"output_dir={home / 'run'}", "use_cpu=true"]
    return {
        "tournament": [
            *players, f"prompt_dataset_name={prompts}", "bootstrap_draws=10", *shared,
            f'oracle={{kind: judge, name: j, {at}, template: "{{prompt}}|{{first}}|{{second}}"}}',
        ],
        "benchmark": [
            "mt-bench", f"model={write(home / 'own.jsonl', own)}", *shared, f"judge={{{at}}}",
            f"questions={write(home / 'questions.jsonl', rows)}",
        ],
    }  # fmt: skip


@pytest.mark.parametrize("command", ["tournament", "benchmark"])
def test_commands_with_a_lying_judge(
    server: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    command: str,
) -> None:
    liar = Liar(server)
    monkeypatch.setenv("JUDGE_KEY", KEY)
    words = ["mnpo", "llm", command, *commands(tmp_path, server.url)[command], "--json"]

    traces: list[str] = []

    def run(*more: str) -> tuple[object, str, str]:
        monkeypatch.setattr(sys, "argv", [*words, *more])
        with pytest.raises((SystemExit, ValueError)) as stop:
            main()
        out, err = capfd.readouterr()
        status = stop.value.code if isinstance(stop.value, SystemExit) else 2
        traces.append("".join(traceback.format_exception(stop.value)))
        return status, out, err

    for more in ([], ["--debug"]):
        status, out, err = run(*more)
        traces += [out, err]
        assert status == 2
        assert out == ""
        line = traces[-3] if more else next(line for line in err.splitlines() if line.startswith("mnpo: "))
        assert "redirects to" in line
        assert "questions are left; what was answered is kept" in line
    liar.honest = True
    status, out, err = run()
    assert status == 0
    assert max(liar.answered.values()) == 1
    assert len(liar.answered) >= COUNT
    before = len(server.seen)
    assert run()[0] == 0
    assert len(server.seen) == before
    assert KEY not in "".join([*traces, out, err])
    assert all(seen.authorization == f"Bearer {KEY}" for seen in server.seen)
    kept = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert len(kept) > 8
    assert [file for file in kept if KEY.encode() in file.read_bytes() or KEY in file.name] == []

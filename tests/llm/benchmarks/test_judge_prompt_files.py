"""Judge prompts from files of the published formats."""

from __future__ import annotations

import json
from pathlib import Path

from mnpo.llm.benchmarks.judge_prompts import JudgePrompts

PARTS = {"question": "q {answer_b}", "first": "one", "second": "two"}


def asked(prompts: JudgePrompts, name: str) -> list[tuple[str, str]]:
    return [(turn["role"], turn["content"]) for turn in prompts[name].request(PARTS).messages]


def test_each_format_is_read(tmp_path: Path) -> None:
    fastchat, arena, alpaca = (tmp_path / name for name in ("f.jsonl", "a.yaml", "e.txt"))
    names = ["pair-v2", "single-v1", "single-math-v1", "single-v1-multi-turn", "single-math-v1-multi-turn"]
    rows = [{"name": name, "system_prompt": "Rate.", "prompt_template": f"{name}: {{question}}/{{answer}}{{answer_1}}"}
            for name in names]  # fmt: skip
    fastchat.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = JudgePrompts("mt-bench", str(fastchat))
    assert asked(found, "single-v1") == [("system", "Rate."), ("user", "single-v1: q {answer_b}/oneone")]
    assert found.whose.startswith("f.jsonl (")
    arena.write_text('name: judgment\nprompt_template: ["{QUESTION}|{ANSWER_A}|{ANSWER_B}|{other}"]\n')
    assert asked(JudgePrompts("arena-hard", str(arena)), "arena-hard") == [
        ("user", "q {answer_b}|one|two|{other}")
    ]
    alpaca.write_text(
        "<|im_start|>system\nBe fair.\n<|im_end|>\n<|im_start|>user\n{output_1}, {output_2}\n<|im_end|>\n"
    )
    expected = [("system", "Be fair."), ("user", "one, two")]
    assert asked(JudgePrompts("alpaca-eval-2", str(alpaca)), "alpaca-eval-2") == expected
    alpaca.write_text("{output_1} or {output_2}: {fence}?")
    ((_, text),) = asked(JudgePrompts("alpaca-eval-2", str(alpaca)), "alpaca-eval-2")
    assert text.startswith("one or two: ")
    assert len(text) == len("one or two: ?") + 16

"""Prompts of every format are read, each once, and split over the iterations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prompt_files import configured, written

from mnpo.llm.config import Config
from mnpo.llm.data.pairs import Report
from mnpo.llm.data.prompts import Prompt, read_prompts


def prompts_of(config: Config, tokenizer: Any) -> tuple[dict[str, list[Prompt]], dict[str, Report]]:
    return read_prompts(config.data, config.prompts, tokenizer, config.compute.seed)


def test_prompts_of_every_format_are_read_once(tokenizer: Any, tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    rows: list[Any] = [
        {"prompt": "one"},
        {"prompt": [{"role": "user", "content": "two"}]},
        {"messages": [*turns, {"role": "user", "content": "three"}, {"role": "assistant", "content": "x"}]},
        {"question_id": 81, "turns": ["four", "and then"]},
        {"instruction": "Translate.", "input": "five"},
        {"prompt": "six", "chosen": "a", "rejected": "b"},
        {"chosen": "\n\nHuman: seven\n\nAssistant: a", "rejected": "\n\nHuman: seven\n\nAssistant: b"},
        {"prompt": "one"},
        {"prompt": "  "},
        {"answer": 3},
        "not json",
        {"prompt": "long " * 500},
    ]
    config = configured(tmp_path, written(tmp_path, rows), "eval_prompts=2")
    prompts, reports = prompts_of(config, tokenizer)
    everything = {prompt.number: prompt.text for part in prompts.values() for prompt in part}
    last = {number: text[-1]["content"] for number, text in everything.items()}  # type: ignore[index]  # messages
    assert last == {1: "one", 2: "two", 3: "three", 4: "four", 5: "Translate.\nfive", 6: "six", 7: "seven"}
    assert len(everything[3]) == 3
    assert dict(reports["train"].dropped) == {"repeated": 1, "empty": 1, "malformed": 2, "too long": 1}
    assert len(prompts["eval"]) == 2
    assert not {p.ids for p in prompts["eval"]} & {p.ids for p in prompts["train"]}
    ids = list(prompts["eval"][0].ids)
    assert tokenizer.decode(ids).endswith("<start_of_turn>model\n")
    assert ids.count(tokenizer.bos_token_id) == 1
    (tmp_path / "p.txt").write_text("first\n\nsecond\n")
    plain, _ = prompts_of(
        configured(tmp_path, f"prompt_dataset_name={tmp_path / 'p.txt'}", "eval_prompts=0"), tokenizer
    )
    assert len(plain["train"]) == 2


def test_parts_of_the_prompts_are_all_of_them_once(tokenizer: Any, tmp_path: Path) -> None:
    parts = [
        prompts_of(configured(tmp_path, f"prompt_part=[{t},3]", "eval_prompts=0.2"), tokenizer)[0]
        for t in (1, 2, 3)
    ]
    numbers = [[prompt.number for prompt in part["train"]] for part in parts]
    held = {prompt.number for prompt in parts[0]["eval"]}
    assert [{p.number for p in part["eval"]} for part in parts] == [held] * 3
    assert sorted(n for part in numbers for n in part) == sorted(set(range(1, 101)) - held)
    assert {len(part) for part in numbers} <= {26, 27}

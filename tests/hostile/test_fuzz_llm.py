"""Fuzzing of every reader of `mnpo llm`: mutated files are refused in one line, or read as what they say."""

from __future__ import annotations

import gzip
import io
import json
import math
import random
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import yaml
from datasets import Dataset
from mutations import JSON_WORDS, TABLE_WORDS, fuzz, mutated, reshaped, seconds_to_fuzz

from mnpo.llm.benchmarks import alpaca_eval, arena_hard, mt_bench
from mnpo.llm.benchmarks.questions import answers_in, read_questions
from mnpo.llm.config import Config, Data, Prompts, load, resolve, to_yaml
from mnpo.llm.config.parsing import parse
from mnpo.llm.data import templates
from mnpo.llm.data.formats import Row
from mnpo.llm.data.judgments import Judgment, read_judgments
from mnpo.llm.data.prompts import prompt_texts
from mnpo.llm.data.sources import read
from mnpo.llm.models import tiny
from mnpo.llm.players.others import responses_in

PRESETS = [
    (resources.files("mnpo.llm") / "presets" / f"{name}.yaml").read_bytes()
    for name in ("tiny", "gemma-2-9b-it-ht")
]
CONFIGS = [yaml.safe_load(text) for text in PRESETS]
YAML_WORDS = (
    *JSON_WORDS, b"&a ", b"*a", b"<<: *a\n", b"!!python/object:os.system ", b"!!binary ", b"- ", b": ", b"? ", b"\t", b"#", b"|\n",
    b".nan", b".inf", b"~", b"yes", b"1_000", b"1:30", b"2024-01-01", b"---\n", b"...\n", b"%YAML 1.1\n", b"'", b"preset: tiny\n",
)  # fmt: skip
WORDS = (
    b"temperature=0.7", b"rule.eta=2", b"oracle={name: styles, scale: 2}", b"players=[{name: a}, {name: b}]", b"learning_rate=1e-5",
    b"objective={name: dpo, beta: 0.1}", b"schedule={2: {rule.eta: 3}}", b"lora={r: 4}", b"eval_opponents={a: x}", b"seed=3",
    b"sampling={top_p: 1}", b"past_models=a,b", b"prompt_part=[1, 2]", b"oracle_phases=[{oracle_objective: margin}]",
)  # fmt: skip
TALK = [{"role": "user", "content": "p"}]
PAIRS: list[Any] = [
    [{"prompt": "p", "chosen": "a", "rejected": "b", "preference": 0.7, "margin": 1, "weight": 2}] * 2,
    [
        {
            "prompt": TALK,
            "chosen": [{"role": "assistant", "content": "a"}],
            "rejected": [{"role": "assistant", "content": "b"}],
        }
    ],
    [{"prompt": "p", "all_generated_responses": ["a", "b", "c"], "all_rm_scores": [1, 2, 0.5]}],
    [{"prompt": "p", "response_1": "a", "response_2": "b", "preference_strength": -2}],
    [{"chosen": "\n\nHuman: x\n\nAssistant: a", "rejected": "\n\nHuman: x\n\nAssistant: b"}],
]
JUDGED: list[Any] = [
    *PAIRS,
    [{"prompt": "p", "responses": ["a", "b", "c"], "ranking": [0, 1, 1], "weight": 2, "annotator": "x"}],
    [{"prompt": "p", "response": "a", "helpfulness": 3, "coherence": None}],
    [
        {
            "instruction": "p",
            "completions": [{"response": "a", "overall_score": 1}, {"response": "b", "overall_score": 2}],
        }
    ],
    [
        {
            "context": TALK,
            "response1": "a",
            "response2": "b",
            "individual_preference": [{"score": 1}, {"score": -2}],
        }
    ],
    [{"prompt": "p", "chosen": ["a"], "rejected": ["b", "c"], "subset": "s", "id": 3}],
]
PROMPTS: list[Any] = [
    [
        {"prompt": "p"},
        {"messages": TALK},
        {"turns": ["a", "b"]},
        {"instruction": "a", "input": "b"},
        {"question": "q"},
    ]
]
RESPONSES: list[Any] = [[{"prompt": "p", "response": "a"}, {"messages": TALK, "responses": ["a", "b"]}]]
QUESTIONS: list[Any] = [
    [
        {"question_id": 1, "category": "c", "turns": ["a", "b"], "reference": ["r"]},
        {"uid": "x", "prompt": "p", "output": "o"},
    ]
]
ANSWERS: list[Any] = [
    [
        {"question_id": 1, "choices": [{"turns": ["a", {"content": "b"}]}]},
        {"uid": "x", "messages": [{"role": "assistant", "content": {"answer": "b"}}]},
    ]
]
RATINGS: list[Any] = [
    [
        {"question_id": 1, "turn": 1, "score": 7, "category": "c", "model": "m"},
        {"question_id": 1, "turn": 2, "score": -1},
    ]
]
GAMES: list[Any] = [[{"question_id": 1, "model": "m", "games": [{"score": "A>B"}, {"score": "B>A"}]}]]
ALPACA: list[Any] = [
    [{"instruction": "i", "output_1": "a", "output_2": "b", "preference": 1.5, "generator_2": "m"}] * 1
]
TABLES = [
    b"model,instruction,preference,length_baseline,length_model\nm,i,0.5,10,20\nm,j,1,5,6\n",
    b"instruction,difficulty\ni,0.5\n",
]
TEMPLATES = [
    tiny.CHAT_TEMPLATE.encode(),
    b"{% set ns = namespace(x='') %}{% for m in messages[::-1] %}{% set ns.x = ns.x ~ m.content | trim * 2 %}{% endfor %}{{ ns.x }}",
    b"{% macro f(n) %}{{ n | join(',') }}{{ '%5d' % n | length }}{% endmacro %}{{ f(range(9)) }}{{ messages | tojson(indent=2) }}",
]
TEMPLATE_WORDS = (
    b"{%", b"%}", b"{{", b"}}", b"{% for x in range(99999) %}", b"{% endfor %}", b"{% endif %}", b"{% set a = a ~ a %}", b" * 999999999", b" ** 99",
    b" | center(99999999)", b" | list", b".__class__", b"'%99999999d' % 1", b"{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", b"{% if x %}", b"~", b"'", b"\x00",
)  # fmt: skip


def plain(value: Any) -> bool:
    return not isinstance(value, float) or math.isfinite(value)


def check_config(config: Any) -> None:
    assert isinstance(config, Config)
    assert resolve(parse(to_yaml(config))) == config


def check_rows(rows: list[Any]) -> None:
    good = [row for row in rows if isinstance(row, Row)]
    assert good
    assert all(plain(number) for row in good for number in row.numbers.values())
    json.dumps([[row.prompt, row.chosen, row.rejected] for row in good], ensure_ascii=False).encode()


def check_judgments(found: list[Any]) -> None:
    good = [one for one in found if isinstance(one, Judgment)]
    assert good
    for one in good:
        assert one.weight >= 0
        assert plain(one.weight)
        assert one.preference is None or 0 <= one.preference <= 1
        assert one.ranks is None or len(one.ranks) == len(one.responses)


def check_numbers(found: Any) -> None:
    json.dumps(found, allow_nan=False, default=str).encode()


def overrides(path: Path) -> Any:
    try:
        return load("tiny", [path.read_bytes().decode("utf-8", "surrogateescape")])
    except ValueError as error:
        raise ValueError(f"{path.name}: {error}") from None


TOKENIZER = tiny.tokenizer()


def template(path: Path) -> str:
    try:
        TOKENIZER.chat_template = path.read_bytes().decode("utf-8", "replace")
        templates.check(TOKENIZER, path)
        return templates.render(TOKENIZER, [*TALK, {"role": "assistant", "content": "a"}])
    except (templates.TemplateError, ValueError, TypeError, KeyError) as error:  # as where rows are encoded
        raise ValueError(f"{path.name}: {' '.join(str(error)[:100].split())}") from None


def parquet() -> bytes:
    """A Parquet file of pairs."""
    sink = io.BytesIO()
    Dataset.from_list(PAIRS[1] * 9).to_parquet(sink)
    return sink.getvalue()


def zipped(strategy: Any) -> Any:
    return strategy.map(lambda content: gzip.compress(content, mtime=0))


def rows(seeds: list[Any], *keys: str) -> Any:
    text = ["\n".join(map(json.dumps, seed)).encode() for seed in seeds]
    return reshaped(seeds, keys, lines=True) | mutated(text, JSON_WORDS)


Case = tuple[str, Any, Callable[[Path], Any], Callable[[Any], None]]
CASES: dict[str, Case] = {
    "configuration": ("c.yaml", mutated(PRESETS, YAML_WORDS), lambda p: load(str(p)), check_config),
    "configuration's values": ("c.yaml", reshaped(CONFIGS, ("seed", "oracle", "preset", "rule.eta")), lambda p: load(str(p)), check_config),
    "override": ("w", mutated(WORDS, YAML_WORDS), overrides, check_config),
    "pairs": ("d.jsonl", rows(PAIRS, "preference", "chosen"), lambda p: list(read(str(p))), check_rows),
    "pairs in an array": ("d.json", reshaped(PAIRS, ("chosen",)), lambda p: list(read(str(p))), check_rows),
    "pairs, packed": ("d.jsonl.gz", zipped(rows(PAIRS)) | mutated([gzip.compress(b"{}\n" * 20)]), lambda p: list(read(str(p))), check_rows),
    "pairs in Parquet": ("d.parquet", mutated([parquet()]), lambda p: list(read(str(p))), check_rows),
    "judgments": ("d.jsonl", rows(JUDGED, "ranking", "score"), lambda p: list(read_judgments(str(p), attributes=("helpfulness", "coherence"))), check_judgments),
    "prompts": ("d.jsonl", rows(PROMPTS, "prompt"), lambda p: prompt_texts(Data(), Prompts(prompt_dataset_name=str(p)))[0], check_numbers),
    "responses": ("d.jsonl", rows(RESPONSES, "response"), lambda p: responses_in(str(p)), check_numbers),
    "questions": ("d.jsonl", rows(QUESTIONS, "turns"), lambda p: [str(q) for q in read_questions("mt-bench", str(p))], check_numbers),
    "answers": ("d.jsonl", rows(ANSWERS, "choices"), lambda p: answers_in(str(p)), check_numbers),
    "ratings": ("d.jsonl", rows(RATINGS, "score"), mt_bench.existing, check_numbers),
    "games": ("d.jsonl", rows(GAMES, "games"), lambda p: arena_hard.existing(p, None, None), check_numbers),
    "annotations": ("d.json", reshaped(ALPACA, ("preference",)), alpaca_eval.statistics, check_numbers),
    "tables": ("d.csv", mutated(TABLES, TABLE_WORDS), alpaca_eval.statistics, check_numbers),
    "difficulties": ("d.csv", mutated(TABLES, TABLE_WORDS), alpaca_eval.difficulties, check_numbers),
    "template": ("t.jinja", mutated(TEMPLATES, TEMPLATE_WORDS), template, lambda text: None),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_what_is_mutated_is_refused_or_valid(name: str, tmp_path: Path) -> None:
    file, contents, reader, check = CASES[name]
    tried, _ = fuzz(contents, tmp_path / file, reader, check, examples=60)
    assert tried >= 30


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_for_as_long_as_one_likes(name: str, tmp_path: Path, capsys: Any) -> None:
    file, contents, reader, check = CASES[name]
    tried, taken = fuzz(contents, tmp_path / file, reader, check, seconds=seconds_to_fuzz(len(CASES)))
    with capsys.disabled():
        print(f"\n{name}: {tried} files, {taken} of them read")


def test_a_saved_data_set_with_bits_flipped_is_refused_and_never_a_crash(tmp_path: Path) -> None:
    """Its files are mapped: a wrong place in them would be read as it is."""
    Dataset.from_list(PAIRS[1] * 30).save_to_disk(str(tmp_path / "set"))
    (file,) = (tmp_path / "set").glob("*.arrow")
    content, draw, told = file.read_bytes(), random.Random(0), list[str]()
    for _ in range(60):
        broken = bytearray(content)
        for _ in range(draw.choice([1, 1, 8])):
            broken[draw.randrange(len(broken))] ^= 1 << draw.randrange(8)
        file.unlink()  # what was read before may still be mapped
        file.write_bytes(broken)
        try:
            list(read(str(tmp_path / "set")))
        except ValueError as error:
            told.append(str(error))
    assert len(told) > 10
    assert all(line.startswith(f"dataset {tmp_path / 'set'}") and "\n" not in line for line in told)

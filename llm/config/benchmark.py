"""Which benchmarks are run, by which judge and protocol, on which data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mnpo.llm.config.keys import Section, key

#: The judged benchmarks.
SUITES = {
    "mt-bench": "two turns, rated from 1 to 10",
    "alpaca-eval-2": "against a baseline, raw and at equal length",
    "arena-hard": "hard questions against a baseline, version 0.1",
    "arena-hard-v2": "the same in version 2, with style control",
}
PROTOCOLS = {
    "standard": "as each benchmark has it, in both orders",
    "as-published": "as EvalScope 1.0.2 has it, which the MNPO paper ran",
}


@dataclass(frozen=True, kw_only=True)
class Benchmark(Section):
    """What `mnpo llm benchmark` runs; files are by benchmark."""

    suites: list[str] = key([], f"benchmarks: {', '.join(SUITES)}", scope="run")
    judge: dict[str, Any] = key({}, "{model, base_url, ..}: the endpoint that judges", scope="run")
    judge_logprobs: bool = key(
        True, "whether AlpacaEval's judge is asked for log-probabilities, to weigh its verdicts", scope="run"
    )
    protocol: str = key("standard", f"how: {', '.join(PROTOCOLS)}", choices=PROTOCOLS, scope="run")
    questions: dict[str, str] = key({}, "benchmark: its questions; the Hub's unless given", scope="run")
    baselines: dict[str, str] = key(
        {}, "benchmark: the baseline's answers; the Hub's unless given", scope="run"
    )
    references: dict[str, str] = key(
        {}, "benchmark: reference answers, of MT-Bench's math, reasoning and coding", scope="run"
    )
    judge_prompts: dict[str, str] = key(
        {}, "benchmark: a file of judge prompts; words of our own unless given", scope="run"
    )
    difficulty: str | None = key(None, "AlpacaEval's difficulties, a CSV file", scope="run")
    gamed: str | None = key(None, "annotations of AlpacaEval's gamed baselines, a CSV file", scope="run")
    most_questions: int | None = key(None, "only so many questions of each", least=1, scope="run")
    tasks: list[str] = key(
        [], "academic benchmarks, the paper's unless given, or tasks of lm-evaluation-harness", scope="run"
    )
    task_files: str | None = key(None, "a folder with tasks of one's own, in the harness's YAML", scope="run")
    chat_prompts: bool = key(True, "whether academic questions are put as chats", scope="run")
    execute_code: bool = key(
        False,
        "whether code that a model wrote may run here, unprotected, for HumanEval and its like",
        scope="run",
    )
    answer_temperature: float | None = key(
        None, "of answers; as the benchmark has it unless given", least=0, scope="run"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("questions", "baselines", "references", "judge_prompts"):
            strange = [suite for suite in getattr(self, name) if suite not in SUITES]
            if strange:
                raise ValueError(f"{name}: {strange[0]!r} is none of {', '.join(SUITES)}")

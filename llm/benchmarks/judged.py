"""The judged benchmarks, each said once: what a judge is asked, what is made of its replies, which protocol."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mnpo.llm.benchmarks import alpaca_eval, alpaca_judging, arena_hard, mt_bench
from mnpo.llm.benchmarks.judge_prompts import JudgePrompts
from mnpo.llm.benchmarks.questions import Question
from mnpo.llm.config import Benchmark
from mnpo.llm.endpoints.asking import Replies
from mnpo.llm.endpoints.chat import Chat, Request

#: Statistics by model, notes, and the judgments as they are kept.
Found = tuple[dict[str, dict[str, Any]], list[str], str]


@dataclass(frozen=True)
class Judging:
    """What one suite is run with."""

    suite: str
    benchmark: Benchmark
    questions: list[Question]
    prompts: JudgePrompts
    judge: Chat

    @property
    def published(self) -> bool:
        """Whether it is run as the paper had it."""
        return self.benchmark.protocol == "as-published"

    @property
    def protocol(self) -> str:
        """What stands beside the numbers."""
        known = JUDGED[self.suite]
        return known.published if self.published else known.standard


@dataclass(frozen=True)
class Judged:
    """A judged benchmark.

    Attributes:
        standard, published: the protocols in words.
        answer_tokens, judge_tokens: of an answer and of a verdict, unless somebody says.
        temperature: of the answer to a question.
        requests: what the judge is asked about a question and its answers.
        statistics: what is made of the replies, by model.
        kept: the file of the judgments.
    """

    standard: str
    published: str
    answer_tokens: int
    judge_tokens: int
    temperature: Callable[[Question], float]
    requests: Callable[[Judging, Question, Sequence[str]], list[Request]]
    statistics: Callable[[Judging, Mapping[str, list[list[str]]], Mapping[str, Replies], int], Found]
    kept: str = "judgments.jsonl"


def _mt_bench(
    asked: Judging, answers: Mapping[str, list[list[str]]], replies: Mapping[str, Replies], seed: int
) -> Found:
    found, lines = {}, ""
    for name, said in replies.items():
        given = iter(said.replies)
        ratings = [
            mt_bench.Rating(question.id, question.category, turn + 1, mt_bench.rating(next(given)))
            for question in asked.questions
            for turn in range(len(question.turns))
        ]
        try:
            found[name] = mt_bench.statistics(ratings, seed=seed)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
        lines += mt_bench.as_lines(name, ratings)
    return found, [], lines


def _alpaca_eval(
    asked: Judging, answers: Mapping[str, list[list[str]]], replies: Mapping[str, Replies], seed: int
) -> Found:
    benchmark = asked.benchmark
    known = None if benchmark.difficulty is None else alpaca_eval.difficulties(Path(benchmark.difficulty))
    models: dict[str, list[alpaca_eval.Row]] = {}
    unjudged, unparsed, lines = (
        dict[str, int](),
        dict[str, int](),
        ",".join(["model", *alpaca_eval.COLUMNS]) + "\n",
    )
    for name, said in replies.items():
        given, rows = iter(said.replies), list[alpaca_eval.Row]()
        for place, (question, (answer, *_)) in enumerate(zip(asked.questions, answers[name], strict=True)):
            if asked.published:
                wins: list[float | None] = [alpaca_judging.published_preference(next(given))]
            else:
                first, second = (alpaca_judging.preference(next(given)) for _ in range(2))
                wins = [first, None if second is None else 1 - second]
            read = [win for win in wins if win is not None]
            unparsed[name] = unparsed.get(name, 0) + len(wins) - len(read)
            if not read:
                unjudged[name] = unjudged.get(name, 0) + 1
                continue
            called = _called(question, place, known)
            assert question.baseline is not None
            rows.append(
                alpaca_eval.Row(
                    called, sum(read) / len(read), float(len(question.baseline)), float(len(answer))
                )
            )
        if not rows:
            raise ValueError(f"the judge gave no verdict on {name}")
        models[name] = rows
        lines += alpaca_judging.as_table(name, rows)
    if asked.published:
        found: dict[str, dict[str, Any]] = {
            name: {
                "win_rate": 100 * sum(row.preference for row in rows) / len(rows),
                "instructions": len(rows),
            }
            for name, rows in models.items()
        }
        notes = list[str]()
    else:
        gamed = None if benchmark.gamed is None else Path(benchmark.gamed)
        result = alpaca_eval.of_models(models, unjudged, known, gamed, "alpaca-eval-2")
        found, notes = result["models"], result["notes"]
    for name, row in found.items():
        row["unparsed"] = unparsed[name]
    return found, notes, lines


def _called(question: Question, place: int, known: Mapping[str, float] | None) -> str:
    """Return what an instruction is called in the table of difficulties: its text, its name or its place."""
    names = (question.turns[0], question.id, str(place))
    return next((name for name in names if known is not None and name in known), question.id)


def _arena_hard(
    asked: Judging, answers: Mapping[str, list[list[str]]], replies: Mapping[str, Replies], seed: int
) -> Found:
    games: dict[str, list[arena_hard.Game]] = {}
    lines = ""
    styled = asked.suite == "arena-hard-v2"
    for name, said in replies.items():
        verdicts = [arena_hard.verdict(reply, first=asked.published) for reply in said.replies]
        games[name] = [
            arena_hard.Game(
                question.id, verdicts[2 * k], verdicts[2 * k + 1],
                (arena_hard.style_of(answer), arena_hard.style_of(question.baseline or "")) if styled else None,
            )
            for k, (question, (answer, *_)) in enumerate(zip(asked.questions, answers[name], strict=True))
        ]  # fmt: skip
        lines += arena_hard.as_lines(name, games[name])
    return arena_hard.statistics(games, seed=seed), [], lines


def _ask_alpaca(asked: Judging, question: Question, answers: Sequence[str]) -> list[Request]:
    logprobs = asked.benchmark.judge_logprobs and not asked.published
    both = not asked.published
    return alpaca_judging.requests(asked.prompts, question, answers[0], logprobs=logprobs, both=both)


def _arena(standard: str, published: str) -> Judged:
    return Judged(
        standard, published, arena_hard.MAX_TOKENS, arena_hard.MAX_TOKENS, lambda _: 0.0,
        lambda asked, question, answers: arena_hard.requests(asked.prompts, asked.suite, question, answers[0]),
        _arena_hard,
    )  # fmt: skip


JUDGED: Mapping[str, Judged] = {
    "mt-bench": Judged(
        mt_bench.PROTOCOL, "EvalScope 1.0.2 has no MT-Bench; as standard", mt_bench.MAX_TOKENS, 2048,
        lambda question: mt_bench.TEMPERATURES.get(question.category, mt_bench.TEMPERATURE),
        lambda asked, question, answers: mt_bench.requests(asked.prompts, question, answers),
        _mt_bench,
    ),
    "alpaca-eval-2": Judged(
        f"{alpaca_eval.PROTOCOL}; both orders",
        "EvalScope 1.0.2: the baseline first, no length control, no log-probabilities, what cannot be read is "
        "a loss",
        alpaca_judging.MAX_TOKENS, 16, lambda _: 0.7, _ask_alpaca, _alpaca_eval, "judgments.csv",
    ),
    "arena-hard": _arena(
        arena_hard.PROTOCOL,
        "EvalScope 1.0.2: the first mark of a verdict counts, what cannot be read is left out",
    ),
    "arena-hard-v2": _arena(
        arena_hard.PROTOCOL + arena_hard.STYLE, "EvalScope 1.0.2 has no version 2; as standard"
    ),
}  # fmt: skip

"""Running judged benchmarks: players answer, a judge is asked once, verdicts become statistics."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mnpo.common.files import whole_file
from mnpo.llm.benchmarks import alpaca_eval, alpaca_judging, arena_hard, mt_bench
from mnpo.llm.benchmarks.judge_prompts import JudgePrompts
from mnpo.llm.benchmarks.questions import Question, answers_in, read_questions
from mnpo.llm.config import Benchmark, Sampling
from mnpo.llm.data.formats import Text
from mnpo.llm.endpoints.addresses import check_no_secret
from mnpo.llm.endpoints.asking import Replies, ask_all
from mnpo.llm.endpoints.chat import Chat
from mnpo.llm.models.job import Job
from mnpo.llm.players.base import Player

#: Tokens of an answer, and of the judge's, unless somebody says; temperatures of answers, where all have one.
_ANSWER = {
    "mt-bench": mt_bench.MAX_TOKENS, "alpaca-eval-2": alpaca_judging.MAX_TOKENS,
    "arena-hard": arena_hard.MAX_TOKENS, "arena-hard-v2": arena_hard.MAX_TOKENS,
}  # fmt: skip
_JUDGE = {"mt-bench": 2048, "alpaca-eval-2": 16, "arena-hard": 4096, "arena-hard-v2": 4096}
_TEMPERATURE = {"alpaca-eval-2": 0.7, "arena-hard": 0.0, "arena-hard-v2": 0.0}
PUBLISHED = {
    "mt-bench": "EvalScope 1.0.2 has no MT-Bench; as standard",
    "alpaca-eval-2": "EvalScope 1.0.2: the baseline first, no length control, no log-probabilities, what cannot be "
    "read is a loss",
    "arena-hard": "EvalScope 1.0.2: the first mark of a verdict counts, what cannot be read is left out",
    "arena-hard-v2": "EvalScope 1.0.2 has no version 2; as standard",
}


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


def prepared(suite: str, benchmark: Benchmark) -> Judging:
    """Read a suite's data and prepare its judge, before anything is asked.

    Raises:
        ValueError: data that are not there, or no judge.
    """
    if not benchmark.judge:
        raise ValueError(f"{suite} needs a judge: judge={{model: .., base_url: ..}}")
    check_no_secret(benchmark.judge, "judge")
    options = {"name": benchmark.judge.get("model", "judge"), "max_tokens": _JUDGE[suite], **benchmark.judge}
    try:
        judge = Chat(**{"timeout": 300.0, **options})
    except TypeError as error:
        raise ValueError(f"judge: {str(error).rpartition('()')[2].strip()}") from None
    questions = read_questions(
        suite, benchmark.questions.get(suite), benchmark.baselines.get(suite), benchmark.references.get(suite),
        benchmark.most_questions,
    )  # fmt: skip
    return Judging(
        suite, benchmark, questions, JudgePrompts(suite, benchmark.judge_prompts.get(suite)), judge
    )


def run(
    job: Job, asked: Judging, players: Sequence[Player], sampling: Sampling, max_length: int
) -> dict[str, Any]:
    """Run one suite.

    Args:
        job: the stage at work.
        asked: see `prepared`.
        players: who is tested.
        sampling: how answers are drawn.
        max_length: tokens of question and answer.

    Returns:
        protocol, judge, judge_prompts (whose), questions; models: name -> statistics with the counts of verdicts
        that were unparsed, refused and retried, and of questions asked; notes.

    Raises:
        ValueError: a player or a judge that does not answer; what was answered is kept.
    """
    answers = {one.name: _answers(job, asked, one, sampling, max_length) for one in players}
    replies = {name: ask_all(job, asked.judge, _requests(asked, said)) for name, said in answers.items()}
    statistics, notes, lines = _STATISTICS[asked.suite](asked, answers, replies, job.compute.seed)
    for name, row in statistics.items():
        found = replies[name]
        row |= {"refused": found.refused, "retried": found.retried, "asked": found.asked, "reused": found.reused,
                "judge_seconds": found.seconds}  # fmt: skip
    if job.processes.first:
        _keep(job.home / asked.suite, asked, answers, lines)
    return {
        "protocol": _protocol(asked),
        "judge": f"{asked.judge.model} at {asked.judge.url}",
        "judge_prompts": asked.prompts.whose,
        "questions": len(asked.questions),
        "models": statistics,
        "notes": notes,
    }


def _protocol(asked: Judging) -> str:
    text = {
        "mt-bench": mt_bench.PROTOCOL,
        "alpaca-eval-2": f"{alpaca_eval.PROTOCOL}; both orders",
        "arena-hard": arena_hard.PROTOCOL,
        "arena-hard-v2": arena_hard.PROTOCOL + arena_hard.STYLE,
    }[asked.suite]
    return PUBLISHED[asked.suite] if asked.published else text


def _answers(
    job: Job, asked: Judging, player: Player, sampling: Sampling, max_length: int
) -> list[list[str]]:
    """Return a player's answers to all turns of all questions.

    Raises:
        ValueError: a question that it does not answer.
    """
    if player.kind == "file":
        try:
            known = answers_in(player.place)
        except ValueError:
            known = {}  # no question's name: told by the prompt's text
        if known:
            return [_known(player, question, known) for question in asked.questions]
    found: dict[int, list[str]] = {}
    for temperature, places in _by_temperature(asked).items():
        how = replace(
            sampling, temperature=temperature, max_new_tokens=sampling.max_new_tokens or _ANSWER[asked.suite]
        )
        for turn in (0, 1):
            now = [k for k in places if turn < len(asked.questions[k].turns)]
            if not now:
                continue
            prompts = [_conversation(asked.questions[k], found.get(k, [])) for k in now]
            said = player.answers(job, how, max_length, prompts, 1).texts
            for place, texts in zip(now, said, strict=True):
                if texts is None:
                    raise ValueError(
                        f"player {player.name} has no answer to question {asked.questions[place].id}, "
                        f"turn {turn + 1}"
                    )
                found.setdefault(place, []).append(texts[0])
    return [found[place] for place in range(len(asked.questions))]


def _known(player: Player, question: Question, known: Mapping[str, tuple[str, ...]]) -> list[str]:
    said = known.get(question.id, ())
    if len(said) < len(question.turns):
        raise ValueError(
            f"player {player.name} has no answer to question {question.id}, turn {len(said) + 1}"
        )
    return list(said[: len(question.turns)])


def _by_temperature(asked: Judging) -> dict[float, list[int]]:
    found: dict[float, list[int]] = {}
    for place, question in enumerate(asked.questions):
        own = asked.benchmark.answer_temperature
        if own is None:
            own = _TEMPERATURE.get(asked.suite)
        if own is None:
            own = mt_bench.TEMPERATURES.get(question.category, mt_bench.TEMPERATURE)
        found.setdefault(own, []).append(place)
    return found


def _conversation(question: Question, said: Sequence[str]) -> Text:
    turns = [{"role": "user", "content": question.turns[0]}]
    for answer, further in zip(said, question.turns[1:], strict=False):
        turns += [{"role": "assistant", "content": answer}, {"role": "user", "content": further}]
    return turns


def _requests(asked: Judging, answers: Sequence[Sequence[str]]) -> list[Any]:
    pairs = list(zip(asked.questions, answers, strict=True))
    if asked.suite == "mt-bench":
        return [one for q, a in pairs for one in mt_bench.requests(asked.prompts, q, a)]
    if asked.suite == "alpaca-eval-2":
        logprobs = asked.benchmark.judge_logprobs and not asked.published
        both = not asked.published
        return [
            one
            for q, a in pairs
            for one in alpaca_judging.requests(asked.prompts, q, a[0], logprobs=logprobs, both=both)
        ]
    return [one for q, a in pairs for one in arena_hard.requests(asked.prompts, asked.suite, q, a[0])]


#: Statistics by model, notes, and the judgments as they are kept.
Found = tuple[dict[str, dict[str, Any]], list[str], str]


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
        found[name] = _of(name, lambda ratings=ratings: mt_bench.statistics(ratings, seed=seed))
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


_STATISTICS = {
    "mt-bench": _mt_bench,
    "alpaca-eval-2": _alpaca_eval,
    "arena-hard": _arena_hard,
    "arena-hard-v2": _arena_hard,
}


def _of(name: str, compute: Any) -> dict[str, Any]:
    try:
        found: dict[str, Any] = compute()
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
    return found


def _keep(folder: Path, asked: Judging, answers: Mapping[str, list[list[str]]], lines: str) -> None:
    """Keep answers and judgments in the benchmarks' own formats, from which statistics alone can be made."""
    folder.mkdir(parents=True, exist_ok=True)
    with whole_file(folder / "answers.jsonl") as partial:
        partial.write_text(
            "".join(
                json.dumps(
                    {"question_id": question.id, "model": name, "choices": [{"index": 0, "turns": turns}]}
                )
                + "\n"
                for name, said in answers.items()
                for question, turns in zip(asked.questions, said, strict=True)
            ),
            encoding="utf-8",
        )
    with whole_file(
        folder / ("judgments.csv" if asked.suite == "alpaca-eval-2" else "judgments.jsonl")
    ) as partial:
        partial.write_text(lines, encoding="utf-8")

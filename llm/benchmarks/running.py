"""Running judged benchmarks: players answer, a judge is asked once, verdicts become statistics."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mnpo.common.files import whole_file
from mnpo.llm.benchmarks.judge_prompts import JudgePrompts
from mnpo.llm.benchmarks.judged import JUDGED, Judging
from mnpo.llm.benchmarks.questions import Question, answers_in, read_questions
from mnpo.llm.config import Benchmark, Sampling
from mnpo.llm.data.formats import Text
from mnpo.llm.endpoints.addresses import check_no_secret
from mnpo.llm.endpoints.asking import ask_all
from mnpo.llm.endpoints.chat import Chat
from mnpo.llm.models.job import Job
from mnpo.llm.players.base import Player


def prepared(suite: str, benchmark: Benchmark) -> Judging:
    """Read a suite's data and prepare its judge, before anything is asked.

    Raises:
        ValueError: data that are not there, or no judge.
    """
    if not benchmark.judge:
        raise ValueError(f"{suite} needs a judge: judge={{model: .., base_url: ..}}")
    check_no_secret(benchmark.judge, "judge")
    options = {
        "name": benchmark.judge.get("model", "judge"),
        "max_tokens": JUDGED[suite].judge_tokens,
        **benchmark.judge,
    }
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
    known = JUDGED[asked.suite]
    replies = {
        name: ask_all(
            job,
            asked.judge,
            [
                request
                for question, turns in zip(asked.questions, said, strict=True)
                for request in known.requests(asked, question, turns)
            ],
        )
        for name, said in answers.items()
    }
    statistics, notes, lines = known.statistics(asked, answers, replies, job.compute.seed)
    for name, row in statistics.items():
        found = replies[name]
        row |= {"refused": found.refused, "retried": found.retried, "asked": found.asked, "reused": found.reused,
                "judge_seconds": found.seconds}  # fmt: skip
    if job.processes.first:
        _keep(job.home / asked.suite, asked, answers, lines)
    return {
        "protocol": asked.protocol,
        "judge": f"{asked.judge.model} at {asked.judge.url}",
        "judge_prompts": asked.prompts.whose,
        "questions": len(asked.questions),
        "models": statistics,
        "notes": notes,
    }


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
            sampling,
            temperature=temperature,
            max_new_tokens=sampling.max_new_tokens or JUDGED[asked.suite].answer_tokens,
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
            own = JUDGED[asked.suite].temperature(question)
        found.setdefault(own, []).append(place)
    return found


def _conversation(question: Question, said: Sequence[str]) -> Text:
    turns = [{"role": "user", "content": question.turns[0]}]
    for answer, further in zip(said, question.turns[1:], strict=False):
        turns += [{"role": "assistant", "content": answer}, {"role": "user", "content": further}]
    return turns


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
    with whole_file(folder / JUDGED[asked.suite].kept) as partial:
        partial.write_text(lines, encoding="utf-8")

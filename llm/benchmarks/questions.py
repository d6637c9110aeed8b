"""Questions of judged benchmarks, with baselines and references: from the Hub, or files of the same format."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from mnpo.common.style import printable
from mnpo.llm.data.formats import Malformed, first_line
from mnpo.llm.data.sources import raw_rows

#: Where the Hub has each benchmark: questions, the baseline's answers, references.
HUB = {
    "mt-bench": ("HuggingFaceH4/mt_bench_prompts", None),
    "alpaca-eval-2": ("tatsu-lab/alpaca_eval/alpaca_eval_gpt4_baseline/eval", None),
    "arena-hard": (
        "hf://datasets/lmarena-ai/arena-hard-auto/data/arena-hard-v0.1/question.jsonl",
        "hf://datasets/lmarena-ai/arena-hard-auto/data/arena-hard-v0.1/model_answer/gpt-4-0314.jsonl",
    ),
    "arena-hard-v2": (
        "hf://datasets/lmarena-ai/arena-hard-auto/data/arena-hard-v2.0/question.jsonl",
        "hf://datasets/lmarena-ai/arena-hard-auto/data/arena-hard-v2.0/model_answer/o3-mini-2025-01-31.jsonl",
    ),
}
_NAMES = ("question_id", "uid", "prompt_id", "id")


@dataclass(frozen=True)
class Question:
    """A question.

    Attributes:
        id: of the benchmark's own.
        category: of the benchmark's own; empty without one.
        turns: what the user says, one or two.
        reference: the right answers to these, where there are some.
        baseline: the baseline's answer, where there is one.
    """

    id: str
    category: str
    turns: tuple[str, ...]
    reference: tuple[str, ...] = ()
    baseline: str | None = None


def read_questions(
    suite: str,
    questions: str | None = None,
    baseline: str | None = None,
    references: str | None = None,
    most: int | None = None,
) -> list[Question]:
    """Read a benchmark's questions.

    Args:
        suite: the benchmark.
        questions, baseline, references: files; the Hub's unless given.
        most: only so many; of several categories as many of each as there is room for.

    Raises:
        ValueError: a source that is not there or of another format, or a question without a baseline's answer.
    """
    hub = HUB[suite]
    source = questions or hub[0]
    found = {}
    for number, row in rows_of(source):
        try:
            one = _question(number, row)
        except Malformed as reason:
            raise ValueError(f"questions {source}, row {number}: {reason}") from None
        if one.id in found:
            raise ValueError(f"questions {source}, row {number}: {printable(one.id)} is there twice")
        found[one.id] = one
    if not found:
        raise ValueError(f"questions {source}: there are none")
    if references:
        for name, answers in answers_in(references).items():
            if name in found:
                found[name] = replace(found[name], reference=answers)
    other = baseline or hub[1]
    if other:
        known = answers_in(other)
        found = {
            name: replace(one, baseline=known[name][0] if name in known else one.baseline)
            for name, one in found.items()
        }
    chosen = _some(list(found.values()), most)
    if suite != "mt-bench":
        lacking = next((one.id for one in chosen if one.baseline is None), None)
        if lacking is not None:
            raise ValueError(
                f"{suite}: question {lacking} has no answer of the baseline; give baselines=FILE"
            )
    return chosen


def rows_of(source: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Yield numbered rows of a file, or of the Hub: a data set, one with its configuration and split, or a file.

    Raises:
        ValueError: a source that is not there, or a row that is no object.
    """
    config = split = None
    if source.startswith("hf://"):
        import datasets

        try:
            listed = datasets.load_dataset("json", data_files=source, split="train")
        except Exception as error:  # whatever a network can do
            raise ValueError(f"{source}: the Hub does not give it: {first_line(error)}") from None
        yield from enumerate(listed, start=1)
        return
    if source.count("/") == 3 and source == HUB["alpaca-eval-2"][0]:
        owner, name, config, split = source.split("/")
        source = f"{owner}/{name}"
    for number, raw in raw_rows(source, config, split):
        if isinstance(raw, Malformed):
            raise ValueError(f"{source}, row {number}: {raw}")
        yield number, raw


def _question(number: int, row: Mapping[str, Any]) -> Question:
    asked = next(
        (row[name] for name in ("turns", "instruction", "prompt", "question") if row.get(name)), None
    )
    turns = [asked] if isinstance(asked, str) else asked
    if not isinstance(turns, list) or not turns:
        raise Malformed("none of the columns turns, instruction, prompt, question")
    given = [turn.get("content") if isinstance(turn, dict) else turn for turn in turns]
    texts = tuple(text for text in given if isinstance(text, str) and text.strip())
    if len(texts) < len(given):
        raise Malformed("a question that is no text")
    name = next((str(row[name]) for name in _NAMES if row.get(name) is not None), str(number))
    known = row.get("reference") or ()
    reference = tuple(map(str, known)) if isinstance(known, list | tuple) else (str(known),)
    output = row.get("output", row.get("prediction"))
    return Question(
        name, str(row.get("category") or ""), texts, reference, output if isinstance(output, str) else None
    )


def answers_in(source: str) -> dict[str, tuple[str, ...]]:
    """Read answers by question, in the formats of FastChat and of Arena-Hard, or {question_id, output}.

    Raises:
        ValueError: a row without an answer.
    """
    found = {}
    for number, row in rows_of(source):
        name = next((str(row[name]) for name in _NAMES if row.get(name) is not None), None)
        try:
            if name is None:
                raise KeyError(_NAMES[0])
            found[name] = answer_of(row)
        except (LookupError, TypeError) as error:
            raise ValueError(
                f"answers {source}, row {number}: it has no answer ({first_line(error)})"
            ) from None
    return found


def answer_of(row: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the answer to each turn of a row in one of those formats.

    Raises:
        LookupError, TypeError: a row of another format.
    """
    return tuple(map(_text, _turns(row)))


def _turns(row: Mapping[str, Any]) -> list[Any]:
    if "choices" in row:
        return list(row["choices"][0]["turns"])
    if "messages" in row:
        return [turn["content"] for turn in row["messages"] if turn["role"] == "assistant"]
    return [row["output"] if "output" in row else row["answer"]]


def _text(given: Any) -> str:
    if isinstance(given, dict):
        given = given.get("answer", given.get("content"))
    if not isinstance(given, str):
        raise TypeError("an answer that is no text")
    return given


def _some(questions: list[Question], most: int | None) -> list[Question]:
    """Return the first questions, of several categories in turn, in their order."""
    if most is None or most >= len(questions):
        return questions
    turns: dict[str, int] = {}
    order = []
    for place, one in enumerate(questions):
        turns[one.category] = turns.get(one.category, 0) + 1
        order.append((turns[one.category], place))
    return [questions[place] for _, place in sorted(sorted(order)[:most], key=lambda pair: pair[1])]

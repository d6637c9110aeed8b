"""Judged responses in `.jsonl`, one prompt a line: `all_generated_responses` with `all_rm_scores`.

Scores of several annotators stand in columns: `all_rm_scores` is an object, annotator -> scores, or there are keys
`all_rm_scores_NAME`. Files are streamed: what is held at a time is a block of prompts.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RESPONSES, SCORES = "all_generated_responses", "all_rm_scores"


@dataclass(frozen=True)
class JudgedPrompt:
    """A line: the prompt, K responses, and annotator -> K scores."""

    where: str
    prompt: str
    responses: list[str]
    scores: dict[str, list[float]]


def is_judged(path: Path) -> bool:
    """Whether a file holds judged responses, by the keys of its first line."""
    if path.suffix.lower() != ".jsonl" or not path.is_file():
        return False
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        first = next((line for line in file if line.strip()), "")
    try:
        content = json.loads(first)
    except json.JSONDecodeError:
        return False
    return isinstance(content, dict) and any(key == RESPONSES or key.startswith(SCORES) for key in content)


def read_judged(path: Path) -> Iterator[JudgedPrompt]:
    """Read judged responses line by line.

    Raises:
        ValueError: says what is wrong, with the line.
    """
    names: list[str] | None = None
    try:
        with path.open(encoding="utf-8-sig") as file:
            for number, line in enumerate(file, 1):
                if not line.strip():
                    continue
                found = _read(f"{path}, line {number}", line)
                if names is not None and list(found.scores) != names:
                    raise ValueError(
                        f"{found.where}: must have the scores of the lines before, {', '.join(names)}; "
                        f"found {', '.join(found.scores)}"
                    )
                names = list(found.scores)
                yield found
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not a text file in UTF-8 ({error.reason} at byte {error.start})") from None


def _read(where: str, line: str) -> JudgedPrompt:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"{where}: not JSON ({error.msg})") from None
    if not isinstance(row, dict) or not isinstance(row.get(RESPONSES), list):
        raise ValueError(f"{where}: has no list {RESPONSES}")
    responses = [text if isinstance(text, str) else json.dumps(text) for text in row[RESPONSES]]
    scores: dict[str, Any] = {}
    for key, value in row.items():
        if key == SCORES and isinstance(value, dict):
            scores.update(value)
        elif key.startswith(SCORES):
            scores[key.removeprefix(SCORES).strip("_") or "scores"] = value
    if not scores:
        raise ValueError(f"{where}: has no {SCORES}")
    for name, values in scores.items():
        if not isinstance(values, list) or len(values) != len(responses):
            count = len(values) if isinstance(values, list) else repr(values)
            raise ValueError(
                f"{where}: scores of {name} must be {len(responses)} numbers, one a response; found {count}"
            )
        for place, value in enumerate(values):
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                raise ValueError(f"{where}: score {place} of {name} must be a number; found {value!r}")
    prompt = row.get("prompt", "")
    return JudgedPrompt(where, prompt if isinstance(prompt, str) else json.dumps(prompt), responses, scores)

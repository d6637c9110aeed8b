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

from mnpo.common.style import printable
from mnpo.oracles.plackett_luce import LARGEST_UTILITY
from mnpo.sim.reading import json_line, lines_in
from mnpo.values import shown

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
    if path.suffix.lower() != ".jsonl" or not path.is_file() or not path.stat().st_size:
        return False
    first = next(((where, line) for where, line in lines_in(path) if line.strip()), None)
    try:
        content = None if first is None else json_line(*first)
    except ValueError:
        return False  # said by whoever reads it as votes
    return isinstance(content, dict) and any(key == RESPONSES or key.startswith(SCORES) for key in content)


def read_judged(path: Path) -> Iterator[JudgedPrompt]:
    """Read judged responses line by line.

    Raises:
        ValueError: says what is wrong, with the line.
    """
    names: list[str] | None = None
    for where, line in lines_in(path):
        if not line.strip():
            continue
        found = _read(where, line)
        if names is not None and list(found.scores) != names:
            raise ValueError(
                f"{found.where}: must have the scores of the lines before, {', '.join(map(printable, names))}; "
                f"found {', '.join(map(printable, found.scores))}"
            )
        names = list(found.scores)
        yield found


def _read(where: str, line: str) -> JudgedPrompt:
    row = json_line(where, line)
    if not isinstance(row, dict) or not isinstance(row.get(RESPONSES), list):
        raise ValueError(f"{where}: has no list {RESPONSES}")
    responses = [text if isinstance(text, str) else json.dumps(text) for text in row[RESPONSES]]
    scores: dict[str, Any] = {}
    for key, value in row.items():
        if key.startswith(SCORES):
            named = {key.removeprefix(SCORES).strip("_") or "scores": value}
            for name, values in (value if key == SCORES and isinstance(value, dict) else named).items():
                if name in scores:
                    raise ValueError(f"{where}: has two scores of {shown(name)}")
                scores[name] = values
    if not scores:
        raise ValueError(f"{where}: has no {SCORES}")
    for name, values in scores.items():
        called = printable(name)
        if not isinstance(values, list) or len(values) != len(responses):
            count = len(values) if isinstance(values, list) else shown(values)
            raise ValueError(
                f"{where}: scores of {called} must be {len(responses)} numbers, one a response; found {count}"
            )
        for place, value in enumerate(values):
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                raise ValueError(f"{where}: score {place} of {called} must be a number; found {shown(value)}")
            if abs(value) > LARGEST_UTILITY:
                raise ValueError(
                    f"{where}: score {place} of {called}: at most {LARGEST_UTILITY:g} in size; found {value:g}"
                )
    prompt = row.get("prompt", "")
    return JudgedPrompt(where, prompt if isinstance(prompt, str) else json.dumps(prompt), responses, scores)

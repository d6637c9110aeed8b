"""The benchmarks by name, and the words of their command."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mnpo.choices import choose
from mnpo.llm.benchmarks.alpaca_eval import statistics

#: Benchmark -> the files that it takes, the first of which must be given.
FILES = {"alpaca-eval-2": ("annotations", "difficulty", "gamed")}


def existing(suite: str, words: Sequence[str]) -> dict[str, Any]:
    """Compute a benchmark's statistics from judgments that exist.

    Args:
        suite: a key of `FILES`.
        words: `key=FILE`.

    Raises:
        ValueError: an unknown benchmark or key, a file that is not there, or what cannot be read of it.
    """
    names = choose(suite, FILES, "benchmark")
    files: dict[str, Path] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not value:
            raise ValueError(f"expected key=FILE; found {word!r}")
        choose(key, dict.fromkeys(names), f"key of {suite}")
        files[key] = Path(value).expanduser()
        if not files[key].is_file():
            raise ValueError(f"{key}={value}: no such file")
    if names[0] not in files:
        raise ValueError(f"{suite} needs {names[0]}=FILE: judgments that exist; also {', '.join(names[1:])}")
    return statistics(**files)

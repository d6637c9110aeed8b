"""A judge of one's own from Python or from an installed package: what its answers depend on, what is wrong with it."""

from __future__ import annotations

import importlib.metadata
import json
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from own_judges import FILE, answers, only, refusal

from mnpo.llm.oracles.base import TextOracle
from mnpo.llm.oracles.panel import build

# --- from Python ------------------------------------------------------------------------------------------------

LONG = 3


def helper(text: str) -> int:
    return len(text) + LONG


def measured(prompt: str, response: str) -> float:
    return float(helper(response))


class Own(TextOracle):
    name, kind = "own", "reward"

    def key(self) -> dict[str, Any]:
        return {"mine": 2}

    def answer(self, questions: Any, device: Any) -> Any:
        yield [(place, 1.0) for place in range(len(questions))]


def test_functions_and_oracles_judge_as_they_are() -> None:
    assert answers(only(measured)) == [13, 15]
    assert only(measured).name == "measured"
    given = Own()
    assert only(given) is given
    assert only(Own).key() == {"mine": 2}
    panel = build({"kind": "population", "members": [measured, Own(), {"kind": "python", "function": measured,
                                                                      "name": "twice", "scale": 2, "weight": 2}]})  # fmt: skip
    assert [(m.oracle.name, m.oracle.scale, m.weight) for m in panel.members] == [
        ("measured", 1, 0.25), ("own", 1, 0.25), ("twice", 2, 0.5)
    ]  # fmt: skip
    assert refusal(3).startswith("oracle int: what judges must be a function or a TextOracle; found 3")


def test_the_key_of_a_function_is_what_it_says_and_what_it_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    def key(function: Callable[..., Any] = measured) -> str:
        return json.dumps(only(function).key(), sort_keys=True)

    before = key()
    assert before == key()
    monkeypatch.setitem(measured.__globals__, "LONG", 4)
    assert key() != before
    monkeypatch.setitem(measured.__globals__, "LONG", 3)
    monkeypatch.setitem(measured.__globals__, "helper", lambda text: len(text) + LONG)
    assert key() != before
    first, second = (lambda prompt, response: 1.0), (lambda prompt, response: 1.0)
    assert key(first) != key(second), "of two in one line each is itself"


def test_what_has_no_source_is_asked_for_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    weight = 2.0

    def closed(prompt: str, response: str) -> float:
        return weight

    class Called:
        def __call__(self, prompt: str, response: str) -> float:
            return 2.0

    typed: dict[str, Any] = {}
    exec("shown = lambda prompt, response: 2.0", typed)
    monkeypatch.setitem(measured.__globals__, "LONG", object())
    asked = "give it a key, plain data that names what its answers depend on: function.key = {..}"
    for function, why in (
        (typed["shown"], "<lambda> has no source to be told apart by"),
        (math.fmod, "fmod has no source to be told apart by"),
        (Called(), "Called has no source to be told apart by"),
        (closed, "closed depends on what stands around it (weight)"),
        (measured, "helper reads LONG, a object, which cannot be told by content"),
    ):
        assert refusal(function).endswith(f"{why}; {asked}")
    closed.key = {"weight": weight}  # type: ignore[attr-defined]  # that is how a function says it
    assert answers(only(closed)) == [2, 2]
    assert only(closed).key()["key"] == {"weight": 2.0}
    monkeypatch.setattr(Called, "key", lambda self: {"version": 1}, raising=False)
    assert only({"kind": "python", "function": Called(), "name": "c"}).key()["key"] == {"version": 1}


def test_a_lambda_typed_at_a_prompt_is_refused_in_one_line() -> None:
    code = "from mnpo.llm.oracles.panel import build; build(lambda prompt, response: 1.0)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "has no source to be told apart by; give it a key" in done.stderr.splitlines()[-1]


# --- of an installed package ------------------------------------------------------------------------------------


@pytest.fixture
def package(file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed package with kinds of its own."""
    (tmp_path / "installed_judges.py").write_text(FILE)
    (tmp_path / "broken_judges.py").write_text("import no_such_module_at_all")
    monkeypatch.syspath_prepend(str(tmp_path))
    points = {
        "words": "installed_judges:Words", "shorter": "installed_judges:shorter", "broken": "broken_judges:judge",
        "judge": "installed_judges:judge", "gone": "installed_judges:none",
    }  # fmt: skip
    found = [importlib.metadata.EntryPoint(name, value, "mnpo.oracles") for name, value in points.items()]

    def entry_points(*, group: str) -> list[importlib.metadata.EntryPoint]:
        assert group == "mnpo.oracles"
        return found

    monkeypatch.setattr(importlib.metadata, "entry_points", entry_points)


@pytest.mark.usefixtures("package")
def test_an_installed_package_adds_kinds() -> None:
    words = only({"kind": "words", "bonus": 1, "scale": 2, "name": "w"})
    assert (words.name, words.scale, answers(words)) == ("w", 2, [3, 4])
    assert only("words").name == "words"
    assert only({"kind": "words"}).key() != only({"kind": "words", "bonus": 1}).key()
    assert answers(only({"kind": "shorter", "slope": 0})) == [0.5, 0.5]
    file = sys.modules["installed_judges"].__file__
    assert (
        only({"kind": "shorter"}).key() == only({"kind": "python", "file": file, "function": "shorter"}).key()
    )


@pytest.mark.usefixtures("package")
def test_what_is_wrong_with_an_installed_kind_is_said() -> None:
    assert refusal({"kind": "shorter", "slop": 1}) == (
        "oracle shorter of kind shorter has no option 'slop'; did you mean 'slope'?"
    )
    assert refusal({"kind": "words", "scalle": 1}) == (
        "oracle words of kind words has no option 'scalle'; did you mean 'scale'?"
    )
    assert refusal({"kind": "broken"}) == (
        "the kind of oracle broken (broken_judges:judge) cannot be imported: ModuleNotFoundError: No module named "
        "'no_such_module_at_all'"
    )
    assert "the kind of oracle gone (installed_judges:none) cannot be imported" in refusal({"kind": "gone"})
    assert refusal({"kind": "word"}) == "unknown kind of oracle 'word'; did you mean 'words'?"
    assert "lacks model" in refusal({"kind": "judge"}), "no package takes the place of a kind of this one"

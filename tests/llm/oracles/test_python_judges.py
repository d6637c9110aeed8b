"""A judge of one's own from a file: what judges there, what its answers depend on, and what is wrong with it."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from own_judges import CPU, FILE, QUESTIONS, answers, only, refusal, write

from mnpo.llm.oracles.base import Question

# --- from a file ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keys", "name", "kind", "expected"),
    [
        ({}, "my_judge", "reward", [10, 12]),
        ({"function": "shorter"}, "shorter", "pairwise", [1 / (1 + math.exp(7)), 1 / (1 + math.exp(-8))]),
        ({"function": "shorter", "arguments": {"slope": 0}}, "shorter", "pairwise", [0.5, 0.5]),
        ({"function": "together"}, "together", "reward", [210, 212]),
        ({"function": "together", "batch_size": 1}, "together", "reward", [110, 112]),
        ({"function": "weighted", "arguments": {"weight": 3}}, "weighted", "reward", [30, 36]),
        ({"function": "Words", "name": "w", "arguments": {"bonus": 0.5}}, "w", "reward", [2.5, 3.5]),
        ({"function": "BUILT"}, "BUILT", "reward", [7, 8]),
    ],
)
def test_what_a_file_defines_judges(
    file: str, keys: dict[str, Any], name: str, kind: str, expected: list[float]
) -> None:
    oracle = only({"kind": "python", "file": file, **keys})
    assert (oracle.name, oracle.kind) == (name, kind)
    assert answers(oracle) == pytest.approx(expected)


def test_scale_and_orders_are_what_is_asked_for(file: str) -> None:
    assert only({"kind": "python", "file": file, "scale": 3}).scale == 3
    assert only({"kind": "python", "file": file, "function": "Words", "scale": "1e-1"}).scale == 0.1
    assert only({"kind": "python", "file": file, "function": "shorter", "both_orders": True}).both_orders
    assert not only({"kind": "python", "file": file, "function": "shorter"}).both_orders
    for function in ("shorter", "judge"):
        wrong = {"shorter": {"scale": 2}, "judge": {"both_orders": True}}[function]
        message = refusal({"kind": "python", "file": file, "function": function, **wrong})
        assert f"{next(iter(wrong))} " in message
        assert function in message


def test_prompts_come_as_texts(tmp_path: Path) -> None:
    """One question of a user as it is, a longer conversation with who speaks."""
    path = write(tmp_path, "def judge(prompt, response): return len(prompt) + (type(prompt) is str)")
    user = {"role": "user", "content": "Tea?"}
    talk = [user, {"role": "assistant", "content": "Yes."}, user]
    questions = [Question("Tea?", ""), Question([user], ""), Question(talk, "")]
    whole = len("User: Tea?\n\nAssistant: Yes.\n\nUser: Tea?") + 1
    assert answers(only({"kind": "python", "file": path}), questions) == [5, 5, whole]


def test_a_file_imports_what_lies_beside_it_and_runs_once(tmp_path: Path) -> None:
    write(tmp_path, "def count(text): return len(text)", "beside_the_judge.py")
    text = """
        from __future__ import annotations
        from dataclasses import dataclass
        from beside_the_judge import count

        @dataclass
        class Weight:
            of: float

        with open(__file__ + ".runs", "a") as runs:
            runs.write("x")

        def judge(prompt: Prompt, response: str):
            return Weight(count(response)).of
    """
    path = write(tmp_path, text)
    assert answers(only({"kind": "python", "file": path})) == [10, 12]
    assert answers(only({"kind": "python", "file": path, "scale": 2})) == [10, 12]
    assert Path(f"{path}.runs").read_text() == "x"


def test_the_key_is_the_file_the_function_and_its_arguments(file: str, tmp_path: Path) -> None:
    def key(path: str = file, **keys: Any) -> str:
        return json.dumps(only({"kind": "python", "file": path, **keys}).key(), sort_keys=True)

    shorter, words = {"function": "shorter"}, {"function": "Words"}
    (tmp_path / "copy.py").write_text(FILE)
    assert key() == key(str(tmp_path / "copy.py"), name="other", scale=2)
    keys = [key(), key(**shorter), key(**shorter, arguments={"slope": 2}), key(**words)]
    keys += [key(**words, arguments={"bonus": 1}), key(function="weighted", arguments={"weight": 1})]
    keys += [key(function="weighted", arguments={"weight": 2})]
    assert len(set(keys)) == len(keys)
    (tmp_path / "copy.py").write_text(f"{FILE}\n# changed")
    assert key() != key(str(tmp_path / "copy.py"))


def test_what_says_its_key_itself_is_taken_at_its_word(file: str, tmp_path: Path) -> None:
    assert only({"kind": "python", "file": file, "function": "BUILT"}).key() == {"mine": 1, "bonus": 5}
    text = "def judge(prompt, response, *, w=1): return w\njudge.key = {'version': 3}\n"
    first, second = write(tmp_path, text, "a.py"), write(tmp_path, f"{text}# changed", "b.py")
    keys = [only({"kind": "python", "file": path}).key() for path in (first, second)]
    assert keys[0] == keys[1]
    assert keys[0] != only({"kind": "python", "file": first, "arguments": {"w": 2}}).key()
    assert keys[0]["key"] == {"version": 3}


@pytest.mark.parametrize(
    ("text", "keys", "message"),
    [
        (None, {}, "oracle own: file FILE: no such file"),
        ("x = 1\n\ny = x / 0\n", {}, "oracle own: file FILE cannot be imported: ZeroDivisionError: division by zero (own.py, line 3)"),
        ("def judge(:\n", {"name": "j"}, "oracle j: file FILE cannot be imported: SyntaxError: invalid syntax (own.py, line 1)"),
        ("import sys\nsys.exit('no')", {}, "oracle own: file FILE cannot be imported: SystemExit: no (own.py, line 2)"),
        ("def judge_it(prompt, response): return 1", {}, "oracle own: file FILE has no function 'judge'; did you mean 'judge_it'?"),
        ("import math", {"function": "f"}, "oracle f: file FILE has no function 'f'; it defines none"),
        ("judge = 3", {}, "oracle own: what judges must be a function or a TextOracle; found 3"),
        ("def judge(text): return 1", {}, "oracle own: judge must take (prompt, response), for a reward, or (prompt, first, second), for the probability that first is preferred; found (text)"),
        ("def judge(a, b, c, d): return 1", {}, "oracle own: judge must take (prompt, response), for a reward, or (prompt, first, second), for the probability that first is preferred; found (a, b, c, d)"),
        ("def judge(*texts): return 1", {}, "oracle own: judge must take (prompt, response), for a reward, or (prompt, first, second), for the probability that first is preferred; found (*texts)"),
        ("def judge(): return 1", {}, "oracle own: judge must take (prompt, response) or (prompt, first, second), or return a function that does, or a TextOracle; found 1"),
        ("def judge(p, r, *, weight): return 1", {}, "oracle own: judge lacks the argument weight"),
        ("def judge(p, r, *, weight): return 1", {"arguments": {"wait": 1}}, "oracle own: judge takes no argument 'wait'; did you mean 'weight'?"),
        ("def judge(p, r): return 1", {"arguments": 3}, "oracle own: arguments must be keys and values; found 3"),
        ("def judge(p, r): return 1", {"batch_size": 0}, "oracle own: batch_size must be a whole number, at least 1; found 0"),
        ("def judge(p, r): return 1", {"scale": 0}, "oracle own.py of kind python: scale must be a number above 0; found 0"),
        ("def judge(p, r): return 1", {"scael": 2}, "oracle own.py of kind python has no option 'scael'; did you mean 'scale'?"),
        ("def judge(p, r): return 1\njudge.key = {1, 2}", {}, "oracle own: key of judge must be plain data; found {1, 2}"),
        ("from mnpo.llm.oracles.base import TextOracle\nclass Half(TextOracle):\n    kind = 'reward'", {"function": "Half"}, "oracle Half: Half lacks answer, key, which a TextOracle must have"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_file_is_said(
    tmp_path: Path, text: str | None, keys: dict[str, Any], message: str
) -> None:
    path = tmp_path / "own.py"
    if text is not None:
        path.write_text(text)
    assert refusal({"kind": "python", "file": str(path), **keys}) == message.replace("FILE", str(path))


# --- what goes wrong while it answers ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def judge(p, r):\n    return {'Yes, rain.': 1}[r]", "oracle own: judge raised KeyError: 'Tea is fine.' (own.py, line 2) on question 1 ('Tea?')"),
        ("def judge(p, r):\n    if p == 'Rain?': return True\n    raise ValueError", "oracle own: judge raised ValueError (own.py, line 3) on question 1 ('Tea?')"),
        ("def judge(p, r):\n    if p == 'Rain?': return 1\n    raise OSError('one\\ntwo')", "oracle own: judge raised OSError: one (own.py, line 3) on question 1 ('Tea?')"),
        ("def judge(p, r): return 1 if p == 'Rain?' else float('nan')", "the oracle own must answer with a finite reward; found nan for question 1 ('Tea?')"),
        ("def judge(p, r): return 1 if p == 'Rain?' else None", "the oracle own must answer with a finite reward; found None for question 1 ('Tea?')"),
        ("def judge(p, r): return 1 if p == 'Rain?' else '1'", "the oracle own must answer with a finite reward; found '1' for question 1 ('Tea?')"),
        ("def judge(p, a, b): return 1 if p == 'Rain?' else 1.5", "the oracle own must answer with a probability between 0 and 1; found 1.5 for question 1 ('Tea?')"),
    ],
)  # fmt: skip
def test_a_wrong_answer_names_its_question_and_loses_no_other(
    tmp_path: Path, text: str, message: str
) -> None:
    oracle = only({"kind": "python", "file": write(tmp_path, text)})
    kept: list[tuple[int, float]] = []
    with pytest.raises(ValueError, match=r".") as error:
        kept.extend(answer for batch in oracle.answer(QUESTIONS, CPU) for answer in batch)
    assert str(error.value) == message
    assert kept == [(0, 1.0)]


def test_a_batch_must_be_answered_whole(tmp_path: Path) -> None:
    path = write(tmp_path, "def judge(prompts, responses): return [1.0]")
    oracle = only({"kind": "python", "file": path, "batch_size": 2})
    with pytest.raises(
        ValueError, match="judge must answer 2 questions with as many numbers; found 1, from question 0"
    ):
        answers(oracle)


def test_a_class_is_checked_as_a_function_is(tmp_path: Path) -> None:
    text = """
        from mnpo.llm.oracles.base import TextOracle

        class Wrong(TextOracle):
            kind = "pairwise"

            def __init__(self, value=0.5):
                self.value = value if value else 1 / 0

            def answer(self, questions, device):
                yield [(0, self.value)]
                raise RuntimeError("down")
    """
    spec = {"kind": "python", "file": write(tmp_path, text), "function": "Wrong"}
    assert refusal({**spec, "arguments": {"value": 0}}).startswith(
        "oracle Wrong: Wrong raised ZeroDivisionError: division by zero (own.py, line "
    )
    with pytest.raises(
        ValueError, match=r"^oracle Wrong: Wrong\.answer raised RuntimeError: down \(own\.py, line 12\)$"
    ):
        answers(only(spec))
    with pytest.raises(
        ValueError, match=r"a probability between 0 and 1; found 2 for question 0 \('Rain\?'\)"
    ):
        answers(only({**spec, "arguments": {"value": 2}}))
    pairs = write(tmp_path, "def judge(prompt, first, second): return 0.5", "pairs.py")
    with pytest.raises(ValueError, match="compares two responses; question 0 has one"):
        answers(only({"kind": "python", "file": pairs}), [Question("Tea?", "Yes.")])

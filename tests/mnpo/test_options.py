"""What a function takes, read off its signature, and values made into it."""

from collections.abc import Sequence
from typing import Annotated

import numpy as np
import pytest

from mnpo.options import REQUIRED, Option, options_of


def build(
    eta: Annotated[float | np.ndarray, Option("a step")],
    count: Annotated[int, Option("how many")] = 3,
    way: Annotated[str, Option("which way", ("left", "right"))] = "left",
    weights: Annotated[Sequence[float] | None, Option("shares")] = None,
    pulls: tuple[float, ...] = (0.1, 0.2),
    loud: bool = False,
): ...


OPTIONS = options_of(build)


def test_the_signature_says_kind_default_and_meaning():
    assert list(OPTIONS) == ["eta", "count", "way", "weights", "pulls", "loud"]
    assert [option.kind for option in OPTIONS.values()] == [float, int, str, float, float, bool]
    assert [name for name, option in OPTIONS.items() if option.many] == ["weights", "pulls"]
    assert [name for name, option in OPTIONS.items() if option.optional] == ["weights"]
    assert OPTIONS["eta"].default is REQUIRED
    assert OPTIONS["way"].help == "which way"
    assert [option.default_text for option in OPTIONS.values()] == ["", "3", "left", "", "0.1,0.2", "False"]
    assert OPTIONS["pulls"].as_dict() == {
        "help": "", "type": "numbers", "choices": [], "required": False, "default": [0.1, 0.2],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("eta", "5e-7", 5e-7),
        ("eta", 2, 2),
        ("count", "4", 4),
        ("count", 4, 4),
        ("way", "right", "right"),
        ("weights", "0.7/0.3", [0.7, 0.3]),
        ("weights", "0.7, 0.3", [0.7, 0.3]),
        ("weights", [0.7, "0.3"], [0.7, 0.3]),
        ("weights", None, None),
        ("pulls", 0.5, [0.5]),
        ("pulls", "0.5", [0.5]),
        ("loud", "true", True),
        ("loud", False, False),
    ],
)
def test_values_as_typed_and_as_yaml_reads_them(name, value, expected):
    found = OPTIONS[name].read(value, name)
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("eta", "fast", "rule.eta must be a number; found 'fast'"),
        ("eta", None, "rule.eta must be a number; found None"),
        ("eta", "inf", "rule.eta must be a finite number"),
        ("count", "2.5", "rule.count must be a whole number; found '2.5'"),
        ("count", True, "rule.count must be a whole number"),
        ("way", "rihgt", "rule.way: unknown value 'rihgt'; did you mean 'right'?"),
        ("way", "up", "rule.way: unknown value 'up'; choose from left, right"),
        ("weights", "0.7,x", "rule.weights must be a number; found 'x'"),
        ("weights", [[0.7]], "rule.weights must be a number"),
        ("loud", "maybe", "rule.loud must be true or false; found 'maybe'"),
    ],
)
def test_bad_values_are_named(name, value, words):
    with pytest.raises(ValueError, match=r"^rule") as caught:
        OPTIONS[name].read(value, f"rule.{name}")
    assert words in str(caught.value)

"""No number that is not one reaches a run, however it is written."""

from __future__ import annotations

import math
import types
import typing
from typing import Any

import pytest

from mnpo.llm.config import load, resolve
from mnpo.llm.config.training import FIXED, RANGES, Training, arguments
from mnpo.llm.config.whole import SECTIONS
from mnpo.values import coerce

HUGE = 10**400
NO_NUMBERS: dict[str, Any] = {
    "nan": math.nan, "inf": math.inf, "-inf": -math.inf, "text nan": "nan", "text inf": "inf", "text -inf": "-inf",
    "text infinity": "Infinity", "text 1e999": "1e999", "huge": HUGE, "huge text": str(HUGE),
}  # fmt: skip
NEEDED = {"model": {"model_name_or_path": "m"}, "output_dir": "o", "objective": "dpo"}


def refusal(error: pytest.ExceptionInfo[ValueError], key: str) -> None:
    assert key in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", NO_NUMBERS)
@pytest.mark.parametrize("hint", [float, float | None, (float, type(None)), (int, float)], ids=str)
def test_what_is_no_finite_number_is_refused_by_name(name: str, hint: Any) -> None:
    with pytest.raises(ValueError, match=r"the key must be ") as error:
        coerce(NO_NUMBERS[name], hint, "the key")
    refusal(error, "the key")


@pytest.mark.parametrize("value", [HUGE, -HUGE, str(HUGE)], ids=["huge", "-huge", "huge text"])
def test_a_whole_number_that_no_machine_has_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match=r"the key must be ") as error:
        coerce(value, int, "the key")
    refusal(error, "the key")


@pytest.mark.parametrize(
    ("value", "hint", "found"),
    [("5e-7", float, 5e-7), (3, float, 3), ("3", float, 3.0), (7, int, 7), (None, float | None, None), (2**62, int, 2**62)],
)  # fmt: skip
def test_numbers_are_what_they_were(value: Any, hint: Any, found: Any) -> None:
    assert coerce(value, hint, "the key") == found


def number_keys() -> list[str]:
    """Every key of our own that takes a number, and some of transformers'."""
    found = []
    for section, kind in SECTIONS.items():
        hints = {} if kind is Training else typing.get_type_hints(kind)
        for key, hint in hints.items():
            kinds = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
            found += [f"{section}.{key}"] if {int, float} & set(kinds) else []
    return [*found, "training.learning_rate", "training.max_steps", "training.seed", "training.warmup_steps"]


@pytest.mark.parametrize("key", number_keys())
def test_every_key_that_takes_a_number_refuses_what_is_none(key: str) -> None:
    section, _, name = key.partition(".")
    for value in NO_NUMBERS.values():
        given = {**NEEDED.get(section, {}), name: value}
        with pytest.raises(ValueError, match=r".") as error:
            resolve({**NEEDED, section: given})
        refusal(error, name)


@pytest.mark.parametrize("text", [".nan", ".inf", "nan", "inf", "1e999", str(HUGE)])
def test_overrides_are_read_alike(text: str) -> None:
    for key in ("temperature", "eval_size", "learning_rate", "num_generations"):
        with pytest.raises(ValueError, match=key) as error:
            load("tiny", [f"{key}={text}"])
        refusal(error, key)


def test_every_number_of_transformers_has_its_range() -> None:
    numbers = {name for name, known in arguments().items() if {int, float} & set(known.kinds)}
    assert numbers - set(FIXED) == set(RANGES)


@pytest.mark.parametrize("text", [".nan", "inf", str(HUGE)])
def test_parameters_of_rules_and_objectives_too(text: str) -> None:
    for override in (f"rule.eta={text}", f"objective={{name: dpo, beta: {text}}}"):
        with pytest.raises(ValueError, match=r".") as error:
            load("tiny", [override])
        refusal(error, override.partition("=")[0].partition(".")[0])

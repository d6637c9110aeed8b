"""A Python function as a judge.

A function of (prompt, response) gives a reward; one of (prompt, first, second) gives the probability that first is
preferred. Prompts come to it as texts, longer conversations with the name of who speaks before each turn. With
`batch_size` it is given lists, and answers with as many numbers. What it says of itself stands in its attributes:
`judge.key`, `judge.batch_size`, `judge.both_orders`, `judge.scale`.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mnpo.choices import suggestion
from mnpo.llm.oracles import sources, texts
from mnpo.llm.oracles.base import Answers, Question, TextOracle, check_answers, check_scale, named, wanted

if TYPE_CHECKING:
    import torch

#: Seconds after which answers are given away.
_EVERY = 1.0


class FunctionOracle(TextOracle):
    """A Python function as an oracle.

    Args:
        function: of (prompt, response), a reward; or of (prompt, first, second), the probability that first is
            preferred.
        name: how results call it; the function's unless given.
        scale: of rewards, see `TextOracle`; 1 unless given here or by the function.
        both_orders: whether pairs are asked in both orders; no unless given here or by the function.
        batch_size: how many questions the function is given at once, as lists; one, and no list, unless given here
            or by the function.
        arguments: further ones of the function, by name.
        key: what the answers depend on besides the arguments, as plain data; the function's source unless given
            here or by the function.

    Raises:
        ValueError: a function of other parameters, an option out of range, or a function whose source cannot tell
            what the answers depend on.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        name: str | None = None,
        scale: float | None = None,
        both_orders: bool | None = None,
        batch_size: int | None = None,
        arguments: Mapping[str, Any] | None = None,
        key: Any = None,
    ) -> None:
        label = sources.shown(function)
        self.name = name or ("judge" if label == "<lambda>" else label)
        self._function, self._label, self._arguments = function, label, dict(arguments or {})
        count = len(required(function, self._arguments))
        if count not in (2, 3):
            raise ValueError(
                f"{label} must take (prompt, response), for a reward, or (prompt, first, second), for the "
                f"probability that first is preferred; found {inspect.signature(function)}"
            )
        self.kind = "reward" if count == 2 else "pairwise"
        if scale is None:
            scale = getattr(function, "scale", None)
        if scale is not None:
            if self.kind == "pairwise":
                raise ValueError(f"scale divides rewards; {label} answers with probabilities")
            self.scale = check_scale(scale)
        self.both_orders = bool(_said(function, "both_orders", both_orders))
        if self.both_orders and self.kind == "reward":
            raise ValueError(f"both_orders is for pairs; {label} judges one response")
        self._batch_size = _said(function, "batch_size", batch_size)
        if self._batch_size is not None and (type(self._batch_size) is not int or self._batch_size < 1):
            raise ValueError(f"batch_size must be a whole number, at least 1; found {self._batch_size!r}")
        said = _said(function, "key", key)
        said = said() if callable(said) else said
        for what, value in (("key", said), ("arguments", self._arguments)):
            if not sources.is_plain(value):
                raise ValueError(f"{what} of {label} must be plain data; found {value!r:.60}")
        content = sources.described(function) if said is None else {"key": said}
        self._key = {"kind": "python", "arguments": self._arguments, **content}

    def key(self) -> dict[str, Any]:
        """See `TextOracle.key`."""
        return dict(self._key)

    def answer(self, questions: Sequence[Question], device: torch.device) -> Iterator[Answers]:
        """Yield what was answered about once a second, and before an error; see `TextOracle.answer`.

        Raises:
            ValueError: an exception of the function, or an answer that is none; names the question.
        """
        found: Answers = []
        last, size = time.monotonic(), self._batch_size or 1
        for start in range(0, len(questions), size):
            try:
                found += self._batch(questions, range(start, min(start + size, len(questions))))
            except ValueError:
                if found:
                    yield found
                raise
            if time.monotonic() - last > _EVERY:
                yield found
                found, last = [], time.monotonic()
        if found:
            yield found

    def _batch(self, questions: Sequence[Question], places: range) -> Answers:
        columns = [
            [texts.plain(questions[place].prompt) for place in places],
            [questions[place].first for place in places],
        ]
        if self.kind == "pairwise":
            columns.append([self._second(questions, place) for place in places])
        try:
            if self._batch_size is None:
                said = [self._function(*(column[0] for column in columns), **self._arguments)]
            else:
                said = list(self._function(*columns, **self._arguments))
        except Exception as error:  # whatever a person's own code can do
            told = sources.told(error, sources.path_of(self._function))
            raise ValueError(
                f"oracle {self.name}: {self._label} raised {told} on "
                f"{named(questions, places[0])}" + (f" or the {len(places) - 1} after it" * (len(places) > 1))
            ) from error
        if len(said) != len(places):
            raise ValueError(
                f"oracle {self.name}: {self._label} must answer {len(places)} questions with as many numbers; "
                f"found {len(said)}, from {named(questions, places[0])} on"
            )
        found = [
            (place, self._number(questions, place, value)) for place, value in zip(places, said, strict=True)
        ]
        check_answers(self, questions, found)
        return found

    def _number(self, questions: Sequence[Question], place: int, value: Any) -> float:
        try:
            if not isinstance(value, str | bytes):
                return float(value)
        except (TypeError, ValueError, OverflowError, RuntimeError):
            pass
        raise ValueError(
            f"the oracle {self.name} must answer with {wanted(self)}; found {value!r:.60} for "
            f"{named(questions, place)}"
        )

    def _second(self, questions: Sequence[Question], place: int) -> str:
        second = questions[place].second
        if second is None:
            raise ValueError(f"the oracle {self.name} compares two responses; question {place} has one")
        return second


def required(function: Callable[..., Any], arguments: Mapping[str, Any]) -> list[str]:
    """Return the parameters that a function needs besides some arguments.

    Raises:
        ValueError: a function that does not tell, or that lacks an argument or does not take one.
    """
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):
        raise ValueError(
            f"{sources.shown(function)} does not tell its parameters: write a function around it"
        ) from None
    check_options(arguments, parameters, f"{sources.shown(function)} takes no argument")
    needed = []
    for name, parameter in parameters.items():
        if name in arguments or parameter.default is not parameter.empty:
            continue
        if parameter.kind is parameter.KEYWORD_ONLY:
            raise ValueError(f"{sources.shown(function)} lacks the argument {name}")
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            needed.append(name)
    return needed


def check_options(
    given: Mapping[str, Any],
    parameters: Mapping[str, inspect.Parameter],
    what: str,
    also: tuple[str, ...] = (),
) -> None:
    """Refuse options that nothing takes.

    Args:
        given: option -> value.
        parameters: of what is built or called.
        what: how the error begins.
        also: options that are known besides.

    Raises:
        ValueError: names the option and the nearest one that there is.
    """
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return
    known = [name for name, parameter in parameters.items() if parameter.kind is not parameter.VAR_POSITIONAL]
    for name in given:
        if name not in (*known, *also):
            near = suggestion(name, (*known, *also)) if known or also else "there are none"
            raise ValueError(f"{what} {name!r}; {near}")


def _said(function: Callable[..., Any], option: str, given: Any) -> Any:
    return getattr(function, option, None) if given is None else given

"""A judge of one's own: a function or a `TextOracle` from a Python file, an installed package or a notebook."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mnpo.llm.oracles import sources
from mnpo.llm.oracles.base import Answers, Question, TextOracle, check_answers
from mnpo.llm.oracles.functions import FunctionOracle, required

if TYPE_CHECKING:
    import torch

#: The function of a file that judges, unless another one is named.
USUAL = "judge"
#: What is said of any oracle of one's own besides the arguments of the function or class.
COMMON = ("name", "scale", "both_orders", "batch_size")


def python(
    *,
    file: str | None = None,
    function: Any = USUAL,
    name: str | None = None,
    scale: float | None = None,
    both_orders: bool | None = None,
    batch_size: int | None = None,
    arguments: dict[str, Any] | None = None,
) -> TextOracle:
    """Build an oracle of a Python file, which is run.

    Args:
        file: the file.
        function: what judges there: a function (see `mnpo.llm.oracles.functions`), a subclass of `TextOracle` or an
            instance of one, or a function without parameters of its own that returns one of these. From Python the
            thing itself, without a file.
        name: how results call it; unless given, what the class says, or the function's name, or, where that is
            "judge", the file's.
        scale, both_orders, batch_size: see `FunctionOracle`.
        arguments: of the function or the class, by name.

    Raises:
        ValueError: no such file or function, one that fails, or what `FunctionOracle` refuses.
    """
    given = {"name": name, "scale": scale, "both_orders": both_orders, "batch_size": batch_size}
    options = {option: value for option, value in given.items() if value is not None}
    called = function if isinstance(function, str) else sources.shown(function).strip("<>")
    try:
        if file is not None and function == USUAL:
            called = Path(file).stem
        if not isinstance(arguments, dict | None):
            raise ValueError(f"arguments must be keys and values; found {arguments!r:.60}")
        if not isinstance(function, str):
            return _built(function, None, arguments or {}, options, called)
        if file is None:
            raise ValueError(f"file is missing: the Python file that holds {called}")
        path = Path(file).expanduser()
        module, digest = sources.load(path)
        value = sources.pick(module, function, path)
        return _built(value, lambda: {"file": digest, "function": function}, arguments or {}, options, called)
    except ValueError as error:
        raise ValueError(f"oracle {name or called}: {error}") from error


def installed(kind: str, value: Any, options: Mapping[str, Any]) -> TextOracle:
    """Build an oracle of what an installed package gives under the name of a kind.

    Args:
        kind: the entry point's name.
        value: a function, or a subclass of `TextOracle`.
        options: `name`, `scale`, `both_orders`, `batch_size`, and arguments of the function or the class.

    Raises:
        ValueError: what `python` refuses.
    """
    common = {option: options[option] for option in COMMON if options.get(option) is not None}
    arguments = {option: options[option] for option in options if option not in COMMON}
    try:
        return _built(value, partial(sources.defined_in, value), arguments, common, kind)
    except ValueError as error:
        raise ValueError(f"oracle {options.get('name', kind)}: {error}") from error


def _built(
    value: Any,
    source: Callable[[], dict[str, Any]] | None,
    arguments: dict[str, Any],
    options: dict[str, Any],
    usual: str,
) -> TextOracle:
    """Make an oracle of a thing; `source` says what it is by content, where it is not given as an object."""
    if isinstance(value, TextOracle):
        if arguments:
            raise ValueError(f"{type(value).__name__} is built already and takes no argument")
        # A copy: other oracles of the same run may dress the same thing otherwise.
        return _dressed(copy.copy(value), options, usual, guarded=source is not None)
    if inspect.isclass(value) and issubclass(value, TextOracle):
        return _instance(value, source, arguments, options, usual)
    if not callable(value) or inspect.isclass(value):
        raise ValueError(f"what judges must be a function or a TextOracle; found {value!r:.60}")
    key = getattr(value, "key", None)
    if _judges(value, arguments):
        content = source() if key is None and source is not None else key
        return FunctionOracle(value, arguments=arguments, key=content, **{"name": usual, **options})
    label = sources.shown(value)
    made = _called(value, arguments)
    if isinstance(made, TextOracle):
        return _dressed(made, options, usual, guarded=source is not None)
    if not callable(made):
        raise ValueError(
            f"{label} must take (prompt, response) or (prompt, first, second), or return a function that does, "
            f"or a TextOracle; found {made!r:.60}"
        )
    key = getattr(made, "key", key)
    if key is None:
        key = {**(sources.described(value) if source is None else source()), "arguments": arguments}
    return FunctionOracle(made, key=key, **{"name": usual, **options})


def _judges(function: Callable[..., Any], arguments: Mapping[str, Any]) -> bool:
    """Tell whether a function judges, and does not make what judges: it needs more than its arguments."""
    takes_any = any(
        parameter.kind is parameter.VAR_POSITIONAL
        for parameter in inspect.signature(function).parameters.values()
    )
    return takes_any or bool(required(function, arguments))


def _instance(
    cls: type[TextOracle],
    source: Callable[[], dict[str, Any]] | None,
    arguments: dict[str, Any],
    options: dict[str, Any],
    usual: str,
) -> TextOracle:
    parameters = inspect.signature(cls).parameters
    given = {option: value for option, value in options.items() if option in parameters} | arguments
    if "name" in parameters and parameters["name"].default is inspect.Parameter.empty:
        given = {"name": usual, **given}
    lacking = required(cls, given)
    if lacking:
        raise ValueError(f"{cls.__name__} lacks the argument {lacking[0]}")
    abstract = set(cls.__abstractmethods__)
    if abstract == {"key"} and source is not None:
        key = {"kind": "python", "arguments": arguments, "key": source()}
        if not sources.is_plain(arguments):
            raise ValueError(f"arguments of {cls.__name__} must be plain data; found {arguments!r:.60}")
        cls = type(cls.__name__, (cls,), {"key": lambda self: dict(key), "__module__": cls.__module__})
    elif abstract:
        raise ValueError(f"{cls.__name__} lacks {', '.join(sorted(abstract))}, which a TextOracle must have")
    left = {option: value for option, value in options.items() if option not in parameters}
    return _dressed(_called(cls, given), left, usual, guarded=source is not None)


def _called(make: Callable[..., Any], arguments: Mapping[str, Any]) -> Any:
    try:
        return make(**arguments)
    except Exception as error:  # whatever a person's own code can do
        told = sources.told(error, sources.path_of(make))
        raise ValueError(f"{sources.shown(make)} raised {told}") from error


def _dressed(oracle: TextOracle, options: Mapping[str, Any], usual: str, *, guarded: bool) -> TextOracle:
    """Give an oracle what is said of it besides its own arguments."""
    label = type(oracle).__name__
    if "batch_size" in options:
        raise ValueError(f"{label} takes no argument 'batch_size'")
    if not getattr(oracle, "name", None):
        oracle.name = usual
    for option, value in options.items():
        if option == "scale" and oracle.kind != "reward":
            raise ValueError(f"scale divides rewards; {label} answers with probabilities")
        setattr(oracle, option, value)
    return _Guarded(oracle) if guarded else oracle


class _Guarded(TextOracle):
    """An oracle of a class of one's own: its answers are checked, and what goes wrong is said in one line."""

    def __init__(self, inner: TextOracle) -> None:
        if getattr(inner, "kind", None) not in ("reward", "pairwise"):
            raise ValueError(
                f"{type(inner).__name__} must have a kind, 'reward' or 'pairwise'; found "
                f"{getattr(inner, 'kind', None)!r}"
            )
        self._inner, self._label = inner, type(inner).__name__
        self._path = sources.path_of(type(inner))
        self.name, self.kind, self.scale = inner.name, inner.kind, inner.scale
        self.both_orders, self.local = inner.both_orders, inner.local

    def key(self) -> dict[str, Any]:
        try:
            return self._inner.key()
        except Exception as error:  # whatever a person's own code can do
            raise self._told(error, "key") from error

    def answer(self, questions: Sequence[Question], device: torch.device) -> Iterator[Answers]:
        answering: Iterator[Answers] | None = None
        while True:
            try:
                answering = answering or iter(self._inner.answer(questions, device))
                answers = next(answering, None)
            except Exception as error:  # whatever a person's own code can do
                raise self._told(error, "answer") from error
            if answers is None:
                return
            check_answers(self, questions, answers)
            yield answers

    def _told(self, error: Exception, method: str) -> ValueError:
        told = sources.told(error, self._path)
        return ValueError(f"oracle {self.name}: {self._label}.{method} raised {told}")

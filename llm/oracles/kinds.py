"""The kinds of oracle that there are: this package's, and those that installed packages add.

A package adds a kind by an entry point of the group `mnpo.oracles`: its name is the kind, its value a subclass of
`TextOracle` or a function that judges. Nothing is imported before it is asked for.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from importlib import import_module, metadata
from typing import Any, NamedTuple

from mnpo.choices import choose
from mnpo.llm.data.formats import first_line
from mnpo.llm.oracles.base import TextOracle, check_scale
from mnpo.llm.oracles.functions import check_options
from mnpo.llm.oracles.python import COMMON, installed
from mnpo.values import coerce

#: The kinds of this package: the module and what in it builds the oracle. Its parameters are the kind's options.
KINDS: dict[str, str] = {
    "synthetic": "mnpo.llm.oracles.synthetic:Synthetic",
    "reward": "mnpo.llm.oracles.reward:RewardModel",
    "pairwise": "mnpo.llm.oracles.pairwise:PairwiseModel",
    "embedding": "mnpo.llm.oracles.embedding:EmbeddingModel",
    "judge": "mnpo.llm.oracles.judge:Judge",
    "python": "mnpo.llm.oracles.python:python",
}
#: Kinds of plain values, by the annotation of an option.
_PLAIN = {"int": int, "float": float, "bool": bool, "str": str, "None": type(None)}
#: The group of entry points of further kinds.
GROUP = "mnpo.oracles"


class Kind(NamedTuple):
    """A kind of oracle.

    Attributes:
        name: what it is called.
        build: what makes one, called with options.
        parameters: of what it makes one of; an option is one of these, or of `also`.
        also: options that are known besides.
    """

    name: str
    build: Callable[..., TextOracle]
    parameters: Mapping[str, inspect.Parameter]
    also: tuple[str, ...] = ()

    def needs(self, option: str) -> bool:
        """Tell whether there is no oracle of this kind without an option."""
        return option in self.parameters and self.parameters[option].default is inspect.Parameter.empty

    def make(self, options: Mapping[str, Any], shown: str) -> TextOracle:
        """Build an oracle.

        Args:
            options: of the kind.
            shown: what errors call the oracle.

        Raises:
            ValueError: an option that is unknown, missing or of the wrong type, or what the oracle itself refuses.
        """
        what = f"oracle {shown} of kind {self.name}"
        check_options(options, self.parameters, f"{what} has no option", self.also)
        lacking = [
            name for name in self.parameters if not self.also and self.needs(name) and name not in options
        ]
        if lacking:
            raise ValueError(f"{what} lacks {' and '.join(lacking)}")
        given = {name: self._number(name, value, what) for name, value in options.items()}
        if given.get("scale") is not None:
            try:
                check_scale(given["scale"])
            except ValueError as error:
                raise ValueError(f"{what}: {error}") from None
        try:
            return self.build(**given)
        except TypeError as error:  # a value of a type that its constructor does not check
            raise ValueError(f"{what}: {first_line(error)}") from error

    def _number(self, name: str, value: Any, what: str) -> Any:
        """Return a value as an option takes it: YAML reads 1e-2 as a text, and not every text is a number."""
        takes = str(self.parameters[name].annotation).split(" | ") if name in self.parameters else [""]
        if all(kind in _PLAIN for kind in takes):
            return coerce(value, tuple(_PLAIN[kind] for kind in takes), f"{what}: {name}")
        return value


def names() -> list[str]:
    """Return the kinds that there are, without importing what is behind them."""
    return sorted({*KINDS, *_entry_points()})


def find(name: str) -> Kind:
    """Return a kind, importing what builds its oracles.

    Raises:
        ValueError: an unknown kind, or one whose package cannot be imported.
    """
    choose(name, dict.fromkeys([*names(), "population"]), "kind of oracle")
    if name in KINDS:
        module, _, builder = KINDS[name].partition(":")
        try:
            build = getattr(import_module(module), builder)
        except ImportError as error:
            raise ValueError(
                f"an oracle of kind {name} needs the extra: pip install 'mnpo[llm]' ({first_line(error)})"
            ) from error
        return Kind(name, build, inspect.signature(build).parameters)
    point = _entry_points()[name]
    try:
        value = point.load()
        parameters = inspect.signature(value).parameters
    except Exception as error:  # whatever a package can do
        raise ValueError(
            f"the kind of oracle {name} ({point.value}) cannot be imported: {type(error).__name__}: "
            f"{first_line(error)}"
        ) from error
    return Kind(name, partial(_installed, name, value), parameters, COMMON)


def _installed(kind: str, value: Any, **options: Any) -> TextOracle:
    return installed(kind, value, options)


def _entry_points() -> dict[str, metadata.EntryPoint]:
    """Kinds of installed packages; none takes the name of one of this package's."""
    return {point.name: point for point in metadata.entry_points(group=GROUP) if point.name not in KINDS}

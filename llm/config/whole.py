"""A whole configuration: its sections, and which key belongs to which of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

from mnpo.choices import suggestion
from mnpo.llm.config import training as transformers_own
from mnpo.llm.config.benchmark import Benchmark
from mnpo.llm.config.data import Data, Prompts
from mnpo.llm.config.evaluation import Evaluation
from mnpo.llm.config.fit import Fit
from mnpo.llm.config.folders import Folders
from mnpo.llm.config.judging import Judging
from mnpo.llm.config.keys import Key, Section, copied
from mnpo.llm.config.loop import Loop
from mnpo.llm.config.model import Models
from mnpo.llm.config.oracle_fit import OracleFit
from mnpo.llm.config.oracle_test import OracleTest
from mnpo.llm.config.parsing import NotYaml, parse
from mnpo.llm.config.sampling import Sampling
from mnpo.llm.config.tournament import Contest, Tournament
from mnpo.llm.config.training import Compute, Training
from mnpo.llm.config.update import Update
from mnpo.values import shown


@dataclass(frozen=True, kw_only=True)
class Config:
    """A run, resolved: one attribute a section."""

    folders: Folders
    model: Models
    data: Data
    prompts: Prompts
    sampling: Sampling
    judging: Judging
    update: Update
    evaluation: Evaluation
    loop: Loop
    fit: Fit
    oracle_fit: OracleFit
    oracle_test: OracleTest
    contest: Contest
    tournament: Tournament
    benchmark: Benchmark
    training: Training

    @property
    def compute(self) -> Compute:
        """What every stage must know of how it computes: part of `training`."""
        return self.training.compute

    def as_dict(self) -> dict[str, dict[str, Any]]:
        """Return section -> key -> value, as plain data."""
        return {name: getattr(self, name).as_dict() for name in SECTIONS}

    def having(self, **sections: Mapping[str, Any]) -> Config:
        """Return the configuration with other values, section=(key -> value).

        Raises:
            ValueError: as `resolve`.
        """
        draft = Draft(self)
        for section, values in sections.items():
            draft.sections[section] |= values
        return draft.resolved()


#: The sections by name. Keys have different names in all of them, so that a key by itself says its section.
SECTIONS: dict[str, type[Section | Training]] = {
    "folders": Folders,
    "model": Models,
    "data": Data,
    "prompts": Prompts,
    "sampling": Sampling,
    "judging": Judging,
    "update": Update,
    "evaluation": Evaluation,
    "loop": Loop,
    "fit": Fit,
    "oracle_fit": OracleFit,
    "oracle_test": OracleTest,
    "contest": Contest,
    "tournament": Tournament,
    "benchmark": Benchmark,
    "training": Training,
}


class Place(NamedTuple):
    """Where a value belongs: a section, its key, and keys within that."""

    section: str
    key: str
    inner: tuple[str, ...] = ()


@cache
def owners() -> dict[str, str]:
    """Return key -> section, of all sections but `training`."""
    return {
        name: section
        for section, kind in SECTIONS.items()
        if issubclass(kind, Section)
        for name in kind.known_keys()
    }


def place_of(path: str) -> Place:
    """Return where a path of names belongs: `sampling.temperature`, `temperature`, `rule.eta`, `learning_rate`.

    Raises:
        ValueError: an unknown key, with the nearest one.
    """
    first, *rest = path.split(".")
    if first in SECTIONS and rest:
        section, (name, *inner) = first, rest
    else:
        section, name, inner = owners().get(first, "training"), first, rest
    if section == "training":
        known = [*transformers_own.arguments(), *transformers_own.FIXED]
    else:
        known = [name for name, home in owners().items() if home == section]
    if name not in known:
        if first in SECTIONS:
            raise ValueError(f"section {section} has no key {name!r}; {suggestion(name, known)}")
        raise ValueError(f"unknown key {name!r}; {suggestion(name, [*owners(), *known, *SECTIONS])}")
    return Place(section, name, tuple(inner))


def key_at(place: Place) -> Key:
    """Return what is known of a key; of transformers' own, whose it is."""
    kind = SECTIONS[place.section]
    if issubclass(kind, Section):
        return kind.known_keys()[place.key]
    return Key(
        "see transformers",
        scope="run" if place.key in transformers_own.WHOLE_RUN else "player",
        free=place.key.startswith(transformers_own.FREE),
    )


class Draft:
    """Sections as plain data, to which values are added one by one.

    Args:
        given: what it begins with: a configuration, or section -> key -> value and key -> value in any mixture.

    Raises:
        ValueError: an unknown key, or a section that holds no keys.
    """

    def __init__(self, given: Config | Mapping[str, Any] | None = None) -> None:
        self.sections: dict[str, dict[str, Any]] = {name: {} for name in SECTIONS}
        if isinstance(given, Config):
            self.sections = given.as_dict()
        for name, value in {} if given is None or isinstance(given, Config) else given.items():
            if name not in SECTIONS:
                self.set(name, copied(value))
                continue
            if not isinstance(value, Mapping):
                raise ValueError(f"section {name} must hold keys and values; found {shown(value)}")
            for inner, found in value.items():
                self.set(f"{name}.{inner}", copied(found))

    def set(self, path: str, value: Any) -> Place:
        """Set a key, or with dots a key within it; a text on the way becomes the `name` among its own keys.

        Raises:
            ValueError: an unknown key, or a key within something that has none.
        """
        if path in SECTIONS:
            if not isinstance(value, Mapping):
                raise ValueError(f"section {path} must hold keys and values; found {shown(value)}")
            for inner, found in value.items():
                self.set(f"{path}.{inner}", found)
            return Place(path, "")
        place = place_of(path)
        target, names = self.sections[place.section], (place.key, *place.inner)
        for part in names[:-1]:
            found = target.get(part)
            if found is None or isinstance(found, str):
                found = {} if found is None else {"name": found}
            elif not isinstance(found, dict):
                raise ValueError(f"{path}: {part} has no keys of its own")
            target[part] = dict(found)
            target = target[part]
        target[names[-1]] = value
        return place

    def read(self, text: str) -> None:
        """Set what a text says, `section.key=value` or `key=value`; the value is read as YAML.

        Raises:
            ValueError: another text, or an unknown key.
        """
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise ValueError(f"expected key=value; found {shown(text)}")
        if any("\ud800" <= letter <= "\udfff" for letter in text):
            raise ValueError(f"{shown(name)}: a text that is not valid Unicode")
        try:
            parsed = parse(value)
        except NotYaml:
            parsed = value
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
        self.set(name, parsed)

    def resolved(self) -> Config:
        """Check all values and fill in the defaults.

        Raises:
            ValueError: a value of the wrong kind or out of range, or a key that is missing.
        """
        built: dict[str, Any] = {name: kind.of(self.sections[name]) for name, kind in SECTIONS.items()}
        return Config(**built)


def resolve(given: Mapping[str, Any]) -> Config:
    """Return the configuration of sections and keys as YAML reads them.

    Raises:
        ValueError: an unknown key (with the nearest one), or a value of the wrong kind or out of range.
    """
    return Draft(given).resolved()


assert [f.name for f in dataclasses.fields(Config)] == list(SECTIONS)

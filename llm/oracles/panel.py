"""Who judges in a run: one oracle, or a weighted population of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from mnpo.choices import choose
from mnpo.common.given import user_path
from mnpo.llm.endpoints.addresses import check_no_secret
from mnpo.llm.oracles import kinds
from mnpo.llm.oracles.base import TextOracle, check_scale
from mnpo.llm.oracles.cards import spec_of
from mnpo.llm.oracles.kinds import KINDS
from mnpo.llm.oracles.synthetic import NAMED

__all__ = ["KINDS", "Member", "Panel", "build", "panels_of"]

#: What says who judges: a name, keys and values, or from Python the oracle or the function itself.
Spec = str | Mapping[str, Any] | TextOracle | Callable[..., Any]

#: The options of a synthetic oracle that say what it prefers.
_PREFERS = {"traits", "wins", "utilities"}


class Member(NamedTuple):
    """One of a panel, with its share of the weight."""

    oracle: TextOracle
    weight: float


class Panel(NamedTuple):
    """Oracles with weights that sum to 1; somebody drawn by weight judges (docs/concepts.md (4)).

    Attributes:
        name: how results call it.
        members: at least one.
    """

    name: str
    members: tuple[Member, ...]

    @property
    def has_rewards(self) -> bool:
        """Whether every member gives rewards."""
        return all(member.oracle.kind == "reward" for member in self.members)


def build(spec: Spec | None, *, trust_remote_code: bool = False) -> Panel:
    """Build oracles from a configuration, or from Python objects.

    Args:
        spec: the name of a synthetic oracle or of a kind; or the folder of an oracle that mnpo fitted; or keys:
            `kind`, one of `mnpo.llm.oracles.kinds.names()`, and its options; or `name`, that of a synthetic oracle,
            and what differs from it; or kind: population with `members`, a list of all these, each with a `weight`
            (1 unless given). From Python also a function that judges (see `mnpo.llm.oracles.functions`), a
            `TextOracle`, or a subclass of it.
        trust_remote_code: whether code that comes with a model may run, where an oracle does not say.

    Raises:
        ValueError: an unknown kind, key or value.
    """
    if spec is None:
        raise ValueError(
            "the configuration lacks oracle: who judges the responses, for example oracle=styles"
        )
    given = _keys(spec)
    if isinstance(given, TextOracle):
        return _alone(given)
    kind = _kind(given)
    if kind == "population":
        return _population(given, trust_remote_code)
    known = kinds.find(kind)
    shown = (
        str(given.get("name") or given.get("model") or given.get("file") or kind)
        .rstrip("/")
        .rpartition("/")[2]
    )
    if known.needs("name"):
        given.setdefault("name", shown)
    if "trust_remote_code" in known.parameters:
        given.setdefault("trust_remote_code", trust_remote_code)
    check_no_secret(given, f"oracle {shown}")
    return _alone(known.make(given, shown))


def panels_of(
    oracle: Spec | None, others: Mapping[str, Spec], *, trust_remote_code: bool = False
) -> dict[str, Panel]:
    """Return who judges an evaluation, by the name that results give them.

    Args:
        oracle: the run's.
        others: name -> oracle, instead of the run's.
        trust_remote_code: as for `build`.

    Raises:
        ValueError: an oracle that cannot be built, or none.
    """
    given: Mapping[str, Spec | None] = others or {"": oracle}
    built = {name: build(spec, trust_remote_code=trust_remote_code) for name, spec in given.items()}
    return {name or panel.name: panel for name, panel in built.items()}


def _keys(spec: Spec) -> TextOracle | dict[str, Any]:
    """Return a specification as keys and values; an oracle as it is."""
    if isinstance(spec, TextOracle):
        return spec
    if isinstance(spec, Mapping):
        return dict(spec)
    if not isinstance(spec, str):
        return {"kind": "python", "function": spec}
    if spec not in NAMED and spec in kinds.names():
        return {"kind": spec}
    if spec not in NAMED and user_path(spec).is_dir():
        return spec_of(user_path(spec))
    choose(spec, dict.fromkeys([*NAMED, *kinds.names()]), "oracle")
    return {"name": spec}


def _kind(given: dict[str, Any]) -> str:
    """Take the kind out of a specification; one that names a synthetic oracle gets what that prefers by.

    Raises:
        ValueError: a specification that does not say its kind.
    """
    kind = given.pop("kind", None)
    name = str(given.get("name"))
    prefers = _PREFERS & given.keys()
    if name in NAMED and ("traits" not in given if kind is None else kind == "synthetic" and not prefers):
        for option, value in NAMED[name].items():
            given.setdefault(option, value)
        return "synthetic"
    if kind is None and prefers:
        return "synthetic"
    if kind is None:
        there = ", ".join(sorted([*kinds.names(), "population"]))
        raise ValueError(
            f"oracle {given.get('name', given)}: kind is missing; choose from {there}, or give the name of a "
            f"synthetic oracle, {' or '.join(sorted(NAMED))}"
        )
    return str(kind)


def _alone(oracle: TextOracle) -> Panel:
    """Return a panel of one oracle.

    Raises:
        ValueError: an oracle without a name or kind, or with a scale that is no number above 0.
    """
    if not isinstance(getattr(oracle, "name", None), str) or not oracle.name:
        raise ValueError(f"oracle {type(oracle).__name__}: name must be a text")
    if getattr(oracle, "kind", None) not in ("reward", "pairwise"):
        raise ValueError(f"oracle {oracle.name}: its class must have a kind, 'reward' or 'pairwise'")
    try:
        check_scale(oracle.scale)
    except ValueError as error:
        raise ValueError(f"oracle {oracle.name}: {error}") from None
    return Panel(oracle.name, (Member(oracle, 1.0),))


def _population(given: dict[str, Any], trust_remote_code: bool) -> Panel:
    members: list[Member] = []
    name = str(given.pop("name", "population"))
    listed = given.pop("members", None)
    if not isinstance(listed, list) or not listed:
        raise ValueError("an oracle of kind population needs members, a list of oracles with weights")
    if given:
        raise ValueError(f"oracle {name} of kind population takes name and members; found {', '.join(given)}")
    for entry in listed:
        if not isinstance(entry, str | Mapping | TextOracle) and not callable(entry):
            raise ValueError(f"oracle {name}: a member must be a name or keys and values; found {entry!r}")
        keys = _keys(entry)
        weight = keys.pop("weight", 1.0) if isinstance(keys, dict) else 1.0
        if not isinstance(weight, int | float) or not math.isfinite(weight) or weight <= 0:
            raise ValueError(f"oracle {name}: a member's weight must be above 0; found {weight!r}")
        part = build(keys, trust_remote_code=trust_remote_code)
        members += [Member(oracle, share * weight) for oracle, share in part.members]
    names = [member.oracle.name for member in members]
    if len(set(names)) < len(names) or name in names:
        raise ValueError(
            f"oracle {name}: give members and population names that differ; found {', '.join(names)}"
        )
    total = sum(member.weight for member in members)
    return Panel(name, tuple(Member(oracle, weight / total) for oracle, weight in members))

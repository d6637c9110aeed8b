"""Update rules as data.

A rule says, for player i at time t,

    log π_i^{t+1}(y) = Σ_k λ_k log μ_k(y) + η · a_i(y) + const                                          (U)

with anchors μ_k, their weights λ_k, an advantage a_i and a step η (docs/concepts.md, (U)). With the opponents as
anchors it is the logarithm of MNPO (2509.23102) Eq. 10, which is MNPO Eq. 11.

`mnpo.steps` computes (U) on a table, `mnpo.dynamics` repeats it, `mnpo.linearisation` differentiates it; a network
learns it by the regression of MNPO Lemma 1 (`mnpo.objectives`). A rule names policies (the reference, the player's
own past, the opponents) and never numbers of a game, so that all of these read the same weights, target and sign.
The published rules are in `mnpo.presets`.

Numbers in a rule are floats, or arrays of shape (..., p) that broadcast with a game's batch and its players
(the last axis of length 1 if the players share the number): many step sizes are one rule.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mnpo.choices import choose
from mnpo.numerics import Array, as_array
from mnpo.values import coerce, shown

Number = float | Array

#: The gap of win rates that a preferred response is taken to have over the other, so that a label's target is η/2:
#: MNPO Proposition 1, its constant corrected (docs/concepts.md, (11)).
LABEL_GAP = 0.5


@dataclass(frozen=True)
class Reference:
    """The anchor π_ref,i."""


@dataclass(frozen=True)
class Own:
    """The anchor π_i^{t−lag}; before time 0 the initial policy."""

    lag: int = 0


@dataclass(frozen=True)
class Opponents:
    """The anchors π_j^{t−lag} for all j ≠ i, which share the weight equally."""

    lag: int = 0


@dataclass(frozen=True)
class External:
    """The anchor that is a policy given from outside, by its place among those given."""

    index: int


Anchor = Reference | Own | Opponents | External
Anchors = tuple[tuple[Anchor, Number], ...]


@dataclass(frozen=True, eq=False)
class GeometricMixture:
    """The policy ∝ Π_k μ_k^{λ_k}, a geometric mixture of anchors."""

    anchors: Anchors


@dataclass(frozen=True, eq=False)
class Ahead:
    """The policy that one step of another rule would give; that rule's own `refresh` plays no part."""

    rule: UpdateRule


@dataclass(frozen=True)
class Next:
    """The players' own next policies π^{t+1}: the step is implicit (docs/concepts.md, (14)).

    π^{t+1} is then the equilibrium of the game whose reference is all the rest of the step, ∝ exp of (U) without
    this term, and whose KL strength is one over the term's factor in the exponent, η times its coefficient.
    """


Point = GeometricMixture | Ahead | Next


@dataclass(frozen=True)
class WinRate:
    """The advantage q_i(π^{t−lag}): each response's win probability against the others' policies π_j^{t−lag}."""

    lag: int = 0


@dataclass(frozen=True, eq=False)
class WinRateAt:
    """The advantage q_i against policies that nobody has played, one of each player: one more oracle call."""

    point: Point


AdvantageTerm = WinRate | WinRateAt
Advantage = tuple[tuple[AdvantageTerm, Number], ...]


@dataclass(frozen=True, eq=False)
class UpdateRule:
    """One update rule of the form (U).

    Attributes:
        name: the preset it came from.
        eta: η > 0, the step: the exponent's factor on the advantage.
        anchors: (μ_k, λ_k), weights at least 0 that sum to 1.
        advantage: (term, its coefficient): a_i is their sum.
        refresh: every so many updates the player's policy becomes its reference; None: never.

    Raises:
        ValueError: η not above 0, a negative weight, weights that do not sum to 1, a negative lag, or more than one
            term at the next policies, or one whose coefficient is not above 0.
    """

    name: str
    eta: Number
    anchors: Anchors
    advantage: Advantage
    refresh: int | None = None

    def __post_init__(self) -> None:
        eta = as_array(self.eta, "eta")
        if eta.min() <= 0:
            raise ValueError(f"eta must be above 0; found {eta.min():g}")
        for anchors in [
            self.anchors,
            *(m.anchors for m in self._points() if isinstance(m, GeometricMixture)),
        ]:
            _check_weights(anchors)
        if min(self._lags(), default=0) < 0:
            raise ValueError(f"lags must be at least 0; found {min(self._lags())}")
        if self.refresh is not None and self.refresh < 1:
            raise ValueError(f"refresh must be at least 1; found {self.refresh}")
        implicit = [weight for term, weight in self.advantage if _is_implicit(term)]
        if len(implicit) > 1 or any(np.min(weight) <= 0 for weight in implicit):
            raise ValueError(
                "a rule credits win rates at its own next policies once, with a coefficient above 0; "
                f"found {implicit}"
            )

    @property
    def depth(self) -> int:
        """How many policies, the current one counted, the rule looks back on."""
        ahead = [point.rule.depth for point in self._points() if isinstance(point, Ahead)]
        return max(1 + max(self._lags(), default=0), *ahead, 1)

    @property
    def externals(self) -> int:
        """How many policies must be given from outside."""
        inner = [point.rule.externals for point in self._points() if isinstance(point, Ahead)]
        own = [anchor.index + 1 for anchor, _ in self._all_anchors() if isinstance(anchor, External)]
        return max([0, *own, *inner])

    @property
    def tells_apart(self) -> bool:
        """Whether an anchor is the opponents' policies: then every player is followed, even if all are alike."""
        ahead = [point.rule.tells_apart for point in self._points() if isinstance(point, Ahead)]
        return any(isinstance(anchor, Opponents) for anchor, _ in self._all_anchors()) or any(ahead)

    @property
    def uses_current(self) -> bool:
        """Whether win rates against policies that were played are asked for."""
        ahead = [point.rule.uses_current for point in self._points() if isinstance(point, Ahead)]
        return any(isinstance(term, WinRate) for term, _ in self.advantage) or any(ahead)

    @property
    def implicit(self) -> Number | None:
        """η times the coefficient of the win rate at the next policies; None where a rule does not ask for it."""
        for term, weight in self.advantage:
            if _is_implicit(term):
                return self.eta * weight
        return None

    @property
    def oracle_calls(self) -> int:
        """Calls of the oracle per update.

        An implicit step counts for one, as if its equilibrium were known: on a table it takes some Newton steps,
        with responses of a language model the judgments of one iteration.
        """
        return int(self.uses_current) + self._look_ups()

    @property
    def reference_weight(self) -> Number:
        """λ_ref, the weight on the reference."""
        weights = [weight for anchor, weight in self.anchors if isinstance(anchor, Reference)]
        return sum(weights) if weights else 0.0

    @property
    def tau(self) -> Number:
        """The KL strength of the game whose equilibrium is the rule's only stationary point.

        It is (λ_ref + Σ_j λ_external,j)/η, if the other anchors are the player's own past (docs/concepts.md, (10)).
        With external policies that game's reference is the geometric mixture of all these anchors.
        """
        fixed = [w for anchor, w in self.anchors if isinstance(anchor, Reference | External)]
        total: Number = sum(fixed) if fixed else 0.0
        return total / self.eta

    def target(self, gap: Number) -> Number:
        """Return η·gap, the target of h(y, y') in the regression: MNPO Eq. 13, docs/concepts.md, (L).

        Args:
            gap: a(y) − a(y'); for a label y ≻ y' alone it is `LABEL_GAP`.
        """
        return self.eta * gap

    def numbers(self) -> list[Array]:
        """Return every number in the rule, for their shapes."""
        found = [np.asarray(self.eta)]
        found += [np.asarray(weight) for _, weight in (*self._all_anchors(), *self.advantage)]
        for point in self._points():
            if isinstance(point, Ahead):
                found += point.rule.numbers()
        return found

    def as_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return {
            "name": self.name,
            "eta": _plain(self.eta),
            "tau": _plain(self.tau),
            "anchors": [{**_fields(anchor), "weight": _plain(weight)} for anchor, weight in self.anchors],
            "advantage": [{**_fields(term), "weight": _plain(w)} for term, w in self.advantage],
            "refresh": self.refresh,
            "oracle_calls": self.oracle_calls,
        }

    def _points(self) -> Iterator[Point]:
        return (term.point for term, _ in self.advantage if isinstance(term, WinRateAt))

    def _look_ups(self) -> int:
        inner = [point.rule._look_ups() if isinstance(point, Ahead) else 0 for point in self._points()]
        return len(inner) + sum(inner)

    def _all_anchors(self) -> list[tuple[Anchor, Number]]:
        mixed = [
            pair for point in self._points() if isinstance(point, GeometricMixture) for pair in point.anchors
        ]
        return [*self.anchors, *mixed]

    def _lags(self) -> list[int]:
        parts = [part for part, _ in (*self._all_anchors(), *self.advantage)]
        return [part.lag for part in parts if isinstance(part, Own | Opponents | WinRate)]


@dataclass(frozen=True)
class RegretMatchingPlus:
    """Regret matching+ (Tammelin 2014): a yardstick of game solving that is not of the form (U).

    R^{t+1} = max(0, R^t + q − ⟨π^t, q⟩), π^{t+1} = R^{t+1}/Σ R^{t+1}, uniform where R is 0. Its average iterate
    converges in two-player constant-sum games without regularisation.
    """

    name: str = "regret-matching-plus"
    depth: int = 1
    externals: int = 0
    oracle_calls: int = 1
    uses_current: bool = True
    refresh: None = None

    def numbers(self) -> list[Array]:
        """Return no numbers: the rule has no parameters."""
        return []

    def as_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return {
            "name": self.name, "eta": None, "tau": 0.0, "anchors": [], "advantage": [],
            "refresh": None, "oracle_calls": 1,
        }  # fmt: skip


Rule = UpdateRule | RegretMatchingPlus


def _is_implicit(term: AdvantageTerm) -> bool:
    return isinstance(term, WinRateAt) and isinstance(term.point, Next)


def _check_weights(anchors: Anchors) -> None:
    weights = [as_array(weight, "anchor weights") for _, weight in anchors]
    for (anchor, _), weight in zip(anchors, weights, strict=True):
        if weight.min() < -1e-12:
            raise ValueError(
                f"anchor weights must be at least 0; found {weight.min():.6g} on {describe(anchor)} "
                f"(a rule that puts eta*tau on the reference needs eta of at most 1/tau)"
            )
    total = np.asarray(sum(weights))
    if np.abs(total - 1).max() > 1e-9:
        raise ValueError(f"anchor weights must sum to 1; found {total.flat[0]:.9g}")


def describe(part: Anchor | AdvantageTerm) -> str:
    """Name an anchor or an advantage for people: "own (lag 1)"."""
    fields = _fields(part)
    name = str(fields.pop("source"))
    rest = ", ".join(f"{key} {value}" for key, value in fields.items() if key in ("lag", "index"))
    point = fields.get("at", {}).get("source", "")
    return name + (f" at {point}" if point else "") + (f" ({rest})" if rest else "")


_NAMES: dict[type, str] = {
    Reference: "reference",
    Own: "own",
    Opponents: "opponents",
    External: "external",
    WinRate: "win-rate",
    WinRateAt: "win-rate",
}


_SOURCES: dict[str, Callable[..., Anchor]] = {
    _NAMES[kind]: kind for kind in (Reference, Own, Opponents, External)
}


def _fields(part: Anchor | AdvantageTerm) -> dict[str, Any]:
    name = _NAMES[type(part)]
    if not isinstance(part, WinRateAt):
        return {"source": name, **vars(part)}
    if isinstance(part.point, Next):
        return {"source": name, "at": {"source": "next"}}
    if isinstance(part.point, Ahead):
        return {"source": name, "at": {"source": "ahead", "rule": part.point.rule.as_dict()}}
    mixed = [{**_fields(anchor), "weight": _plain(weight)} for anchor, weight in part.point.anchors]
    return {"source": name, "at": {"source": "mixture", "anchors": mixed}}


def _plain(value: Number) -> Any:
    return np.asarray(value).tolist()


def rule_from_dict(data: Mapping[str, Any]) -> UpdateRule:
    """Build a rule from plain data: what `UpdateRule.as_dict` returns, or a configuration file's.

    Args:
        data: "eta"; "anchors", a list of {"source", "weight"} with "lag" or "index" where the source has one;
            optionally "name", "refresh" and "advantage", a list of {"source": "win-rate", "weight", "lag"}, or with
            "at": {"source": "next"} for the win rate at the next policies. Unless given, the advantage is the win
            rate against the current policies.

    Raises:
        ValueError: a key that is missing or unknown, or what `UpdateRule` refuses.
    """
    given = {key: value for key, value in data.items() if key not in ("tau", "oracle_calls")}
    unknown = sorted(set(given) - {"name", "eta", "anchors", "advantage", "refresh"})
    if unknown or not {"eta", "anchors"} <= set(given):
        what = f"unknown key {unknown[0]!r}" if unknown else "needs the keys 'eta' and 'anchors'"
        raise ValueError(f"a rule given by its anchors: {what}")
    terms = given.get("advantage") or [{"source": "win-rate"}]
    for kind, listed in (("anchors", given["anchors"]), ("advantage", terms)):
        if not isinstance(listed, list | tuple):
            raise ValueError(f"{kind} of a rule must be a list; found {shown(listed)}")
    anchors = tuple(_part(entry, _SOURCES, "anchor") for entry in given["anchors"])
    advantage = tuple(_part(entry, {"win-rate": _win_rate}, "advantage") for entry in terms)
    eta, refresh = (
        coerce(given["eta"], float, "rule.eta"),
        coerce(given.get("refresh"), int | None, "rule.refresh"),
    )
    return UpdateRule(str(given.get("name") or "custom"), float(eta), anchors, advantage, refresh)


def _win_rate(lag: int | None = None, at: Any = None) -> AdvantageTerm:
    if at is None:
        return WinRate(lag or 0)
    if lag is not None or dict(at) != {"source": "next"}:
        raise ValueError("at must be {source: next}, without a lag")
    return WinRateAt(Next())


def _part(entry: Any, sources: Mapping[str, Callable[..., Any]], kind: str) -> tuple[Any, float]:
    if not isinstance(entry, Mapping) or "source" not in entry:
        raise ValueError(f"each {kind} of a rule needs a 'source'; found {entry!r}")
    fields = {key: value for key, value in entry.items() if key not in ("source", "weight")}
    build = choose(str(entry["source"]), sources, f"{kind} source")
    try:
        return build(**fields), float(entry.get("weight", 1.0))
    except (TypeError, ValueError):
        raise ValueError(f"{kind} {entry['source']!r} cannot be read: {dict(entry)!r}") from None

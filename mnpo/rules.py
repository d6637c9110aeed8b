"""Update rules as data, and the published ones as presets.

A rule says, for player i at time t,

    log π_i^{t+1}(y) = Σ_k λ_k log μ_k(y) + η · a_i(y) + const                                          (U)

with anchors μ_k, their weights λ_k, an advantage a_i and a step η. `mnpo.dynamics` carries (U) out in closed
form on a table. A rule names policies (the reference, the player's own past, the opponents), never numbers of
a game, so that whatever executes it reads the same weights, target and sign.

Numbers in a rule are floats, or arrays of shape (..., p) that broadcast with a game's batch and its players
(the last axis of length 1 if the players share the number): many step sizes are one rule.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mnpo.choices import choose
from mnpo.numerics import Array, as_array

Number = float | Array


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
class WinRate:
    """The advantage q_i(π^{t−lag}): each response's win probability against the others' policies of then."""

    lag: int = 0


Anchor = Reference | Own | Opponents
Credit = WinRate


@dataclass(frozen=True, eq=False)
class UpdateRule:
    """One update rule of the form (U).

    Attributes:
        name: the preset it came from.
        eta: η > 0, the step: the exponent's factor on the advantage.
        anchors: (μ_k, λ_k), weights at least 0 that sum to 1.
        advantage: (what a response is credited with, its coefficient).

    Raises:
        ValueError: η not above 0, a negative weight, weights that do not sum to 1, a negative lag.
    """

    name: str
    eta: Number
    anchors: tuple[tuple[Anchor, Number], ...]
    advantage: tuple[tuple[Credit, Number], ...]

    def __post_init__(self) -> None:
        eta = as_array(self.eta, "eta")
        if eta.min() <= 0:
            raise ValueError(f"eta must be above 0; found {eta.min():g}")
        weights = [as_array(weight, "anchor weights") for _, weight in self.anchors]
        for (anchor, _), weight in zip(self.anchors, weights, strict=True):
            if weight.min() < -1e-12:
                raise ValueError(
                    f"anchor weights must be at least 0; found {weight.min():.6g} on {_label(anchor)} "
                    f"(for rules with weight eta*tau on the reference, eta must be at most 1/tau)"
                )
        total = sum(weights)
        if np.abs(np.asarray(total) - 1).max() > 1e-9:
            raise ValueError(f"anchor weights must sum to 1; found {np.asarray(total).flat[0]:.9g}")
        if min(self._lags(), default=0) < 0:
            raise ValueError(f"lags must be at least 0; found {min(self._lags())}")

    @property
    def depth(self) -> int:
        """How many policies, the current one counted, the rule looks back on."""
        return 1 + max(self._lags(), default=0)

    @property
    def reference_weight(self) -> Number:
        """λ_ref, the weight on the reference."""
        weights = [weight for anchor, weight in self.anchors if isinstance(anchor, Reference)]
        return sum(weights) if weights else 0.0

    @property
    def tau(self) -> Number:
        """λ_ref/η: the KL strength of the game whose equilibrium is the rule's only stationary point.

        Of a rule whose other anchors are the player's own past.
        """
        return self.reference_weight / self.eta

    def as_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return {
            "name": self.name,
            "eta": _plain(self.eta),
            "tau": _plain(self.tau),
            "anchors": [{**_fields(anchor), "weight": _plain(weight)} for anchor, weight in self.anchors],
            "advantage": [{**_fields(credit), "weight": _plain(w)} for credit, w in self.advantage],
        }

    def _lags(self) -> list[int]:
        parts = [part for part, _ in self.anchors + self.advantage]
        return [part.lag for part in parts if not isinstance(part, Reference)]


@dataclass(frozen=True)
class Preset:
    """A published rule: how to build it and where it comes from."""

    name: str
    build: Callable[..., UpdateRule]
    title: str
    paper: str
    #: Whether the rule aims at the game with τ = 0.
    unregularised: bool

    @property
    def options(self) -> tuple[str, ...]:
        """What `build` takes."""
        return tuple(inspect.signature(self.build).parameters)


RULES: dict[str, Preset] = {}


def _preset(
    name: str, title: str, paper: str, *, unregularised: bool = False
) -> Callable[[Callable[..., UpdateRule]], Callable[..., UpdateRule]]:
    def register(build: Callable[..., UpdateRule]) -> Callable[..., UpdateRule]:
        RULES[name] = Preset(name, build, title, paper, unregularised)
        return build

    return register


def make_rule(name: str, **options: Any) -> UpdateRule:
    """Build a preset by name from those of the options that it takes; None stands for not given.

    Raises:
        ValueError: an unknown rule, an option with a value that the rule has no use for, or bad values.
    """
    preset = choose(name, RULES, "rule")
    always = ("eta", "tau", "players")
    for option, value in options.items():
        if value is not None and option not in preset.options and option not in always:
            raise ValueError(f"rule {name} takes no {option}")
    known = {key: value for key, value in options.items() if key in preset.options and value is not None}
    return preset.build(**known)


@_preset(
    "mwu",
    "Multiplicative weights against the current opponents",
    "MNPO 2509.23102, Eq. 10",
    unregularised=True,
)
def mwu(eta: Number) -> UpdateRule:
    """Return multiplicative weights: anchored on the opponents, 1/(n−1) each, crediting the current win rate.

    No regularisation: among identical players the average iterate converges in two-player games, the last
    one does not.
    """
    return UpdateRule("mwu", eta, ((Opponents(), 1.0),), ((WinRate(), 1.0),))


@_preset("inpo", "Online mirror descent on the regularised game", "INPO 2407.00617; MMD 2206.05825")
def inpo(eta: Number, tau: Number) -> UpdateRule:
    """Return INPO, which is online mirror descent and magnetic mirror descent: λ_ref = ητ, the rest on π^t."""
    pull = _pull(eta, tau)
    return UpdateRule("inpo", eta, ((Reference(), pull), (Own(), 1.0 - pull)), ((WinRate(), 1.0),))


@_preset("td-mnpo", "Past policies as further players", "MNPO 2509.23102, time-dependent form")
def td_mnpo(
    eta: Number,
    tau: Number,
    players: int = 3,
    advantage: str = "current",
    weights: Sequence[float] | None = None,
) -> UpdateRule:
    """Return TD-MNPO with n players: λ_ref = ητ and (1 − ητ)·w_j on π^{t−j}, j = 0..n−2. n = 2 is INPO.

    Args:
        eta: the step.
        tau: the KL strength aimed at.
        players: n ≥ 2.
        advantage: "current", the win rate against π^t, or "population", Σ_j w_j q(π^{t−j}).
        weights: w, n−1 numbers that sum to 1; equal unless given.
    """
    if players < 2:
        raise ValueError(f"players must be at least 2; found {players}")
    shares = np.full(players - 1, 1.0 / (players - 1)) if weights is None else as_array(weights, "weights")
    if shares.shape != (players - 1,) or shares.min() < 0 or abs(shares.sum() - 1) > 1e-9:
        raise ValueError(
            f"weights must be {players - 1} numbers of at least 0 that sum to 1, one for each past policy; "
            f"found {shares.tolist()}"
        )
    pull = _pull(eta, tau)
    past = [(Own(lag), (1.0 - pull) * float(share)) for lag, share in enumerate(shares)]
    credits: dict[str, tuple[tuple[Credit, Number], ...]] = {
        "current": ((WinRate(), 1.0),),
        "population": tuple((WinRate(lag), float(share)) for lag, share in enumerate(shares)),
    }
    return UpdateRule("td-mnpo", eta, ((Reference(), pull), *past), choose(advantage, credits, "advantage"))


def _pull(eta: Number, tau: Number) -> Number:
    """λ_ref = ητ: the weight on the reference that makes τ the rule's KL strength."""
    return eta * tau


def _label(part: Anchor | Credit) -> str:
    fields = _fields(part)
    return str(fields.pop("source")) + (f" (lag {fields['lag']})" if "lag" in fields else "")


def _fields(part: Anchor | Credit) -> dict[str, Any]:
    names = {Reference: "reference", Own: "own", Opponents: "opponents", WinRate: "win-rate"}
    return {"source": names[type(part)], **vars(part)}


def _plain(value: Number) -> Any:
    return np.asarray(value).tolist()

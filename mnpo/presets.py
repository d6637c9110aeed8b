"""The published update rules, each one function that returns an `UpdateRule`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mnpo.choices import choose
from mnpo.numerics import as_array
from mnpo.rules import (
    Ahead,
    Anchor,
    Anchors,
    Credits,
    External,
    Mixture,
    Number,
    Opponents,
    Own,
    Reference,
    RegretMatchingPlus,
    UpdateRule,
    WinRate,
    WinRateAt,
)


@dataclass(frozen=True)
class Preset:
    """A published rule: how to build it and where it comes from."""

    name: str
    build: Callable[..., Any]
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
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def register(build: Callable[..., Any]) -> Callable[..., Any]:
        RULES[name] = Preset(name, build, title, paper, unregularised)
        return build

    return register


def make_rule(name: str, **options: Any) -> UpdateRule | RegretMatchingPlus:
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
    built: UpdateRule | RegretMatchingPlus = preset.build(**known)
    return built


# --- without regularisation ---------------------------------------------------------------------------------


@_preset(
    "mwu", "multiplicative weights, anchored on the opponents", "MNPO 2509.23102, Eq. 10", unregularised=True
)
def mwu(eta: Number) -> UpdateRule:
    """Return multiplicative weights: anchored on the opponents, 1/(n−1) each, crediting the current win rate.

    Among identical players the average iterate converges in two-player games, the last one does not.
    """
    return UpdateRule("mwu", eta, ((Opponents(), 1.0),), ((WinRate(), 1.0),))


@_preset(
    "sppo", "self-play: multiplicative weights on the player itself", "SPPO 2405.00675", unregularised=True
)
def sppo(eta: Number) -> UpdateRule:
    """Return SPPO's population form: π^t · exp(η q(π^t))."""
    return UpdateRule("sppo", eta, ((Own(), 1.0),), ((WinRate(), 1.0),))


@_preset(
    "omwu", "optimistic multiplicative weights (yardstick)", "Daskalakis & Panageas 2019", unregularised=True
)
def omwu(eta: Number) -> UpdateRule:
    """Return optimistic multiplicative weights: the credit is 2 q(π^t) − q(π^{t−1})."""
    return UpdateRule("omwu", eta, ((Own(), 1.0),), _OPTIMISTIC)


# --- mirror descent towards the regularised equilibrium -----------------------------------------------------


@_preset("inpo", "online mirror descent on the regularised game", "INPO 2407.00617; MMD 2206.05825")
def inpo(eta: Number, tau: Number) -> UpdateRule:
    """Return INPO, which is online (magnetic) mirror descent: λ_ref = ητ, the rest on π^t."""
    return UpdateRule("inpo", eta, _mirror(eta, tau), ((WinRate(), 1.0),))


@_preset("nash-md", "mirror descent against the geometric mixture with the reference", "Nash-MD 2312.00886")
def nash_md(eta: Number, tau: Number) -> UpdateRule:
    """Return Nash-MD: as INPO, but the credit is the win rate against (π^t)^{1−ητ} π_ref^{ητ}."""
    anchors = _mirror(eta, tau)
    return UpdateRule("nash-md", eta, anchors, ((WinRateAt(Mixture(anchors)), 1.0),))


@_preset("onpo", "optimistic mirror descent", "ONPO 2502.16852")
def onpo(eta: Number, tau: Number) -> UpdateRule:
    """Return ONPO: as INPO, but the credit is 2 q(π^t) − q(π^{t−1})."""
    return UpdateRule("onpo", eta, _mirror(eta, tau), _OPTIMISTIC)


@_preset("egpo", "extragradient: credit the win rate at the half step", "EGPO 2503.08942")
def egpo(eta: Number, tau: Number) -> UpdateRule:
    """Return EGPO: from π^t with the win rate at π^{t+1/2}, the INPO step from π^t. Two oracle calls."""
    return UpdateRule("egpo", eta, _mirror(eta, tau), ((WinRateAt(Ahead(inpo(eta, tau))), 1.0),))


@_preset(
    "mpo", "mirror descent whose reference is refreshed every m updates", "MPO 2410.16714", unregularised=True
)
def mpo(eta: Number, tau: Number, refresh: int = 50) -> UpdateRule:
    """Return MPO: INPO whose reference becomes the current policy every `refresh` updates.

    It converges to an equilibrium of the game with τ = 0; `tau` is the strength between two refreshments.
    """
    return UpdateRule("mpo", eta, _mirror(eta, tau), ((WinRate(), 1.0),), refresh=refresh)


# --- MNPO ---------------------------------------------------------------------------------------------------


@_preset("td-mnpo", "past policies as further players", "MNPO 2509.23102, time-dependent form")
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
    credits: dict[str, Credits] = {
        "current": ((WinRate(), 1.0),),
        "population": tuple((WinRate(lag), float(share)) for lag, share in enumerate(shares)),
    }
    return UpdateRule("td-mnpo", eta, ((Reference(), pull), *past), choose(advantage, credits, "advantage"))


@_preset("ht-mnpo", "players with oracles of their own", "MNPO 2509.23102, heterogeneous form")
def ht_mnpo(eta: Number, tau: Number, anchor: str = "opponents") -> UpdateRule:
    """Return HT-MNPO: λ_ref = ητ, the rest on the opponents' policies or on the player's own.

    Anchored on the opponents, as published, it settles at a consensus that is not an equilibrium of the
    heterogeneous game; anchored on the player itself it reaches one.

    Args:
        eta: the step.
        tau: the KL strength aimed at.
        anchor: "opponents" or "own".
    """
    pull = _pull(eta, tau)
    anchors: dict[str, Anchor] = {"opponents": Opponents(), "own": Own()}
    chosen = choose(anchor, anchors, "anchor")
    return UpdateRule("ht-mnpo", eta, ((Reference(), pull), (chosen, 1.0 - pull)), ((WinRate(), 1.0),))


@_preset("eo-mnpo", "external policies as opponents", "MNPO 2509.23102, external-opponent form")
def eo_mnpo(eta: Number, tau: Number, external_tau: Sequence[float] = (0.1,)) -> UpdateRule:
    """Return EO-MNPO: λ_ref = ητ_0, ητ_j on the external policies μ_j, the rest on π^t.

    Its stationary point is ∝ π_ref^{τ_0/τ} Π_j μ_j^{τ_j/τ} e^{a/τ}, τ = τ_0 + Σ_j τ_j, with a the win rate
    (or a reward, in a game with a `Reward` oracle); η = 1/τ reaches a reward's optimum in one step.

    Args:
        eta: the step, at most 1/τ.
        tau: τ_0, the pull of the reference.
        external_tau: τ_j, the pull of each external policy.
    """
    pulls = as_array(external_tau, "external_tau").ravel()
    if pulls.min() < 0:
        raise ValueError(f"external_tau must be at least 0; found {pulls.min():g}")
    if np.max(tau) + pulls.sum() <= 0:
        raise ValueError("tau and external_tau must not all be 0: nothing would hold the policy")
    external = tuple((External(index), _pull(eta, float(pull))) for index, pull in enumerate(pulls))
    rest = 1.0 - _pull(eta, tau) - _pull(eta, float(pulls.sum()))
    anchors: Anchors = ((Reference(), _pull(eta, tau)), *external, (Own(), rest))
    return UpdateRule("eo-mnpo", eta, anchors, ((WinRate(), 1.0),))


@_preset("regret-matching-plus", "regret matching+ (yardstick)", "Tammelin 2014", unregularised=True)
def regret_matching_plus() -> RegretMatchingPlus:
    """Return regret matching+, which is not of the form (U)."""
    return RegretMatchingPlus()


_OPTIMISTIC: Credits = ((WinRate(), 2.0), (WinRate(1), -1.0))


def _mirror(eta: Number, tau: Number) -> Anchors:
    """λ_ref = ητ and the rest on π^t: the mirror-descent step of strength τ."""
    pull = _pull(eta, tau)
    return ((Reference(), pull), (Own(), 1.0 - pull))


def _pull(eta: Number, tau: Number) -> Number:
    """ητ: the weight on a fixed policy that gives it the KL strength τ.

    Raises:
        ValueError: a weight above 1.
    """
    pull = eta * tau
    if np.max(pull) > 1 + 1e-12:
        raise ValueError(f"eta must be at most 1/tau; found eta times tau = {np.max(pull):.6g}")
    return pull

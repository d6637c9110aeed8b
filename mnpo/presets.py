"""The published update rules, each one function that returns an `UpdateRule`.

What a rule takes is said in its signature and nowhere else: the command line, the configuration of a training run
and `mnpo sim rules` read it there (`Preset.options`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any

import numpy as np

from mnpo.choices import choose
from mnpo.numerics import Array, as_array
from mnpo.options import REQUIRED, Option, options_of
from mnpo.rules import (
    Advantage,
    Ahead,
    Anchor,
    Anchors,
    External,
    GeometricMixture,
    Next,
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
    #: The options, besides η and τ, with which `mnpo crosscheck all` checks it; none for a rule not of form (U).
    variants: tuple[str, ...] = ()

    @cached_property
    def options(self) -> Mapping[str, Option]:
        """What `build` takes: kind, default, choices and meaning by name."""
        return options_of(self.build)

    def read(self, name: str, value: Any, label: str) -> Any:
        """Return a value as typed, or as YAML reads it, as what an option takes.

        Args:
            name: the option.
            value: what was found.
            label: what the value is called in errors, which start with it.

        Raises:
            ValueError: an option that the rule does not take, or a value that the option does not.
        """
        if name not in self.options:
            raise ValueError(f"{label}: rule {self.name} takes no {name}")
        return self.options[name].read(value, label)


RULES: dict[str, Preset] = {}

#: Policies of the past that a rule keeps, and steps inside a step.
MOST_PAST = 10_000

_Eta = Annotated[Number, Option("step η: the exponent's factor on win rates")]
_Tau = Annotated[Number, Option("KL strength τ that the rule aims at")]


def _preset(
    name: str, title: str, paper: str, *, unregularised: bool = False, variants: tuple[str, ...] = ("",)
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def register(build: Callable[..., Any]) -> Callable[..., Any]:
        RULES[name] = Preset(name, build, title, paper, unregularised, variants)
        return build

    return register


def make_rule(name: str, **options: Any) -> UpdateRule | RegretMatchingPlus:
    """Build a preset by name from those of the options that it takes; None stands for not given.

    Raises:
        ValueError: an unknown rule, an option that it does not take or that is missing, or bad values.
    """
    preset = choose(name, RULES, "rule")
    # These are the game's too, and so given to every rule.
    always = ("eta", "tau", "players")
    for option, value in options.items():
        if value is not None and option not in preset.options and option not in always:
            raise ValueError(f"rule {name} takes no {option}")
    known = {key: value for key, value in options.items() if key in preset.options and value is not None}
    for option, taken in preset.options.items():
        if taken.default is REQUIRED and option not in known:
            raise ValueError(f"rule {name} needs {option}")
    built: UpdateRule | RegretMatchingPlus = preset.build(**known)
    return built


# --- without regularisation ---------------------------------------------------------------------------------


@_preset(
    "mwu", "multiplicative weights, anchored on the opponents", "MNPO 2509.23102, Eq. 10 and 11",
    unregularised=True, variants=("players=3",),
)  # fmt: skip
def mwu(eta: _Eta) -> UpdateRule:
    """Return multiplicative weights: anchored on the opponents, 1/(n−1) each, crediting the current win rate.

    Among identical players the average iterate converges in two-player games, the last one does not.
    """
    return UpdateRule("mwu", eta, ((Opponents(), 1.0),), ((WinRate(), 1.0),))


@_preset(
    "sppo", "self-play: multiplicative weights on the player itself", "SPPO 2405.00675", unregularised=True
)
def sppo(eta: _Eta) -> UpdateRule:
    """Return SPPO's population form: π^t · exp(η q(π^t))."""
    return UpdateRule("sppo", eta, ((Own(), 1.0),), ((WinRate(), 1.0),))


@_preset(
    "omwu", "optimistic multiplicative weights (yardstick)", "Daskalakis & Panageas 2019", unregularised=True
)
def omwu(eta: _Eta) -> UpdateRule:
    """Return optimistic multiplicative weights: the credit is 2 q(π^t) − q(π^{t−1})."""
    return UpdateRule("omwu", eta, ((Own(), 1.0),), _OPTIMISTIC)


# --- mirror descent towards the regularised equilibrium -----------------------------------------------------


@_preset("inpo", "online mirror descent on the regularised game", "INPO 2407.00617; MMD 2206.05825")
def inpo(eta: _Eta, tau: _Tau) -> UpdateRule:
    """Return INPO, which is online (magnetic) mirror descent: λ_ref = ητ, the rest on π^t."""
    return UpdateRule("inpo", eta, _mirror(eta, tau), ((WinRate(), 1.0),))


@_preset("nash-md", "mirror descent against the geometric mixture with the reference", "Nash-MD 2312.00886")
def nash_md(eta: _Eta, tau: _Tau) -> UpdateRule:
    """Return Nash-MD: as INPO, but the credit is the win rate against (π^t)^{1−ητ} π_ref^{ητ}."""
    anchors = _mirror(eta, tau)
    return UpdateRule("nash-md", eta, anchors, ((WinRateAt(GeometricMixture(anchors)), 1.0),))


@_preset("onpo", "optimistic mirror descent", "ONPO 2502.16852")
def onpo(eta: _Eta, tau: _Tau) -> UpdateRule:
    """Return ONPO: as INPO, but the credit is 2 q(π^t) − q(π^{t−1})."""
    return UpdateRule("onpo", eta, _mirror(eta, tau), _OPTIMISTIC)


@_preset("egpo", "extragradient: credit the win rate at the half step", "EGPO 2503.08942")
def egpo(eta: _Eta, tau: _Tau) -> UpdateRule:
    """Return EGPO: from π^t with the win rate at π^{t+1/2}, the INPO step from π^t. Two oracle calls."""
    return UpdateRule("egpo", eta, _mirror(eta, tau), ((WinRateAt(Ahead(inpo(eta, tau))), 1.0),))


@_preset(
    "mpo", "mirror descent whose reference is refreshed every m updates", "MPO 2410.16714", unregularised=True,
    variants=("refresh=5",),
)  # fmt: skip
def mpo(
    eta: _Eta,
    tau: Annotated[Number, Option("KL strength τ between two refreshments")],
    refresh: Annotated[int, Option("updates after which the reference becomes the current policy")] = 50,
) -> UpdateRule:
    """Return MPO: INPO whose reference becomes the current policy every `refresh` updates.

    It converges to an equilibrium of the game with τ = 0.
    """
    return UpdateRule("mpo", eta, _mirror(eta, tau), ((WinRate(), 1.0),), refresh=refresh)


# --- implicit steps -----------------------------------------------------------------------------------------


@_preset(
    "prox", "implicit mirror descent: credit the win rate at the next policy, by the exact solver",
    "proximal point method, Rockafellar 1976; docs/concepts.md, (14)", variants=("", "history=3"),
)  # fmt: skip
def prox(
    eta: _Eta,
    tau: _Tau,
    history: Annotated[
        int,
        Option(
            "how many policies of its own past, the current one counted, hold the player",
            least=1,
            most=MOST_PAST,
        ),
    ] = 1,
    weights: Annotated[
        Sequence[float] | None, Option("their shares, newest first; equal unless given")
    ] = None,
) -> UpdateRule:
    """Return the implicit step: as INPO, or with TD-MNPO's anchors, but the credit is q(π^{t+1}) itself.

    π^{t+1} is the equilibrium of the same oracle's game with reference ∝ Π_k μ_k^{λ_k} and KL strength 1/η. Every
    η ≤ 1/τ is stable with `history` 1: a mode of frequency ω shrinks by (1 − ητ)/√(1 + η²ω²), and η = 1/τ arrives
    at once. Nash Prox (2505.19731) and COMAL (2410.23223) approximate it by inner steps.

    Args:
        eta: the step, at most 1/τ.
        tau: the KL strength aimed at.
        history: h ≥ 1; (1 − ητ)·w_j lies on π^{t−j}, j = 0..h−1.
        weights: w, h numbers that sum to 1; equal unless given.

    Raises:
        ValueError: no history, or weights that are no distribution over it.
    """
    if history < 1:
        raise ValueError(f"history must be at least 1; found {history}")
    return UpdateRule("prox", eta, _past(eta, tau, _shares(weights, history)), _IMPLICIT)


@_preset(
    "comal", "the exact equilibrium around the last policy, over and over", "COMAL 2410.23223, Algorithm 1",
    unregularised=True,
)  # fmt: skip
def comal(
    eta: Annotated[Number, Option("one over the KL strength of the game around the last policy")],
) -> UpdateRule:
    """Return COMAL with its inner game solved exactly: π^{t+1} is the equilibrium with reference π^t and τ = 1/η.

    It converges to an equilibrium of the game with τ = 0. With its inner games left to so many INPO steps it is
    `mpo`, whose reference is refreshed every so many.
    """
    return UpdateRule("comal", eta, ((Own(), 1.0),), _IMPLICIT)


@_preset(
    "nash-prox", "the implicit step by a few fixed-point steps", "Nash Mirror Prox / Nash Prox 2505.19731",
    variants=("inner=3",),
)  # fmt: skip
def nash_prox(
    eta: _Eta,
    tau: _Tau,
    inner: Annotated[
        int, Option("self-play steps inside a proximal step; 2 is Nash Mirror Prox", least=1, most=MOST_PAST)
    ] = 2,
) -> UpdateRule:
    """Return the proximal step of Nash Prox, found by self-play steps inside it that start from π^t.

    All of them are anchored alike, π_ref: ητ, π^t: 1 − ητ, and each credits the win rate at the one before. One is
    INPO; two are Nash Mirror Prox, which on a table is EGPO; many tend to `prox` where ηω < 1, and to nothing
    beyond. As many oracle calls as inner steps.

    Args:
        eta: the step, at most 1/τ.
        tau: the KL strength aimed at.
        inner: at least 1.

    Raises:
        ValueError: no inner step.
    """
    if inner < 1:
        raise ValueError(f"inner must be at least 1; found {inner}")
    anchors = _mirror(eta, tau)
    rule = UpdateRule("nash-prox", eta, anchors, ((WinRate(), 1.0),))
    for _ in range(inner - 1):
        rule = UpdateRule("nash-prox", eta, anchors, ((WinRateAt(Ahead(rule)), 1.0),))
    return rule


# --- MNPO ---------------------------------------------------------------------------------------------------


@_preset(
    "td-mnpo", "past policies as further players", "MNPO 2509.23102, time-dependent form",
    variants=("players=2", "players=3", "players=4", "players=3,advantage=population"),
)  # fmt: skip
def td_mnpo(
    eta: _Eta,
    tau: _Tau,
    players: Annotated[
        int, Option("number of players n; the others are the last n−1 iterates", least=2, most=MOST_PAST)
    ] = 3,
    advantage: Annotated[
        str, Option("whom win rates are against: the last iterate, or all n−1", ("current", "population"))
    ] = "current",
    weights: Annotated[
        Sequence[float] | None, Option("shares of the n−1 iterates, newest first; equal unless given")
    ] = None,
) -> UpdateRule:
    """Return TD-MNPO with n players: λ_ref = ητ and (1 − ητ)·w_j on π^{t−j}, j = 0..n−2. n = 2 is INPO.

    Args:
        eta: the step.
        tau: the KL strength aimed at.
        players: n ≥ 2.
        advantage: "current", the win rate against π^t, or "population", Σ_j w_j q(π^{t−j}).
        weights: w, n−1 numbers that sum to 1; equal unless given.

    Raises:
        ValueError: fewer than two players, weights that are no distribution over n−1 policies, another advantage.
    """
    if players < 2:
        raise ValueError(f"players must be at least 2; found {players}")
    shares = _shares(weights, players - 1)
    credits: dict[str, Advantage] = {
        "current": ((WinRate(), 1.0),),
        "population": tuple((WinRate(lag), float(share)) for lag, share in enumerate(shares)),
    }
    return UpdateRule("td-mnpo", eta, _past(eta, tau, shares), choose(advantage, credits, "advantage"))


@_preset(
    "ht-mnpo", "players with oracles of their own", "MNPO 2509.23102, heterogeneous form",
    variants=("anchor=opponents", "anchor=own"),
)  # fmt: skip
def ht_mnpo(
    eta: _Eta,
    tau: _Tau,
    anchor: Annotated[
        str, Option("whose policies hold a player, besides the reference", ("opponents", "own"))
    ] = "opponents",
) -> UpdateRule:
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
def eo_mnpo(
    eta: _Eta,
    tau: Annotated[Number, Option("KL strength τ_0 towards the reference")],
    external_tau: Annotated[
        Sequence[float], Option("KL strength τ_j towards each external policy, one number a policy")
    ] = (0.1,),
) -> UpdateRule:
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


@_preset(
    "regret-matching-plus", "regret matching+ (yardstick)", "Tammelin 2014", unregularised=True, variants=()
)
def regret_matching_plus() -> RegretMatchingPlus:
    """Return regret matching+, which is not of the form (U)."""
    return RegretMatchingPlus()


_OPTIMISTIC: Advantage = ((WinRate(), 2.0), (WinRate(1), -1.0))
_IMPLICIT: Advantage = ((WinRateAt(Next()), 1.0),)


def _mirror(eta: Number, tau: Number) -> Anchors:
    """λ_ref = ητ and the rest on π^t: the mirror-descent step of strength τ."""
    return _past(eta, tau, np.ones(1))


def _past(eta: Number, tau: Number, shares: Array) -> Anchors:
    """λ_ref = ητ and the rest on π^t, π^{t−1}, .. by shares."""
    pull = _pull(eta, tau)
    return ((Reference(), pull), *((Own(lag), (1.0 - pull) * float(w)) for lag, w in enumerate(shares)))


def _shares(weights: Sequence[float] | None, count: int) -> Array:
    """The shares of so many past policies; equal unless given.

    Raises:
        ValueError: no distribution over them.
    """
    shares = np.full(count, 1.0 / count) if weights is None else as_array(weights, "weights")
    if shares.shape != (count,) or shares.min() < 0 or abs(shares.sum() - 1) > 1e-9:
        raise ValueError(
            f"weights must be {count} numbers of at least 0 that sum to 1, one for each past policy; "
            f"found {shares.tolist()}"
        )
    return shares


def _pull(eta: Number, tau: Number) -> Number:
    """ητ: the weight on a fixed policy that gives it the KL strength τ.

    Raises:
        ValueError: a weight above 1.
    """
    pull = eta * tau
    if np.max(pull) > 1 + 1e-12:
        raise ValueError(f"eta must be at most 1/tau; found eta times tau = {np.max(pull):.6g}")
    return pull

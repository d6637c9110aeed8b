"""Preference objectives: each one pure function of log-probabilities, for any array library.

Written once for whatever executes them: a table (here, `mnpo.minimisers`) or a network. The array operations
come in as `ops`, so that the same line runs on numpy's complex arrays (exact derivatives) and on a trainer's
tensors.

Notation: Δ(π) = log π(y_w) − log π(y_l), h_μ = Δ(π_θ) − Δ(μ), |y| the response's length in tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from mnpo.choices import choose
from mnpo.values import Range

Tensor = Any


class Ops(Protocol):
    """The array operations that objectives need."""

    def exp(self, x: Tensor) -> Tensor:
        """e^x."""

    def log(self, x: Tensor) -> Tensor:
        """log x."""

    def softplus(self, x: Tensor) -> Tensor:
        """log(1 + e^x), without overflow."""

    def relu(self, x: Tensor) -> Tensor:
        """max(0, x)."""


@dataclass(frozen=True)
class Pairs:
    """What is known of preference pairs; all fields have one shape, or broadcast to it.

    Attributes:
        policy_w, policy_l: log π_θ of the preferred and the other response, differentiated.
        reference_w, reference_l: log π_ref.
        current_w, current_l: log π_t, the policy that the pairs are drawn from.
        anchor: Σ_k λ_k Δ(μ_k), the update rule's anchors (MNPO).
        target: the update rule's target for h (MNPO): η/2 for labels, η·(a(y_w) − a(y_l)) for win rates.
        length_w, length_l: response lengths in tokens.
        reward_w, reward_l: rewards.
        win_w, win_l: win rates against π_t.
        gamma_w, gamma_l: uncertainties Γ (GSHF).
        kl: a batch estimate of KL(π_θ ‖ π_ref), without gradient (KTO).
    """

    policy_w: Tensor
    policy_l: Tensor
    reference_w: Tensor = 0.0
    reference_l: Tensor = 0.0
    current_w: Tensor = 0.0
    current_l: Tensor = 0.0
    anchor: Tensor = 0.0
    target: Tensor = 0.5
    length_w: Tensor = 1.0
    length_l: Tensor = 1.0
    reward_w: Tensor = 0.0
    reward_l: Tensor = 0.0
    win_w: Tensor = 0.5
    win_l: Tensor = 0.5
    gamma_w: Tensor = 0.0
    gamma_l: Tensor = 0.0
    kl: Tensor = 0.0

    @property
    def delta(self) -> Tensor:
        """Δ(π_θ)."""
        return self.policy_w - self.policy_l

    @property
    def h_ref(self) -> Tensor:
        """Δ(π_θ) − Δ(π_ref)."""
        return self.delta - (self.reference_w - self.reference_l)

    @property
    def h_current(self) -> Tensor:
        """Δ(π_θ) − Δ(π_t)."""
        return self.delta - (self.current_w - self.current_l)


Loss = Callable[..., Tensor]


@dataclass(frozen=True)
class Known:
    """What an objective must know of each of the two responses: the data say it.

    Attributes:
        name: of the fields of `Pairs`, <name>_w and <name>_l; the data's columns are <name>_chosen and
            <name>_rejected.
        or_margin: whether the gap of both is all that counts, so that the column `margin` can stand for it.
    """

    name: str
    or_margin: bool = False


@dataclass(frozen=True)
class Estimated:
    """What an objective must know of the policy, estimated on each batch from further responses.

    The responses are those to other prompts: (x, y) of different pairs. They are scored under the reference
    before training, and under the policy in each step, without gradient.

    Attributes:
        name: of the field of `Pairs`, one number for a batch.
        value: the mean of log π_θ/π_ref over the batch's further responses (of all processes) -> the field.
    """

    name: str
    value: Callable[[Tensor], Tensor]


Need = Known | Estimated

REWARD, WIN, GAMMA = Known("reward", or_margin=True), Known("win"), Known("gamma", or_margin=True)
#: An estimate of KL(π_θ ‖ π_ref), at least 0 as the divergence is (KTO 2402.01306, Eq. 7).
MISMATCHED_KL = Estimated("kl", lambda mean: mean.clip(0))


@dataclass(frozen=True)
class Objective:
    """A named objective.

    Attributes:
        name: lower case with hyphens.
        loss: (ops, pairs, **parameters) -> loss per pair.
        parameters: names and default values.
        paper: where it comes from.
        anchor: what it is anchored on: "reference", "current", "rule" or "none".
        iterated: whether it is meant to be repeated with π_t as the new sampler.
        smooth: whether it has derivatives everywhere.
        needs: what it must know besides log-probabilities and lengths.
    """

    name: str
    loss: Loss
    parameters: Mapping[str, float]
    paper: str
    anchor: str
    iterated: bool = False
    smooth: bool = True
    needs: tuple[Need, ...] = ()

    def check(self, **given: float) -> None:
        """Refuse parameters out of range: all but weights and margins, which may be 0, are above 0.

        Raises:
            ValueError: an unknown parameter, or names it, what was found and what is accepted.
        """
        for name, value in given.items():
            usual = choose(name, self.parameters, f"parameter of objective {self.name}")
            vanishes = name in _MAY_VANISH or not usual
            Range(least=0 if vanishes else None, above=None if vanishes else 0, most=_MOST).check(
                f"{name} of objective {self.name}", value
            )


#: Parameters that may be 0, besides those that are 0 unless given; and how large all may be.
_MAY_VANISH, _MOST = ("weight", "weight_w", "weight_l", "gamma", "delta"), 1e100

OBJECTIVES: dict[str, Objective] = {}


def objective(name: str) -> Objective:
    """Look an objective up.

    Raises:
        ValueError: an unknown name, with the nearest one.
    """
    return choose(name, OBJECTIVES, "objective")


def _register(
    name: str,
    paper: str,
    anchor: str = "reference",
    *,
    iterated: bool = False,
    smooth: bool = True,
    needs: tuple[Need, ...] = (),
    **parameters: float,
) -> Callable[[Loss], Loss]:
    def register(loss: Loss) -> Loss:
        OBJECTIVES[name] = Objective(name, loss, parameters, paper, anchor, iterated, smooth, needs)
        return loss

    return register


def _logistic(ops: Ops, z: Tensor) -> Tensor:
    """−log σ(z)."""
    return ops.softplus(-z)


def _sigmoid(ops: Ops, z: Tensor) -> Tensor:
    return ops.exp(-ops.softplus(-z))


# --- distances of RPO (2502.00203) ---------------------------------------------------------------------------


def squared(ops: Ops, a: Tensor, b: Tensor) -> Tensor:
    """D_sq[a ‖ b] = (a − b)²."""
    return (a - b) ** 2


def backward_kl(ops: Ops, a: Tensor, b: Tensor) -> Tensor:
    """D_bwd[a ‖ b] = KL(Ber σ(b) ‖ Ber σ(a)); at b → ∞ it is −log σ(a)."""
    cross = _sigmoid(ops, b) * _logistic(ops, a) + _sigmoid(ops, -b) * _logistic(ops, -a)
    return cross - _sigmoid(ops, b) * _logistic(ops, b) - _sigmoid(ops, -b) * _logistic(ops, -b)


def forward_kl(ops: Ops, a: Tensor, b: Tensor) -> Tensor:
    """D_fwd[a ‖ b] = KL(Ber σ(a) ‖ Ber σ(b))."""
    return backward_kl(ops, b, a)


# --- the MNPO family ------------------------------------------------------------------------------------------


@_register("mnpo", "MNPO 2509.23102, Lemma 1 with D_sq", "rule", iterated=True)
def mnpo(ops: Ops, p: Pairs) -> Tensor:
    """D_sq(Δ(π_θ) − Σ λ_k Δ(μ_k) ‖ target): MNPO Eq. 14, the loss of Lemma 1 (docs/concepts.md, (L)).

    With a label's target η/2 it is the loss of MNPO Proposition 1, Eq. 15, its constant corrected (11). The policy
    of MNPO Eq. 10 and 11, or of any rule (U) whose anchors and targets are given, minimises it.
    """
    return squared(ops, p.delta - p.anchor, p.target)


@_register("mnpo-bwd", "MNPO 2509.23102 with RPO's D_bwd", "rule", iterated=True)
def mnpo_backward(ops: Ops, p: Pairs) -> Tensor:
    """D_bwd(Δ(π_θ) − Σ λ_k Δ(μ_k) ‖ target)."""
    return backward_kl(ops, p.delta - p.anchor, p.target)


@_register("mnpo-fwd", "MNPO 2509.23102 with RPO's D_fwd", "rule", iterated=True)
def mnpo_forward(ops: Ops, p: Pairs) -> Tensor:
    """D_fwd(Δ(π_θ) − Σ λ_k Δ(μ_k) ‖ target)."""
    return forward_kl(ops, p.delta - p.anchor, p.target)


@_register("inpo", "INPO 2407.00617", "current", iterated=True, eta=0.5, tau=0.1)
def inpo(ops: Ops, p: Pairs, *, eta: float, tau: float) -> Tensor:
    """(Δ(π_θ) − λ_ref Δ(π_ref) − (1 − λ_ref) Δ(π_t) − η/2)², λ_ref = ητ."""
    pull = eta * tau
    return (pull * p.h_ref + (1 - pull) * p.h_current - eta / 2) ** 2


@_register("onpo", "ONPO 2502.16852", "current", iterated=True, eta=0.5)
def onpo(ops: Ops, p: Pairs, *, eta: float) -> Tensor:
    """(h_t − η/2)²: each of ONPO's two regressions, the anchor being π_t, then π'_t."""
    return (p.h_current - eta / 2) ** 2


@_register("sppo", "SPPO 2405.00675", "current", iterated=True, needs=(WIN,), eta=1.0)
def sppo(ops: Ops, p: Pairs, *, eta: float) -> Tensor:
    """(log π_θ/π_t(y) − η(P̂(y ≻ π_t) − ½))², summed over both responses."""
    winner = p.policy_w - p.current_w - eta * (p.win_w - 0.5)
    loser = p.policy_l - p.current_l - eta * (p.win_l - 0.5)
    return winner**2 + loser**2


@_register("dno", "DNO 2404.03715", "current", iterated=True, needs=(WIN,), eta=1.0)
def dno(ops: Ops, p: Pairs, *, eta: float) -> Tensor:
    """−σ(δ) log σ(h_t/η) − σ(−δ) log σ(−h_t/η), δ the gap of win rates against π_t."""
    gap, z = p.win_w - p.win_l, p.h_current / eta
    return _sigmoid(ops, gap) * _logistic(ops, z) + _sigmoid(ops, -gap) * _logistic(ops, -z)


@_register("dno-prct", "DNO 2404.03715, practical form", "current", iterated=True, beta=1.0)
def dno_prct(ops: Ops, p: Pairs, *, beta: float) -> Tensor:
    """−log σ(β h_t)."""
    return _logistic(ops, beta * p.h_current)


@_register("spin", "SPIN 2401.01335", "current", iterated=True, beta=1.0)
def spin(ops: Ops, p: Pairs, *, beta: float) -> Tensor:
    """−log σ(β h_t), y_w the data's response and y_l the model's."""
    return _logistic(ops, beta * p.h_current)


# --- anchored on the reference --------------------------------------------------------------------------------


@_register("dpo", "DPO 2305.18290", beta=0.1)
def dpo(ops: Ops, p: Pairs, *, beta: float) -> Tensor:
    """−log σ(β h_ref)."""
    return _logistic(ops, beta * p.h_ref)


@_register("ipo", "IPO 2310.12036", tau=0.1)
def ipo(ops: Ops, p: Pairs, *, tau: float) -> Tensor:
    """(h_ref − 1/(2τ))²."""
    return (p.h_ref - 1 / (2 * tau)) ** 2


@_register("distill-dpo", "RPO 2502.00203 (its table prints ∞ for the target)", needs=(REWARD,), beta=1.0)
def distill_dpo(ops: Ops, p: Pairs, *, beta: float) -> Tensor:
    """(β h_ref − (r(y_w) − r(y_l)))²; the source has β = 1."""
    return (beta * p.h_ref - (p.reward_w - p.reward_l)) ** 2


@_register("rpo", "RPO 2502.00203 with D_bwd", needs=(REWARD,), beta=0.1, eta=1.0)
def rpo(ops: Ops, p: Pairs, *, beta: float, eta: float) -> Tensor:
    """D_bwd(β h_ref ‖ η (r(y_w) − r(y_l)))."""
    return backward_kl(ops, beta * p.h_ref, eta * (p.reward_w - p.reward_l))


@_register("rpo-sq", "RPO 2502.00203 with D_sq", needs=(REWARD,), beta=0.1, eta=1.0)
def rpo_squared(ops: Ops, p: Pairs, *, beta: float, eta: float) -> Tensor:
    """D_sq(β h_ref ‖ η (r(y_w) − r(y_l)))."""
    return squared(ops, beta * p.h_ref, eta * (p.reward_w - p.reward_l))


@_register("rpo-fwd", "RPO 2502.00203 with D_fwd", needs=(REWARD,), beta=0.1, eta=1.0)
def rpo_forward(ops: Ops, p: Pairs, *, beta: float, eta: float) -> Tensor:
    """D_fwd(β h_ref ‖ η (r(y_w) − r(y_l)))."""
    return forward_kl(ops, beta * p.h_ref, eta * (p.reward_w - p.reward_l))


@_register("r-dpo", "R-DPO", beta=0.1, alpha=0.0)
def r_dpo(ops: Ops, p: Pairs, *, beta: float, alpha: float) -> Tensor:
    """−log σ(β h_ref + α|y_w| − α|y_l|)."""
    return _logistic(ops, beta * p.h_ref + alpha * (p.length_w - p.length_l))


@_register("gshf", "GSHF", needs=(GAMMA,), beta=0.1)
def gshf(ops: Ops, p: Pairs, *, beta: float) -> Tensor:
    """−log σ(β h_ref + Γ(y_w) − Γ(y_l))."""
    return _logistic(ops, beta * p.h_ref + p.gamma_w - p.gamma_l)


def _f_dpo(slope: Callable[..., Tensor]) -> Loss:
    """−log σ(β f'(u_w) − β f'(u_l)), u = π_θ/π_ref, given f' as a function of log u."""

    def loss(ops: Ops, p: Pairs, *, beta: float, **parameters: float) -> Tensor:
        winner = slope(ops, p.policy_w - p.reference_w, **parameters)
        loser = slope(ops, p.policy_l - p.reference_l, **parameters)
        return _logistic(ops, beta * (winner - loser))

    return loss


_register("f-dpo-reverse-kl", "f-DPO, f' = log u + 1: DPO", beta=0.1)(_f_dpo(lambda ops, log_u: log_u + 1))
_register("f-dpo-forward-kl", "f-DPO, f' = −1/u", beta=0.1)(_f_dpo(lambda ops, log_u: -ops.exp(-log_u)))
_register("f-dpo-js", "f-DPO, f' = log 2u/(1+u)", beta=0.1)(
    _f_dpo(lambda ops, log_u: log_u - ops.softplus(log_u))
)
_register("f-dpo-alpha", "f-DPO, f' = (1 − u^−α)/α", beta=0.1, alpha=0.5)(
    _f_dpo(lambda ops, log_u, alpha: (1 - ops.exp(-alpha * log_u)) / alpha)
)


@_register("kto", "KTO (its sign corrected)", needs=(MISMATCHED_KL,), beta=0.1, weight_w=1.0, weight_l=1.0)
def kto(ops: Ops, p: Pairs, *, beta: float, weight_w: float, weight_l: float) -> Tensor:
    """λ_w(1 − σ(β log π/π_ref(y_w) − z)) + λ_l(1 − σ(z − β log π/π_ref(y_l))), z = β KL without gradient."""
    z = beta * p.kl
    winner = _sigmoid(ops, z - beta * (p.policy_w - p.reference_w))
    loser = _sigmoid(ops, beta * (p.policy_l - p.reference_l) - z)
    return weight_w * winner + weight_l * loser


@_register("mio", "MIO")
def mio(ops: Ops, p: Pairs) -> Tensor:
    """log(1 + π_ref/π(y_w)) + ½ log(1 + π/π_ref(y_w)) + ½ log(1 + π/π_ref(y_l))."""
    winner, loser = p.policy_w - p.reference_w, p.policy_l - p.reference_l
    return ops.softplus(-winner) + 0.5 * ops.softplus(winner) + 0.5 * ops.softplus(loser)


# --- without an anchor ----------------------------------------------------------------------------------------


@_register("simpo", "SimPO 2405.14734", "none", beta=2.0, gamma=1.0)
def simpo(ops: Ops, p: Pairs, *, beta: float, gamma: float) -> Tensor:
    """−log σ(β/|y_w| log π(y_w) − β/|y_l| log π(y_l) − γ)."""
    return _logistic(ops, beta * (p.policy_w / p.length_w - p.policy_l / p.length_l) - gamma)


@_register("cpo", "CPO", "none", beta=0.1, weight=1.0)
def cpo(ops: Ops, p: Pairs, *, beta: float, weight: float) -> Tensor:
    """−log σ(βΔ) − λ log π(y_w)."""
    return _logistic(ops, beta * p.delta) - weight * p.policy_w


@_register("orpo", "ORPO", "none", weight=0.1)
def orpo(ops: Ops, p: Pairs, *, weight: float) -> Tensor:
    """−log p(y_w) − λ log σ(logit p(y_w) − logit p(y_l)), p = exp(mean token log π)."""
    winner, loser = p.policy_w / p.length_w, p.policy_l / p.length_l

    def logit(mean: Tensor) -> Tensor:
        return mean - ops.log(1 - ops.exp(mean))

    return -winner + weight * _logistic(ops, logit(winner) - logit(loser))


@_register("slic-hf", "SLiC-HF", "none", smooth=False, delta=1.0, weight=1.0)
def slic_hf(ops: Ops, p: Pairs, *, delta: float, weight: float) -> Tensor:
    """max(0, δ − Δ) − λ log π(y_w)."""
    return ops.relu(delta - p.delta) - weight * p.policy_w


@_register("rrhf", "RRHF", "none", smooth=False, weight=1.0)
def rrhf(ops: Ops, p: Pairs, *, weight: float) -> Tensor:
    """max(0, −log π(y_w)/|y_w| + log π(y_l)/|y_l|) − λ log π(y_w)."""
    return ops.relu(p.policy_l / p.length_l - p.policy_w / p.length_w) - weight * p.policy_w

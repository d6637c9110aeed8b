"""Objectives that reward and preference models are fitted by: each one pure function, for any array library.

As in `mnpo.objectives` the array operations come in as `ops`, so that the same line runs on tables and on a
trainer's tensors. A *logit* is that of P(y_w ≻ y_l): r(y_w) − r(y_l) of a reward model, the output of a pairwise
one, `embedding_logits` of an embedding (docs/concepts.md, (18)). `mnpo.oracle_minimisers` says where they end.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from mnpo.choices import choose
from mnpo.numerics import LOG_ZERO
from mnpo.objectives import Ops, Tensor


class RankingOps(Ops, Protocol):
    """The array operations that objectives of rankings need besides."""

    def logsumexp(self, x: Tensor) -> Tensor:
        """log Σ e^x over the last axis."""


@dataclass(frozen=True)
class Comparison:
    """A named objective of pairs: f·log(1 + e^{o − logit}), where the annotated strength m is f, or o, or neither.

    Attributes:
        name: lower case with hyphens.
        paper: where it comes from.
        offset: whether o = m, else 0.
        factor: whether f = m, else 1.
    """

    name: str
    paper: str
    offset: bool = False
    factor: bool = False

    def loss(self, ops: Ops, logit: Tensor, strength: Tensor) -> Tensor:
        """Return the loss if y_w was preferred, with the shape of the logit."""
        loss = ops.softplus((strength if self.offset else 0.0) - logit)
        return strength * loss if self.factor else loss


COMPARISONS = {
    comparison.name: comparison
    for comparison in (
        Comparison("bradley-terry", "Bradley & Terry 1952"),
        Comparison("margin", "Llama 2, 2307.09288, Eq. 2", offset=True),
        Comparison("scaled", "HelpSteer2-Preference, 2410.01257", factor=True),
    )
}


#: Objectives of pools of any size, and that of ratings.
RANKINGS, REGRESSION = ("top-one", "full-ranking"), "regression"
#: Everything that a reward model can be fitted by; a preference model by `COMPARISONS`.
ORACLE_OBJECTIVES = (*COMPARISONS, *RANKINGS, REGRESSION)


def comparison(name: str) -> Comparison:
    """Look an objective of pairs up.

    Raises:
        ValueError: an unknown name, with the nearest one.
    """
    return choose(name, COMPARISONS, "objective")


def comparison_losses(
    objective: str, ops: Ops, logit: Tensor, *, strength: Tensor = 1.0, preference: Tensor | None = None
) -> Tensor:
    """Return each pair's loss.

    Args:
        objective: one of `COMPARISONS`.
        ops: the array library.
        logit: (B,), of P(y_w ≻ y_l).
        strength: (B,) m ≥ 0, how much better y_w is (HelpSteer2-Preference: 1, 2 or 3).
        preference: (B,) p, the probability that y_w is the better one, ½ for a tie; then the loss is
            p·loss(w ≻ l) + (1 − p)·loss(l ≻ w). None: y_w is.

    Returns:
        (B,).
    """
    loss = comparison(objective).loss
    preferred = loss(ops, logit, strength)
    if preference is None:
        return preferred
    return preference * preferred + (1 - preference) * loss(ops, -logit, strength)


def centring(score_w: Tensor, score_l: Tensor) -> Tensor:
    """Return (r_w + r_l)², which pins what differences leave free (Eisenstein et al., 2312.09244), (B,)."""
    return (score_w + score_l) ** 2


def regression(predicted: Tensor, rated: Tensor, mask: Tensor) -> Tensor:
    """Return each response's mean squared error over the attributes that it was rated on (SteerLM, 2310.05344).

    Args:
        predicted, rated: (B, a).
        mask: (B, a), 1 where there is a rating; what `rated` is elsewhere does not matter, as long as it is finite.

    Returns:
        (B,); 0 for a response without ratings.
    """
    count = mask.sum(-1)
    return (mask * (predicted - rated) ** 2).sum(-1) / (count + (count == 0))


def top_one(ops: RankingOps, scores: Tensor, winners: Tensor, present: Tensor) -> Tensor:
    """Return −mean over the winners of [r_i − log Σ_j e^{r_j}] of each pool; with a pool of two, Bradley–Terry.

    Args:
        ops: the array library.
        scores: (B, K) r.
        winners: (B, K), 1 for those that are best (several: a tie) and in the pool.
        present: (B, K), 1 for those in the pool; so pools of any size fit in one table.

    Returns:
        (B,) (Plackett 1975).
    """
    total = ops.logsumexp(scores + LOG_ZERO * (1 - present))
    return total - (winners * scores).sum(-1) / winners.sum(-1)


def full_ranking(ops: RankingOps, scores: Tensor, ranks: Tensor, present: Tensor) -> Tensor:
    """Return −Σ_k [r_(k) − log Σ of what is left] of each ranking, Plackett–Luce (Plackett 1975).

    Responses that share a rank are one choice, of which it is open who was chosen: the mean over them, as in
    `top_one`. Of a pool of two that is Bradley–Terry, a tie with the preference ½.

    Args:
        ops: the array library.
        scores: (B, K) r.
        ranks: (B, K), from the best, the smallest number.
        present: (B, K), 1 for those in the pool; what stands elsewhere does not matter, as long as it is finite.

    Returns:
        (B,).
    """
    here, there = ranks[..., :, None], ranks[..., None, :]
    left = present[..., None, :] * (there >= here)
    among = (present[..., None, :] * (there == here)).sum(-1)
    choices = ops.logsumexp(scores[..., None, :] + LOG_ZERO * (1 - left)) - scores
    return (present * choices / (among + (1 - present))).sum(-1)


def embedding_logits(first: Tensor, second: Tensor, weights: Any, scale: float = 1.0) -> Tensor:
    """Return Σ_l λ_l (v_{2l+1} v'_{2l} − v_{2l} v'_{2l+1})/s, the logit of P(y ≻ y'): antisymmetric to the bit.

    The general preference model, vᵀ R v'/s with R of blocks [[0, −1], [1, 0]] (Zhang et al., 2410.02197).

    Args:
        first, second: v and v' of the two responses, (..., 2k); they broadcast, so that (K, 1, 2k) and (1, K, 2k)
            give all K² logits.
        weights: λ ≥ 0, (..., k) or a number.
        scale: s > 0.

    Returns:
        (...).
    """
    turned = first[..., 1::2] * second[..., 0::2] - first[..., 0::2] * second[..., 1::2]
    return (weights * turned).sum(-1) / scale

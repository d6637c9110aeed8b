"""What an oracle's fit minimises: the objectives of `mnpo.oracle_objectives` on what a network says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from mnpo.llm.training.losses import TorchOps
from mnpo.oracle_objectives import (
    COMPARISONS,
    REGRESSION,
    centring,
    comparison_losses,
    embedding_logits,
    full_ranking,
    regression,
    top_one,
)


class Judged(NamedTuple):
    """A batch of B judgments of at most K responses.

    Attributes:
        present: (B, K), 1 for responses that there are.
        ranks: (B, K), from 0, the best.
        preference: (B,), P(first ≻ second) of pairs; NaN where ranks say it.
        strength: (B,), how much better the preferred one is; 1 where nobody says.
        ratings: (B, K, a); NaN where there is none.
        head: (B,), whose output counts, where annotators have heads.
    """

    present: Tensor
    ranks: Tensor
    preference: Tensor
    strength: Tensor
    ratings: Tensor
    head: Tensor


class Found(NamedTuple):
    """What a batch of judgments costs.

    Attributes:
        losses: (B,).
        logits: (B, M), of P(i ≻ j) of the M pairs of responses; None where nothing is compared.
        said: (B, M), how likely the judgment has i as the better one; NaN for pairs that it does not compare.
    """

    losses: Tensor
    logits: Tensor | None = None
    said: Tensor | None = None


@dataclass(frozen=True)
class OracleTask:
    """What is minimised.

    Attributes:
        kind: "reward", "pairwise" or "embedding".
        objective: one of `mnpo.oracle_objectives.ORACLE_OBJECTIVES`.
        outputs: how much each output counts in the reward; None: each is the reward of an annotator of its own.
        centring: c of c·(r_w + r_l)².
    """

    kind: str = "reward"
    objective: str = "bradley-terry"
    outputs: tuple[float, ...] | None = (1.0,)
    centring: float = 0.0

    def found(self, values: Tensor, judged: Judged) -> Found:
        """Return the losses of judgments.

        Args:
            values: what the network says of all sequences, judgment by judgment: of a pairwise model (2B, 2), both
                orders of each pair and the logits of both answers; else (Σ K, outputs), response by response.
            judged: the judgments.
        """
        if self.kind == "pairwise":
            return self._pairwise(values, judged)
        there = judged.present.bool()
        table = values.new_zeros(*there.shape, values.shape[1], dtype=torch.float64)
        table = table.masked_scatter(there[..., None], values.double())
        if self.objective == REGRESSION:
            return self._regression(table, judged)
        if self.kind == "embedding":
            i, j = _pairs(there.shape[1], values.device)
            return self._comparison(embedding_logits(table[:, i], table[:, j], 1.0), judged)
        rewards = self.rewards(table, judged.head)
        if self.objective in COMPARISONS:
            i, j = _pairs(there.shape[1], values.device)
            found = self._comparison(rewards[:, i] - rewards[:, j], judged)
            if self.centring:
                more = self.centring * centring(rewards[:, i], rewards[:, j])
                found = found._replace(losses=found.losses + _mean(more, found.said))
            return found
        return self._ranking(rewards, judged)

    def rewards(self, table: Tensor, head: Tensor) -> Tensor:
        """Return rewards (B, K) of outputs (B, K, outputs)."""
        if self.outputs is None:
            picked = head[:, None, None].expand(-1, table.shape[1], 1)
            return table.gather(-1, picked)[..., 0]
        return table @ table.new_tensor(self.outputs)

    def _pairwise(self, values: Tensor, judged: Judged) -> Found:
        """Both orders are one example, averaged."""
        z = (values[:, 0] - values[:, 1]).double().view(-1, 2)
        said = _said(judged)
        logits = torch.stack([z[:, 0], -z[:, 1]], 1)
        loss = self._losses(logits, judged, said.expand(-1, 2)).mean(1)
        # The model's answer is the mean of both orders' probabilities.
        chance = logits.detach().sigmoid().mean(1, keepdim=True)
        return Found(loss, torch.logit(chance, eps=1e-300), said)

    def _comparison(self, logits: Tensor, judged: Judged) -> Found:
        """The mean over all pairs of a pool that the judgment compares (2203.02155, Eq. 1)."""
        said = _said(judged)
        return Found(_mean(self._losses(logits, judged, said.nan_to_num(0.5)), said), logits, said)

    def _losses(self, logits: Tensor, judged: Judged, said: Tensor) -> Tensor:
        strength = judged.strength[:, None]
        return comparison_losses(self.objective, TorchOps(), logits, strength=strength, preference=said)

    def _ranking(self, rewards: Tensor, judged: Judged) -> Found:
        ops, present = TorchOps(), judged.present
        i, j = _pairs(rewards.shape[1], rewards.device)
        told = ~judged.preference.isnan()
        chances = torch.zeros_like(rewards)
        chances[:, 0], chances[:, 1] = judged.preference, 1 - judged.preference
        best = present * (
            judged.ranks == judged.ranks.where(present.bool(), judged.ranks.max() + 1).amin(1, True)
        )
        # Of a pair it does not matter which: both are Bradley–Terry.
        winners = chances.where(told[:, None], best)
        losses = top_one(ops, rewards, winners, present)
        if self.objective == "full-ranking":
            losses = losses.where(told, full_ranking(ops, rewards, judged.ranks, present))
        return Found(losses, rewards[:, i] - rewards[:, j], _said(judged))

    def _regression(self, table: Tensor, judged: Judged) -> Found:
        rated = ~judged.ratings.isnan()
        each = regression(table, judged.ratings.nan_to_num(0.0), rated.double())
        count = rated.any(-1).sum(-1)
        return Found(each.sum(-1) / count.clamp(min=1))


def _pairs(size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    i, j = torch.triu_indices(size, size, 1, device=device)
    return i, j


def _said(judged: Judged) -> Tensor:
    """Return how likely the first of each pair of responses is the better one, (B, M); NaN where nobody says.

    Of a pool the pairs with different ranks are compared; a pair may be a tie.
    """
    i, j = _pairs(judged.present.shape[1], judged.present.device)
    ranks, there = judged.ranks, judged.present.bool()
    better = (ranks[:, i] < ranks[:, j]).double()
    compared = there[:, i] & there[:, j] & (ranks[:, i] != ranks[:, j])
    told = better.where(compared, torch.nan)
    if judged.present.shape[1] >= 2:
        first = judged.preference.where(~judged.preference.isnan(), told[:, 0])
        told = torch.cat([first[:, None], told[:, 1:]], 1)
    return told


def _mean(values: Tensor, said: Tensor | None) -> Tensor:
    """Return the mean over the pairs that are compared, (B,)."""
    assert said is not None
    counted = ~said.isnan()
    return (values.where(counted, 0.0)).sum(1) / counted.sum(1).clamp(min=1)

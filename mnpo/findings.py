"""What a diagnosis finds: frozen records, plain data by `as_dict` (docs/concepts.md, (17))."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from mnpo.recommendation import Recommendation


@dataclass(frozen=True)
class Interval:
    """A mean over prompts; low and high are of 95% confidence, by bootstrap, None for a single prompt."""

    mean: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Noise:
    """What noise alone would give: means over prompts of draws from the gradient part, and their 95% quantiles."""

    cyclicity: float
    cyclicity_high: float
    triples: float
    triples_high: float
    no_winner: float
    no_winner_high: float


@dataclass(frozen=True)
class Transitivity:
    """How non-transitive one annotator, or the population, is.

    Attributes:
        annotator: its name.
        weight: its share.
        cyclicity: ‖L − grad‖²/‖L‖², mean over prompts.
        triples: the share of triples of responses that are cycles.
        no_winner: the share of prompts without a Condorcet winner.
        noise: what m labels of each pair would give by noise alone; None for a deterministic model's probabilities.
    """

    annotator: str
    weight: float
    cyclicity: Interval
    triples: Interval
    no_winner: Interval
    noise: Noise | None


@dataclass(frozen=True)
class SampleEquilibrium:
    """The equilibria of the responses' games for one number of players.

    Attributes:
        players: n.
        win_rate: against the reference, split: rather too low.
        win_rate_in_sample: against the responses that it was chosen among: too high.
        kl: KL(π* ‖ π_ref) in nats, at most log K.
        effective: exp(H), the effective number of responses.
        distance: total variation from the equilibrium of two players.
        verified: whether in no prompt anybody gains more than 1e-10 by changing alone.
    """

    players: int
    win_rate: Interval
    win_rate_in_sample: Interval
    kl: Interval
    effective: Interval
    distance: Interval
    verified: bool


@dataclass(frozen=True)
class Fit:
    """What a Bradley–Terry fit of the same judgments would play, π ∝ π_ref exp(g/β).

    Attributes:
        exploitability: of two players who play it at β = τ, RLHF's optimum.
        best_exploitability: at the temperature at which it is least.
        best_temperature: that β.
        win_rate: against the reference at that β, in the sample: too high.
    """

    exploitability: Interval
    best_exploitability: Interval
    best_temperature: float
    win_rate: Interval


@dataclass(frozen=True)
class Diagnosis:
    """What the responses and judgments say; `as_dict` is plain data for JSON.

    Attributes:
        prompts: how many.
        responses: K, and how many prompts have so many.
        tau: τ of the games.
        pairwise: whether all annotators judge pairs only: the number of players then changes nothing.
        transitivity: of each annotator, and last of the population if there are several.
        disagreement: the share of pairs that two annotators order differently; None with one annotator.
        equilibria: by number of players.
        fit: what Bradley–Terry would play.
        recommendation: what to train with.
    """

    prompts: int
    responses: dict[str, int]
    tau: float
    pairwise: bool
    transitivity: tuple[Transitivity, ...]
    disagreement: Interval | None
    equilibria: tuple[SampleEquilibrium, ...]
    fit: Fit
    recommendation: Recommendation

    def as_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        found = dataclasses.asdict(self)
        return {name: list(value) if isinstance(value, tuple) else value for name, value in found.items()}

"""What to train with, from the numbers of a diagnosis, each with its reason in a sentence.

The bounds are rules of thumb. They are named here, so that a reader can hold them against the numbers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

#: Preferences less cyclic than this are taken as Bradley–Terry's: DPO loses next to nothing on them.
CYCLIC = 0.01
#: What a game could gain over a reward of less than this, in win rate, is hardly worth a game.
GAIN = 0.002
#: An equilibrium further away than this, in total variation, is another one.
MOVES = 0.02
#: Above this share of K the effective number of responses is as large as K lets it be.
FILLED = 0.5
#: Above this share of log K a KL divergence is as large as K lets it be.
BOUND = 0.9


@dataclass(frozen=True)
class Seen:
    """The numbers that a recommendation rests on.

    Attributes:
        tau: τ of the games.
        responses: K, that of most prompts.
        cyclicity: of the population, mean over prompts.
        noise: what noise alone reaches with probability 5%; None for a deterministic model.
        no_winner: the share of prompts without a Condorcet winner.
        lost: exploitability of the best Bradley–Terry policy.
        kl, effective, win_rate: of the equilibrium of two players; the win rate is split.
        disagreement: between annotators; 0 for one.
        changes: n -> total variation between the equilibria of n and of two players.
    """

    tau: float
    responses: int
    cyclicity: float
    noise: float | None
    no_winner: float
    lost: float
    kl: float
    effective: float
    win_rate: float
    disagreement: float
    changes: Mapping[int, float]


@dataclass(frozen=True)
class Recommendation:
    """What to train with.

    Attributes:
        rule: a rule of `mnpo sim rules`; "any" if it does not matter.
        eta: the largest step that is safe, η; None where the rule does not matter.
        tau: the KL strength.
        players: n.
        group_size: n − 1 for a group oracle, else 1.
        responses: K.
        reasons: "rule", "eta", "tau", "n" and "K" -> a sentence.
    """

    rule: str
    eta: float | None
    tau: float
    players: int
    group_size: int
    responses: int
    reasons: dict[str, str]


def recommend(seen: Seen) -> Recommendation:
    """Return what the numbers speak for."""
    reasons: dict[str, str] = {}
    bound = max(CYCLIC, seen.noise or 0.0)
    cyclic = seen.cyclicity > bound
    if cyclic:
        little = ", so that little is at stake" if seen.lost < GAIN else ""
        reasons["rule"] = (
            f"preferences are cyclic ({seen.cyclicity:.3f}, above {bound:.3f}) and {seen.no_winner:.0%} of prompts "
            f"have no Condorcet winner; the best Bradley-Terry policy is exploitable by {seen.lost:.4f}{little}; "
            "td-mnpo is the other choice, with a smaller eta"
        )
    elif seen.cyclicity > CYCLIC:
        reasons["rule"] = (
            f"preferences are no more cyclic ({seen.cyclicity:.3f}) than noise makes transitive ones (up to "
            f"{bound:.3f}), so that nothing speaks against DPO; more labels of each pair would tell"
        )
    else:
        reasons["rule"] = (
            f"preferences are transitive up to a cyclicity of {seen.cyclicity:.3f} (up to {bound:.3f} is noise "
            "or next to nothing), so that every rule ranks responses alike and DPO suffices"
        )
    tau = _tau(seen, reasons)
    filled = seen.effective > FILLED * seen.responses
    eta = None
    if cyclic:
        eta = 1 / (4 * tau) if filled else 1 / tau
        reasons["eta"] = (
            f"the equilibrium plays {seen.effective:.1f} of {seen.responses} responses, which K can hardly hold: a "
            "quarter of 1/tau"
            if filled
            else f"the equilibrium plays {seen.effective:.1f} of {seen.responses} responses, so that the full step "
            "1/tau is safe for prox"
        )
    else:
        reasons["eta"] = "the step matters for the speed alone"
    players = _players(seen, reasons)
    more = filled and cyclic
    reasons["K"] = (
        f"twice as many responses, as {seen.effective:.1f} effective ones fill K = {seen.responses}"
        if more
        else f"K = {seen.responses} holds the {seen.effective:.1f} effective responses"
        if cyclic
        else f"K = {seen.responses} is enough, as there is no mixture to be found"
    )
    return Recommendation(
        rule="prox" if cyclic else "any",
        eta=eta,
        tau=tau,
        players=players,
        group_size=players - 1,
        responses=seen.responses * (2 if more else 1),
        reasons=reasons,
    )


def _tau(seen: Seen, reasons: dict[str, str]) -> float:
    most = math.log(seen.responses)
    if seen.kl > BOUND * most:
        reasons["tau"] = (
            f"twice the tau given: the equilibrium's KL of {seen.kl:.2f} nats is near log K = {most:.2f}, the most "
            "that K responses can show"
        )
        return 2 * seen.tau
    reasons["tau"] = (
        f"the tau given: the equilibrium wins {seen.win_rate:.1%} against the reference for a KL of "
        f"{seen.kl:.2f} nats"
    )
    return seen.tau


def _players(seen: Seen, reasons: dict[str, str]) -> int:
    """Return the smallest n that makes at least half of the largest change."""
    most = max(seen.changes.values(), default=0.0)
    if not seen.changes:
        reasons["n"] = "pairs are judged one by one, so that the number of players changes nothing"
    elif not seen.disagreement:
        reasons["n"] = "annotators do not disagree, so that more players have nobody to hear"
    elif most <= MOVES:
        reasons["n"] = f"the equilibrium hardly moves with n (total variation {most:.3f} at most)"
    else:
        players = min(n for n, change in seen.changes.items() if 2 * change >= most)
        reasons["n"] = (
            f"annotators order {seen.disagreement:.0%} of pairs differently and the equilibrium moves by "
            f"{seen.changes[players]:.2f} from two players to {players}; group_size = {players - 1}"
        )
        return players
    return 2

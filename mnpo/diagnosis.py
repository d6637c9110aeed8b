"""Diagnosis before training: what a game can gain on samples of the reference alone (docs/concepts.md, (17)).

Of K responses of π_ref to each prompt, and of what annotators say of them, everything here is exact but for the
choice of prompts and responses: cyclicity, the equilibria of the responses' game, and what a Bradley–Terry fit
would play in their place. A response drawn twice counts twice, as it does under π_ref.

The win rate of an equilibrium against the reference has two readings. *In the sample*, against the responses that
it was chosen among: too high. *Split*: the equilibrium of one half of the responses against the other half, both
ways: without bias for K/2 responses, and so rather low for K.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from mnpo.cyclicity import (
    Cyclicity,
    as_wins,
    check_size,
    cyclicity,
    denoised,
    disagreement,
    labelled,
    transitive,
)
from mnpo.findings import Diagnosis, Fit, Interval, Noise, SampleEquilibrium, Transitivity
from mnpo.games import Game
from mnpo.gap_estimates import bootstrap
from mnpo.gaps import gains
from mnpo.implicit import equilibrium_around
from mnpo.numerics import LOG_ZERO, Array, as_array, as_weights, entropy, normalise_log
from mnpo.oracles import Oracle, Pairwise, PlackettLuce, panel
from mnpo.recommendation import Seen, recommend

#: The numbers of players whose equilibria are computed.
PLAYERS = (2, 3, 4, 6)
#: The exploitability that an equilibrium may have.
TOLERANCE = 1e-10
#: Draws of labels that say what noise alone would give.
DRAWS = 100
#: Temperatures β of a Bradley–Terry policy ∝ π_ref exp(g/β), as multiples of τ; the first is RLHF's.
TEMPERATURES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
#: Of more annotators than this the population alone has a row.
MOST_NAMED = 24
#: Whose name the annotators together have.
POPULATION = "population"


class Annotator(NamedTuple):
    """What one annotator says of X prompts' K responses; one of `wins` and `utilities` is given.

    Attributes:
        name: differs from the others' names.
        weight: its share of the population, above 0.
        wins: P(row ≻ column), (X, K, K).
        utilities: r of Plackett–Luce, (X, K); of two responses the logit of P is their difference.
        labels: m, if `wins` are shares of m binary labels of each pair; None for a model's probabilities.
    """

    name: str
    weight: float
    wins: Array | None = None
    utilities: Array | None = None
    labels: int | None = None

    def matrix(self) -> Array:
        """Return P, (X, K, K), checked."""
        if self.utilities is not None:
            utilities = as_array(self.utilities, "utilities")
            check_size(utilities.shape[-1])
            return PlackettLuce(utilities).pairwise_matrix()
        return as_wins(self.wins if self.wins is not None else [])

    def oracle(self) -> Oracle:
        """Return who judges pairs and groups."""
        if self.utilities is None:
            return Pairwise(self.matrix())
        return PlackettLuce(np.asarray(self.utilities)[None])


class Diagnosing:
    """Gathers a diagnosis block by block: what is kept of a prompt are a few numbers.

    Args:
        tau: τ > 0 of the games.
        seed: of the bootstrap and of the labels' noise.

    Raises:
        ValueError: a τ that is not above 0.
    """

    def __init__(self, tau: float, seed: int = 0) -> None:
        if not 0 < tau < np.inf:
            raise ValueError(f"tau must be a number above 0; found {tau}")
        self._tau, self._seed, self._rng = float(tau), seed, np.random.default_rng(seed)
        self._taus = np.array([self._tau])
        self._kept: dict[tuple[str, ...], list[Array]] = {}
        self._noise: dict[str, list[Array]] = {}
        self._who: list[tuple[str, float]] = []
        self._sizes: dict[int, int] = {}
        self._pairwise, self._verified = True, dict.fromkeys(PLAYERS, True)

    def add(self, annotators: Sequence[Annotator], oracle: Oracle | None = None) -> None:
        """Take in some prompts that have the same number of responses.

        Args:
            annotators: the same ones each time, in the same order.
            oracle: who judges groups of more than two, where that is more than the annotators say.

        Raises:
            ValueError: others than before, fewer than three responses, or a prompt in which all pairs are even for
                everybody.
        """
        weights = as_weights([one.weight for one in annotators], len(annotators), "weights")
        who = [(one.name, float(weight)) for one, weight in zip(annotators, weights, strict=True)]
        if self._who and who != self._who:
            raise ValueError("annotators must be the same for all prompts; found others")
        self._who = who
        matrices = np.stack([one.matrix() for one in annotators])
        if matrices.ndim != 4:
            raise ValueError(f"wins must have shape (prompts, K, K); found {matrices.shape[1:]}")
        if (even := (matrices == 0.5).all((0, 2, 3))).any():
            raise ValueError(
                f"responses must differ: for everybody all pairs are even, in prompt {int(even.argmax())} of "
                f"{even.size}"
            )
        size = matrices.shape[-1]
        self._sizes[size] = self._sizes.get(size, 0) + matrices.shape[1]
        for one, wins in zip(annotators, matrices, strict=True):
            if len(annotators) <= MOST_NAMED:
                self._transitivity(one.name, _cyclicity(one, wins), one.labels)
        population = np.tensordot(weights, matrices, axes=1)
        labels = _labels(annotators, weights)
        together = cyclicity(population, labels=labels)
        if len(annotators) > 1:
            self._transitivity(POPULATION, together, labels)
            self._keep(("disagreement",), disagreement(matrices, weights))
        pairs = all(one.utilities is None for one in annotators)
        self._pairwise &= pairs if oracle is None else isinstance(oracle, Pairwise)
        alone = _cyclicity(annotators[0], population) if len(annotators) == 1 else together
        self._fit(population, alone.utilities)
        self._equilibria(oracle or panel([one.oracle() for one in annotators], weights), population)

    def finish(self) -> Diagnosis:
        """Return the diagnosis.

        Raises:
            ValueError: no prompts.
        """
        if not self._sizes:
            raise ValueError("there are no prompts with responses to diagnose")
        several, named = len(self._who) > 1, self._who if len(self._who) <= MOST_NAMED else []
        names = [*named, *([(POPULATION, 1.0)] if several else [])]
        transitivity = tuple(
            Transitivity(
                annotator=name,
                weight=weight,
                cyclicity=self._mean("cyclicity", name),
                triples=self._mean("triples", name),
                no_winner=self._mean("no_winner", name),
                noise=self._noise_of(name),
            )
            for name, weight in names
        )
        equilibria = tuple(
            SampleEquilibrium(
                players=n,
                win_rate=self._mean("win_rate", str(n)),
                win_rate_in_sample=self._mean("win_rate_in_sample", str(n)),
                kl=self._mean("kl", str(n)),
                effective=self._mean("effective", str(n)),
                distance=self._mean("distance", str(n)),
                verified=self._verified[n],
            )
            for n in (PLAYERS[:1] if self._pairwise else PLAYERS)
        )
        each = [self._mean("fit", f"{k:g}") for k in TEMPERATURES]
        best = min(range(len(each)), key=lambda place: each[place].mean)
        fit = Fit(
            each[0],
            each[best],
            self._tau * TEMPERATURES[best],
            self._mean("fit wins", f"{TEMPERATURES[best]:g}"),
        )
        apart = self._mean("disagreement") if several else None
        whole, two = transitivity[-1], equilibria[0]
        seen = Seen(
            tau=self._tau,
            responses=max(self._sizes, key=lambda size: self._sizes[size]),
            cyclicity=whole.cyclicity.mean,
            noise=None if whole.noise is None else whole.noise.cyclicity_high,
            no_winner=whole.no_winner.mean,
            lost=fit.best_exploitability.mean,
            kl=two.kl.mean,
            effective=two.effective.mean,
            win_rate=two.win_rate.mean,
            disagreement=0.0 if apart is None else apart.mean,
            changes={row.players: row.distance.mean for row in equilibria[1:]},
        )
        return Diagnosis(
            prompts=sum(self._sizes.values()),
            responses={str(size): count for size, count in sorted(self._sizes.items())},
            tau=self._tau,
            pairwise=self._pairwise,
            transitivity=transitivity,
            disagreement=apart,
            equilibria=equilibria,
            fit=fit,
            recommendation=recommend(seen),
        )

    def _keep(self, what: tuple[str, ...], values: npt.ArrayLike) -> None:
        self._kept.setdefault(what, []).append(np.asarray(values, dtype=np.float64))

    def _mean(self, *what: str) -> Interval:
        values = np.concatenate(self._kept[what])
        if values.size < 2:
            return Interval(float(values[0]), None, None)
        low, high = bootstrap(values, np.random.default_rng(self._seed))
        return Interval(float(values.mean()), float(low), float(high))

    def _transitivity(self, name: str, found: Cyclicity, labels: int | None) -> None:
        for what, values in zip(_STATISTICS, (found.share, found.triples, ~found.winner), strict=True):
            self._keep((what, name), values)
        if labels is not None:
            # Each of the two can be too little cyclic, where the other is right: the more cyclic one counts.
            nulls = [
                self._drawn(denoised(found.utilities, labels, self._rng, together=together), labels)
                for together in (True, False)
            ]
            self._noise.setdefault(name, []).append(max(nulls, key=lambda null: float(null[0].mean())))

    def _drawn(self, truth: Array, labels: int) -> Array:
        """Sums over prompts of the statistics of labels drawn from Bradley–Terry models, (3, draws)."""
        sums = []
        for _ in range(DRAWS):  # one at a time: each is as large as the block
            drawn = labelled(truth, labels, self._rng)
            sums.append([drawn.share.sum(), drawn.triples.sum(), (~drawn.winner).sum()])
        return np.array(sums).T

    def _noise_of(self, name: str) -> Noise | None:
        if name not in self._noise:
            return None
        means = np.sum(self._noise[name], axis=0) / sum(self._sizes.values())  # (3, draws)
        found = [(float(row.mean()), float(np.quantile(row, 0.95))) for row in means]
        return Noise(*(number for pair in found for number in pair))

    def _fit(self, wins: Array, utilities: Array) -> None:
        for times in TEMPERATURES:
            log_policy, policy = normalise_log(utilities / (times * self._tau))
            rates, even = np.matmul(wins, policy[..., None])[..., 0], np.zeros(policy.shape)
            self._keep(("fit", f"{times:g}"), gains(policy, log_policy, rates, even, self._taus))
            self._keep(("fit wins", f"{times:g}"), (policy * wins.mean(-1)).sum(-1))

    def _equilibria(self, oracle: Oracle, wins: Array) -> None:
        size = wins.shape[-1]
        halves = np.array_split(np.arange(size), 2)
        two: Array | None = None
        for players in PLAYERS[:1] if self._pairwise else PLAYERS:
            judge = Pairwise(wins) if players == 2 or self._pairwise else oracle
            game = Game(judge, players=players, tau=self._tau)
            policy = self._solved(game, np.arange(size))
            two = policy if two is None else two
            split = [
                np.einsum("xi,xij->x", self._solved(game, own)[:, own], wins[:, own[:, None], other])
                / len(other)
                for own, other in (halves, halves[::-1])
            ]
            spread = entropy(policy)
            values = (
                np.mean(split, axis=0),
                (policy * wins.mean(-1)).sum(-1),
                np.asarray(np.log(size) - spread),
                np.exp(spread),
                np.abs(policy - two).sum(-1) / 2,
            )
            for what, found in zip(_COLUMNS, values, strict=True):
                self._keep((what, str(players)), found)

    def _solved(self, game: Game, places: npt.NDArray[np.int64]) -> Array:
        """Return equilibria around a reference that is uniform on some responses and 0 on the others, (X, K)."""
        found = []
        log_reference = np.full(game.actions, LOG_ZERO)
        log_reference[places] = -np.log(len(places))
        # As `solve` does it, without its second opinion by another method, which costs a hundred times more.
        for _, _, part in game.blocks():
            reference = np.tile(log_reference, (1, part.contexts, 1))
            log_policies = equilibrium_around(part, reference, self._taus).log_policies
            policies = np.exp(log_policies)
            left = gains(policies, log_policies, part.win_probabilities(policies), reference, self._taus)
            self._verified[game.players] &= bool(left.max() < TOLERANCE)
            found.append(policies[0])
        return np.concatenate(found)


_STATISTICS = ("cyclicity", "triples", "no_winner")
_COLUMNS = ("win_rate", "win_rate_in_sample", "kl", "effective", "distance")


def _cyclicity(annotator: Annotator, wins: Array) -> Cyclicity:
    """Of utilities from themselves: probabilities of a wide scale keep too few digits."""
    if annotator.utilities is not None:
        return transitive(annotator.utilities)
    return cyclicity(wins, labels=annotator.labels)


def _labels(annotators: Sequence[Annotator], weights: Array) -> int | None:
    """How many labels the population's shares are worth: their variance is Σ w²/m times that of a label."""
    known = [one.labels for one in annotators]
    if None in known:
        return None
    return max(1, round(1 / sum(w * w / m for w, m in zip(weights.tolist(), known, strict=True) if m)))

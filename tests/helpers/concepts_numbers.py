"""What the numbers of docs/concepts.md should be: `defined` by numpy and scipy alone, `by_mnpo` by the library."""

from __future__ import annotations

import itertools
import math
from functools import cache

import numpy as np
from concepts_page import NAMES, PAIRS, Given, given
from scipy.optimize import minimize
from scipy.special import logsumexp, softmax

import mnpo
from mnpo.feedback import Sampled
from mnpo.rates import local_rate


def kl(policy: np.ndarray, other: np.ndarray) -> float:
    return float(policy @ np.log(policy / other))


def payoff(g: Given, policy: np.ndarray, opponent: np.ndarray) -> float:
    return float(policy @ g.wins @ opponent) - g.tau * kl(policy, g.reference)


def inpo_step(g: Given, policy: np.ndarray) -> np.ndarray:
    pull = g.eta * g.tau
    logits = pull * np.log(g.reference) + (1 - pull) * np.log(policy) + g.eta * g.wins @ policy
    return softmax(logits)


def best_value(g: Given, opponent: np.ndarray) -> float:
    """V by maximising the payoff numerically: (6) is not used."""
    found = minimize(lambda x: -payoff(g, softmax(x), opponent), np.zeros(3), tol=1e-14)
    return -float(found.fun)


def worst_gap(g: Given, policy: np.ndarray, players: int) -> float:
    """(9), its maximum taken numerically; the inner minima are V of the opponent, from the other side."""

    def duel(one: np.ndarray, two: np.ndarray) -> float:
        return payoff(g, one, two) + g.tau * kl(two, g.reference)

    def worst(one: np.ndarray) -> float:
        value = g.tau * float(logsumexp(np.log(g.reference) + g.wins @ one / g.tau))
        return 1 - value - g.tau * kl(one, g.reference)

    share = 1 / (players - 1)

    def challenge(x: np.ndarray) -> float:
        return -(share * duel(softmax(x), policy) + (1 - share) * worst(softmax(x)))

    return -float(minimize(challenge, np.zeros(3), tol=1e-12).fun) - worst(policy)


def label_fit(g: Given) -> np.ndarray:
    """What labels with the target η/2 teach: the least-squares d over all pairs and labels, by their probability."""
    rows, targets, weights = [], [], []
    for y, z in itertools.product(range(3), repeat=2):
        for preferred, chance in ((1, g.wins[y, z]), (-1, g.wins[z, y])):
            rows.append(np.eye(3)[y] - np.eye(3)[z])
            targets.append(preferred * g.eta / 2)
            weights.append(math.sqrt(g.current[y] * g.current[z] * chance))
    scale = np.array(weights)
    fit = np.linalg.lstsq(np.array(rows) * scale[:, None], np.array(targets) * scale, rcond=None)[0]
    return fit - g.current @ fit


def group_wins(shares: tuple[float, float], policy: np.ndarray) -> list[float]:
    """q of two responses with three players: annotators pick their favourite, if it is there; copies share."""
    found = [0.0, 0.0]
    for y, *group in itertools.product((0, 1), repeat=3):
        everyone = [y, *group]
        chance = math.prod(policy[z] for z in group)
        picks = [favourite if favourite in everyone else 1 - favourite for favourite in (0, 1)]
        won = sum(share for share, pick in zip(shares, picks, strict=True) if pick == y)
        found[y] += chance * won / everyone.count(y)
    return found


@cache
def defined() -> dict[str, float]:
    g = given()
    values: dict[str, float] = {"τ": g.tau, "η": g.eta, "λ_ref": g.eta * g.tau, "λ_t": 1 - g.eta * g.tau}
    q = g.wins @ g.current
    bests = g.reference * np.exp(q / g.tau)
    mixed = g.reference ** values["λ_ref"] * g.current ** values["λ_t"] * np.exp(g.eta * q)
    star = g.current
    gaps = []
    for _ in range(2000):
        gaps.append(2 * (best_value(g, star) - payoff(g, star, star)) if len(gaps) < 11 else 0.0)
        star = inpo_step(g, star)
    after = inpo_step(g, g.current)
    u = payoff(g, g.current, g.current)
    maximal = np.array([2, 4, 3]) / 9
    for i, name in enumerate(NAMES):
        values |= {
            f"q({name})": q[i],
            f"B({name})": bests[i],
            f"BR({name})": bests[i] / bests.sum(),
            f"M({name})": mixed[i],
            f"π^{{t+1}}({name})": after[i],
            f"π*({name})": star[i],
            f"q*({name})": (g.wins @ star)[i],
            f"win_0({name})": (g.wins @ maximal)[i],
        }
    for pair in PAIRS:
        y, z = (NAMES.index(name) for name in pair.split(", "))
        share = values["λ_ref"] * math.log(g.reference[y] / g.reference[z])
        share += values["λ_t"] * math.log(g.current[y] / g.current[z])
        ratio = math.log(after[y] / after[z])
        values |= {f"share({pair})": share, f"ratio({pair})": ratio, f"h({pair})": ratio - share}
        values[f"target({pair})"] = g.eta * (q[y] - q[z])
    values |= {
        "win": float(g.current @ q),
        "KL": kl(g.current, g.reference),
        "u": u,
        "B": bests.sum(),
        "V": best_value(g, g.current),
        "exploitability": best_value(g, g.current) - u,
        "NashConv": 2 * (best_value(g, g.current) - u),
        "duality gap": worst_gap(g, g.current, 2),
        "worst-case gap": worst_gap(g, g.current, 3),
        "M": mixed.sum(),
    }
    values |= {f"gap {updates}": gaps[updates] for updates in (0, 1, 2, 5, 10)}
    labels = label_fit(g)
    values |= {
        "label(a, b)": g.eta * (g.wins[0, 1] - 0.5),
        "label(a, c)": g.eta * (g.wins[0, 2] - 0.5),
        "mean_label(a)": labels[0],
        "centred(a)": g.eta * (q[0] - 0.5),
    }
    spread = g.wins @ (np.diag(star) - np.outer(star, star))
    omega = float(np.abs(np.linalg.eigvals(spread).imag).max())
    rate = float(np.abs(1 - g.eta * g.tau + 1j * g.eta * omega))
    singles = float(star @ (g.wins @ star - 0.5) ** 2)
    values |= {
        "pairs": omega**2 + singles,
        "singles": singles,
        "ω": omega,
        "rate": rate,
        "rate²": rate**2,
        "largest stable η": 2 * g.tau / (g.tau**2 + omega**2),
    }
    wins = group_wins((0.6, 0.4), np.array([0.8, 0.2]))
    values |= {"group_q(a)": wins[0], "group_q(b)": wins[1]}
    values["gain(b)"] = group_wins((0.6, 0.4), np.array([1.0, 0.0]))[1] - 1 / 3
    odds = np.zeros(2)
    for _ in range(200):
        odds = (1 - g.eta * g.tau) * odds[::-1] + g.eta * np.array([0.4, -0.4])
    best, settled = 1 / (1 + math.exp(-0.4 / g.tau)), 1 / (1 + math.exp(-odds[0]))
    two = [np.array([p, 1 - p]) for p in (settled, best)]
    values |= {
        "ℓ_equilibrium": 0.4 / g.tau,
        "π_equilibrium": best,
        "ℓ_consensus": odds[0],
        "π_consensus": settled,
        "gain_consensus": g.tau * kl(*two),
    }
    return values


# --- the same numbers by mnpo -----------------------------------------------------------------------------------


@cache
def by_mnpo() -> dict[str, float]:
    g = given()
    game = mnpo.Game(mnpo.Pairwise(g.wins), 2, g.tau, g.reference)
    rule = mnpo.inpo(g.eta, g.tau)
    profile = game.profile(g.current)
    q = game.win_probabilities(profile)
    best, value = game.best_response(q)
    log_next = mnpo.update(game, rule, [g.current])[0, 0]
    found = mnpo.solve(game)
    assert found.certificate.holds
    values: dict[str, float] = {
        "λ_ref": float(rule.reference_weight),
        "τ": float(rule.tau),
        "KL": float(game.divergence(profile)[0, 0]),
        "u": float(game.payoffs(profile)[0]),
        "V": float(value[0]),
        "exploitability": float(mnpo.exploitability(game, g.current)[0]),
        "NashConv": float(mnpo.nash_conv(game, g.current)),
        "duality gap": float(mnpo.dual_gap(game, g.current)),
        "worst-case gap": mnpo.worst_case_gap(mnpo.Game(game.oracle, 3, g.tau, g.reference), g.current),
        "rate": local_rate(rule, game).radius,
    }
    exact = mnpo.solve(mnpo.Game(game.oracle, 2, 0.0)).policies[0, 0]
    for i, name in enumerate(NAMES):
        values |= {
            f"q({name})": q[0, 0, i],
            f"BR({name})": best[0, 0, i],
            f"π^{{t+1}}({name})": math.exp(log_next[i]),
            f"π*({name})": found.policies[0, 0, i],
            f"q*({name})": game.win_probabilities(found.policies[:1])[0, 0, i],
            f"win_0({name})": float(g.wins[i] @ exact),
        }
    for pair in PAIRS:
        y, z = (NAMES.index(name) for name in pair.split(", "))
        values[f"target({pair})"] = float(rule.target(q[0, 0, y] - q[0, 0, z]))
        values[f"ratio({pair})"] = log_next[y] - log_next[z]
    path = mnpo.run(game, rule, 10, start=g.current)
    values |= {f"gap {updates}": float(path.gap[updates]) for updates in (0, 1, 2, 5, 10)}
    learnt = Sampled(200_000, np.random.default_rng(0), pairs="iid", soft=True)(game, profile, profile)[0, 0]
    values["mean_label(a)"] = g.eta * float(learnt[0] - g.current @ learnt)
    people = mnpo.Population(levels=[[0, 1], [1, 0]], level_weights=[60, 40])
    three = mnpo.Game(people, 3, 0.0)
    wins = three.win_probabilities(three.profile([0.8, 0.2]))[0, 0]
    values |= {"group_q(a)": wins[0], "group_q(b)": wins[1]}
    values["gain(b)"] = float(mnpo.exploitability(three, [1.0, 0.0])[0])
    one, two = np.array([[0.5, 0.9], [0.1, 0.5]]), np.array([[0.5, 0.1], [0.9, 0.5]])
    unlike = mnpo.Game(mnpo.Heterogeneous([mnpo.Pairwise(one), mnpo.Pairwise(two)]), 2, g.tau)
    for anchor, name in (("own", "equilibrium"), ("opponents", "consensus")):
        path = mnpo.run(unlike, mnpo.ht_mnpo(g.eta, g.tau, anchor), 300)
        values[f"π_{name}"] = path.policies[0, 0, 0]
        values[f"ℓ_{name}"] = path.log_policies[0, 0, 0] - path.log_policies[0, 0, 1]
        if anchor == "opponents":
            values["gain_consensus"] = float(path.exploitability[-1, 0])
        else:
            assert path.exploitability[-1].max() < 1e-12
    return values

"""One implicit step for twenty explicit ones? Rules on tables that see the same responses and judgments.

    python benchmarks/implicit_steps.py FOLDER [SEEDS] [GAME ..]

An iteration has 120 prompts of one game, K responses to each from the current policy, all judged. A
rule's credits are regressed on all pairs exactly (`mnpo.sampled_game`). τ = 0.05, uniform reference, six
iterations. Each rule is taken at the step whose median gap over seeds is best at the end. With SUSHI or FOOTBALL
in the environment, the paths of PrefLib's 00014-00000001.soc and 00054-00000929.soc, those files as well. Games
whose names end in "by four" are of four players, judged in groups. Prints tables; writes `implicit-steps.json` and
the figure. Named games alone are run, and join what the folder has.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from joblib import Parallel, delayed

from mnpo import Game, Pairwise, egpo, inpo, onpo, prox, run, solve, td_mnpo
from mnpo.common.style import PALETTE, WIDTH, blank
from mnpo.numerics import entropy
from mnpo.sampled_game import Groups
from mnpo.sim.load import load_game

TAU, PROMPTS, ITERATIONS = 0.05, 120, 6
STEPS = (1.0, 2.0, 3.0, 5.0, 8.0, 1 / TAU)
RULES: dict[str, tuple[Any, str]] = {
    "INPO": (lambda eta: inpo(eta, TAU), "pair-left-out"),
    "ONPO": (lambda eta: onpo(eta, TAU), "pair-left-out"),
    "TD-MNPO n = 4": (lambda eta: td_mnpo(eta, TAU, 4), "pair-left-out"),
    "EGPO, weighted": (lambda eta: egpo(eta, TAU), "pair-left-out"),
    "prox": (lambda eta: prox(eta, TAU), "pair-left-out"),
    "prox, pair in": (lambda eta: prox(eta, TAU), "all"),
    "prox, halves": (lambda eta: prox(eta, TAU), "halves"),
}
GAMES = {
    "random": "random:responses=20",
    "cyclic": "transitive-cyclic:responses=20",
    "annotators": "annotators:responses=20",
    "sushi": os.environ.get("SUSHI", ""),
    "football": os.environ.get("FOOTBALL", ""),
    "annotators by four": "annotators:responses=20,annotators=30",
}
#: Games that are drawn by seed; of the files the responses alone are drawn.
FILES = ("sushi", "football")
#: Steps that a rule of four players is tried at: its games take minutes.
FEW_STEPS = (3.0, 5.0, 8.0, 1 / TAU)


def game_of(name: str, seed: int) -> Game:
    spec = load_game(GAMES[name], seed=None if name in FILES else seed)
    if name.endswith("by four"):
        return Game(spec.oracle, 4, TAU)
    return Game(Pairwise(spec.oracle.pairwise_matrix()), 2, TAU)


def gaps(name: str, rule: str, eta: float, pool: int, seed: int, labels: bool) -> list[float]:
    build, opponents = RULES[rule]
    feedback = Groups(PROMPTS, pool, np.random.default_rng([seed, pool]), labels, opponents)
    found = run(game_of(name, seed), build(eta), ITERATIONS, feedback=feedback).gap
    return [float(gap) for gap in found]


def cell(
    name: str, rule: str, pool: int, seeds: int, labels: bool = False, steps: Any = STEPS
) -> dict[str, Any]:
    """All steps and seeds of one rule; what is kept is the best step."""
    asked = list(itertools.product(steps, range(seeds)))
    found = Parallel(2)(delayed(gaps)(name, rule, eta, pool, seed, labels) for eta, seed in asked)
    table = np.array(found).reshape(len(steps), seeds, -1)
    last = np.median(table[:, :, -1], axis=1)
    best = int(last.argmin())
    low, middle, high = np.quantile(table[best], (0.25, 0.5, 0.75), axis=0).tolist()
    row = {
        "game": name, "rule": rule, "K": pool, "labels": labels, "seeds": seeds, "eta": steps[best], "gap": middle,
        "low": low, "high": high, "by_step": dict(zip(map(str, steps), last.tolist(), strict=True)),
    }  # fmt: skip
    by_step = "  ".join(f"{eta:g}: {gap:.4f}" for eta, gap in zip(steps, last, strict=True))
    print(
        f"{name:<11} K = {pool:<3}{'labels ' if labels else ''}{rule:<15} best η = {steps[best]:<4g} "
        f"{middle[-1]:.4f} ({low[-1]:.4f} to {high[-1]:.4f})   {by_step}",
        flush=True,
    )
    return row


def draw(rows: list[dict[str, Any]], file: Path) -> None:
    """Gap against iterations, a panel a game, at K = 8; gap at the end against K on random games."""
    games = [name for name in GAMES if any(row["game"] == name for row in rows)]
    figure = blank(2 * WIDTH, 2.4)
    axes = figure.subplots(1, len(games) + 1)
    shown = [name for name in RULES if name not in ("prox, pair in", "prox, halves")]
    for axis, name in zip(axes, games, strict=False):
        for row in rows:
            if row["game"] == name and row["K"] == 8 and not row["labels"] and row["rule"] in shown:
                colour = PALETTE[shown.index(row["rule"])]
                axis.plot(row["gap"], color=colour, label=row["rule"])
                axis.fill_between(
                    range(ITERATIONS + 1), row["low"], row["high"], color=colour, alpha=0.15, lw=0
                )
        axis.set(yscale="log", xlabel="iteration", xticks=range(0, ITERATIONS + 1, 2))
        axis.set_title(name, fontsize=8)
    axes[0].set_ylabel("duality gap, K = 8")
    for rule in ("INPO", "EGPO, weighted", "prox"):
        some = sorted((r["K"], r["gap"][-1]) for r in rows if r["rule"] == rule and not r["labels"]
                      and r["game"] == "random")  # fmt: skip
        axes[-1].plot(*zip(*some, strict=True), "o-", color=PALETTE[shown.index(rule)])
    axes[-1].set(yscale="log", xscale="log", xlabel="responses K", xticks=[4, 8, 16, 32])
    axes[-1].set_title("random, after six", fontsize=8)
    axes[-1].set_xticks([4, 8, 16, 32], ["4", "8", "16", "32"])
    axes[-1].minorticks_off()
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=5, frameon=False)
    figure.savefig(file, dpi=200)


def main(folder: Path, seeds: int, named: list[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "implicit-steps.json"
    begun = time.monotonic()
    rows = json.loads(file.read_text()) if named and file.is_file() else []
    rows = [row for row in rows if row["game"] not in named]
    for name in [name for name in GAMES if GAMES[name] and (not named or name in named)]:
        effective = [
            float(np.exp(entropy(solve(game_of(name, s)).policies[0, 0]))) for s in range(min(seeds, 5))
        ]
        print(f"{name}: effective responses of the equilibrium {np.median(effective):.1f}", flush=True)
        steps = FEW_STEPS if name.endswith("by four") else STEPS
        rows += [cell(name, rule, 8, seeds, steps=steps) for rule in RULES]
        file.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    if not named or "random" in named:
        rows += more_on_random(seeds)
    file.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    draw(rows, folder / "implicit-steps.png")
    print(f"{time.monotonic() - begun:.0f} s")


def more_on_random(seeds: int) -> list[dict[str, Any]]:
    """Labels in place of probabilities, and other K."""
    rows = [
        cell("random", rule, 8, seeds, labels=True)
        for rule in ("INPO", "TD-MNPO n = 4", "EGPO, weighted", "prox")
    ]
    for pool, count, steps in ((4, seeds, STEPS), (16, seeds, STEPS[1:]), (32, min(seeds, 4), STEPS[2:5])):
        rows += [
            cell("random", rule, pool, count, steps=steps) for rule in ("INPO", "EGPO, weighted", "prox")
        ]
    return rows


if __name__ == "__main__":
    words = sys.argv[2:]
    number = int(words.pop(0)) if words and words[0].isdigit() else 20
    main(Path(sys.argv[1]), number, words)

"""Two- against n-player play with Gemma-2 policies: the study's headline figure, by training.

`python benchmarks/llm_players.py FOLDER` trains a small Gemma-2 by TD-MNPO with each number of players on a
pairwise game, at the step that is best for it on the table, and on a population of annotators; prints both beside
the table and draws `players.png`. It stops with an error if the networks order the players otherwise.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from mnpo import solve
from mnpo.common.style import MARKERS, PALETTE, WIDTH, blank
from mnpo.llm.crosscheck.check import crosscheck
from mnpo.llm.crosscheck.positions import Case
from mnpo.llm.runtime.progress import progress, quiet
from mnpo.numerics import entropy
from mnpo.presets import td_mnpo
from mnpo.sim.load import load_game
from mnpo.tuning import tune

PAIRWISE, PAIRWISE_TAU, HISTORIES = "rps:contexts=4", 0.05, (2, 3, 4)
POPULATION, POPULATION_TAU, PLAYERS = "annotators", 0.05, (2, 3, 4, 6)
STEPS = 40


def cases() -> tuple[list[Case], list[Case]]:
    duel = load_game(PAIRWISE).game(players=2, tau=PAIRWISE_TAU)
    exact = solve(duel).policies
    past = []
    for n in HISTORIES:
        best = tune(lambda eta, n=n: td_mnpo(eta, PAIRWISE_TAU, players=n), duel, equilibrium=exact).eta
        spec = {"name": "td-mnpo", "eta": round(best, 2), "tau": PAIRWISE_TAU, "players": n}
        past.append(Case(f"n = {n}, η = {best:.2f}", spec, duel, PAIRWISE))
    crowd = load_game(POPULATION)
    many = [
        Case(
            f"n = {n}", {"name": "td-mnpo", "eta": 5.0, "tau": POPULATION_TAU, "players": n},
            crowd.game(players=n, tau=POPULATION_TAU), POPULATION,
        )
        for n in PLAYERS
    ]  # fmt: skip
    return past, many


def draw(convergence: list[dict[str, Any]], diversity: list[dict[str, Any]], file: Path) -> None:
    figure = blank(2 * WIDTH, 2.5)
    fall, spread = figure.subplots(1, 2)
    for number, curve in enumerate(convergence):
        fall.plot(curve["updates"], curve["gap_table"], color=PALETTE[number], linewidth=0.9)
        fall.plot(
            curve["updates"], np.maximum(curve["gap_network"], 1e-17), MARKERS[number], color=PALETTE[number],
            mfc="none", markevery=4, label=curve["rule"],
        )  # fmt: skip
    fall.set(yscale="log", xlabel="updates", ylabel="duality gap")
    fall.set_title("own history as players: faster", fontsize=8)
    fall.legend(frameon=False, fontsize=6, title="line: table; marks: Gemma-2", title_fontsize=6)
    found = [row["exact"] for row in diversity]
    spread.plot(PLAYERS, found, "-", color=PALETTE[0], label="exact equilibrium")
    spread.plot(
        PLAYERS, [row["network"] for row in diversity], "o", color=PALETTE[1], mfc="none", label="Gemma-2"
    )
    spread.set(
        xlabel="players n", ylabel="effective responses exp(H)", xticks=PLAYERS, ylim=(0, 1.1 * max(found))
    )
    spread.set_title("population oracle: more diverse", fontsize=8)
    spread.legend(frameon=False, fontsize=6)
    figure.savefig(file, dpi=300)


def main(folder: Path) -> None:
    quiet()
    folder.mkdir(parents=True, exist_ok=True)
    past, many = cases()
    with progress() as report:
        record = crosscheck([*past, *many], ["gemma2"], steps=STEPS, progress=report)
    (folder / "results.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    convergence, crowds = record["curves"][: len(past)], record["curves"][len(past) :]
    print(
        f"| TD-MNPO on {PAIRWISE} | gap after {STEPS}, table | Gemma-2 | updates to 1e-3, table | Gemma-2 |"
    )
    print("|---|---|---|---|---|")
    for curve in convergence:
        gaps = [curve[f"gap_{who}"] for who in ("table", "network")]
        first = [next((t for t, gap in enumerate(found) if gap < 1e-3), None) for found in gaps]
        shown = [str(t) if t is not None else f"> {STEPS}" for t in first]
        print(f"| {curve['rule']} | {gaps[0][-1]:.1e} | {gaps[1][-1]:.1e} | {shown[0]} | {shown[1]} |")
    diversity = []
    print(
        f"\n| {POPULATION} | exp(H) at the equilibrium | table after {STEPS} | Gemma-2 |\n|---|---|---|---|"
    )
    for case, curve in zip(many, crowds, strict=True):
        exact = float(np.exp(entropy(solve(case.game).policies)).mean())
        diversity.append({"exact": exact, "network": curve["effective_network"][-1]})
        print(
            f"| {case.label} | {exact:.3f} | {curve['effective_table'][-1]:.3f} "
            f"| {curve['effective_network'][-1]:.3f} |"
        )
    draw(convergence, diversity, folder / "players.png")
    last = [curve["gap_network"][-1] for curve in convergence]
    spread = [row["network"] for row in diversity]
    if sorted(last, reverse=True) != last or sorted(spread) != spread or record["disagreements"]:
        raise SystemExit(f"not as on the table: {last}, {spread}, {record['disagreements']}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))

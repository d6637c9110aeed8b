"""Three annotators who disagree: tiny models trained by MNPO's forms, beside the exact equilibria of the table.

`python benchmarks/llm_annotators.py FOLDER` runs `mnpo llm train` four times below FOLDER (it goes on where it
stopped) and prints, for each form, each annotator's win rate against the reference policy, and how often each style
is played: by the network on held-out prompts, and at the equilibrium of the game over the five kinds of response.
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import numpy as np
from datasets import load_from_disk

from mnpo import Game, Heterogeneous, Pairwise, PlackettLuce, solve
from mnpo.llm.config import load
from mnpo.llm.data.made import style_of
from mnpo.llm.loop import train
from mnpo.llm.oracles.synthetic import TRAITS
from mnpo.llm.runtime.progress import progress, quiet
from mnpo.llm.stages.records import Evaluated
from mnpo.llm.stages.registry import run_here

FORMS = {
    "TD-MNPO, n = 2": ("tiny-population", []),
    "TD-MNPO, n = 4": ("tiny-population", ["group_size=3", "rule.players=4"]),
    "HT-MNPO, own": ("tiny-heterogeneous", []),
    "HT-MNPO, opponents": ("tiny-heterogeneous", ["rule.anchor=opponents"]),
}
LENGTHS = ("max_length=128", "max_prompt_length=64")  # a part of the seeds of what is sampled
ANNOTATORS = ("ann", "bob", "eve")
STYLES = TRAITS["styles"][0]


def shares(texts: list[str]) -> np.ndarray:
    counts = Counter(style_of(text) or "other" for text in texts)
    return np.array([counts[style] for style in STYLES]) / len(texts)


def utilities() -> np.ndarray:
    oracle = load("tiny-population").judging.oracle
    assert isinstance(oracle, dict)
    members = oracle["members"]
    return np.array([[member["utilities"].get(style, 0) for style in STYLES] for member in members])


def equilibrium(form: str, reference: np.ndarray, tau: float) -> np.ndarray:
    """Return the equilibrium's policies, (players, styles)."""
    r = utilities()
    if form.startswith("TD"):
        players = int(form[-1])
        oracle = PlackettLuce(r[:, None, :], weights=[5, 4, 3])
        return solve(Game(oracle, players=players, tau=tau, reference=reference)).policies[:1, 0]
    own = [Pairwise(1 / (1 + np.exp(u[None, :] - u[:, None]))) for u in r]
    return solve(Game(Heterogeneous(own), players=3, tau=tau, reference=reference)).policies[:, 0]


def wins(policy: np.ndarray, reference: np.ndarray) -> list[float]:
    r = utilities()
    return [float(policy @ (1 / (1 + np.exp(u[None, :] - u[:, None]))) @ reference) for u in r]


def line(name: str, rates: list[str], played: np.ndarray) -> None:
    print(f"| {name} | {' | '.join(rates)} | {' | '.join(f'{share:.2f}' for share in played)} |")


def main(folder: Path) -> None:
    quiet()
    base = None
    print(f"| | {' | '.join(ANNOTATORS)} | {' | '.join(STYLES)} |")
    print("|---|" + "---|" * (len(ANNOTATORS) + len(STYLES)))
    for form, (preset, overrides) in FORMS.items():
        target = folder / form.replace(" ", "").replace(",", "-").replace("=", "")
        given = [] if base is None else [f"model_name_or_path={base}"]
        config = load(preset, [f"output_dir={target}", *LENGTHS, *given, *overrides])
        with progress() as report:
            record = train(config, lambda name, one: run_here(name, one, report), report)
        base = base or str(target / "tiny-styles")
        last = [row for row in record.iterations if row.iteration == config.loop.iterations]
        tested = [Evaluated.read(Path(row.model).parent) for row in last]
        held = load_from_disk(tested[0].folder)
        reference = shares([text for texts in held["reference"] for text in texts])
        exact = equilibrium(form, np.maximum(reference, 1e-9) / np.maximum(reference, 1e-9).sum(), 0.05)
        for row, record_, policy in zip(last, tested, exact, strict=True):
            name = form if len(last) == 1 else f"{form}: {row.player}"
            rates = row.win_rate["reference"]
            known = [rates.get(f"people/{who}") or rates[who] for who in ANNOTATORS]
            texts = [text for texts in load_from_disk(record_.folder)["policy"] for text in texts]
            line(name, [f"{r.mean:.2f} ± {(r.high - r.low) / 2:.2f}" for r in known], shares(texts))
            line("equilibrium", [f"{rate:.2f}" for rate in wins(policy, reference)], policy)
    line("reference", ["0.50"] * 3, reference)


if __name__ == "__main__":
    main(Path(sys.argv[1]))

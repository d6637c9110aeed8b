"""The loop closed, on the tiny models: labels of annotators who disagree, and a policy trained on what they taught.

    python benchmarks/llm_closed_loop.py FOLDER

1. `fit-oracle tiny-oracle` fits a reward model with a head for each annotator to 3,000 labels, and nothing else.
2. `test-oracle` compares it with fresh labels, beside the annotators themselves.
3. `diagnose` says what the game of the fitted population could gain.
4. `train` trains the policy with the fitted population as the only judge.
5. The policy is evaluated under the true annotators, and stands beside the exact equilibrium of their game and of
   the fitted oracle's game over the four styles of answer.

What is there is not done again.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.special import expit

import mnpo
from mnpo.llm.data import made
from mnpo.llm.data.tables import open_table
from mnpo.llm.oracles.base import Question
from mnpo.llm.oracles.panel import build
from mnpo.llm.stages.records import HELD_OUT

TAU, ITERATIONS = 0.05, 6
STYLES = list(made.STYLES)


def truth() -> dict[str, Any]:
    """The annotators themselves, as an oracle; a text in no style is worth less than any."""
    members = [
        {"name": name, "weight": share, "traits": "styles", "utilities": {**worth, "other": -3}}
        for name, (share, worth) in made.ANNOTATORS.items()
    ]
    return {"kind": "population", "name": "annotators", "members": members}


def command(times: dict[str, float], name: str, *words: str) -> None:
    begun = time.monotonic()
    subprocess.run(
        [sys.executable, "-c", "from mnpo.cli.main import main; main()", "llm", *words], check=True,
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
    times[name] = time.monotonic() - begun
    print(f"{name}: {times[name]:.0f} s", flush=True)


def true_wins() -> np.ndarray:
    """P(row's style ≻ column's) of the annotators together."""
    shares = np.array([share for share, _ in made.ANNOTATORS.values()], dtype=float)
    worth = np.array([[given[style] for style in STYLES] for _, given in made.ANNOTATORS.values()])
    chances = expit(worth[:, :, None] - worth[:, None, :])
    return np.tensordot(shares / shares.sum(), chances, axes=1)


def fitted_wins(oracle: str) -> np.ndarray:
    """The same of a fitted population, mean over prompts and the answers of each style."""
    panel = build(oracle)
    prompts = made.topics_and_prompts(40, np.random.default_rng(7))
    texts = [answer for style in STYLES for answer in made.STYLES[style]]
    questions = [
        Question([{"role": "user", "content": prompt}], text.format(topic))
        for topic, prompt in prompts
        for text in texts
    ]
    wins = np.zeros((len(STYLES), len(STYLES)))
    for member in panel.members:
        answers = dict(pair for some in member.oracle.answer(questions, torch.device("cpu")) for pair in some)
        rewards = np.array([answers[k] for k in range(len(questions))]) / member.oracle.scale
        table = rewards.reshape(len(prompts), len(STYLES), -1)
        gaps = table[:, :, None, :, None] - table[:, None, :, None, :]
        wins += member.weight * expit(gaps).mean(axis=(0, 3, 4))
    np.fill_diagonal(wins, 0.5)
    return (wins + 1 - wins.T) / 2


def shares(texts: list[str]) -> np.ndarray:
    """How often each style is among texts, of those in some style; and how many are in none."""
    counts = Counter(made.style_of(text) for text in texts)
    found = np.array([counts[style] for style in STYLES], dtype=float)
    return np.append(found / found.sum(), 1 - found.sum() / len(texts))


def main() -> None:
    """Run everything, and print what came of it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    times: dict[str, float] = {}
    oracle, run = folder / "oracle", folder / "run"
    command(times, "fit-oracle", "fit-oracle", "tiny-oracle", f"output_dir={oracle}")
    fresh = folder / "fresh.jsonl"
    fresh.write_text("".join(json.dumps(row) + "\n" for row in made.judgments(600, seed=1)))
    command(
        times,
        "test-oracle",
        "test-oracle",
        str(oracle),
        json.dumps(truth()),
        str(fresh),
        f"output_dir={folder / 'test'}",
    )
    model = f"model_name_or_path={oracle / 'tiny-styles'}"
    command(
        times,
        "diagnose",
        "diagnose",
        "tiny-population",
        f"output_dir={folder / 'diagnosis'}",
        model,
        f"oracle={oracle}",
    )
    judges = json.dumps({"fitted": str(oracle), "annotators": truth()})
    command(
        times, "train", "train", "tiny-population", f"output_dir={run}", model, f"oracle={oracle}",
        f"eval_oracles={judges}", f"iterations={ITERATIONS}", f"rule.tau={TAU}",
    )  # fmt: skip
    print(f"together: {sum(times.values()):.0f} s\n")

    for test in json.loads((folder / "test/oracle-test.json").read_text())["tests"]:
        who = ", ".join(f"{name} {one['accuracy']['mean']:.3f}" for name, one in test["annotators"].items())
        print(
            f"{test['oracle']} on fresh labels: {who}; log-loss of the population {test['as_is']['log_loss']:.4f}"
        )
    wins = {"true": true_wins(), "fitted": fitted_wins(str(oracle))}
    print(f"win rates of styles: fitted off by {np.abs(wins['true'] - wins['fitted']).max():.3f} at most")

    last = run / f"iteration-{ITERATIONS}"
    held = open_table(last / HELD_OUT)
    policy, reference = (
        shares([text for row in held[name] for text in row]) for name in ("policy", "reference")
    )
    start = reference[:-1] / reference[:-1].sum()
    games = {name: mnpo.Game(mnpo.Pairwise(table), tau=TAU, reference=start) for name, table in wins.items()}
    rows = {"reference": start, "trained": policy[:-1]}
    for name, game in games.items():
        rows[f"equilibrium, {name}"] = np.asarray(mnpo.solve(game).policies).reshape(-1, len(STYLES))[0]
    print(f"\n| | {' | '.join(STYLES)} | win rate against the reference | exploitability |")
    print("|---|" + "---|" * (len(STYLES) + 2))
    for name, one in rows.items():
        gap = float(np.mean(mnpo.exploitability(games["true"], np.stack([one, one]))))
        listed = " | ".join(f"{share:.3f}" for share in one)
        print(f"| {name} | {listed} | {one @ wins['true'] @ start:.3f} | {gap:.4f} |")
    found = json.loads((last / "evaluation.json").read_text())["win_rate"]["reference"]
    for name, rate in found.items():
        print(
            f"evaluated by {name}: {rate['mean']:.3f} [{rate['low']:.3f}, {rate['high']:.3f}] against the reference"
        )
    print(f"of the policy's answers {policy[-1]:.1%} are in no style, of the reference's {reference[-1]:.1%}")


if __name__ == "__main__":
    main()

"""What each kind of oracle recovers of preferences that go round in a circle, and what a policy loses by it.

    python benchmarks/llm_oracle_cycle.py FOLDER [--seeds 3] [--labels 4000] [--train]

Pairs of styles are labelled by the oracle `styles`, a cycle of three and a fourth that loses: labels, and nothing
else. A reward model, a pairwise model and an embedding model are fitted to the same pairs. Printed are, for each:
cyclicity beside the true one, the largest error of the styles' win rates, also against the exact Bradley–Terry
projection, the equilibrium of the fitted game, and its exact exploitability in the true game. With `--train`
policies are trained on each oracle, and on the true one, and stand beside that.

What is there is not done again.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from llm_closed_loop import shares
from scipy.special import expit

import mnpo
from mnpo.cyclicity import cyclicity
from mnpo.llm.data import made
from mnpo.llm.data.tables import open_table
from mnpo.llm.oracles.base import Question
from mnpo.llm.oracles.panel import build
from mnpo.llm.stages.records import HELD_OUT
from mnpo.oracle_minimisers import Pools

KINDS = ("reward", "pairwise", "embedding")
PROMPTS, TAU, ITERATIONS = 60, 0.05, 4
STYLES = list(made.STYLES)


def mnpo_llm(*words: str) -> None:
    subprocess.run(
        [sys.executable, "-c", "from mnpo.cli.main import main; main()", "llm", *words], check=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip


def labels(file: Path, count: int, seed: int) -> str:
    """Pairs with who won and nothing else."""
    rows = [
        {key: row[key] for key in ("prompt", "chosen", "rejected")} for row in made.pairs(count, seed=seed)
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(file)


def style_wins(oracle: str) -> np.ndarray:
    """P(row's style ≻ column's) of an oracle, (prompts, 4, 4): one answer in each style to each prompt."""
    (member,) = build(oracle).members
    rng = np.random.default_rng(11)
    questions, places = [], []
    for place, (topic, prompt) in enumerate(made.topics_and_prompts(PROMPTS, rng)):
        texts = [str(rng.choice(made.STYLES[style])).format(topic) for style in STYLES]
        asked = [{"role": "user", "content": prompt}]
        for i, first in enumerate(texts):
            for j, second in enumerate(texts):
                if i != j:
                    questions.append(Question(asked, first, second))
                    places.append((place, i, j))
    answers = dict(pair for some in member.oracle.answer(questions, torch.device("cpu")) for pair in some)
    wins = np.full((PROMPTS, len(STYLES), len(STYLES)), 0.5)
    values = np.array([answers[k] for k in range(len(questions))])
    wins[tuple(np.array(places).T)] = values
    if member.oracle.kind == "reward":  # the answer is the first response's reward
        rewards = np.zeros((PROMPTS, len(STYLES)))
        for (place, i, _), value in zip(places, values, strict=True):
            rewards[place, i] = value
        return np.asarray(expit((rewards[:, :, None] - rewards[:, None, :]) / member.oracle.scale))
    return (wins + 1 - wins.swapaxes(1, 2)) / 2


def equilibrium(wins: np.ndarray, reference: np.ndarray) -> np.ndarray:
    game = mnpo.Game(mnpo.Pairwise(wins), tau=TAU, reference=reference)
    return np.asarray(mnpo.solve(game).policies).reshape(-1, len(wins))[0]


def loss(policy: np.ndarray, reference: np.ndarray) -> float:
    """Exact exploitability in the true game."""
    game = mnpo.Game(mnpo.Pairwise(made.STYLE_WINS), tau=TAU, reference=reference)
    return float(np.mean(mnpo.exploitability(game, np.stack([policy, policy]))))


def train(folder: Path, name: str, oracle: str, model: str) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    """Train a policy on an oracle; return its styles, the reference's, and win rates."""
    run = folder / f"run-{name}"
    judges = json.dumps({"fitted": oracle, "true": "styles"})
    mnpo_llm(
        "train", "tiny", f"output_dir={run}", f"model_name_or_path={model}", f"oracle={oracle}",
        f"eval_oracles={judges}", f"iterations={ITERATIONS}", "rule.players=2", f"rule.tau={TAU}",
    )  # fmt: skip
    last = run / f"iteration-{ITERATIONS}"
    held = open_table(last / HELD_OUT)
    policy, reference = (
        shares([text for row in held[who] for text in row])[:-1] for who in ("policy", "reference")
    )
    return (
        policy,
        reference,
        json.loads((last / "evaluation.json").read_text())["win_rate"]["reference"]["true"],
    )


def main() -> None:
    """Fit, compare, and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--labels", type=int, default=4000)
    parser.add_argument("--train", action="store_true")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    uniform = np.full(len(STYLES), 1 / len(STYLES))
    true = made.STYLE_WINS
    projection = expit(np.subtract.outer(*[Pools.of_pairs("bradley-terry", true).minimiser()] * 2))
    print(
        f"true: cyclicity {float(cyclicity(true).share):.3f}, equilibrium {np.round(equilibrium(true, uniform), 3)}"
    )
    print(
        f"exact Bradley-Terry projection: off by {np.abs(projection - true).max():.3f}, equilibrium "
        f"{np.round(equilibrium(projection, uniform), 3)}, exploitability "
        f"{loss(equilibrium(projection, uniform), uniform):.4f}; of the uniform policy {loss(uniform, uniform):.4f}"
    )
    model = "tiny:styles"
    for kind in KINDS:
        rows = []
        for seed in range(given.seeds):
            home = given.folder / f"{kind}-{seed}"
            data = labels(given.folder / f"labels-{seed}.jsonl", given.labels, 100 + seed)
            mnpo_llm(
                "fit-oracle", "tiny", f"output_dir={home}", f"model_name_or_path={model}", f"dataset_name={data}",
                f"oracle_kind={kind}", f"seed={seed}", "eval_size=0", "num_train_epochs=2", "learning_rate=1e-3",
                "embedding_pairs=2", f"encoded_dir={given.folder / 'encoded'}",
            )  # fmt: skip
            model = str(given.folder / f"{KINDS[0]}-0" / "tiny-styles")
            wins = style_wins(str(home))
            mean = wins.mean(0)
            policy = equilibrium(mean, uniform)
            rows.append(
                [float(cyclicity(wins).share.mean()), float(cyclicity(mean).share), np.abs(mean - true).max(),
                 np.abs(mean - projection).max(), np.abs(policy - equilibrium(true, uniform)).sum() / 2,
                 loss(policy, uniform)]
            )  # fmt: skip
        table = np.array(rows)
        error = table.std(0, ddof=1) / np.sqrt(len(table)) if len(table) > 1 else np.zeros(6)
        names = ("cyclicity of each prompt", "of the mean game", "error", "error to the projection",
                 "total variation of the equilibrium", "its exploitability")  # fmt: skip
        shown = ", ".join(
            f"{name} {mean:.4f} ± {reach:.4f}"
            for name, mean, reach in zip(names, table.mean(0), error, strict=True)
        )
        print(f"{kind}: {shown}", flush=True)
    if given.train:
        judges = {kind: str(given.folder / f"{kind}-0") for kind in KINDS} | {"true": "styles"}
        for name, oracle in judges.items():
            policy, reference, rate = train(given.folder, name, oracle, model)
            gaps = f"{loss(policy, reference):.4f} (the reference's {loss(reference, reference):.4f})"
            print(
                f"trained on {name}: styles {np.round(policy, 3)}, exploitability {gaps}, win rate "
                f"{rate['mean']:.3f} [{rate['low']:.3f}, {rate['high']:.3f}]",
                flush=True,
            )


if __name__ == "__main__":
    main()

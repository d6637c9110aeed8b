"""Reward, pairwise and embedding models on the same human labels, tested on held-out dialogues and on LLMBar.

    python benchmarks/llm_oracle_study.py FOLDER --model SMOLLM2 --dialogues hh_harmless_test.jsonl.gz \
        --llmbar llmbar.jsonl.gz

Matched data: the same pairs, in the same number, for each kind and seed; a label says which of two is better and
nothing else, so that Bradley–Terry is what each kind is fitted by. Texts are short, so that two cores do it in an
hour. What is finished is not done again.
"""

from __future__ import annotations

import argparse
import gzip
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import t as student

KINDS = ("reward", "pairwise", "embedding")
#: Letters of the longest text, about 128 tokens, and pairs of each subset of LLMBar.
LETTERS, MOST = 450, 25


def write(file: Path, rows: list[dict[str, Any]]) -> str:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(file)


def read(file: Path) -> list[dict[str, Any]]:
    with gzip.open(file, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def data(folder: Path, dialogues: Path, llmbar: Path, train: int, held: int) -> tuple[str, dict[str, str]]:
    """Short dialogues to train on, others to test on, and some short pairs of each subset of LLMBar."""
    rows = [row for row in read(dialogues) if max(len(row["chosen"]), len(row["rejected"])) < LETTERS]
    rows = [row for row in rows if row["chosen"].strip() != row["rejected"].strip()]
    order = np.random.default_rng(0).permutation(len(rows))
    chosen = [rows[place] for place in order]
    bar: list[dict[str, Any]] = []
    for row in read(llmbar):
        letters = len(row["prompt"]) + max(len(row["chosen"]), len(row["rejected"]))
        if letters < LETTERS and sum(one["subset"] == row["subset"] for one in bar) < MOST:
            bar.append(row)
    tests = {
        "dialogues": write(folder / "dialogues.jsonl", chosen[train : train + held]),
        "llmbar": write(folder / "llmbar.jsonl", bar),
    }
    return write(folder / "train.jsonl", chosen[:train]), tests


def mnpo(*words: str) -> None:
    subprocess.run(
        [sys.executable, "-c", "from mnpo.cli.main import main; main()", "llm", *words],
        check=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip


def one(
    folder: Path, model: str, kind: str, seed: int, train: str, tests: dict[str, str], rate: float
) -> None:
    """Fit and test one oracle."""
    home = folder / f"{kind}-{seed}"
    if (home / "times.json").is_file():
        return
    begun = time.monotonic()
    mnpo(
        "fit-oracle", "smollm2-135m", f"output_dir={home}", f"model_name_or_path={model}", f"dataset_name={train}",
        "eval_size=0", f"oracle_kind={kind}", f"seed={seed}", "max_length=512", "per_device_train_batch_size=8",
        "gradient_accumulation_steps=1", "num_train_epochs=1", f"learning_rate={rate}", "logging_steps=1",
        "lr_scheduler_type=linear", "warmup_steps=0.1", "save_strategy=no", f"encoded_dir={folder / 'encoded'}",
    )  # fmt: skip
    fitted = time.monotonic()
    for name, file in tests.items():
        mnpo("test-oracle", str(home), file, f"output_dir={home / name}", "test_set_size=0")
    times = {"fit": fitted - begun, "test": time.monotonic() - fitted}
    (home / "times.json").write_text(json.dumps(times))


def table(folder: Path, tests: dict[str, str], seeds: int) -> None:
    """Print means over seeds with 95 % intervals of Student's t, and LLMBar's subsets."""
    for name in tests:
        print(f"\n{name}")
        for kind in KINDS:
            found = []
            for seed in range(seeds):
                file = folder / f"{kind}-{seed}" / name / "oracle-test.json"
                if file.is_file():
                    found.append(json.loads(file.read_text())["tests"][0])
            if not found:
                continue
            shown = []
            for what, values in (
                ("accuracy", [one["met"]["accuracy"]["mean"] for one in found]),
                ("log-loss", [one["as_is"]["log_loss"] for one in found]),
                ("ECE", [one["as_is"]["error"] for one in found]),
            ):
                reach = 0.0
                if len(values) > 1:
                    reach = (
                        student.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values))
                    )
                shown.append(f"{what} {np.mean(values):.3f} ± {reach:.3f}")
            pairs = found[0]["met"]["judgments"]
            low, high = (np.mean([one["met"]["accuracy"][end] for one in found]) for end in ("low", "high"))
            print(
                f"{kind} ({len(found)} seeds): {', '.join(shown)}; of {pairs} pairs: [{low:.3f}, {high:.3f}]"
            )
            order = [one["order"] for one in found if one["order"] is not None]
            if order:
                print("   ", {key: round(float(np.mean([one[key] for one in order])), 4) for key in order[0]})
            length = [one["length"] for one in found]
            print("   ", {key: [one[key] and round(one[key], 3) for one in length] for key in length[0]})
            for subset in found[0]["subsets"]:
                means = [one["subsets"][subset]["accuracy"]["mean"] for one in found]
                print(f"    {subset}: {np.mean(means):.3f}")
            times = [
                json.loads((folder / f"{kind}-{seed}/times.json").read_text()) for seed in range(len(found))
            ]
            print(
                "    seconds: fit",
                [round(one["fit"]) for one in times],
                "test",
                [round(one["test"]) for one in times],
            )


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", required=True)
    parser.add_argument("--dialogues", type=Path, required=True)
    parser.add_argument("--llmbar", type=Path, required=True)
    parser.add_argument("--train", type=int, default=160)
    parser.add_argument("--held", type=int, default=100)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rate", type=float, default=2e-5)
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    train, tests = data(given.folder, given.dialogues, given.llmbar, given.train, given.held)
    for seed in range(given.seeds):
        for kind in KINDS:
            one(given.folder, given.model, kind, seed, train, tests, given.rate)
            print(f"{kind}, seed {seed}: done", flush=True)
    table(given.folder, tests, given.seeds)


if __name__ == "__main__":
    main()

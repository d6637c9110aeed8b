"""What a reward model's fit costs: pairs per second and memory, beside TRL's RewardTrainer on the same batches.

    python benchmarks/llm_oracles.py hh_harmless_test.jsonl.gz

A model of SmolLM2-135M's shape with random weights, as in benchmarks/llm_batches.py, each contender in a process of
its own: six steps of eight pairs whose lengths are spread as those of the whole file, in blocks of like length for
both. The learning rate is 0, so that the mean losses must be the same.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from llm_batches import arguments, encoded, model, resident, spread, tokenizer_of


def reward_model(folder: Path) -> Any:
    """The model's body with one output, whose padding is no end of a text."""
    import torch
    from transformers import AutoModelForSequenceClassification

    model().save_pretrained(folder)
    torch.manual_seed(0)
    network = AutoModelForSequenceClassification
    return network.from_pretrained(folder, num_labels=1, pad_token_id=1)


def ours(network: Any, rows: list[dict[str, Any]], folder: str, tokenizer: Any, **how: Any) -> Any:
    from datasets import Dataset
    from transformers import TrainingArguments

    from mnpo.llm.training.oracle_tasks import OracleTask
    from mnpo.llm.training.oracle_trainer import OracleTrainer

    judgments = []
    for place, row in enumerate(rows):
        sequences = [row["prompt_ids"] + row[f"{side}_ids"] for side in ("chosen", "rejected")]
        lengths = [len(ids) for ids in sequences]
        judgments.append(
            {"row": place, "judgment": place, "sequences": sequences, "shared": len(row["prompt_ids"]), "count": 2,
             "longest": max(lengths), "tokens": sum(lengths), "preference": 1.0, "weight": 1.0}
        )  # fmt: skip
    given = TrainingArguments(
        **arguments(folder, train_sampling_strategy="sequential", remove_unused_columns=False)
    )
    return OracleTrainer(
        network, given, task=OracleTask(), train_dataset=Dataset.from_list(judgments), pad=1, **how
    )


def trls(network: Any, rows: list[dict[str, Any]], folder: str, tokenizer: Any) -> Any:
    from datasets import Dataset
    from trl import RewardConfig, RewardTrainer

    data = [
        {f"{side}_ids": row["prompt_ids"] + row[f"{side}_ids"] for side in ("chosen", "rejected")}
        for row in rows
    ]
    options = {
        "bf16": False,
        "max_length": None,
        "gradient_checkpointing": False,
        "train_sampling_strategy": "sequential",
    }
    return RewardTrainer(
        model=network, args=RewardConfig(**arguments(folder, **options)), train_dataset=Dataset.from_list(data),
        processing_class=tokenizer,
    )  # fmt: skip


CONTENDERS = {
    "ours": ours,
    "prompts apart": lambda *given: ours(*given, share_prompts=False),
    "packed": lambda *given: ours(*given, packing=True),
    "TRL": trls,
}


def train(contender: str, file: Path) -> dict[str, float]:
    """Train one epoch of the chosen pairs."""
    from transformers import PreTrainedTokenizerFast, TrainerCallback

    rows = json.loads(file.read_text())
    tokenizer = PreTrainedTokenizerFast.from_pretrained(file.parent / "tokenizer")
    tokenizer.pad_token = tokenizer.convert_ids_to_tokens(1)
    clock: list[tuple[float, float]] = []

    class Clock(TrainerCallback):
        def on_train_begin(self, *_: Any, **__: Any) -> None:
            clock.append((time.perf_counter(), time.process_time()))

        on_step_end = on_train_begin

    with tempfile.TemporaryDirectory() as folder:
        network = reward_model(Path(folder) / "body")
        before = resident("VmRSS")
        trainer = CONTENDERS[contender](network, rows, folder, tokenizer)
        trainer.add_callback(Clock())
        Path("/proc/self/clear_refs").write_text("5")
        loss = trainer.train().training_loss
        peak = resident("VmHWM") - before
    wall, processor = (np.array(clock[-1]) - np.array(clock[0])).tolist()
    return {"seconds": wall, "processor": processor, "peak": peak, "loss": loss, "steps": len(clock) - 1}


def speed(file: Path, names: list[str]) -> None:
    """Run the contenders after each other, and print their ratios to ours."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        tokenizer = tokenizer_of(file)
        tokenizer.save_pretrained(folder / "tokenizer")
        chosen = spread(encoded(file, tokenizer))
        (folder / "rows.json").write_text(json.dumps(chosen))
        found: dict[str, Any] = {}
        for name in names:
            command = [sys.executable, __file__, str(folder / "rows.json"), "--contender", name]
            environment = {**os.environ, "TQDM_DISABLE": "1"}
            done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
            if done.returncode:
                print(f"{name}: left out: {(done.stderr.strip() or 'killed').splitlines()[-1]}")
                continue
            run = found[name] = json.loads(done.stdout.splitlines()[-1])
            best = found["ours"]
            rate, ratio = len(chosen) / run["seconds"], run["seconds"] / best["seconds"]
            memory, busy = best["peak"] / run["peak"], run["processor"] / best["processor"]
            print(
                f"{name}: {rate:.3f} pairs/s, peak {run['peak']:.0f} MB above the model, mean loss "
                f"{run['loss']:.9g}; ours: {ratio:.2f} times its pairs/s ({busy:.2f} by processor time), "
                f"{memory:.2f} of its memory",
                flush=True,
            )
        if "TRL" in found:
            assert np.isclose(found["TRL"]["loss"], found["ours"]["loss"], rtol=1e-4), "not the same batches"


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--contender", choices=list(CONTENDERS))
    parser.add_argument("--only", nargs="*", default=list(CONTENDERS))
    given = parser.parse_args()
    if given.contender is None:
        speed(given.file, given.only)
    else:
        print(json.dumps(train(given.contender, given.file)))


if __name__ == "__main__":
    main()

"""What the data of a fit cost: time and memory from a file of pairs to batches of token ids, without any network.

`python benchmarks/llm_data.py [--pairs 15000 60000]` writes files of so many pairs: 186 tokens of prompt and twice
387 of response, of words that the small byte-level tokenizer knows, through its chat template. For each, in
processes of their own, it scores them under two anchors, does that again when nothing has changed, and draws
batches as a fit does. The forward pass is faked: a score is made of the ids. It prints seconds, and the peak of
resident memory, which should not grow with the number of pairs.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

#: Words of a prompt and of a response: with the template's tokens, 186 and 387.
PROMPT, RESPONSE = 172, 386
#: Batches that a fit draws.
DRAWN = 1500


def write_pairs(file: Path, count: int) -> None:
    """Write pairs of random words, each a token."""
    from mnpo.llm.models import tiny

    found = tiny.tokenizer().get_vocab()
    words = np.array([word[1:] for word in sorted(found) if re.fullmatch("Ġ[a-z]{2,}", word)])
    rng = np.random.default_rng(0)
    with file.open("w") as lines:
        for _ in range(count):
            texts = np.split(rng.choice(words, PROMPT + 2 * RESPONSE), [PROMPT, PROMPT + RESPONSE])
            roles = {"prompt": "user", "chosen": "assistant", "rejected": "assistant"}
            row = {
                name: [{"role": role, "content": " ".join(text)}]
                for (name, role), text in zip(roles.items(), texts, strict=True)
            }
            lines.write(json.dumps(row) + "\n")


def config_of(home: Path, file: Path) -> Any:
    from mnpo.llm.config import load

    given = [
        f"output_dir={home}", f"dataset_name={file}", "max_samples=null", "eval_size=0", "target=label",
        "model_name_or_path=tiny:gpt2", "reference_model_name_or_path=tiny:gpt2:1", "max_length=2048",
        "max_prompt_length=1800", "rule={name: inpo, eta: 8, tau: 0.02}",
    ]  # fmt: skip
    return load("tiny", given)


def faked(_: Any, batch: Any, **__: Any) -> list[float]:
    """Log-probabilities that are made of the ids."""
    return [-float(len(response)) - (prompt[-1] + response[0]) % 7 for prompt, response in batch]


def scored(config: Any) -> dict[str, Any]:
    from mnpo.llm.stages.registry import run_here
    from mnpo.llm.training import scores

    scores.batch_log_probs = faked
    record = run_here("score", config)
    return {"scored": sum(one.scored for one in record.anchors)}


def drawn(config: Any) -> dict[str, Any]:
    from transformers import TrainingArguments

    from mnpo.llm.data.tables import open_splits
    from mnpo.llm.models.loading import load_model, load_tokenizer
    from mnpo.llm.storage.mapped import let_go
    from mnpo.llm.training.tasks import Task
    from mnpo.llm.training.trainer import PairTrainer

    folder = config.folders.home / "tiny-gpt2"
    arguments = TrainingArguments(
        output_dir=str(config.folders.home / "fit"),
        use_cpu=True,
        per_device_train_batch_size=8,
        report_to="none",
        train_sampling_strategy="group_by_length",
    )
    trainer = PairTrainer(
        model=load_model(folder),
        args=arguments,
        task=Task.configured(config.update),
        train_dataset=open_splits(config.folders.home / "scored")["train"],
        processing_class=load_tokenizer(folder),
    )
    tokens = rows = 0
    for _, batch in zip(range(DRAWN), trainer.get_train_dataloader(), strict=False):
        tokens += int(batch["tokens"].sum())
        rows += len(batch["lengths"])
        let_go()  # as `fit` does after each step
    return {"tokens_per_response": tokens / rows}


PARTS: dict[str, Callable[[Any], dict[str, Any]]] = {"score": scored, "again": scored, "draw": drawn}


def measure(part: str, home: Path, file: Path) -> dict[str, Any]:
    """Do one part in this process; imports are not counted."""
    import mnpo.llm.stages.fit  # noqa: F401 what it imports is not counted
    from mnpo.llm.runtime.progress import quiet

    quiet()
    start, busy = time.monotonic(), time.process_time()
    found = PARTS[part](config_of(home, file))
    status = Path("/proc/self/status").read_text()
    peak = int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1e6
    return found | {
        "seconds": time.monotonic() - start, "cpu_seconds": time.process_time() - busy, "peak_gb": peak,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, nargs="+", default=[15_000, 60_000])
    parser.add_argument("--part", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.part:
        part, home, file = given.part
        print(json.dumps(measure(part, Path(home), Path(file))))
        return
    found: dict[int, dict[str, dict[str, Any]]] = {}
    for count in given.pairs:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "pairs.jsonl"
            write_pairs(file, count)
            found[count] = {}
            for part in PARTS:
                line = [sys.executable, __file__, "--part", part, str(Path(folder) / "run"), str(file)]
                done = subprocess.run(line, check=True, capture_output=True, text=True)
                one = json.loads(done.stdout.splitlines()[-1])
                found[count][part] = one
                print(count, part, {name: round(value, 3) for name, value in one.items()}, flush=True)
    least, most = min(found), max(found)
    for part in PARTS:
        few, many = found[least][part], found[most][part]
        growth, longer = many["peak_gb"] / few["peak_gb"], many["cpu_seconds"] / few["cpu_seconds"]
        print(
            f"{part}: {most / least:g} times the pairs take {growth:.2f} times the memory, {longer:.1f} the time"
        )


if __name__ == "__main__":
    main()

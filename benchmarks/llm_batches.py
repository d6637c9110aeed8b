"""What padding and repeated prompts cost: tokens that are computed, and pairs per second of a fit.

    python benchmarks/llm_batches.py tokens hh_harmless_test.jsonl.gz
    python benchmarks/llm_batches.py speed hh_harmless_test.jsonl.gz --before 68e7d9c

A model of SmolLM2-135M's shape with random weights, and a byte-level tokenizer of its size, trained on the
dialogues. Each contender trains in a process of its own, through its own Trainer, on the same pairs: six steps of
eight pairs whose lengths are spread as those of the whole file. The learning rate is 0, so that the mean losses of
ours and of the commit before must be the same.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

VOCABULARY, BATCH, STEPS, LONGEST = 49_152, 8, 6, 1024
TAU = 0.1
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def tokenizer_of(file: Path) -> Any:
    """A byte-level BPE of SmolLM2's size with its template."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )  # fmt: skip
    with gzip.open(file, "rt", encoding="utf-8") as lines:
        core.train_from_iterator((json.loads(line)["chosen"] for line in lines), trainer)
    named = {"bos_token": special[0], "eos_token": special[2], "pad_token": special[2]}
    found = PreTrainedTokenizerFast(tokenizer_object=core, **named)
    found.chat_template = TEMPLATE
    return found


def encoded(file: Path, tokenizer: Any) -> list[dict[str, Any]]:
    """All pairs of the file that can be used, as token ids."""
    from mnpo.llm.data.encoding import Encoder
    from mnpo.llm.data.formats import Malformed
    from mnpo.llm.data.sources import read

    encoder, rows = Encoder(tokenizer), []
    for row in read(str(file)):
        if isinstance(row, tuple):
            continue
        try:
            texts = encoder.render(row.prompt, [row.chosen, row.rejected])
        except Malformed:
            continue
        ((prompt, (chosen, rejected)),) = encoder.tokens([texts])
        if chosen != rejected and len(prompt) + max(len(chosen), len(rejected)) <= LONGEST:
            rows.append({"prompt_ids": prompt, "chosen_ids": chosen, "rejected_ids": rejected})
    return rows


def spread(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Blocks of pairs of like length, evenly spread over all lengths; in each a number for the reference."""
    order = sorted(range(len(rows)), key=lambda place: sum(map(len, rows[place].values())))
    starts = [int((len(rows) - BATCH) * (k + 0.5) / STEPS) for k in range(STEPS)]
    rng = np.random.default_rng(0)
    chosen = [rows[order[start + i]] for start in starts for i in range(BATCH)]
    return [
        {"row": place, **row, "reference_chosen": float(-rng.integers(10)), "reference_rejected": 0.0}
        for place, row in enumerate(chosen, start=1)
    ]


def tokens(file: Path) -> None:
    """Count tokens over one epoch of the whole file: there, and computed in three ways."""
    from mnpo.llm.training.grouping import LengthGroupedSampler

    rows = encoded(file, tokenizer_of(file))
    parts = np.array([[len(row[f"{name}_ids"]) for name in ("prompt", "chosen", "rejected")] for row in rows])
    separate, whole = parts[:, :1] + parts[:, 1:], parts.sum(1)
    there = int(separate.sum())
    print(f"{len(rows)} pairs, {there} tokens, of which second prompts {parts[:, 0].sum() / there:.2f}")
    random = np.random.default_rng(0).permutation(len(rows))
    for name, lengths, times in (("apart", separate.max(1), 2), ("shared", whole, 1)):
        for how, order in (("random", random), ("by length", list(LengthGroupedSampler(lengths, BATCH, 0)))):
            batches = [np.array(order[start : start + BATCH]) for start in range(0, len(order), BATCH)]
            computed = sum(times * len(batch) * lengths[batch].max() for batch in batches)
            print(f"prompts {name}, order {how}: {computed / there:.3f} times the tokens there are computed")
    print(f"prompts apart, packed: 1.000; prompts shared, packed: {whole.sum() / there:.3f}")


# --- contenders -----------------------------------------------------------------------------------------------


def model() -> Any:
    """SmolLM2-135M's shape."""
    import torch
    from transformers import AutoModelForCausalLM, LlamaConfig

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=576, intermediate_size=1536, num_hidden_layers=30,
        num_attention_heads=9, num_key_value_heads=3, tie_word_embeddings=True, rope_theta=100_000.0,
        max_position_embeddings=2048, pad_token_id=2, eos_token_id=2, bos_token_id=0,
    )  # fmt: skip
    return AutoModelForCausalLM.from_config(config)


def arguments(folder: str, **more: Any) -> dict[str, Any]:
    """What all trainers are given."""
    return {
        "output_dir": folder, "per_device_train_batch_size": BATCH, "num_train_epochs": 1, "optim": "sgd",
        "learning_rate": 0.0, "use_cpu": True, "save_strategy": "no", "logging_steps": 1, "report_to": "none",
        "disable_tqdm": True, **more,
    }  # fmt: skip


def ours(built: Any, rows: list[dict[str, Any]], folder: str, tokenizer: Any, **how: Any) -> Any:
    from datasets import Dataset
    from transformers import TrainingArguments

    from mnpo.llm import PairTrainer

    order = how.pop("order", "group_by_length")
    return PairTrainer(
        model=built, objective="ipo", parameters={"tau": TAU}, train_dataset=Dataset.from_list(rows),
        args=TrainingArguments(**arguments(folder, train_sampling_strategy=order)), processing_class=tokenizer,
        **how,
    )  # fmt: skip


def trls(built: Any, rows: list[dict[str, Any]], folder: str, tokenizer: Any) -> Any:
    """TRL's DPOTrainer on the blocks as they are: of so few pairs its own grouping by length makes no groups."""
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    def text(ids: list[int]) -> str:
        return str(tokenizer.decode(ids))

    tokenizer.chat_template = None
    data = [{"prompt": text(row["prompt_ids"])} | {s: text(row[f"{s}_ids"]) for s in ("chosen", "rejected")}
            for row in rows]  # fmt: skip
    options = {
        "loss_type": ["ipo"], "beta": TAU, "precompute_ref_log_probs": True, "bf16": False, "max_length": None,
        "gradient_checkpointing": False, "train_sampling_strategy": "sequential",
    }  # fmt: skip
    return DPOTrainer(
        model=built, args=DPOConfig(**arguments(folder, **options)), train_dataset=Dataset.from_list(data),
        processing_class=tokenizer,
    )  # fmt: skip


CONTENDERS = {
    "ours": ours,
    "prompts apart": lambda *given: ours(*given, share_prompts=False),
    "packed": lambda *given: ours(*given, packing=True),
    "the commit before": lambda *given: ours(*given, order="random"),
    "TRL": trls,
}


def resident(field: str) -> float:
    """Megabytes of this process: VmRSS now, VmHWM at most since it was reset."""
    status = Path("/proc/self/status").read_text()
    return float(status.split(f"{field}:")[1].split()[0]) / 1024


def train(contender: str, file: Path) -> dict[str, float]:
    """Train one epoch of the chosen pairs."""
    from transformers import PreTrainedTokenizerFast, TrainerCallback

    rows = json.loads(file.read_text())
    tokenizer = PreTrainedTokenizerFast.from_pretrained(file.parent / "tokenizer")
    clock: list[tuple[float, float]] = []

    class Clock(TrainerCallback):
        def on_train_begin(self, *_: Any, **__: Any) -> None:
            clock.append((time.perf_counter(), time.process_time()))

        on_step_end = on_train_begin

    built = model()
    before = resident("VmRSS")
    with tempfile.TemporaryDirectory() as folder:
        trainer = CONTENDERS[contender](built, rows, folder, tokenizer)
        trainer.add_callback(Clock())
        Path("/proc/self/clear_refs").write_text("5")
        loss = trainer.train().training_loss
        peak = resident("VmHWM") - before
    wall, processor = (np.array(clock[-1]) - np.array(clock[0])).tolist()
    return {"seconds": wall, "processor": processor, "peak": peak, "loss": loss, "steps": len(clock) - 1}


def installed(commit: str, folder: Path) -> Path:
    """Install a commit of this repository in a folder of its own."""
    home = Path(__file__).parents[1]
    (folder / "source").mkdir()
    archive = subprocess.run(["git", "-C", str(home), "archive", commit], stdout=subprocess.PIPE, check=True)
    subprocess.run(["tar", "-x", "-C", str(folder / "source")], input=archive.stdout, check=True)
    target = ["--target", str(folder / "site"), str(folder / "source")]
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", *target],
        check=True,
    )
    return folder / "site"


def speed(file: Path, before: str | None, names: list[str]) -> None:
    """Run the contenders after each other, and print their ratios to ours."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        tokenizer = tokenizer_of(file)
        tokenizer.save_pretrained(folder / "tokenizer")
        chosen = spread(encoded(file, tokenizer))
        (folder / "rows.json").write_text(json.dumps(chosen))
        found = {}
        for name in names:
            environment = {**os.environ, "TQDM_DISABLE": "1"}
            if name == "the commit before":
                if before is None:
                    continue
                environment["PYTHONPATH"] = str(installed(before, folder))
            command = [sys.executable, __file__, "train", str(folder / "rows.json"), "--contender", name]
            done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
            if done.returncode:
                print(f"{name}: left out: {(done.stderr.strip() or 'killed').splitlines()[-1]}")
                continue
            run = found[name] = json.loads(done.stdout.splitlines()[-1])
            best = found["ours"]
            rate, ratio = len(chosen) / run["seconds"], run["seconds"] / best["seconds"]
            print(
                f"{name}: {rate:.3f} pairs/s ({run['steps']} steps, {run['processor']:.0f} s of processors), peak "
                f"{run['peak']:.0f} MB above the model, mean loss {run['loss']:.9g}; ours: {ratio:.2f} times its "
                f"pairs/s ({run['processor'] / best['processor']:.2f} by processor time), "
                f"{best['peak'] / run['peak']:.2f} of its memory",
                flush=True,
            )


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("tokens", "speed", "train"))
    parser.add_argument("file", type=Path)
    parser.add_argument("--before", help="a commit of this repository to compare with")
    parser.add_argument("--contender", choices=list(CONTENDERS))
    parser.add_argument("--only", nargs="*", default=list(CONTENDERS))
    given = parser.parse_args()
    if given.what == "tokens":
        tokens(given.file)
    elif given.what == "speed":
        speed(given.file, given.before, given.only)
    else:
        print(json.dumps(train(given.contender, given.file)))


if __name__ == "__main__":
    main()

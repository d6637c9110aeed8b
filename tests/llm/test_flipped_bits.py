"""What a run keeps is what was written: a flipped bit is found, and what it is in is made again or refused."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from flips import kept, kind_of, outcome, places, trial
from loops import SMALL, run

from mnpo.llm.training.checkpoints import COMPLETE
from runs import kill_when

#: The smallest run that has everything.
TINY = ("iterations=1", "prompt_dataset_name=tiny:prompts:12", "eval_prompts=4", "num_generations=4",
        "max_new_tokens=8", "per_device_train_batch_size=4", "first_pairs=sampled")  # fmt: skip
#: How many bits the long test flips.
MANY = int(os.environ.get("MNPO_FLIPS", "60"))


def try_flips(
    goes: Callable[[Path], object], before: Path, work: Path, count: int, seed: int, wanted: object
) -> Counter[str]:
    """Flip one bit after the other, each in a copy of a run, and let that go on."""
    ends: Counter[str] = Counter()
    for file, byte, bit in places(before, count, np.random.default_rng(seed)):
        how, found = trial(goes, before, work, file, byte, bit)
        where = f"{file.relative_to(before)}, byte {byte}, bit {bit}: {found}"
        assert how != "crashed", where
        assert how == "refused" or found == wanted, where
        ends[f"{how}: {kind_of(before, file)}"] += 1
    return ends


def goes_on(base: Path) -> Callable[[Path], object]:
    # A model that is made on the spot lies in the run's folder, and is kept with it.
    return lambda folder: run(Path("tiny:gpt2"), folder, *TINY)


def test_a_flipped_bit_changes_nothing(base: Path, tmp_path: Path) -> None:
    """In a run that is whole."""
    goes = goes_on(base)
    goes(tmp_path / "run")
    wanted = outcome(tmp_path / "run")
    ends = try_flips(goes, tmp_path / "run", tmp_path / "work" / "run", 12, 0, wanted)
    assert ends.total() == 12


@pytest.mark.slow
def test_many_flipped_bits_change_nothing(base: Path, tmp_path: Path) -> None:
    """Half of them in a run that is whole, half in runs that were killed while sampling and while fitting."""
    goes = goes_on(base)
    goes(tmp_path / "run")
    wanted = outcome(tmp_path / "run")
    killed = tmp_path / "killed"
    arguments = ["train", "tiny", "model_name_or_path=tiny:gpt2", f"output_dir={killed}", *SMALL, *TINY]
    stores = {"samples": lambda: any(file.stat().st_size for file in killed.glob("samples/*/*.blocks"))}
    moments = {**stores, "fit": lambda: (killed / "iteration-1/fit/checkpoint-2" / COMPLETE).exists()}
    starts = {"whole": (tmp_path / "run", MANY // 2)}
    for moment, ready in moments.items():
        kill_when(arguments, ready)
        starts[moment] = (shutil.copytree(killed, tmp_path / moment), MANY // 4)
    kinds = {kind_of(folder, file) for folder, _ in starts.values() for file in kept(folder)}
    ends: Counter[str] = Counter()
    for seed, (folder, count) in enumerate(starts.values()):
        # The folder's name is part of no result; models are found below it.
        ends += try_flips(goes, folder, tmp_path / "work" / "run", count, seed, wanted)
    for end, times in sorted(ends.items()):
        print(f"{times:5} {end}")
    print(f"{ends.total()} bits in {len(kinds)} kinds of files")

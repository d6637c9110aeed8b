"""What a run keeps is what was written: a flipped bit is found, and what it is in is made again or refused."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flips import oracle_outcome, outcome, try_flips
from loops import SMALL, run
from oracle_fits import SMALL as SMALL_FIT

from mnpo.llm.config import load
from mnpo.llm.stages.running import run_stage
from mnpo.llm.training.checkpoints import COMPLETE
from runs import kill_when

#: A model that is made on the spot lies in the run's folder, and is kept with it.
MODEL = "tiny:gpt2"
#: The smallest run that has everything.
TINY = ("iterations=1", "prompt_dataset_name=tiny:prompts:12", "eval_prompts=4", "num_generations=4",
        "max_new_tokens=8", "per_device_train_batch_size=4", "first_pairs=sampled")  # fmt: skip
#: Two phases of an oracle's fit.
PHASES = [{"oracle_objective": name, "max_steps": 2} for name in ("bradley-terry", "top-one")]
FIT = [*SMALL_FIT, f"model_name_or_path={MODEL}", f"oracle_phases={json.dumps(PHASES)}"]
#: How many bits the long tests flip.
MANY = int(os.environ.get("MNPO_FLIPS", "60"))


def goes_on(folder: Path) -> object:
    return run(Path(MODEL), folder, *TINY)


def fits_on(folder: Path) -> object:
    return run_stage("fit-oracle", load("tiny", [f"output_dir={folder}", *FIT]))


def snapshots(arguments: list[str], folder: Path, moments: dict[str, Callable[[], bool]]) -> list[Path]:
    """Return copies of what a command has left when it was killed at some moments, one after the other."""
    found = []
    for moment, ready in moments.items():
        kill_when(arguments, ready)
        found.append(shutil.copytree(folder, folder.with_name(f"killed-{moment}")))
    return found


def told(ends: Counter[str]) -> None:
    for end, times in sorted(ends.items()):
        print(f"{times:5} {end}")
    print(f"{ends.total()} bits")


def test_a_flipped_bit_changes_nothing(tmp_path: Path) -> None:
    """In a run that is whole."""
    goes_on(tmp_path / "run")
    wanted, work = outcome(tmp_path / "run"), tmp_path / "work" / "run"
    ends = try_flips(goes_on, outcome, tmp_path / "run", work, wanted, count=10, seed=0)
    assert ends.total() == 10


@pytest.mark.slow
def test_many_flipped_bits_of_a_run_change_nothing(tmp_path: Path) -> None:
    """Half of them in a run that is whole, half in runs that were killed while sampling and while fitting."""
    goes_on(tmp_path / "run")
    wanted, work = outcome(tmp_path / "run"), tmp_path / "work" / "run"
    killed = tmp_path / "killed"
    arguments = ["train", "tiny", f"model_name_or_path={MODEL}", f"output_dir={killed}", *SMALL, *TINY]
    moments: dict[str, Callable[[], bool]] = {
        "sample": lambda: any(file.stat().st_size for file in killed.glob("samples/*/*.blocks")),
        "fit": lambda: (killed / "iteration-1/fit/checkpoint-2" / COMPLETE).exists(),
    }
    ends: Counter[str] = Counter()
    for seed, folder in enumerate([tmp_path / "run", *snapshots(arguments, killed, moments)]):
        count = MANY // 4 if seed else MANY // 2
        ends += try_flips(goes_on, outcome, folder, work, wanted, count=count, seed=seed)
    told(ends)


@pytest.mark.slow
def test_many_flipped_bits_of_a_fit_of_an_oracle_change_nothing(tmp_path: Path) -> None:
    """Half of them in one that is whole, half in one that was killed in its second phase."""
    fits_on(tmp_path / "run")
    wanted: Any = oracle_outcome(tmp_path / "run")
    work, killed = tmp_path / "work" / "run", tmp_path / "killed"
    second = killed / "oracle-fit/all-2/checkpoint-1"
    moments = {"second": lambda: (second / COMPLETE).exists()}
    ends: Counter[str] = Counter()
    arguments = ["fit-oracle", "tiny", f"output_dir={killed}", *FIT]
    for seed, folder in enumerate([tmp_path / "run", *snapshots(arguments, killed, moments)]):
        ends += try_flips(fits_on, oracle_outcome, folder, work, wanted, count=MANY // 4, seed=seed)
    told(ends)

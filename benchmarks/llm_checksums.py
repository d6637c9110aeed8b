"""What the checksums of all that is kept cost: their seconds within those of each stage.

`python benchmarks/llm_checksums.py FOLDER [PROMPTS]` makes up prompts with eight responses each below FOLDER, as
`sample` leaves them (2,000 unless given), and annotates them with all pairs; then it runs `tiny` for one iteration.
While they run, everything that computes or compares a checksum is timed: seals of folders, sealed records, and the
blocks of stores. Stages without a large network have the largest share: reading and writing is all that they do. It
prints seconds, gigabytes and the share; goals are below 2%.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from llm_annotate import GENERATIONS, make

from mnpo.common import seals
from mnpo.llm.config import load
from mnpo.llm.loop import train
from mnpo.llm.stages.registry import run_here
from mnpo.llm.storage import store


class Clock:
    """Sums the seconds of some functions, those within each other once."""

    def __init__(self) -> None:
        self.seconds, self._deep = 0.0, 0

    def timed(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            self._deep += 1
            start = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                self._deep -= 1
                if not self._deep:
                    self.seconds += time.perf_counter() - start

        return call


@contextmanager
def clock_on_checksums() -> Any:
    """Time everything that has to do with checksums."""
    clock = Clock()
    before = seals._checksums, seals._of, store._check
    seals._checksums, seals._of, store._check = map(clock.timed, before)
    try:
        yield clock
    finally:
        seals._checksums, seals._of, store._check = before


def size(folder: Path) -> float:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 2**30


def main(folder: Path, prompts: int) -> None:
    print("| what | seconds | of checksums | share | kept, GB |")
    print("|---|---|---|---|---|")

    def row(what: str, home: Path, work: Callable[[], Any]) -> None:
        with clock_on_checksums() as clock:
            start = time.perf_counter()
            work()
            seconds = time.perf_counter() - start
        share = clock.seconds / seconds
        print(
            f"| {what} | {seconds:.1f} | {clock.seconds:.3f} | {share:.2%} | {size(home):.2f} |", flush=True
        )

    made = folder / "made"
    make(made, prompts)
    settings = ["oracle=forms", "pairing=all", f"num_generations={GENERATIONS}", f"output_dir={made}"]
    row(f"annotate, {prompts:,} prompts", made, lambda: run_here("annotate", load("tiny", settings)))
    row("the same again", made, lambda: run_here("annotate", load("tiny", settings)))
    home = folder / "run"

    def stage(name: str, config: Any) -> Any:
        found: list[Any] = []
        row(f"tiny: {name}", config.folders.home, lambda: found.append(run_here(name, config)))
        return found[0]

    config = load("tiny", [f"output_dir={home}", "iterations=1", "first_pairs=sampled"])
    row("tiny, one iteration", home, lambda: train(config, stage))
    row("the same again: nothing is left to do", home, lambda: train(config, stage))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 2000)

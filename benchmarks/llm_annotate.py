"""Memory and time of `annotate` with all pairs of eight responses, at several numbers of prompts.

`python benchmarks/llm_annotate.py FOLDER [PROMPTS ..]` makes up prompts with eight responses of 100 to 400 tokens
each below FOLDER, as `sample` leaves them, and lets a synthetic oracle annotate them in a process of its own. It
prints the most memory that the process held (VmHWM), the seconds that it took, by the clock and of a processor, and
the size of what was written. Each oracle's answers are kept below FOLDER: give an empty one.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from mnpo.llm.config import load
from mnpo.llm.data.schema import SAMPLES
from mnpo.llm.data.tables import TableWriter
from mnpo.llm.stages import records
from mnpo.llm.stages.registry import run_here

PROMPTS = (5000, 20000)
GENERATIONS = 8
STEMS, ENDS = (
    ["a", "b", "d", "f", "g", "h", "k", "l", "m", "n", "p", "r", "s", "t"],
    ["a", "ad", "in", "on", "ill", "erm", "o", "u"],
)
WORDS = np.array([stem + end for stem in STEMS for end in ENDS])


def text(rng: np.random.Generator, words: int) -> tuple[list[int], str]:
    """Return token ids and a text of some words in lines, each beginning with an item's mark or not."""
    ids = rng.integers(len(WORDS), size=words)
    lines = [" ".join(WORDS[ids[start : start + 12]]) for start in range(0, words, 12)]
    marks = rng.choice(["", "- "], size=len(lines), p=[share := rng.random(), 1 - share])
    return (ids + 1000).tolist(), "\n".join(f"{mark}{line}" for mark, line in zip(marks, lines, strict=True))


def make(folder: Path, prompts: int) -> None:
    """Leave what `sample` leaves."""
    rng = np.random.default_rng(0)
    home = folder / records.SAMPLES
    with TableWriter(home, SAMPLES) as writer:
        for start in range(0, prompts, 100):
            rows = []
            for number in range(start, min(start + 100, prompts)):
                ids, asked = text(rng, int(rng.integers(30, 120)))
                answers = [text(rng, int(rng.integers(100, 400))) for _ in range(GENERATIONS)]
                responses = [{"ids": [*found, 107], "text": said, "ended": True} for found, said in answers]
                message = [{"role": "user", "content": f"{number}: {asked}"}]
                rows.append(
                    {"row": number + 1, "prompt": json.dumps(message), "prompt_ids": [2, number, *ids],
                     "responses": responses, "opponents": []}
                )  # fmt: skip
            writer.append(rows)
    manifest = records.SamplesManifest(samples=writer.digest, opponents=[], tokenizer="made up")
    (home / "manifest.json").write_text(json.dumps(manifest.as_dict()))
    record = records.Samples(
        folder=str(home), manifest=manifest, prompts={}, used={"train": prompts}, models=[]
    )
    record.write(folder)


def annotate(folder: Path) -> None:
    """Annotate, and print what it took as JSON."""
    settings = ["oracle=forms", "pairing=all", f"num_generations={GENERATIONS}", f"output_dir={folder}"]
    start = time.monotonic()
    record = run_here("annotate", load("tiny", settings))
    seconds, cpu = time.monotonic() - start, time.process_time()
    status = Path("/proc/self/status").read_text().splitlines()
    most = next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
    written = sum(file.stat().st_size for file in Path(record.pairs).iterdir())
    found = {"GB": most / 2**20, "seconds": seconds, "cpu": cpu, "pairs": record.made}
    print(json.dumps({**found, "written": written / 2**30}))


def main(folder: Path, counts: list[int]) -> None:
    print("| prompts | pairs | most memory, GB | seconds | of a processor | preferences/, GB |")
    print("|---|---|---|---|---|---|")
    found = []
    for count in counts:
        home = folder / str(count)
        make(home, count)
        command = [sys.executable, __file__, "--one", str(home)]
        line = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1]
        one = json.loads(line)
        found.append(one)
        times = f"{one['seconds']:.0f} | {one['cpu']:.0f}"
        print(
            f"| {count:,} | {one['pairs']:,} | {one['GB']:.2f} | {times} | {one['written']:.2f} |", flush=True
        )
    if len(found) > 1:
        more = found[-1]["GB"] / found[0]["GB"]
        print(f"\n{more:.2f} times the memory for {counts[-1] / counts[0]:g} times the prompts")


if __name__ == "__main__":
    if sys.argv[1] == "--one":
        annotate(Path(sys.argv[2]))
    else:
        main(Path(sys.argv[1]), [int(count) for count in sys.argv[2:]] or list(PROMPTS))

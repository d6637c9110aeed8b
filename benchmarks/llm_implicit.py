"""Implicit against explicit steps on a language model, with the same number of responses and judgments.

    python benchmarks/llm_implicit.py FOLDER [PRESET] [RULE:ETA ..] [key=value ..]

Trains the model of PRESET (tiny unless given) by INPO, TD-MNPO and `prox`, each at several steps, or by those that
are named. All runs share their stores, so that the first iteration has the very same responses and answers. Prints
the bracket of the gap after each iteration, the win rate against the reference, KL and the loss at the end of the
fit, and writes `table.json`. What is there is not trained again.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from mnpo.llm.config import load
from mnpo.llm.models.job import Job
from mnpo.llm.running import run_loop
from mnpo.llm.runtime.progress import progress, quiet

TAU = 0.05
RULES: dict[str, dict[str, Any]] = {
    f"{name}:{eta:g}": {"name": name, "eta": eta, "tau": TAU, **more}
    for name, more, etas in (
        ("inpo", {}, (2.0, 4.0, 8.0, 20.0)),
        ("td-mnpo", {"players": 4}, (4.0, 8.0)),
        ("prox", {}, (2.0, 4.0, 8.0, 20.0)),
    )
    for eta in etas
}


def run(home: Path, preset: str, rule: dict[str, Any], overrides: list[str]) -> dict[str, Any]:
    spec = ", ".join(f"{key}: {value}" for key, value in rule.items())
    defaults = (
        [] if any(word.startswith("eval_generations=") for word in overrides) else ["eval_generations=32"]
    )
    given = [
        f"output_dir={home / '-'.join(str(value) for value in rule.values())}",
        f"rule={{{spec}}}", *defaults, "pairing=all", "temperature=1", "top_p=1",
        *(f"{name}_dir={home / name}" for name in ("samples", "answers", "scores", "encoded")), *overrides,
    ]  # fmt: skip
    with progress(False) as report:
        found = run_loop(load(preset, given), processes=None, accelerate=None, progress=report)
    return found.as_dict()


def main(home: Path, preset: str, rules: list[str], overrides: list[str]) -> None:
    quiet()
    config = load(preset, [f"output_dir={home / 'model'}", *overrides])
    job = Job.start(config.folders, config.model, config.compute, None)
    overrides = [
        *overrides,
        f"model_name_or_path={job.policy()}",
    ]  # one that is made on the spot is made once
    table = []
    for name in rules or RULES:
        rule = RULES[name]
        rows = run(home, preset, rule, overrides)["iterations"]
        for row in rows:
            oracle, gap = next((key, value) for key, value in row["gap"].items() if value)
            wins = row["win_rate"]["reference"][oracle]
            table.append({"rule": name, "t": row["iteration"], "gap": gap, "wins": wins, "kl": row["kl"]})
            print(
                f"{name:<18} {row['iteration']}  gap {gap['split']['mean']:.3f} to {gap['plug_in']['mean']:.3f}  "
                f"wins {wins['mean']:.3f} ({wins['low']:.2f} to {wins['high']:.2f})  KL {row['kl']:.2f}  "
                f"loss {row['loss']:.3g}",
                flush=True,
            )
    (home / "table.json").write_text(json.dumps(table, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    places = [word for word in sys.argv[1:] if "=" not in word]
    named = [word for word in places[1:] if ":" in word]
    presets = [word for word in places[1:] if ":" not in word] or ["tiny"]
    main(Path(places[0]), presets[0], named, [word for word in sys.argv[1:] if "=" in word])

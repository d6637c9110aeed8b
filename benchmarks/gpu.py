"""Fitting, scoring and sampling on one GPU: `python benchmarks/gpu.py`.

A Gemma-2-2B-shaped model with random weights, in bfloat16; no network; ten minutes at most. Prints a table and
writes a JSON file. Without a GPU, `small` models on the CPU: that shows that the program works, and nothing about
GPUs. docs/benchmarks.md says what the columns are.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from gpu.cases import Case, Group, plan
from gpu.checkout import environment, installed_version, missing, versions
from gpu.running import Setting, run_group
from gpu.shapes import SIZES
from gpu.table import left_out, table, verdict

PARTS = ("agreement", "fit", "tiny", "scoring", "sampling")
HOW = ("error", "memory", "crash", "hang")
#: What no process is started for, and why.
SDPA = "transformers does not offer it for Gemma-2, whose soft-cap it would leave out"


def main(arguments: Sequence[str]) -> int:
    """Measure; return 0, 1 where results differ from the CPU's, 2 where nothing could be measured."""
    began = time.monotonic()
    asked = _parser().parse_args(arguments)
    if asked.worker:
        from gpu.worker import main as work

        return work(*asked.worker)
    absent = missing()
    if absent:
        print(f"not installed: pip install {' '.join(map(repr, absent))}", file=sys.stderr)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="mnpo-gpu-") as name:
        scratch = Path(name)
        setting_of_children, source = environment(scratch)
        setting = Setting(
            entry=Path(__file__).resolve(),
            environment=setting_of_children,
            scratch=scratch,
            size=asked.size,
            device="cpu" if asked.cpu else "auto",
            deadline=began + asked.deadline,
            without=asked.without,
            broken=dict(entry.split(":") for entry in asked.break_),
            told=_tell,
        )
        rows += run_group(Group("rate", (Case("rate"),), 120), setting)
        if rows[0]["state"] != "done":
            print(f"nothing can be measured: {rows[0]['reason']}", file=sys.stderr)
            return 2
        about = rows[0]
        gpu = about["kind"] == "cuda"
        size = asked.size or ("gemma-2-2b" if gpu else "small")
        setting = replace(setting, size=size, device=about["kind"])
        record = {
            "device": about["device"],
            "memory_gb": about.get("memory_gb"),
            "cuda": about.get("cuda"),
            "size": size,
            "mnpo": source,
            "versions": versions(),
            "missing": absent,
            "rows": rows,
        }
        attentions = asked.attention or _attentions(gpu, rows)
        for group in plan(SIZES[size], gpu, attentions, asked.parts, asked.only):
            rows += run_group(group, setting)
            record["seconds"] = time.monotonic() - began
            _write(asked.out, record)
    print(f"\n{about['device']}, {size}, {_shown(record['versions'])}, {record['seconds']:.0f} s\n")
    print(table(rows), left_out(rows), verdict(rows, gpu), sep="\n\n")
    print(f"\nwritten: {asked.out}")
    return 1 if any(row.get("agrees") is False for row in rows) else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", choices=SIZES, help="default: gemma-2-2b on a GPU, small on a CPU")
    parser.add_argument("--cpu", action="store_true", help="leave a GPU alone")
    parser.add_argument("--out", type=Path, default=Path("runs/gpu.json"), help="default: %(default)s")
    parser.add_argument("--deadline", type=float, default=570.0, help="seconds for everything: %(default)s")
    parser.add_argument(
        "--parts", type=_list_of(PARTS), default=PARTS, help=f"of {','.join(PARTS)}; default: all"
    )
    parser.add_argument("--only", default="", metavar="REGEX", help="rows whose names it is found in")
    parser.add_argument(
        "--attention", type=_list_of(None), help="default: flex_attention,eager on a GPU, eager on a CPU"
    )
    parser.add_argument(
        "--without", type=_list_of(None), default=[], help="packages to do without, such as trl"
    )
    parser.add_argument(
        "--break", dest="break_", type=_list_of(None), default=[], help=f"part:{'|'.join(HOW)}; for tests"
    )
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    return parser


def _list_of(known: Sequence[str] | None) -> Any:
    """Return a reader of names between commas."""

    def read(given: str) -> list[str]:
        names = [name for name in given.split(",") if name]
        strange = [name for name in names if known is not None and name not in known]
        if strange:
            raise argparse.ArgumentTypeError(f"{strange[0]} is none of {', '.join(known or ())}")
        return names

    return read


def _attentions(gpu: bool, rows: list[dict[str, Any]]) -> list[str]:
    """Return the implementations that are measured unless others are asked for; note those that are not."""

    def leave_out(name: str, reason: str) -> None:
        rows.append({"part": "fit", "name": f"fit: {name}", "state": "left out", "reason": reason})

    leave_out("sdpa", SDPA)
    if not gpu:
        leave_out("flex_attention and flash_attention_2", "they train on GPUs only")
        return ["eager"]
    # FlexAttention first: it alone takes both soft-caps and masks and holds no scores.
    if installed_version("flash-attn") is None:
        leave_out("flash_attention_2", "flash-attn is not installed")
        return ["flex_attention", "eager"]
    return ["flex_attention", "flash_attention_2", "eager"]


def _tell(row: dict[str, Any]) -> None:
    """Print what a case gave as soon as it is known: a table that never comes would leave nothing."""
    if row["state"] == "done":
        speed = row.get("tokens_per_s")
        figure = f"{speed:,.0f} tokens/s" if speed else row.get("note") or f"{row['seconds']:.1f} s"
    else:
        figure = f"{row['state']}: {row['reason']}"
    print(f"{row['name']}: {figure}", file=sys.stderr, flush=True)


def _write(path: Path, record: dict[str, Any]) -> None:
    """Write the record whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(path.name + ".part")
    unfinished.write_text(json.dumps(record, indent=1) + "\n")
    os.replace(unfinished, path)


def _shown(found: dict[str, str | None]) -> str:
    return ", ".join(f"{name} {version or 'not installed'}" for name, version in found.items())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

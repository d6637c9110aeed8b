"""The process that runs cases after each other, and writes down each before and after it."""

from __future__ import annotations

import gc
import json
import logging
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from gpu.agreement import agreement
from gpu.cases import Case
from gpu.fitting import fit
from gpu.measuring import matrix_rate
from gpu.running import KEPT
from gpu.shapes import SIZES, Size
from gpu.using import sampling, scoring, tiny

#: Exit status after a case that failed: what it left on the device must not touch the next.
FAILED = 3
#: Packages without which a case is left out; that another one lacks is a fault.
OPTIONAL = ("trl", "vllm", "datasets", "pyarrow", "accelerate", "peft", "typer", "rich", "yaml", "jinja2")
#: How libraries besides torch's allocator say that memory is used up.
NO_ROOM = ("out of memory", "ALLOC_FAILED")
UNCOMPILED = "partly uncompiled: too many shapes"


class _Without:
    """A finder of modules that does not find those of some packages."""

    def __init__(self, finder: Any, names: Sequence[str]) -> None:
        self._finder, self._names = finder, set(names)

    def find_spec(self, fullname: str, *args: Any) -> Any:
        hidden = fullname.partition(".")[0] in self._names
        return None if hidden else self._finder.find_spec(fullname, *args)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._finder, name)


def main(task_file: str, report_file: str) -> int:
    """Run the cases of a task; return the exit status."""
    task = json.loads(Path(task_file).read_text())
    if task["without"]:
        sys.meta_path[:] = [_Without(finder, task["without"]) for finder in sys.meta_path]
    import torch

    device = task["device"]
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    size = SIZES[task["size"] or ("gemma-2-2b" if device == "cuda" else "small")]
    # On a CPU bfloat16 is emulated, more or less.
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    if device == "cpu":
        # Small models gain nothing from more threads, which wait for each other where cores are shared.
        torch.set_num_threads(1)
        os.environ["OMP_NUM_THREADS"] = "1"
    report = _Report(Path(report_file))
    warned = _Warnings()
    logging.getLogger("torch._dynamo").addHandler(warned)
    measured = {"rate", "fit", "scoring"} & {case["part"] for case in task["cases"]}
    rate = matrix_rate(device, dtype, size.square) if measured else None
    for number, given in enumerate(task["cases"]):
        case = Case(**given)
        report.write(number, state="begun")
        try:
            _break(task["broken"].get(case.part))
            found = _RUN[case.part](case, size, device, dtype)
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] not in OPTIONAL:
                return _failed(report, number, error)
            report.write(number, state="left out", reason=f"{error.name} is not installed")
        except Exception as error:  # whatever a library can do: the reason belongs into the table
            if isinstance(error, torch.OutOfMemoryError) or any(word in str(error) for word in NO_ROOM):
                report.write(number, state="too large")
                return FAILED
            return _failed(report, number, error)
        else:
            if "operations_per_s" in found:
                found["share"] = found["operations_per_s"] / rate
            found["matrix_rate"] = rate
            if warned.pop():
                found["note"] = "; ".join(filter(None, [found.get("note"), UNCOMPILED]))
            report.write(number, state="done", **found)
        gc.collect()
        if device == "cuda":
            torch.cuda.empty_cache()
            if case.attention == "flex_attention":
                torch.compiler.reset()  # what is compiled for one case would count against the next one's limit
    return 0


class _Warnings(logging.Handler):
    """Notes when torch gives up compiling: FlexAttention then runs uncompiled, which no figure should hide."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._seen = False

    def emit(self, record: logging.LogRecord) -> None:
        self._seen |= "recompile_limit" in record.getMessage()

    def pop(self) -> bool:
        """Return whether it did since the last time."""
        seen, self._seen = self._seen, False
        return seen


class _Report:
    """A file with a line for each thing that happened; each is on the disk before the next begins."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def write(self, number: int, **what: Any) -> None:
        """Add a line."""
        with self._path.open("a") as file:
            file.write(json.dumps({"number": number, **what}) + "\n")


def _failed(report: _Report, number: int, error: Exception) -> int:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    reason = f"{type(error).__name__}: {lines[0] if lines else ''}"[:300]
    report.write(number, state="failed", reason=reason, log=traceback.format_exc()[-KEPT:])
    return FAILED


def _break(how: str | None) -> None:
    """Fail as the tests of this program want it."""
    if how == "error":
        raise RuntimeError("broken on purpose")
    if how == "memory":
        import torch

        raise torch.OutOfMemoryError("broken on purpose")
    if how == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if how == "hang":
        time.sleep(3600)


def _rate(case: Case, size: Size, device: str, dtype: Any) -> dict[str, Any]:
    """Say what the device is; the rate itself is measured in every process."""
    import torch

    kind = str(dtype).removeprefix("torch.")
    found: dict[str, Any] = {"kind": device, "device": "CPU", "note": f"{kind}, {size.square} rows"}
    if device == "cuda":
        about = torch.cuda.get_device_properties(0)
        found |= {"device": about.name, "memory_gb": about.total_memory / 1e9, "cuda": torch.version.cuda}
    return found


_RUN: dict[str, Callable[[Case, Size, str, Any], dict[str, Any]]] = {
    "rate": _rate,
    "agreement": agreement,
    "fit": fit,
    "scoring": scoring,
    "sampling": sampling,
    "tiny": tiny,
}

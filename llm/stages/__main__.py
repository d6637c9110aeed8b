"""What a launched process runs: `python -m mnpo.llm.stages STAGE CONFIG.yaml`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from mnpo.llm.runtime.launch import ERRORS


def main() -> int:
    """Run a stage; what goes wrong is left in one file for the launching process to tell."""
    name, file = sys.argv[1:3]
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # libraries talk; standard output is the launcher's
    try:
        from mnpo.llm.config import load
        from mnpo.llm.runtime.progress import progress, quiet
        from mnpo.llm.stages.registry import run_here

        quiet()
        with progress(int(os.environ.get("RANK", 0)) == 0) as report:
            run_here(name, load(file), report)
    except (ValueError, OSError) as error:
        return _tell("input", error, 2)
    except Exception as error:
        return _tell("failure", error, 1)
    return 0


def _tell(kind: str, error: Exception, status: int) -> int:
    folder = os.environ.get(ERRORS)
    line = " ".join((str(error) or type(error).__name__).split())
    if folder is None:
        print(f"mnpo: {line}", file=sys.stderr)
        return status
    (Path(folder) / f"error-{os.environ.get('RANK', '0')}").write_text(f"{kind}\n{line}", encoding="utf-8")
    if os.environ.get("MNPO_DEBUG"):
        import traceback

        traceback.print_exc()
    return status


if __name__ == "__main__":
    sys.exit(main())

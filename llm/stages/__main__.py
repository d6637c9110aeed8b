"""What a worker of a run runs, `python -m mnpo.llm.stages`: one stage after the other, as it is told."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from mnpo.llm.runtime.serving import serve


def main() -> int:
    """Take stages until there are no more."""
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # libraries talk; standard output is the command's
    return serve(_begin)


def _begin() -> Callable[[str, str], None]:
    """Load what stages need; return what runs one, given its name and the file of its configuration."""
    from mnpo.llm.config import load
    from mnpo.llm.runtime.fresh import Beginning
    from mnpo.llm.runtime.progress import progress, quiet
    from mnpo.llm.stages.registry import STAGES, run_here

    quiet()
    for stage in STAGES.values():
        stage.function  # noqa: B018 imported now, while the process that started this one does other things
    beginning = Beginning()

    def run(name: str, file: str) -> None:
        beginning.restore()
        with progress(int(os.environ.get("RANK", 0)) == 0) as report:
            run_here(name, load(file), report)

    return run


if __name__ == "__main__":
    sys.exit(main())

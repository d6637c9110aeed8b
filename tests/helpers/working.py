"""A worker without models, `python -m working`: it notes who it is and does what its configuration says.

With `follow`, a process of a user's own launcher, as it runs a whole command.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from mnpo.llm.runtime.processes import follow_launcher
from mnpo.llm.runtime.serving import serve


def begin() -> Callable[[str, str], None]:
    if os.environ.get("WORKING_BEGINS") == "badly":
        raise RuntimeError("a library is broken")
    return run


def run(name: str, file: str) -> None:
    rank = os.environ.get("RANK", "0")
    noted = Path(os.environ["WORKING"]) / f"{name}-{rank}"
    others = []
    match json.loads(Path(file).read_text()).get(rank):
        case "bad":
            raise ValueError("the data are empty:\nfind some")
        case "failing":
            raise RuntimeError("no memory is left")
        case "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        case "slow":
            others = [subprocess.Popen(["sleep", "600"]).pid]
    noted.with_suffix(".partial").write_text(json.dumps([os.getpid(), *others]))
    noted.with_suffix(".partial").rename(noted)
    if others:
        time.sleep(600)


if __name__ == "__main__":
    if sys.argv[1:] == ["follow"]:
        follow_launcher()
        work = Path(os.environ["WORKING"]) / "work.json"
        work.write_text('{"0": "slow", "1": "slow"}')
        run("alone", str(work))
    sys.exit(serve(begin))

"""Scratch folders go with whoever made them, or with the next one who makes one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from mnpo.common.scratch import Scratch

MAKE = """
import sys, time
from pathlib import Path
from mnpo.common.scratch import Scratch
print(Scratch(Path(sys.argv[1])).path, flush=True)
time.sleep(60)
"""


def make(home: Path) -> tuple[subprocess.Popen[str], Path]:
    process = subprocess.Popen([sys.executable, "-c", MAKE, str(home)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    path = Path(process.stdout.readline().strip())
    (path / "work").write_text("here")
    return process, path


def test_the_next_one_sweeps_what_a_killed_one_left_and_no_more(tmp_path: Path) -> None:
    (tmp_path / "mnpo-results").mkdir()  # somebody's own
    own = Scratch(tmp_path)
    killed, dead = make(tmp_path)
    with killed:
        killed.kill()
    living, alive = make(tmp_path)
    with living:
        assert not dead.exists()
        last = Scratch(tmp_path)
        assert {own.path, alive, last.path, tmp_path / "mnpo-results"} == set(tmp_path.iterdir())
        assert (alive / "work").read_text() == "here"
        last.remove()
        assert not last.path.exists()
        living.kill()
    own.remove()
    Scratch(tmp_path).remove()
    assert [path.name for path in tmp_path.iterdir()] == ["mnpo-results"]

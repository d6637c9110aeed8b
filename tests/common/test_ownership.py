"""One owner of a folder: told, waited for, and gone with its process."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from mnpo.common.ownership import LOCK, owned

HOLD = """
import sys, time
from pathlib import Path
from mnpo.common.ownership import owned
with owned(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(float(sys.argv[2]))
"""


def hold(folder: Path, seconds: float) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder), str(seconds)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline().strip() == "held"
    return process


def test_a_second_is_told_who_it_is_and_can_wait(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with hold(folder, 1.5) as other:
        with (
            pytest.raises(ValueError, match=rf"run is in use by process {other.pid} on .*--wait"),
            owned(folder),
        ):
            raise AssertionError("not reached")
        told: list[str] = []
        start = time.monotonic()
        with owned(folder, wait=True, waiting=told.append):
            assert time.monotonic() - start > 0.3
            assert (folder / LOCK).is_file()
        assert len(told) == 1
    assert list(folder.iterdir()) == []
    with owned(tmp_path / "new" / "deep"):
        pass
    assert not (tmp_path / "new").exists()  # nothing was written, so nothing stays


def test_a_killed_owner_leaves_the_folder_free(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with hold(folder, 60) as other:
        other.kill()
    with owned(folder):
        (folder / "work").touch()
    assert [path.name for path in folder.iterdir()] == ["work"]


def test_many_at_once_have_one_owner_at_a_time(tmp_path: Path) -> None:
    code = """
import sys, time
from pathlib import Path
from mnpo.common.ownership import owned
home = Path(sys.argv[1])
for _ in range(15):
    with owned(home / "run", wait=True):
        mark = home / "mark"
        assert not mark.exists()
        mark.touch()
        time.sleep(0.005)
        mark.unlink()
"""
    several = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path)]) for _ in range(4)]
    assert [process.wait(timeout=60) for process in several] == [0] * 4

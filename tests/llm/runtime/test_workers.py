"""The processes of a run stay from stage to stage, and go with it however it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mnpo.llm.runtime.launch import Plan
from mnpo.llm.runtime.workers import WorkerFailed, Workers

TWO = Plan(2, 2, "ddp", None)
#: What another process runs that is to be ended from outside.
PARENT = (
    # As on a terminal: what a script starts in the background ignores Ctrl-C.
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    "import json, sys; from pathlib import Path; from mnpo.llm.runtime.launch import Plan\n"
    "from mnpo.llm.runtime.workers import Workers\n"
    "file = Path(sys.argv[1]) if len(sys.argv) > 1 else None\n"
    "how = Plan(2, 2, 'file' if file else 'ddp', file)\n"
    "with Workers('working') as workers: workers.run(how, 'first', json.dumps({'0': 'slow', '1': 'slow'}))"
)


@pytest.fixture
def noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], dict[str, list[int]]]:
    """What workers have noted: name of the work and rank -> their number, and those of what they started."""
    helpers = str(Path(__file__).parents[2] / "helpers")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([helpers, os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("WORKING", str(tmp_path))
    return lambda: {file.name: json.loads(file.read_text()) for file in tmp_path.glob("*-[01]")}


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """A file of accelerate's own, for which torchrun starts two processes."""
    file = tmp_path / "two.yaml"
    file.write_text(
        "compute_environment: LOCAL_MACHINE\ndistributed_type: MULTI_GPU\nnum_machines: 1\nmachine_rank: 0\n"
        "num_processes: 2\nmixed_precision: 'no'\nuse_cpu: false\n"
    )
    return file


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def gone(noted: dict[str, list[int]], seconds: float = 5.0) -> bool:
    """Whether everything that was noted ends within some time."""
    end = time.monotonic() + seconds
    pids = {pid for found in noted.values() for pid in found}
    assert pids
    while any(alive(pid) for pid in pids) and time.monotonic() < end:
        time.sleep(0.02)
    return not any(alive(pid) for pid in pids)


def work(workers: Workers, name: str, how: Plan = TWO, **what: str) -> None:
    workers.run(how, name, json.dumps({rank.strip("r"): does for rank, does in what.items()}))


@pytest.mark.parametrize("kind", ["own", "accelerate"])
def test_processes_stay_from_stage_to_stage(
    kind: str, noted: Callable[[], dict[str, list[int]]], shared: Path
) -> None:
    how = TWO if kind == "own" else Plan(1, None, "file", shared)
    with Workers("working") as workers:
        for name in ("sample", "fit", "evaluate"):
            work(workers, name, how)
        found = noted()
        assert len(found) == 6
        for rank in "01":
            assert found[f"sample-{rank}"] == found[f"fit-{rank}"] == found[f"evaluate-{rank}"]
        assert found["fit-0"] != found["fit-1"]
    assert gone(found, seconds=0)


def test_what_goes_wrong_in_a_later_stage_is_told_as_it_was(
    noted: Callable[[], dict[str, list[int]]],
) -> None:
    """Bad input, also where another process failed for it; a failure; a process that was killed."""
    cases = (
        (ValueError, "^the data are empty: find some$", {"r1": "bad"}),
        (ValueError, "^the data are empty: find some$", {"r0": "slow", "r1": "bad"}),
        (ValueError, "^the data are empty: find some$", {"r0": "failing", "r1": "bad"}),
        (WorkerFailed, "^no memory is left$", {"r0": "failing", "r1": "slow"}),
        (WorkerFailed, "killed or crashed; the same command again resumes", {"r0": "killed", "r1": "slow"}),
        (
            WorkerFailed,
            "killed or crashed; the same command again resumes",
            {"r0": "failing", "r1": "killed"},
        ),
    )
    for error, message, what in cases:
        with Workers("working") as workers:
            work(workers, "first")
            start = time.monotonic()
            with pytest.raises(error, match=message):
                work(workers, "second", **what)
            assert time.monotonic() - start < 5
            assert gone(noted(), seconds=0)


def test_processes_that_cannot_start_are_told_of(
    noted: Callable[[], dict[str, list[int]]],
    monkeypatch: pytest.MonkeyPatch,
    shared: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    with Workers("nothing_of_this_name") as workers, pytest.raises(WorkerFailed, match="killed or crashed"):
        work(workers, "first")
    monkeypatch.setenv("WORKING_BEGINS", "badly")
    with Workers("working") as workers, pytest.raises(WorkerFailed, match=r"^a library is broken$"):
        work(workers, "first")
    shared.write_text("distributed_type: [")
    with (
        Workers("working") as workers,
        pytest.raises(ValueError, match=r"^accelerate cannot start processes as \S*two.yaml says: .*$"),
    ):
        work(workers, "first", Plan(1, None, "file", shared))
    capfd.readouterr()


@pytest.mark.parametrize("kind", ["own", "accelerate"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_nothing_is_left_where_the_command_is_killed(
    number: signal.Signals,
    kind: str,
    noted: Callable[[], dict[str, list[int]]],
    shared: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By SIGKILL and by Ctrl-C: the workers go, whatever they started, and their scratch folder."""
    home = tmp_path_factory.mktemp("t")  # a short name, for it is a socket's
    monkeypatch.setenv("TMPDIR", str(home))
    given = [] if kind == "own" else [str(shared)]
    parent = subprocess.Popen([sys.executable, "-c", PARENT, *given], stderr=subprocess.DEVNULL)
    while len(noted()) < 2:
        assert parent.poll() is None
        time.sleep(0.02)
    assert len(list(home.glob("mnpo-*"))) == 1
    parent.send_signal(number)
    parent.wait(20)
    assert gone(noted())
    assert [path.name for path in home.iterdir() if path.name.startswith(("mnpo-", "torchelastic"))] == []


@pytest.mark.parametrize("victim", ["launcher", "torchrun"])
def test_no_process_outlives_a_launcher_that_is_killed(
    victim: str, noted: Callable[[], dict[str, list[int]]], shared: Path
) -> None:
    """Accelerate's, which the command started, and a user's own torchrun."""
    if victim == "torchrun":
        command = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "working", "follow"]
    else:
        command = ["-c", PARENT, str(shared)]
    started = subprocess.Popen([sys.executable, *command], stderr=subprocess.DEVNULL)
    while len(noted()) < 2:
        assert started.poll() is None
        time.sleep(0.02)
    pid = started.pid
    if victim == "launcher":
        (pid,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    os.kill(int(pid), signal.SIGKILL)
    started.wait(20)
    assert gone(noted())

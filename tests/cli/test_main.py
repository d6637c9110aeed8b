"""The command itself: start, help, signals, and readers that go away."""

import signal
import subprocess
import sys
import time

import pytest

from mnpo.cli.main import main


def test_version_and_help_are_printed(mnpo):
    status, out, _ = mnpo("--version")
    assert (status, out.strip()) == (0, "0.1.0")
    for arguments in (("--help",), ("sim", "--help"), ("sim", "solve", "--help")):
        status, out, _ = mnpo(*arguments)
        assert status == 0
        assert "Usage" in out


def test_debug_does_not_hide_the_traceback(mnpo, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["mnpo", "sim", "solve", "rsp", "--debug"])
    with pytest.raises(ValueError, match="did you mean"):
        main()


def test_what_was_not_foreseen_is_called_a_bug(mnpo, monkeypatch):
    import mnpo.sim.load as load

    def broken(*_, **__):
        raise KeyError("no such thing")

    monkeypatch.setattr(load, "load_game", broken, raising=False)
    for name in ("read", "load", "load_game", "game_spec"):
        if hasattr(load, name):
            monkeypatch.setattr(load, name, broken)
    status, out, err = mnpo("sim", "solve", "rps")
    assert (status, out) == (1, "")
    assert err.startswith("mnpo: this is a bug in mnpo (KeyError: 'no such thing'); please report it")
    assert len(err.strip().splitlines()) == 1


def test_it_starts_without_torch_and_without_heavy_libraries():
    """Without torch everything here works; and help loads neither scipy nor plots."""
    code = (
        "import sys\n"
        "class NoTorch:\n"
        "    def find_spec(self, name, *rest):\n"
        "        if name.split('.')[0] == 'torch': raise ImportError('no torch')\n"
        "sys.meta_path.insert(0, NoTorch())\n"
        "import mnpo, mnpo.sim, mnpo.cli, mnpo.cli.main\n"
        "heavy = {'scipy', 'cvxpy', 'matplotlib', 'preflibtools', 'numpy'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "mnpo.solve(mnpo.Game(mnpo.Pairwise([[.5, .6], [.4, .5]])))\n"
        "assert not {'transformers', 'matplotlib'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def _heed_interrupts():
    """What a shell starts in the background ignores them, and so would the command."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_a_stopped_command_leaves_nothing_half_written(tmp_path):
    command = [sys.executable, "-c", "from mnpo.cli.main import main; main()", "sim", "run",
               "random:responses=400", "--steps", "10000000", "--out", "deep/r"]  # fmt: skip
    for number, status in ((signal.SIGTERM, 143), (signal.SIGINT, 130)):
        running = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, preexec_fn=_heed_interrupts)
        deadline = time.monotonic() + 30
        while not list(tmp_path.glob("deep/.r.*")) and time.monotonic() < deadline:
            time.sleep(0.05)
        running.send_signal(number)
        running.communicate(timeout=30)
        assert running.returncode == status
        assert list(tmp_path.iterdir()) == []


def test_a_reader_that_goes_away_is_no_error(tmp_path):
    code = "from mnpo.cli.main import main; main()"
    running = subprocess.Popen(
        [sys.executable, "-c", code, "sim", "games", "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    running.stdout.close()
    assert running.wait(timeout=30) == 141
    assert running.stderr.read() == b""

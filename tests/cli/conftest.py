"""The command line as a user types it."""

import sys

import pytest

from mnpo.cli.main import main
from mnpo.common import progress


@pytest.fixture
def mnpo(tmp_path, monkeypatch, capsys):
    """Run a command in an empty folder; return status, standard output and standard error."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(progress, "SILENT", 60.0)  # a busy machine is no long command

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["mnpo", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            main()
        written = capsys.readouterr()
        return stop.value.code, written.out, written.err

    return call

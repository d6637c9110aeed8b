"""Bad games, policies, options and results: each is told in one line."""

import pytest
from hostile import cases, refused


@pytest.mark.parametrize("case", cases("sim"))
def test_is_refused(case, tmp_path, monkeypatch, capsys):
    refused(case, tmp_path, monkeypatch, capsys)

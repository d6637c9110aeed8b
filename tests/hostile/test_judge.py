"""Judges that cannot be: each is told in one line, before anything is asked."""

import pytest
from hostile import cases, refused


@pytest.mark.parametrize("case", cases("judge"))
def test_is_refused(case, tmp_path, monkeypatch, capsys):
    for name in ("OPENAI_BASE_URL", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    refused(case, tmp_path, monkeypatch, capsys)

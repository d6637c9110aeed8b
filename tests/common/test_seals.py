"""What was written down is what is read, or nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mnpo.common.seals import CHECKSUM, about_sealed, damage, read_sealed, seal, write_sealed

#: Folders are made anew in every example, since each writes the same files.
IN_PLACE = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=12,
)


@IN_PLACE
@given(st.dictionaries(st.text().filter(lambda name: name != CHECKSUM), PLAIN, max_size=5), st.data())
def test_a_flipped_bit_is_found_or_means_nothing(tmp_path: Path, content: dict[str, Any], data: Any) -> None:
    file = tmp_path / "record.json"
    write_sealed(file, content)
    assert read_sealed(file) == json.loads(json.dumps(content))
    held = bytearray(file.read_bytes())
    held[data.draw(st.integers(0, len(held) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    file.write_bytes(held)
    found = read_sealed(file)
    if found is not None:  # white space, or the key of the checksum itself, which then is one key more
        assert {name: found[name] for name in content} == json.loads(json.dumps(content))
        assert len(found) <= len(content) + 1


@IN_PLACE
@given(st.lists(st.binary(min_size=1, max_size=40), min_size=1, max_size=4), st.data())
def test_a_folder_is_what_was_sealed(tmp_path: Path, contents: list[bytes], data: Any) -> None:
    for place, content in enumerate(contents):
        (tmp_path / f"{place}.bin").write_bytes(content)
    seal(tmp_path, "seal.json", step=3)
    assert damage(tmp_path, "seal.json") is None
    assert (about_sealed(tmp_path, "seal.json") or {})["step"] == 3
    place = data.draw(st.integers(0, len(contents) - 1))
    changed = data.draw(st.binary(max_size=40).filter(lambda other: other != contents[place]))
    (tmp_path / f"{place}.bin").write_bytes(changed)
    assert damage(tmp_path, "seal.json") == f"{place}.bin is not what was written"
    (tmp_path / f"{place}.bin").unlink()
    assert damage(tmp_path, "seal.json") == f"{place}.bin cannot be read"
    assert about_sealed(tmp_path, "seal.json") is None
    (tmp_path / "seal.json").unlink()
    assert damage(tmp_path, "seal.json") == "seal.json is not there"
    for file in tmp_path.iterdir():
        file.unlink()


def test_what_was_added_to_a_folder_is_of_no_interest(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner/a").write_text("a")
    seal(tmp_path)
    (tmp_path / "b").write_text("b")
    assert damage(tmp_path) is None
    (tmp_path / "inner/a").write_text("b")
    assert damage(tmp_path) == "inner/a is not what was written"

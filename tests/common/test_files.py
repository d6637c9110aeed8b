"""Files and folders appear whole or not at all, as whoever runs the program would have made them."""

import os
import stat

import pytest

from mnpo.common import files
from mnpo.common.files import clear_partials, read_json, whole_file, whole_folder, write_json


@pytest.fixture
def mask():
    """Permissions that new files lack, other than the usual ones."""
    before = os.umask(0o027)
    yield 0o027
    os.umask(before)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def write_half(whole, name=""):
    with whole as partial:
        (partial / name).write_text("half")
        raise ValueError("halfway")


def test_a_file_is_not_there_before_it_is_whole(tmp_path):
    path = tmp_path / "deep" / "f"
    with whole_file(path) as partial:
        partial.write_text("half")
        assert not path.exists()
    assert path.read_text() == "half"
    assert names(tmp_path / "deep") == ["f"]


def test_a_failure_leaves_the_old_file(tmp_path):
    path = tmp_path / "f"
    path.write_text("old")
    with pytest.raises(ValueError, match="halfway"):
        write_half(whole_file(path))
    assert path.read_text() == "old"
    assert names(tmp_path) == ["f"]


def test_new_files_and_folders_have_the_permissions_of_the_umask(tmp_path, mask):
    with whole_file(tmp_path / "f") as partial:
        partial.write_text("x")
    with whole_folder(tmp_path / "d") as partial:
        (partial / "deep").mkdir(0o700)
        (partial / "deep" / "f").touch(0o600)  # as libraries make some
    assert stat.S_IMODE((tmp_path / "d" / "deep").stat().st_mode) == 0o777 & ~mask
    assert stat.S_IMODE((tmp_path / "d" / "deep" / "f").stat().st_mode) == 0o666 & ~mask
    assert stat.S_IMODE((tmp_path / "f").stat().st_mode) == 0o666 & ~mask
    assert stat.S_IMODE((tmp_path / "d").stat().st_mode) == 0o777 & ~mask
    assert files.umask() == mask
    assert os.umask(mask) == mask


def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "real").write_text("old")
    (tmp_path / "link").symlink_to("real")
    with whole_file(tmp_path / "link") as partial:
        partial.write_text("new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_text() == "new"


def test_a_pipe_is_written_to_and_not_replaced(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    with whole_file(pipe) as target:
        target.write_text("through")
    assert os.read(reader, 100) == b"through"
    os.close(reader)
    assert pipe.is_fifo()


def test_a_folder_takes_the_place_of_an_older_one_as_a_whole(tmp_path):
    path = tmp_path / "d"
    for name in ("old", "new"):
        with whole_folder(path) as partial:
            (partial / name).write_text(name)
    assert names(path) == ["new"]
    assert names(tmp_path) == ["d"]


def test_a_failure_leaves_the_old_folder(tmp_path, monkeypatch):
    path = tmp_path / "d"
    with whole_folder(path) as partial:
        (partial / "old").write_text("x")
    with pytest.raises(ValueError, match="halfway"):
        write_half(whole_folder(path), "new")
    assert names(path) == ["old"]
    # So does a failure after the old one was moved away.
    real = os.replace
    monkeypatch.setattr(os, "replace", lambda a, b: 1 / 0 if ".partial" in str(a) else real(a, b))
    with pytest.raises(ZeroDivisionError), whole_folder(path) as partial:
        (partial / "new").write_text("x")
    assert names(path) == ["old"]
    assert names(tmp_path) == ["d"]


def test_what_a_killed_process_left_is_removed_and_nothing_else(tmp_path):
    (tmp_path / ".f.abc.partial").write_text("half")
    (tmp_path / ".d.abc.old").mkdir()
    (tmp_path / ".d.abc.old" / "x").write_text("x")
    (tmp_path / "mine.partial").write_text("x")
    (tmp_path / ".hidden").write_text("x")
    clear_partials(tmp_path)
    assert names(tmp_path) == [".hidden", "mine.partial"]


def test_json_comes_back_and_damage_reads_as_nothing(tmp_path):
    path = tmp_path / "deep" / "r.json"
    write_json(path, {"x": [1, "π"]})
    assert read_json(path) == {"x": [1, "π"]}
    path.write_text('{"x": [1')
    assert read_json(path) is None
    path.write_bytes(b"\xff\xfe")
    assert read_json(path) is None
    assert read_json(tmp_path / "none.json") is None
    with pytest.raises(TypeError):
        write_json(path, {"x": object()})
    assert names(path.parent) == ["r.json"]

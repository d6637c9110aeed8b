"""Several commands at once on one folder and on one store: one owner, right results, and nothing lost."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from counting_judge import Server
from loops import SMALL
from several import Ended, Started, together

from mnpo.common.files import umask
from runs import entries

STORES = ("samples", "answers", "scores")
IN_USE = "is in use by process"


@pytest.fixture(scope="module")
def serving() -> Iterator[Server]:
    serving = Server()
    thread = threading.Thread(target=serving.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield serving
    serving.shutdown()
    serving.server_close()


def words(model: Path, folder: Path, server: Server, *more: str) -> list[str]:
    return ["llm", "train", "tiny", f"model_name_or_path={model}", f"output_dir={folder}", *SMALL, server.oracle,
            "iterations=1", "prompt_dataset_name=tiny:prompts:12", "max_steps=2", "use_cpu=true", *more]  # fmt: skip


def weights(folder: Path) -> bytes:
    return (folder / "iteration-1" / "model" / "model.safetensors").read_bytes()


def is_one_line(ended: Ended) -> bool:
    line = [line for line in ended.told.splitlines() if IN_USE in line]
    return (
        ended.status == 2
        and len(line) == 1
        and line[0].startswith("mnpo: ")
        and "Traceback" not in ended.told
    )


@pytest.fixture(scope="module")
def alone(untaught: Path, tmp_path_factory: pytest.TempPathFactory, serving: Server) -> Path:
    """A run by itself."""
    home = tmp_path_factory.mktemp("alone")
    assert together(home, words(untaught, home / "run", serving))[0].status == 0
    return home / "run"


@pytest.fixture
def server(serving: Server, alone: Path) -> Server:
    serving.questions.clear()
    return serving


def test_four_on_one_folder(untaught: Path, tmp_path: Path, server: Server, alone: Path) -> None:
    """One works, one waits for it or for another, the others are told; nothing is done twice."""
    folder = tmp_path / "run"
    command = words(untaught, folder, server)
    ends = together(tmp_path, command, command, [*command, "--wait"], [*command, "--wait"])
    for ended in ends[:2]:
        assert ended.status == 0 or is_one_line(ended), ended
    assert [ended.status for ended in ends].count(0) in (2, 3), ends
    for ended in ends[2:]:
        assert ended.status == 0, ended
    assert weights(folder) == weights(alone)
    assert set(server.questions.values()) == {1}
    for store in STORES:
        assert sorted(entries(folder / store)) == sorted(entries(alone / store))
    usual = 0o666 & ~umask()
    narrow = [file for file in folder.rglob("*") if file.is_file() and file.stat().st_mode & 0o777 != usual]
    assert narrow == []
    assert not list(folder.rglob("*.lock"))


def test_a_killed_owner_is_followed_by_who_waits(
    untaught: Path, tmp_path: Path, server: Server, alone: Path
) -> None:
    folder = tmp_path / "run"
    command = words(untaught, folder, server)
    owner = Started(command, tmp_path / "owner.log")
    while not server.questions:
        pass
    other = Started([*command, "--wait"], tmp_path / "other.log")
    owner.kill_when(lambda: "waiting for process" in other.told)
    ended = other.wait()
    assert ended.status == 0, ended
    assert weights(folder) == weights(alone)
    for store in STORES:
        assert sorted(entries(folder / store)) == sorted(entries(alone / store))


@pytest.mark.parametrize("count", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_several_on_one_store(
    untaught: Path, tmp_path: Path, server: Server, alone: Path, count: int
) -> None:
    """Runs share all stores: each has the result that it has alone, and everything is found by the next."""
    shared = [f"{name}_dir={tmp_path / 'shared' / name}" for name in (*STORES, "encoded")]
    ends = together(
        tmp_path, *(words(untaught, tmp_path / f"run-{k}", server, *shared) for k in range(count))
    )
    assert [ended.status for ended in ends] == [0] * count, ends
    for k in range(count):
        assert weights(tmp_path / f"run-{k}") == weights(alone)
    for store in STORES:
        assert set(entries(tmp_path / "shared" / store)) == set(entries(alone / store))
    assert max(server.questions.values()) <= count
    before = server.questions.total()
    assert together(tmp_path, words(untaught, tmp_path / "next", server, *shared))[0].status == 0
    assert weights(tmp_path / "next") == weights(alone)
    assert server.questions.total() == before

"""Where tasks are found among lm-evaluation-harness's and the user's own, and what is known of them unloaded."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Self

from mnpo.choices import choose
from mnpo.common.digests import data_digest, file_digest


@dataclass(frozen=True)
class Source:
    """The folders in which a task is looked up.

    The harness has so many tasks that reading their names takes ten seconds. It is left out where it can be.

    Attributes:
        folders: that are read.
        everything: whether all tasks of the harness are read as well.
        stamp: a digest of the user's own tasks: they are read anew when these change.
    """

    folders: tuple[str, ...]
    everything: bool
    stamp: str

    @classmethod
    def of(
        cls, name: str, places: Iterable[str], home: Path | None, stamp: str, known: Iterable[str]
    ) -> Self:
        """Find a task.

        Args:
            name: of a task, a group or a tag.
            places: folders of the harness in which it lies, if that is known.
            home: the folder of the user's own tasks, which come first.
            stamp: see above.
            known: names that are proposed if there is none such.

        Raises:
            ValueError: no such task.
        """
        from lm_eval import tasks

        own = [] if home is None else [str(home)]
        harness = Path(tasks.__file__).parent
        found = cls((*(str(harness / place) for place in places), *own), False, stamp)
        if not found._whole(name):
            found = cls(tuple(own), True, stamp)
        if name not in found.index:
            near = difflib.get_close_matches(name, found.index, n=1, cutoff=0.7)
            choose(name, dict.fromkeys([*known, *near]), "task")
        return found

    @property
    def manager(self) -> Any:
        """The harness's manager of these tasks."""
        return _manager(self.folders, self.everything, self.stamp)

    @property
    def index(self) -> Mapping[str, Any]:
        """Name -> what is known of it."""
        found: Mapping[str, Any] = self.manager.task_index
        return found

    def plain(self) -> dict[str, Any]:
        """Return what it is made of, as plain data."""
        return asdict(self)

    def members(self, name: str) -> list[str]:
        """Return what a name stands for: several tasks for a tag, itself for a task or a group."""
        entry = self.index[name]
        return sorted(entry.tags) if entry.kind.name == "TAG" else [name]

    def executes(self, name: str) -> bool:
        """Tell whether a task runs code that the model wrote."""
        return any(config.get("unsafe_code") for config, _ in self._parts(name))

    def needs_sentences(self, name: str) -> bool:
        """Tell whether a task counts sentences as IFEval does, with data of nltk's."""
        return any("/ifeval/" in str(config.get("process_results")) for config, _ in self._parts(name))

    def content(self, name: str, home: Path | None) -> str | None:
        """Return a digest of a task's definition and data where they are the user's own; None for the harness's.

        All that lies beside the definition counts, except for results: a task may read whatever it likes.
        """
        parts = list(self._parts(name))
        if home is None or not any(file is not None and file.is_relative_to(home) for _, file in parts):
            return None
        data = sorted({file for config, _ in parts for file in _files(config.get("dataset_kwargs"))})
        return data_digest(self.stamp, [[str(file), file_digest(file)] for file in data])

    def _whole(self, name: str, inner: bool = False) -> bool:
        """Tell whether a task, with all that belongs to it, is among those that are read."""
        entry = self.index.get(name)
        if entry is None:
            return False
        if entry.kind.name == "GROUP":
            return all(self._whole(child, inner=True) for child in _children(entry.cfg))
        return (
            inner or entry.kind.name != "TAG"
        )  # more tasks of a tag may lie elsewhere; a group's lie with it

    def _parts(self, name: str) -> Iterator[tuple[Mapping[str, Any], Path | None]]:
        """Yield the definitions of a task, or of a group and all that belongs to it, and their files."""
        entry = self.index[name]
        file = None if entry.yaml_path is None else Path(entry.yaml_path).resolve()
        yield entry.cfg or {}, file
        if entry.kind.name == "TAG":
            for child in sorted(entry.tags):
                yield from self._parts(child)
        if entry.kind.name == "GROUP":
            yield from ((item, file) for item in entry.cfg.get("task") or [] if isinstance(item, dict))
            for child in _children(entry.cfg):
                if child in self.index:
                    yield from self._parts(child)


@contextmanager
def silent() -> Iterator[None]:
    """Keep libraries from logging."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)


def tree_digest(folder: Path, without: Path) -> str:
    """Return a digest of all files below a folder, except for those below another one."""
    files = sorted(
        file
        for file in folder.rglob("*")
        if file.is_file() and "__pycache__" not in file.parts and not file.is_relative_to(without)
    )
    return data_digest([[str(file.relative_to(folder)), file_digest(file)] for file in files])


@lru_cache(maxsize=32)
def _manager(folders: tuple[str, ...], everything: bool, stamp: str) -> Any:
    from lm_eval.tasks import TaskManager

    return TaskManager(include_path=list(folders), include_defaults=everything)


def _children(config: Mapping[str, Any]) -> list[str]:
    """Return the names that a group refers to; parts that it defines itself are none."""
    items = config.get("task") or []
    named = [item.get("group", item.get("task")) if isinstance(item, dict) else item for item in items]
    own = [isinstance(item, dict) and ("dataset_path" in item or "group" in item) for item in items]
    return [str(name) for name, inner in zip(named, own, strict=True) if not inner]


def _files(value: Any) -> Iterator[Path]:
    """Yield the files that a setting names, however deep."""
    if isinstance(value, str) and Path(value).is_file():
        yield Path(value).resolve()
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _files(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _files(inner)

"""Tables of token ids that are made once, by all processes together, and found again by what they were made of."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa
from datasets import Dataset

from mnpo.common.files import whole_folder
from mnpo.common.seals import read_sealed, write_sealed
from mnpo.llm.data.pairs import Block, Report
from mnpo.llm.data.schema import Column, arrow_schema, present
from mnpo.llm.data.tables import TableWriter, open_table
from mnpo.llm.storage.content import digest_of
from mnpo.llm.storage.store import key_digest

if TYPE_CHECKING:
    from mnpo.llm.runtime.processes import Group

#: Of the ways of encoding. A new one makes all tables anew: it is part of what they are found by.
VERSION = 1
#: What became of the rows, beside them.
RECORD = "report.json"
#: Seconds without a write after which what is half-written is taken for left over.
_OLD = 3600

#: Gives the blocks of one process: which it is, and of how many.
Encode = Callable[[tuple[int, int]], Iterator[Block]]


class Table(NamedTuple):
    """A table of token ids.

    Attributes:
        rows: mapped, or in memory.
        report: what became of the rows that were read.
        digest: of the content.
    """

    rows: Dataset
    report: Report
    digest: str


@dataclass(frozen=True)
class Encodings:
    """Where tables of token ids are kept.

    Attributes:
        folder: of all of them; without one they are in memory.
        processes: who encodes; each its share of the blocks.
    """

    folder: Path | None = None
    processes: Group | None = None

    def table(
        self,
        key: Callable[[], Mapping[str, Any]],
        columns: Collection[Column],
        encode: Encode,
        *,
        sift: Callable[[pa.Table, Report], pa.Table] = lambda rows, _: rows,
        check: Callable[[Report], None] = lambda _: None,
    ) -> Table:
        """Return a table that is kept, or make it; it appears whole or not at all.

        Args:
            key: gives what it depends on.
            columns: the table's.
            encode: gives its rows in blocks.
            sift: takes some of a block's rows away, and counts them; called for one block after the other.
            check: is given what became of all rows, and refuses.

        Raises:
            ValueError: as `encode` and `check`.
        """
        if self.folder is None:
            return _in_memory(columns, _sifted(encode((0, 1)), sift), check)
        wanted = {"version": VERSION, **key()}
        target = self.folder / key_digest(wanted)
        group = self.processes
        alone = group is None or group.world == 1

        def there() -> bool:
            if _kept(target) is not None:
                return True
            shutil.rmtree(target, ignore_errors=True)  # what is damaged is made again
            _clear(target)
            return False

        if not (there() if group is None else group.agree(there)):
            if alone or group is None:
                with threads():
                    _write(target, columns, _sifted(encode((0, 1)), sift), check)
            else:
                self._together(group, target, columns, encode, sift, check)
        found = _kept(target)
        if found is None:
            raise ValueError(f"{target} cannot be read, though it was just written; is the folder shared?")
        return found

    def _together(
        self,
        group: Group,
        target: Path,
        columns: Collection[Column],
        encode: Encode,
        sift: Callable[[pa.Table, Report], pa.Table],
        check: Callable[[Report], None],
    ) -> None:
        """Each process writes the blocks of its share into a file; the first puts all in order."""

        def begin() -> str:
            target.parent.mkdir(parents=True, exist_ok=True)
            return tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}.", suffix=".partial")

        parts = Path(group.agree(begin))  # a name of its own: another run may be at the same table
        schema = arrow_schema(columns)
        with (
            pa.OSFile(str(parts / f"{group.rank}.arrows"), "wb") as sink,
            pa.ipc.new_stream(sink, schema) as stream,
        ):
            for rows, report in encode((group.rank, group.world)):
                (batch,) = rows.combine_chunks().to_batches() or [
                    pa.RecordBatch.from_pylist([], schema=schema)
                ]
                stream.write_batch(batch, custom_metadata={"report": json.dumps(report.as_dict())})
        group.wait()
        if group.first:
            files = [parts / f"{rank}.arrows" for rank in range(group.world)]
            _write(target, columns, _sifted(_joined(files), sift), check)
            shutil.rmtree(parts)
        group.wait()


def _kept(target: Path) -> Table | None:
    """Return a table that is there and whole."""
    record = read_sealed(target / RECORD)
    if record is None:
        return None
    try:
        return Table(open_table(target), Report.from_dict(record["report"]), record["digest"])
    except (OSError, KeyError, TypeError):
        return None


def _clear(target: Path) -> None:
    """Remove what a killed process left of a table; what was written to of late may be another run's."""
    for left in target.parent.glob(f".{target.name}.*"):
        with suppress(OSError):
            touched = max(path.stat().st_mtime for path in (left, *left.iterdir()))
            if time.time() - touched > _OLD:
                shutil.rmtree(left)


@contextmanager
def threads() -> Iterator[None]:
    """Let tokenizers use all cores of the machine; elsewhere they do not, for processes that are forked."""
    name = "TOKENIZERS_PARALLELISM"
    before = os.environ.get(name)
    os.environ[name] = "true"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def _sifted(blocks: Iterator[Block], sift: Callable[[pa.Table, Report], pa.Table]) -> Iterator[Block]:
    for rows, report in blocks:
        kept = sift(rows, report)
        report.kept = len(kept)
        yield kept, report


def _joined(files: Sequence[Path]) -> Iterator[Block]:
    """Yield the blocks of all shares in the order of the data: they were dealt out in turn."""
    sources = [pa.ipc.open_stream(pa.OSFile(str(file))) for file in files]
    while True:
        for source in sources:
            try:
                found = source.read_next_batch_with_custom_metadata()
            except StopIteration:
                return
            report = Report.from_dict(json.loads(found.custom_metadata[b"report"]))
            yield pa.Table.from_batches([found.batch]), report


def _write(
    target: Path, columns: Collection[Column], blocks: Iterator[Block], check: Callable[[Report], None]
) -> None:
    report = Report()
    with whole_folder(target, keep=True) as partial:
        with TableWriter(partial, columns) as writer:
            for rows, part in blocks:
                writer.append_table(rows)
                report.add(part)
            check(report)
        write_sealed(partial / RECORD, {"digest": writer.digest, "report": report.as_dict()})


def _in_memory(
    columns: Collection[Column], blocks: Iterator[Block], check: Callable[[Report], None]
) -> Table:
    report, tables = Report(), [arrow_schema(columns).empty_table()]
    for rows, part in blocks:
        tables.append(rows)
        report.add(part)
    check(report)
    found = present(pa.concat_tables(tables).combine_chunks(), columns)
    digest = digest_of([found])
    return Table(Dataset(found, fingerprint=digest[:16]), report, digest)

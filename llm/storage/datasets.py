"""Data sets on disk, with a record of what they are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mnpo.common.files import read_json, whole_folder, write_json

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict


def keep_dataset(data: Dataset | DatasetDict, folder: Path, name: str, record: Any) -> None:
    """Save a data set and, as `name`, the record of what it is, unless the folder has that record already."""
    if read_json(folder / name) != json.loads(json.dumps(record)):
        with whole_folder(folder) as partial:
            data.save_to_disk(str(partial))
            write_json(partial / name, record)

"""Log-probabilities of responses under a model, computed once and kept by content.

A score belongs to a model's content, the way it was computed, and the token ids of prompt and response. Whatever
is not in the store under all of these is computed; nothing else is looked at, so that a store can be stale,
foreign or damaged without harm. Each batch is appended when it is done: a killed process loses the one at hand.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor, nn

from mnpo.llm.logprobs import sequence_log_probs

Request = tuple[Sequence[int], Sequence[int]]

#: Any id that every vocabulary has: what pads on the right is seen by no response token.
PADDING = 0

_SCHEMA = pa.schema([("digest", pa.binary(16)), ("logp", pa.float64())])


def digest(prompt: Sequence[int], response: Sequence[int]) -> bytes:
    """Return a digest of a prompt's and a response's token ids."""
    ids = np.concatenate([[len(prompt)], prompt, response]).astype("<i8")
    return hashlib.blake2b(ids.tobytes(), digest_size=16).digest()


class Store:
    """Scores of one model, in a folder.

    Args:
        folder: holds the stores of all models.
        key: what the scores depend on besides token ids: the model's fingerprint, the precision and so on.
    """

    def __init__(self, folder: Path, key: Mapping[str, Any]) -> None:
        self.key = hashlib.blake2b(json.dumps(key, sort_keys=True).encode(), digest_size=16).hexdigest()
        self.folder = folder / self.key

    def load(self) -> dict[bytes, float]:
        """Return all scores that are whole and belong to this key."""
        found: dict[bytes, float] = {}
        for file in sorted(self.folder.glob("*.arrows")):
            for batch in _whole_batches(file, self.key):
                found |= zip(batch.column(0).to_pylist(), batch.column(1).to_pylist(), strict=True)
        return found

    def writer(self) -> Writer:
        """Open a new file of this store to append to."""
        self.folder.mkdir(parents=True, exist_ok=True)
        place = len(list(self.folder.glob("*.arrows")))
        handle, name = tempfile.mkstemp(dir=self.folder, prefix=f"{place:05d}-", suffix=".arrows")
        return Writer(open(handle, "wb"), self.key, Path(name))


class Writer:
    """Appends batches of scores to one file."""

    def __init__(self, sink: Any, key: str, path: Path) -> None:
        self.path = path
        self._sink = sink
        self._key = key
        self._stream = pa.ipc.new_stream(sink, _SCHEMA.with_metadata({"key": key}))

    def append(self, digests: list[bytes], logps: list[float]) -> None:
        """Write one batch through to the file."""
        batch = pa.record_batch(
            [pa.array(digests, pa.binary(16)), pa.array(logps, pa.float64())], schema=_SCHEMA
        )
        self._stream.write_batch(batch, custom_metadata={"check": _check(batch, self._key)})
        self._sink.flush()

    def close(self) -> None:
        """Finish the file."""
        self._stream.close()
        self._sink.close()


def missing(requests: Iterable[Request], store: Store, batch_size: int) -> list[list[Request]]:
    """Return batches of what a store lacks, each response once.

    Longest first, so that what does not fit in memory fails at once; ties by content. Batches are cut from the
    front and done in that order, so that a run that is continued forms exactly those that were left.
    """
    wanted = {digest(*request): request for request in requests}
    known = store.load()
    order = sorted((d for d in wanted if d not in known), key=lambda d: (-sum(map(len, wanted[d])), d))
    return [
        [wanted[d] for d in order[start : start + batch_size]] for start in range(0, len(order), batch_size)
    ]


def score(
    model: nn.Module,
    batches: Sequence[Sequence[Request]],
    store: Store,
    *,
    device: torch.device,
    autocast: torch.dtype | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> int:
    """Compute log-probabilities and put them into the store, batch by batch.

    Args:
        model: on the device, with `mnpo.llm.logprobs.attach`.
        batches: (prompt ids, response ids), from `missing`.
        store: takes the scores.
        device: where the model is.
        autocast: precision of the computation, where it is not that of the weights.
        progress: called with how many responses are done, and of how many.

    Returns:
        How many responses were scored.

    Raises:
        ValueError: a log-probability that is not finite.
    """
    model.eval()
    writer, done, total = store.writer(), 0, sum(map(len, batches))
    try:
        for batch in batches:
            ids, attention, response = padded(batch, PADDING, device)
            with torch.no_grad(), torch.autocast(device.type, dtype=autocast, enabled=autocast is not None):
                logps = sequence_log_probs(model, ids, attention, response).double()
            if not bool(torch.isfinite(logps).all()):
                raise ValueError("the log-probability of a response is not finite")
            writer.append([digest(*request) for request in batch], logps.tolist())
            done += len(batch)
            if progress is not None:
                progress(done, total)
    finally:
        writer.close()
    return done


def padded(
    requests: Sequence[Request], pad: int, device: torch.device | str
) -> tuple[Tensor, Tensor, Tensor]:
    """Return input ids, attention mask and response mask, (B, L) each, padded on the right."""
    longest = max(len(prompt) + len(response) for prompt, response in requests)
    ids = torch.full((len(requests), longest), pad)
    attention = torch.zeros_like(ids)
    answer = torch.zeros_like(ids)
    for place, (prompt, response) in enumerate(requests):
        end = len(prompt) + len(response)
        ids[place, :end] = torch.tensor([*prompt, *response])
        attention[place, :end] = 1
        answer[place, len(prompt) : end] = 1
    return ids.to(device), attention.to(device), answer.to(device)


def _whole_batches(file: Path, key: str) -> list[pa.RecordBatch]:
    batches: list[pa.RecordBatch] = []
    try:
        with pa.ipc.open_stream(file) as reader:
            if (reader.schema.metadata or {}).get(b"key") != key.encode():
                return []
            while True:
                found = reader.read_next_batch_with_custom_metadata()
                batch, metadata = found.batch, found.custom_metadata or {}
                if metadata.get(b"check") != _check(batch, key).encode():
                    break
                batches.append(batch)
    except (StopIteration, pa.ArrowInvalid, OSError):
        pass  # the file's end, or where a killed process left it
    return batches


def _check(batch: pa.RecordBatch, key: str) -> str:
    content = key.encode() + b"".join(batch.column(0).to_pylist())
    content += np.asarray(batch.column(1), dtype="<f8").tobytes()
    return hashlib.blake2b(content, digest_size=16).hexdigest()

"""What models that judge texts share: their precision, and batches by length."""

from __future__ import annotations

import tempfile
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from transformers import PreTrainedModel

from mnpo.choices import choose
from mnpo.llm.models.weights import DTYPES
from mnpo.llm.runtime.memory import release


def usual_dtype(dtype: str | None) -> str:
    """Check the name of a precision; without one it is bfloat16 where there is a GPU, and else float32.

    Raises:
        ValueError: an unknown one.
    """
    if dtype is None:
        return "bfloat16" if torch.cuda.is_available() else "float32"
    choose(dtype, DTYPES, "dtype")
    return dtype


def check_sizes(batch_size: int, max_length: int | None) -> None:
    """Refuse sizes that leave no room.

    Raises:
        ValueError: a batch of no question, or fewer than 2 tokens.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1; found {batch_size}")
    if max_length is not None and max_length < 2:
        raise ValueError(f"max_length must be at least 2; found {max_length}")


class _Sequences:
    """Token ids in a file without a name: those of all questions may not fit in memory."""

    def __init__(self, sequences: Iterable[Sequence[int]]) -> None:
        self._file, lengths = tempfile.TemporaryFile(), array("q")  # noqa: SIM115  # closed with its last reader
        for ids in sequences:
            self._file.write(array("i", ids).tobytes())
            lengths.append(len(ids))
        self.lengths: npt.NDArray[np.int64] = np.array(lengths, dtype=np.int64)
        self._ends = np.cumsum(self.lengths)

    def at(self, place: int) -> list[int]:
        found, length = array("i"), int(self.lengths[place])
        self._file.seek((int(self._ends[place]) - length) * found.itemsize)
        found.frombytes(self._file.read(length * found.itemsize))
        return found.tolist()


def answers(
    sequences: Iterable[Sequence[int]],
    *,
    name: str,
    load: Callable[[], PreTrainedModel],
    read: Callable[[PreTrainedModel, Tensor, Tensor], Tensor],
    batch_size: int,
    device: torch.device,
    padding: int | None,
) -> Iterator[list[tuple[int, Any]]]:
    """Read in batches, longest first, so that what does not fit in memory fails at once; ties by place.

    The model is loaded for the first answer, and freed after the last or when no more are wanted.

    Args:
        sequences: token ids of each question; read once.
        name: the oracle's.
        load: gives the model.
        read: model, (B, L) ids padded on the right, (B, L) attention mask -> (B,) numbers or (B, n) rows of them,
            float64.
        batch_size: questions in one batch.
        device: where the model runs.
        padding: the tokenizer's id for it.

    Raises:
        ValueError: an answer that is not finite, or a token that the model does not have.
    """
    kept = _Sequences(sequences)
    order = np.argsort(-kept.lengths, kind="stable")
    if not len(order):
        return
    model = load()
    try:
        model.to(device).eval()
        model.config.use_cache = False
        config = model.config.get_text_config()
        learnt = config.pad_token_id
        for start in range(0, len(order), batch_size):
            places = order[start : start + batch_size].tolist()
            batch = [kept.at(place) for place in places]
            config.pad_token_id = _padding(batch, config.vocab_size, learnt, padding)
            ids, mask = _padded(batch, config.pad_token_id)
            with torch.inference_mode():
                found = read(model, ids.to(device), mask.to(device))
            finite = found.isfinite().reshape(len(places), -1).all(1).tolist()
            for place, whole in zip(places, finite, strict=True):
                if not whole:
                    raise ValueError(f"{name}: the answer to question {place} is not finite")
            yield list(zip(places, found.tolist(), strict=True))
    finally:
        del model
        release()


def _padding(batch: Sequence[Sequence[int]], rows: int, learnt: int | None, usual: int | None) -> int:
    """Return the id that pads: the one that is part of the model, or else one that the batch does not have.

    Sequence classifiers read at the last token that differs from it. Where it is part of the model the model was
    trained so, even if it is the EOS that ends a conversation; where it is not, the last token counts.
    """
    used = set(chain.from_iterable(batch))
    if max(used) >= rows:
        raise ValueError(f"the tokenizer has the id {max(used)}; the model has {rows} embeddings")
    if learnt is not None and 0 <= learnt < rows:
        return learnt
    free = (token for token in chain(() if usual is None else (usual,), range(rows)) if token not in used)
    return next(token for token in free if token < rows)


def _padded(batch: Sequence[Sequence[int]], padding: int) -> tuple[Tensor, Tensor]:
    lengths = torch.tensor([len(ids) for ids in batch])
    mask = torch.arange(int(lengths.max()))[None] < lengths[:, None]
    table = torch.full(mask.shape, padding)
    table[mask] = torch.tensor(list(chain.from_iterable(batch)))
    return table, mask.long()

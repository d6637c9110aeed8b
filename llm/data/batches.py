"""Token ids as batches of tensors: prompts with their responses, padded or packed.

A prompt and its responses can lie in one row, so that the prompt is computed once: the responses follow each other,
each at the positions after the prompt, and none sees another (`mnpo.llm.training.masks`). Rows can be packed into a
single one, so that nothing is padded.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

#: Token ids of a prompt and of a response to it.
Request = tuple[Sequence[int], Sequence[int]]
#: Token ids of a prompt and of several responses to it.
Tree = tuple[Sequence[int], Sequence[Sequence[int]]]
Item = TypeVar("Item")

#: Any id that every vocabulary has: what pads on the right is seen by no response token.
PADDING = 0


class Batch(NamedTuple):
    """Sequences as a model reads them: N responses, T tokens of responses, B rows of length L.

    Attributes:
        input_ids: (B, L).
        source: (T,), flat places in (B, L) of the states that predict the responses' tokens, response by response.
        token: (T,), flat places of those tokens.
        lengths: (N,), tokens of each response.
        attention_mask: (B, L), 0 at padding; rows that are padded on the right and hold a sequence each need none.
        position_ids: (B, L), of rows that hold several: each response continues its prompt, ..
        group: (B, L), the prompt's number; −1 at padding, ..
        branch: (B, L), 0 for a prompt, its responses from 1.
    """

    input_ids: Tensor
    source: Tensor
    token: Tensor
    lengths: Tensor
    attention_mask: Tensor | None = None
    position_ids: Tensor | None = None
    group: Tensor | None = None
    branch: Tensor | None = None

    def to(self, device: torch.device | str) -> Batch:
        """Return the batch on a device."""
        return Batch(**{name: tensor.to(device) for name, tensor in self.tensors().items()})

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors that there are, by name."""
        return {name: tensor for name, tensor in self._asdict().items() if tensor is not None}


def in_batches(items: Sequence[Item], size: int) -> list[list[Item]]:
    """Cut a sequence into batches from the front."""
    return [list(items[start : start + size]) for start in range(0, len(items), size)]


def laid_out(trees: Sequence[Tree], pad: int = PADDING, *, packed: bool = False) -> Batch:
    """Lay prompts and responses out in rows: a row for each prompt and all its responses.

    Args:
        trees: prompts with their responses, of at least one token each.
        pad: the padding token's id.
        packed: put everything into one row.

    Raises:
        ValueError: a prompt without tokens.
    """
    rows = [_row(number, tree) for number, tree in enumerate(trees)]
    plain = not packed and all(len(responses) == 1 for _, responses in trees)
    sizes = [row.ids.size for row in rows]
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]]) if packed else np.arange(len(rows)) * max(sizes)
    shape = (1, sum(sizes)) if packed else (len(rows), max(sizes))
    flat = {
        name: np.full(shape[0] * shape[1], empty)
        for name, empty in (("ids", pad), ("position", 0), ("group", -1), ("branch", 0))
    }
    for start, size, row in zip(starts, sizes, rows, strict=True):
        for name, values in flat.items():
            values[start : start + size] = getattr(row, name)
    table = {name: torch.from_numpy(values.reshape(shape)) for name, values in flat.items()}
    places = zip(starts, rows, strict=True)
    source, token = np.concatenate(
        [start + np.stack([row.source, row.token]) for start, row in places], axis=1
    )
    return Batch(
        table["ids"],
        torch.from_numpy(source),
        torch.from_numpy(token),
        torch.tensor([len(response) for _, responses in trees for response in responses]),
        # A causal model sees nothing of what pads on the right, and is fastest without a mask.
        *((None,) * 4 if plain else (None, table["position"], table["group"], table["branch"])),
    )


def as_trees(requests: Sequence[Request]) -> tuple[list[Tree], list[int]]:
    """Put responses to the same prompt together.

    Returns:
        The trees, and for each response in their order its place among the requests.
    """
    places: dict[bytes, list[int]] = {}
    for place, (prompt, _) in enumerate(requests):
        places.setdefault(np.asarray(prompt, dtype=np.int64).tobytes(), []).append(place)
    trees: list[Tree] = [
        (requests[own[0]][0], [requests[place][1] for place in own]) for own in places.values()
    ]
    return trees, [place for own in places.values() for place in own]


class _Row(NamedTuple):
    """A prompt and its responses after each other."""

    ids: np.ndarray
    position: np.ndarray
    group: int
    branch: np.ndarray
    source: np.ndarray
    token: np.ndarray


def _row(number: int, tree: Tree) -> _Row:
    prompt, responses = tree
    if not len(prompt):
        raise ValueError("a prompt has no tokens: nothing predicts the beginning of its responses")
    begin, lengths = len(prompt), [len(response) for response in responses]
    ids = np.concatenate([np.asarray(part, dtype=np.int64) for part in (prompt, *responses)])
    branch = np.repeat(np.arange(len(lengths) + 1), [begin, *lengths])
    position = np.concatenate([np.arange(begin), *(begin + np.arange(length) for length in lengths)])
    token = np.arange(begin, ids.size)
    # A response's first token is predicted by the prompt's last one, whatever lies between them.
    source = np.where(position[token] == begin, begin - 1, token - 1)
    return _Row(ids, position, number, branch, source, token)


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

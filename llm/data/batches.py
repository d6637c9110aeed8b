"""Token ids as batches of tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Tensor

#: Token ids of a prompt and of a response to it.
Request = tuple[Sequence[int], Sequence[int]]
Item = TypeVar("Item")

#: Any id that every vocabulary has: what pads on the right is seen by no response token.
PADDING = 0


def in_batches(items: Sequence[Item], size: int) -> list[list[Item]]:
    """Cut a sequence into batches from the front."""
    return [list(items[start : start + size]) for start in range(0, len(items), size)]


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

"""The processes of a run: which one this is, and waiting for the others."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from mnpo.common.leaving import follow

if TYPE_CHECKING:
    import torch

Value = TypeVar("Value")

#: How long processes wait for the one that fetches models, encodes data, or asks a judge. If one fails, the
#: launcher ends them all.
PATIENCE = timedelta(days=7)


@dataclass(frozen=True)
class Group:
    """The processes that work together.

    Attributes:
        rank: this process's number.
        world: how many there are.
        device: where this process computes.
    """

    rank: int
    world: int
    device: torch.device

    @property
    def first(self) -> bool:
        """Whether this process writes what is written once."""
        return self.rank == 0

    def agree(self, decide: Callable[[], Value]) -> Value:
        """Return what the first process decides, in all of them."""
        if self.world == 1:
            return decide()
        import torch.distributed as dist

        held: list[Any] = [decide() if self.first else None]
        dist.broadcast_object_list(held, src=0)
        decided: Value = held[0]
        return decided

    def wait(self) -> None:
        """Wait for all processes."""
        if self.world > 1:
            import torch.distributed as dist

            dist.barrier()


def launched() -> bool:
    """Tell whether torchrun or accelerate started this process."""
    return "LOCAL_RANK" in os.environ


def follow_launcher() -> None:
    """End with torchrun or accelerate, where they started this process: killed, they would leave it behind."""
    if "TORCHELASTIC_RUN_ID" in os.environ:
        follow(os.getppid())


def join(use_cpu: bool = False) -> Group:
    """Join the processes that torchrun or accelerate started; alone where none did.

    The trainer that follows finds the group formed and uses it.
    """
    import torch
    import torch.distributed as dist

    follow_launcher()
    # accelerate would have all processes but the first hold empty weights, to be filled by FSDP.
    os.environ["FSDP_CPU_RAM_EFFICIENT_LOADING"] = "false"
    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    device = torch.device("cpu")
    if torch.cuda.is_available() and not use_cpu:
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
        torch.cuda.set_device(device)
    if world > 1 and not dist.is_initialized():
        backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(backend, timeout=PATIENCE)
    return Group(rank, world, device)

"""Several processes that train one network, as PyTorch's launcher starts them.

``torchrun --no-python --nproc-per-node 2 -- dsr-deploy train --run DIR`` starts each with the
environment variables read here. Without them there is one process, and nothing here does anything.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor


@dataclass(frozen=True)
class Rank:
    """Number of this process, of how many, and its number on this machine."""

    rank: int = 0
    world: int = 1
    local: int = 0

    @property
    def first(self) -> bool:
        """Whether this process writes the files and shows progress."""
        return self.rank == 0


@contextmanager
def process_group(device_kind: str) -> Iterator[Rank]:
    """Join the group that the launcher describes: NCCL on GPUs, gloo on CPUs."""
    if "RANK" not in os.environ or int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield Rank()
        return
    local = int(os.environ.get("LOCAL_RANK", "0"))
    dist.init_process_group("nccl" if device_kind == "cuda" else "gloo")
    try:
        yield Rank(dist.get_rank(), dist.get_world_size(), local)
    finally:
        dist.destroy_process_group()


def sum_over_ranks(values: Tensor) -> Tensor:
    """Add ``values`` of all processes, in place."""
    if dist.is_initialized():
        dist.all_reduce(values)
    return values


def sum_gradients(parameters: Iterable[torch.nn.Parameter]) -> None:
    """Add the gradients of all processes, in one message."""
    if not dist.is_initialized():
        return
    grads = [p.grad for p in parameters if p.grad is not None]
    flat = torch.cat([grad.flatten() for grad in grads])
    dist.all_reduce(flat)
    for grad, part in zip(grads, flat.split([grad.numel() for grad in grads]), strict=True):
        grad.copy_(part.view_as(grad))


def gather_counts(value: int, device: torch.device) -> int:
    """Return the sum of a whole number over all processes."""
    return int(sum_over_ranks(torch.tensor(value, dtype=torch.int64, device=device)).item())

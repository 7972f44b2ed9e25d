"""Several processes that share one piece of work, started by torchrun.

``torchrun --no-python --nproc-per-node 2 -- dsr-deploy train --run DIR`` starts each with the
environment variables that :mod:`dsr_deploy.parallel.rank` reads. Without them there is one
process, and the functions here do nothing.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Final, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.rendezvous import rendezvous

from dsr_deploy.errors import UserError
from dsr_deploy.parallel.rank import Rank, this_rank

Value = TypeVar("Value")

PATIENCE: Final = timedelta(hours=6)
"""How long processes wait for the first, which may download and convert a data set. If a process
fails, the launcher stops the others without this delay."""


@contextmanager
def process_group(device: torch.device) -> Iterator[Rank]:
    """Join the group that the launcher describes: NCCL between GPUs, gloo between CPUs.

    Raises
    ------
    UserError
        If there are more processes than GPUs, the launcher's variables are damaged, or another
        process ended in the middle.
    """
    rank = this_rank()
    if rank.world == 1:
        yield rank
        return
    if device.type == "cuda":
        if rank.local_world > torch.cuda.device_count():
            raise UserError(
                f"{rank.local_world} processes share {torch.cuda.device_count()} GPUs; start at "
                "most one per GPU, or use --device cpu"
            )
        torch.cuda.set_device(rank.local)
    # Imported while there is a group, as the first optimizer does, its functions keep the group as
    # the default of a parameter: the group's threads outlive it and may abort the process at exit.
    importlib.import_module("torch.distributed.nn")
    # Sums of the epoch lie on the CPU even where the network is on a GPU.
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, timeout=PATIENCE)
    try:
        yield rank
    except Exception as error:
        speaks()  # before the connections close, so that no process that misses us speaks instead
        if _lost_another(error):
            raise UserError(
                "another process of this run ended without an error (killed, or out of memory?); "
                "continue a training with --resume"
            ) from None
        raise
    finally:
        dist.destroy_process_group()


def speaks() -> bool:
    """Whether this process reports the error: the first one that fails does.

    The others fail for the same reason, or because the first is gone.
    """
    rank = str(this_rank().rank)
    try:
        store, _, _ = next(rendezvous("env://", timeout=timedelta(seconds=10)))
        return bool(store.compare_set("failed", "", rank) == rank.encode())
    except (RuntimeError, ValueError):  # nobody to ask
        return True


def _lost_another(error: Exception) -> bool:
    """Whether a sum failed because another process is gone; gloo raises RuntimeErrors."""
    return isinstance(error, dist.DistError) or (
        isinstance(error, RuntimeError) and "gloo" in str(error)
    )


@contextmanager
def leader_first(rank: Rank) -> Iterator[None]:
    """Let one process per machine run the block before the others, for example a download."""
    if rank.local != 0:
        meet()
    yield
    if rank.local == 0:
        meet()


def meet() -> None:
    """Wait until every process is here."""
    sum_over_ranks(torch.zeros(1))


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


def copy_from_first(network: torch.nn.Module) -> None:
    """Give every process the first one's weights and statistics."""
    if dist.is_initialized():
        for value in network.state_dict().values():
            dist.broadcast(value, src=0)


def gather(value: Value) -> list[Value]:
    """Return ``value`` of every process, in their order; objects travel as pickles."""
    if not dist.is_initialized():
        return [value]
    values: list[Value | None] = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return [item for item in values if item is not None]

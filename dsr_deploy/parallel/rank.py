"""The rank of this process among those that torchrun started.

Only this module reads the environment variables that torchrun sets. It does not import torch.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Final

from dsr_deploy.errors import UserError

MOST_PROCESSES: Final = 1 << 20


@dataclass(frozen=True)
class Rank:
    """Index of this process and number of processes, in all and on this machine."""

    rank: int = 0
    world: int = 1
    local: int = 0
    local_world: int = 1

    @property
    def first(self) -> bool:
        """Whether this process writes the files and shows progress."""
        return self.rank == 0

    def part(self, count: int) -> slice:
        """Return this process's share of ``count`` things; the shares follow each other."""
        return slice(count * self.rank // self.world, count * (self.rank + 1) // self.world)


def this_rank() -> Rank:
    """Return the rank that the environment gives; one process unless WORLD_SIZE is 2 or more.

    Cluster schedulers set some of the variables even for a single process.

    Raises
    ------
    UserError
        If a variable is missing or not what torchrun sets.
    """
    world = _number("WORLD_SIZE", 0, MOST_PROCESSES, default=1)
    if world <= 1:
        return Rank()
    local = _number("LOCAL_RANK", 0, world - 1, default=0)
    rank = Rank(
        rank=_number("RANK", 0, world - 1),
        world=world,
        local=local,
        local_world=_number("LOCAL_WORLD_SIZE", local + 1, world, default=local + 1),
    )
    if not os.environ.get("MASTER_ADDR"):
        raise _bad_variable("MASTER_ADDR", "is not set")
    _number("MASTER_PORT", 1, 65535)
    return rank


def _number(name: str, low: int, high: int, *, default: int | None = None) -> int:
    """Return the number in an environment variable; an empty one counts as not set."""
    text = os.environ.get(name, "")
    if not text and default is not None:
        return default
    if not text:
        raise _bad_variable(name, "is not set")
    if not (text.isascii() and text.isdecimal() and low <= int(text) <= high):
        raise _bad_variable(name, f"must be {low} to {high}, not {text!r}")
    return int(text)


def _bad_variable(name: str, reason: str) -> UserError:
    return UserError(
        f"environment variable {name} {reason}; start several processes with torchrun, which sets "
        "it, or unset WORLD_SIZE for one process"
    )

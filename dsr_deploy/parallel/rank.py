"""Which process this is of those that PyTorch's launcher, torchrun, started together.

Torchrun says so in environment variables, which are read here and nowhere else. Nothing here
imports torch.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Final

from dsr_deploy.errors import UserError

MOST_PROCESSES: Final = 1 << 20


@dataclass(frozen=True)
class Rank:
    """Number of this process, of how many; the same on this machine alone."""

    rank: int = 0
    world: int = 1
    local: int = 0
    local_world: int = 1

    @property
    def first(self) -> bool:
        """Whether this process writes the files and shows progress."""
        return self.rank == 0

    def part(self, whole: int) -> slice:
        """Return which of ``whole`` things are this process's; the parts follow each other."""
        return slice(whole * self.rank // self.world, whole * (self.rank + 1) // self.world)


def this_rank() -> Rank:
    """Return what the environment says; one process unless WORLD_SIZE is 2 or more.

    Schedulers of clusters set some of the variables for programs of one process, too.

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
        raise _damaged("MASTER_ADDR", "is not set")
    _number("MASTER_PORT", 1, 65535)
    return rank


def _number(name: str, low: int, high: int, *, default: int | None = None) -> int:
    """Return the value of an environment variable; one that is empty counts as not set."""
    text = os.environ.get(name, "")
    if not text and default is not None:
        return default
    if not text:
        raise _damaged(name, "is not set")
    if not (text.isascii() and text.isdecimal() and low <= int(text) <= high):
        raise _damaged(name, f"is {text!r}; {low} to {high} are possible")
    return int(text)


def _damaged(name: str, found: str) -> UserError:
    return UserError(
        f"environment variable {name} {found}; start several processes with torchrun, which sets "
        "it, or unset WORLD_SIZE for one process"
    )

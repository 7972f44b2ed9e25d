"""What a network can be exported to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from dsr_deploy.hardware.network import IntegerNetwork


@dataclass(frozen=True)
class Target:
    """A file format, or several files that belong together.

    Attributes
    ----------
    file : name of the file that holds the network
    write : returns the files of a network, by name; raises HardwareError if they cannot hold it
    for_chip : whether the files are for one chip, which is then checked and reported
    """

    file: str
    write: Callable[[IntegerNetwork], dict[str, bytes]]
    for_chip: bool = False

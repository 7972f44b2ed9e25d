"""What an engine is: a program that runs an integer network and records every spike."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dsr_deploy.formats.loihi import NETWORK_FILE
from dsr_deploy.hardware.errors import NetworkError
from dsr_deploy.hardware.format.network_content import difference, identity, widths_text
from dsr_deploy.hardware.network import IntegerNetwork
from dsr_deploy.hardware.run import Run

Payloads = NDArray[np.int8]
"""(N, C, H, W), or (N, T, C, H, W) for a framed input."""

Runner = Callable[[Payloads], Run]
"""Runs one network on payloads and records every spike."""

Opener = Callable[[IntegerNetwork, Mapping[str, bytes], str], Runner]
"""Takes the exported network, files by name and what to call them in errors.

Raises HardwareError if a file is damaged, and OtherNetworkError if it is of another network.
"""


class OtherNetworkError(NetworkError):
    """The file of an engine holds another network than the exported one."""


def _nothing() -> None:
    return None


def _no_time(network: IntegerNetwork, samples: int) -> float:
    return 0.0


@dataclass(frozen=True)
class Engine:
    """A program that runs an integer network.

    Attributes
    ----------
    target : what must be exported for it, one of :data:`dsr_deploy.formats.TARGETS`; None: it runs
        what ``quantize`` wrote
    open : makes a runner from the target's files
    file : the file that errors name
    identify : as ``open``, but only to find out whose file it is; None where ``open`` is as careful
    obstacle : returns why it cannot run on this machine, and what to do about it; None if it can
    seconds : estimates how long it runs, where that can be long
    all_at_once : takes long to start, and so gets all samples in one call
    """

    target: str | None
    open: Opener
    file: str = NETWORK_FILE
    identify: Callable[[IntegerNetwork, Mapping[str, bytes], str], object] | None = None
    obstacle: Callable[[], str | None] = _nothing
    seconds: Callable[[IntegerNetwork, int], float] = _no_time
    all_at_once: bool = False


def same_network(network: IntegerNetwork, exported: IntegerNetwork, where: str) -> IntegerNetwork:
    """Return the network of an engine's file if it is the exported one, but for its schedule.

    Raises
    ------
    OtherNetworkError
        If it is not; ``where`` names the file.
    """
    if identity(network) != identity(exported):
        apart = difference(widths_text(network), widths_text(exported))
        raise OtherNetworkError(f"{where}: not the exported network ({apart})")
    return network

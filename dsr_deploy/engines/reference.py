"""The reference: the arithmetic in plain numpy, timestep by timestep."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from dsr_deploy.engines.engine import Engine, Runner
from dsr_deploy.hardware import reference
from dsr_deploy.hardware.network import IntegerNetwork


def _open(network: IntegerNetwork, content: Mapping[str, bytes], where: str) -> Runner:
    return lambda payloads: reference.run(network, payloads, record=True)


ENGINE: Final = Engine("loihi", _open)

"""The network that a NIR file holds, read back and simulated."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from dsr_deploy.engines.engine import Engine, Runner, same_network
from dsr_deploy.formats import nir_reader
from dsr_deploy.formats.nir import TARGET
from dsr_deploy.hardware.event.simulator import Simulator
from dsr_deploy.hardware.network import IntegerNetwork


def _open(network: IntegerNetwork, content: Mapping[str, bytes], where: str) -> Runner:
    held = same_network(nir_reader.from_bytes(content[TARGET.file], where), network, where)
    simulator = Simulator(held)
    return lambda payloads: simulator.run(payloads, record=True).run


ENGINE: Final = Engine("nir", _open, file=TARGET.file)

"""The event-driven simulator: what moves is spikes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from dsr_deploy.engines.engine import Engine, Runner
from dsr_deploy.hardware.event.simulator import Simulator
from dsr_deploy.hardware.network import IntegerNetwork


def _open(network: IntegerNetwork, content: Mapping[str, bytes], where: str) -> Runner:
    simulator = Simulator(network)
    return lambda payloads: simulator.run(payloads, record=True).run


ENGINE: Final = Engine("loihi", _open)

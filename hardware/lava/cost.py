"""How long Lava takes for a network, before it is started."""

from __future__ import annotations

import math
from typing import Final

from dsr_deploy.hardware.format.network_content import unpacked_tensors_of
from dsr_deploy.hardware.lava.plan import Plan, Synapses
from dsr_deploy.hardware.lava.plan_check import connection_of
from dsr_deploy.hardware.network import IntegerNetwork

# Measured with lava-nc 0.10.0 on two cores of an AMD EPYC, on networks of 7 to 37 processes.
_START: Final = 3.0
_START_PER_SYNAPSE: Final = 5e-7
_STEP_PER_PROCESS: Final = 2e-4
_STEP_PER_PAIR: Final = 1.3e-4
_STEP_PER_SYNAPSE: Final = 1e-8


def estimate_seconds(plan: Plan, network: IntegerNetwork, samples: int) -> float:
    """Estimate the seconds for ``samples`` samples back to back, within a factor of about three.

    Lava's Conv takes its time per pair of an input and an output channel, Sparse and Dense per
    synapse.
    """
    tensors = unpacked_tensors_of(network)
    stored = pairs = 0
    for process in plan.processes:
        if not isinstance(process, Synapses):
            continue
        connection = connection_of(process, tensors)
        if process.process == "Conv":
            pairs += math.prod(connection.weight.shape[:2])
        else:
            stored += connection.geometry.synapses(process.shape)
    step = _STEP_PER_PAIR * pairs + _STEP_PER_SYNAPSE * stored
    step += _STEP_PER_PROCESS * len(plan.processes)
    return _START + _START_PER_SYNAPSE * stored + plan.steps(samples) * step

"""A lower bound of the time per inference, from what the busiest core does at each clock step.

A pipelined chip updates all populations at once, so each of them is in the timestep that
:func:`dsr_deploy.hardware.schedule.schedule` gives it. At a clock step each core does its
synaptic operations, and its neuron updates, one after another; even if it does both at once, the
step lasts as long as the longer of the two of the busiest core, and a barrier after it. Reads of
memory, messages and their hops, what a spike takes at its neuron, and input and output are not
counted, so a chip whose operations take the published times needs at least this long. A source
that publishes a longest time gives no bound for a chip that is quicker; its notes say so.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dsr_deploy.hardware.core_load import CoreLoad
from dsr_deploy.hardware.energy.constants import Times
from dsr_deploy.hardware.network import IntegerNetwork
from dsr_deploy.hardware.schedule import schedule

Nanoseconds = NDArray[np.float64]


@dataclass(frozen=True)
class TimeBound:
    """At least so long takes one inference, in the mean over samples.

    Attributes
    ----------
    steps : clock steps of one inference, from the first population's first timestep to the last
        population's last
    synapses, updates, barrier : seconds of the steps in which the busiest core's synaptic
        operations, or its neuron updates, take longest; and of the barriers after all steps
    total : seconds, their sum
    """

    steps: int
    synapses: float
    updates: float
    barrier: float

    @property
    def total(self) -> float:
        return self.synapses + self.updates + self.barrier


def time_bound(network: IntegerNetwork, load: CoreLoad, times: Times) -> TimeBound:
    """Bound the time per inference; ``load`` is of at least one sample."""
    starts = {population.name: population.start for population in schedule(network).populations}
    first = min(starts.values())
    steps = max(starts.values()) - first + network.timesteps
    synapses, updates = (np.zeros((load.samples, steps)) for _ in range(2))
    for name, neurons in load.neurons.items():
        begin = starts[name] - first
        here = slice(begin, begin + network.timesteps)
        spent = sum(
            synops * times.synapse[connection.kind].ns
            for connection, synops in zip(network.connections, load.synops, strict=True)
            if connection.target == name
        )
        busiest = np.max(spent, axis=(2, 3))
        synapses[:, here] = np.maximum(synapses[:, here], busiest)
        longest = float(neurons.max()) * times.neuron_update.ns
        updates[:, here] = np.maximum(updates[:, here], longest)
    longer = synapses > updates
    return TimeBound(
        steps=steps,
        synapses=_seconds(np.where(longer, synapses, 0)),
        updates=_seconds(np.where(longer, 0, updates)),
        barrier=steps * times.barrier.ns * 1e-9,
    )


def _seconds(spent: Nanoseconds) -> float:
    """Return the sum over steps, (N, steps) in ns, in the mean over samples."""
    return float(spent.sum(axis=1).mean()) * 1e-9

"""Time alignment on a pipelined chip.

The reference evaluates all populations of a timestep one after another. A chip updates all of
them at once, and every connection delivers one clock step later, plus its own delay. A shortcut
that skips two connections would arrive early; the schedule delays it, so that each population
meets all its inputs of one timestep in one clock step.
"""

from __future__ import annotations

from dataclasses import replace

from dsr_deploy.hardware.network import INPUT, IntegerNetwork


def schedule(network: IntegerNetwork) -> IntegerNetwork:
    """Return ``network`` with the start steps and delays that align it on a pipelined chip.

    The input is sent in clock steps 0 to T - 1. What is sent in clock step c arrives in
    c + 1 + delay. With start[input] = 0::

        start[p] = max over p's sources (start[source] + 1)
        delay[source -> target] = start[target] - start[source] - 1

    so a population starts after as many clock steps as the longest path from the input has
    connections, and the timestep t of each is the clock step start + t.
    """
    start = {INPUT: 0}
    for population in network.populations:  # sources come before their targets
        start[population.name] = max(start[c.source] + 1 for c in network.incoming(population))
    return replace(
        network,
        populations=tuple(replace(p, start=start[p.name]) for p in network.populations),
        connections=tuple(
            replace(c, delay=start[c.target] - start[c.source] - 1) for c in network.connections
        ),
    )

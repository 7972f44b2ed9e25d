"""The firing rate at which a spiking network takes as much energy as a conventional one."""

from __future__ import annotations

from dsr_deploy.hardware.energy.estimate import EnergyEstimate, estimate_ann
from dsr_deploy.hardware.event.simulation import Simulation
from dsr_deploy.hardware.network import INPUT, IntegerNetwork


def break_even_rate(
    simulation: Simulation, network: IntegerNetwork, estimated: EnergyEstimate
) -> float | None:
    """Return the mean firing rate at which both networks take the same energy.

    The conventional network is that of
    :func:`dsr_deploy.hardware.energy.estimate.estimate_ann`. The energy of the spiking one is
    taken to be linear in its mean firing rate r::

        energy(r) = fixed + by_spikes * r / rate

    ``by_spikes`` is what its spikes took in this simulation, at the mean firing rate ``rate``:
    the connections between populations, and ``spike_pj`` per spike. ``fixed`` is the rest: what
    the input's connections and the neuron updates took. The timesteps, the input, and the share
    of each neuron in all spikes are held fixed.

    Parameters
    ----------
    estimated : of the spiking network in ``simulation``

    Returns
    -------
    Spikes per neuron and timestep: below it, the spiking network takes less. 0 if it takes more
    even without a spike; above 1 if it takes less even where every neuron always spikes. None if
    the constants have no multiply-accumulate, or no spike took any energy.
    """
    constants = estimated.constants
    if constants.ann_mac is None:
        return None
    sources = {connection.name: connection.source for connection in network.connections}
    spikes = sum(int(counts.spikes.sum()) for counts in simulation.populations.values())
    by_spikes = spikes * constants.spike.pj * 1e-12 / simulation.samples
    by_spikes += sum(
        row.energy.total for row in estimated.rows if sources.get(row.name, INPUT) != INPUT
    )
    if not by_spikes:
        return None
    neurons = sum(population.size for population in network.populations)
    rate = spikes / (neurons * simulation.samples * simulation.timesteps)
    fixed = estimated.energy.total - by_spikes
    return max(0.0, rate * (estimate_ann(network, constants).energy.total - fixed) / by_spikes)

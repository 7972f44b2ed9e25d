"""Energy per inference, from what the simulator counted and published energies per operation.

The choice of constants decides whether a spiking network looks better than a conventional one,
so every estimate carries its constants, is split into its terms, and stands beside others.
Static power, host traffic and DRAM are in none of them.
"""

from __future__ import annotations

from dataclasses import dataclass

from dsr_deploy.hardware.energy.constants import Constant, ConstantSet, Hop
from dsr_deploy.hardware.energy.hops import count_hops
from dsr_deploy.hardware.errors import ProfileError, SimulationError
from dsr_deploy.hardware.event.simulation import ConnectionCounts, PopulationCounts, Simulation
from dsr_deploy.hardware.mapping import Mapping
from dsr_deploy.hardware.network import (
    INPUT,
    V_BITS,
    Connection,
    IntegerNetwork,
    Population,
)

SUM_BITS = 32
"""Width of a sum in memory, in spiking and conventional networks alike."""

ACTIVATION_BITS = 8

_PICO = 1e-12


@dataclass(frozen=True)
class Energy:
    """Joules per inference in five terms; None where the constants have no such term."""

    synapse: float = 0.0
    neuron: float = 0.0
    traffic: float | None = None
    memory: float | None = None
    hops: float | None = None

    @property
    def total(self) -> float:
        """Sum of the terms that there are."""
        others = (self.traffic, self.memory, self.hops)
        return self.synapse + self.neuron + sum(term or 0.0 for term in others)


@dataclass(frozen=True)
class EnergyRow:
    """The energy of one population or connection, by its name."""

    name: str
    energy: Energy


@dataclass(frozen=True)
class EnergyEstimate:
    """Energy per inference of a network under one set of constants.

    Attributes
    ----------
    network : what was estimated, for people
    operations : synaptic operations, or multiply-accumulates, per inference
    rows : one per connection and population, in order of evaluation
    """

    constants: ConstantSet
    network: str
    operations: float
    rows: tuple[EnergyRow, ...]

    @property
    def energy(self) -> Energy:
        """The sum of the rows, J per inference."""
        parts = [row.energy for row in self.rows]
        return Energy(
            synapse=sum(part.synapse for part in parts),
            neuron=sum(part.neuron for part in parts),
            traffic=_sum_terms([part.traffic for part in parts]),
            memory=_sum_terms([part.memory for part in parts]),
            hops=_sum_terms([part.hops for part in parts]),
        )


def estimate(
    simulation: Simulation,
    network: IntegerNetwork,
    constants: ConstantSet,
    mapping: Mapping | None = None,
) -> EnergyEstimate:
    """Estimate the energy of one inference of the spiking network, averaged over the samples.

    ::

        synapse = synops * synapse_pj[kind]          (payload_synapse_pj for the input's)
        neuron  = updates * neuron_update_pj[neuron] + spikes * spike_pj
        traffic = events * message_pj                (of neurons with a target in the connection)
        memory  = (synops * (weight_bits + 2 * 32) + updates * 2 * 24) * memory_bit_pj
        hops    = east_west * east_west_pj + north_south * north_south_pj

    Parameters
    ----------
    mapping : of the network on a chip; the term of hops needs it, see
        :mod:`dsr_deploy.hardware.energy.hops`

    Raises
    ------
    SimulationError
        If the simulation is of no sample, or of another network.
    """
    _check_counts(simulation, network)
    samples = simulation.samples
    hops = _hop_energies(simulation, network, constants.hop, mapping)
    rows = []
    for population in network.populations:
        rows += [
            EnergyRow(
                connection.name,
                _scaled(_connection_energy(connection, counts, constants, crossed), samples),
            )
            for connection, counts, crossed in zip(
                network.connections, simulation.connections, hops, strict=True
            )
            if connection.target == population.name
        ]
        spent = _neuron_energy(population, simulation.populations[population.name], constants)
        rows.append(EnergyRow(population.name, _scaled(spent, samples)))
    synops = sum(counts.synops for counts in simulation.connections)
    return EnergyEstimate(constants, network.name, synops / samples, tuple(rows))


def estimate_ann(network: IntegerNetwork, constants: ConstantSet) -> EnergyEstimate:
    """Estimate one inference of the conventional 8-bit network of the same shape.

    Every connection is evaluated once, densely, with 8-bit weights and activations, borders
    included::

        synapse = macs * ann_mac_pj
        memory  = (macs * (8 + 8 + 2 * 32) + activations * 8) * memory_bit_pj

    Raises
    ------
    ProfileError
        If the constants have no energy of a multiply-accumulate.
    """
    if constants.ann_mac is None:
        raise ProfileError(
            f"energy constants '{constants.name}' have no multiply-accumulate; "
            "a conventional network needs a set that has one, like '45nm-horowitz2014'"
        )
    rows = []
    total = 0
    for population in network.populations:
        for connection in network.incoming(population):
            macs = count_macs(connection, population)
            total += macs
            bits = macs * (2 * ACTIVATION_BITS + 2 * SUM_BITS)
            energy = Energy(
                synapse=macs * constants.ann_mac.pj * _PICO,
                memory=_term(bits, constants.memory_bit),
            )
            rows.append(EnergyRow(connection.name, energy))
        written = _term(population.size * ACTIVATION_BITS, constants.memory_bit)
        rows.append(EnergyRow(population.name, Energy(memory=written)))
    return EnergyEstimate(constants, f"{network.name}, conventional 8 bits", total, tuple(rows))


def count_macs(connection: Connection, target: Population) -> int:
    """Count the multiply-accumulates of one dense evaluation, borders included."""
    return target.size * connection.geometry.fan_in


def _hop_energies(
    simulation: Simulation, network: IntegerNetwork, hop: Hop | None, mapping: Mapping | None
) -> list[float | None]:
    """Return the energy of the hops of each connection, of all samples together."""
    if hop is None or mapping is None:
        return [None] * len(network.connections)
    found = count_hops(simulation, network, mapping, hop.mesh_width, hop.cores_per_tile)
    return [
        (hops.east_west * hop.east_west.pj + hops.north_south * hop.north_south.pj) * _PICO
        for hops in found
    ]


def _connection_energy(
    connection: Connection, counts: ConnectionCounts, constants: ConstantSet, hops: float | None
) -> Energy:
    """Return the energy of all samples together."""
    per_synop = constants.synapse[connection.kind]
    if connection.source == INPUT:
        per_synop = constants.payload_synapse
    bits = counts.synops * (connection.weight_bits + 2 * SUM_BITS)
    return Energy(
        synapse=counts.synops * per_synop.pj * _PICO,
        traffic=_term(counts.events, constants.message),
        memory=_term(bits, constants.memory_bit),
        hops=hops,
    )


def _neuron_energy(
    population: Population, counts: PopulationCounts, constants: ConstantSet
) -> Energy:
    """Return the energy of all samples together."""
    updates = counts.updates * constants.neuron_update[population.neuron].pj
    spikes = int(counts.spikes.sum()) * constants.spike.pj
    return Energy(
        neuron=(updates + spikes) * _PICO,
        memory=_term(counts.updates * 2 * V_BITS, constants.memory_bit),
    )


def _term(operations: int, constant: Constant | None) -> float | None:
    return None if constant is None else operations * constant.pj * _PICO


def _scaled(energy: Energy, samples: int) -> Energy:
    def each(term: float | None) -> float | None:
        return None if term is None else term / samples

    return Energy(
        synapse=energy.synapse / samples,
        neuron=energy.neuron / samples,
        traffic=each(energy.traffic),
        memory=each(energy.memory),
        hops=each(energy.hops),
    )


def _sum_terms(terms: list[float | None]) -> float | None:
    known = [term for term in terms if term is not None]
    return sum(known) if known else None


def _check_counts(simulation: Simulation, network: IntegerNetwork) -> None:
    if not simulation.samples:
        raise SimulationError("energy: the simulation has no sample; simulate at least one")
    shapes = {name: counts.spikes.shape for name, counts in simulation.populations.items()}
    if shapes != {p.name: p.shape for p in network.populations} or len(
        simulation.connections
    ) != len(network.connections):
        raise SimulationError(f"energy: the simulation is not of network '{network.name}'")

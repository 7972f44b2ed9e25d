"""What each core of a chip does at each timestep: the busiest one sets the pace.

Cores wait for each other after every timestep, so the time of a timestep is that of its busiest
core, whatever the sum over all cores. Three counts bound it from below (Timcheck et al., "A
Compute and Communication Runtime Model for Loihi 2", arXiv 2601.10035):

- synaptic operations: pairs of an event and a target neuron, done by the core of the target;
- neuron updates: one per neuron and timestep;
- reads of synaptic memory: for every event and connection, a core reads the words of 64 bits that
  hold the weights of the event's targets on it, ``ceil(targets * width / 64)``. The width is that
  of the mapping: the weight, with its index where the chip stores one. Words of 64 bits, filled
  for each axon anew, are those of nengo-loihi's block.py (``bits_per_axon``); the headers that it
  counts beside the weights are left out.

The layout is that of :mod:`dsr_deploy.hardware.mapping`. Messages and the barrier are not here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dsr_deploy.hardware.chip import Chip
from dsr_deploy.hardware.core_fan import CoreFan, core_fan
from dsr_deploy.hardware.mapping import Mapping as CoreMapping
from dsr_deploy.hardware.mapping import PopulationMapping, part_of, stored_width
from dsr_deploy.hardware.network import INPUT, IntegerNetwork

Int64 = NDArray[np.int64]

WORD_BITS: Final = 64
"""Width of a word of synaptic memory."""


@dataclass(frozen=True, eq=False)
class LayerCounts:
    """What the cores of one population do at each timestep.

    Attributes
    ----------
    synops, reads : int64 (N, T, cores), of all connections that lead to it
    updates : int64 (cores,), the same at every timestep
    """

    synops: Int64
    updates: Int64
    reads: Int64


@dataclass(frozen=True, eq=False)
class CoreLoad:
    """Counts of each core for N samples of T timesteps.

    The cores of a population are cut (G, B): groups of channels, bands of rows.

    Attributes
    ----------
    synops, reads : for each connection, in the order of the network's: int64 (N, T, G, B), on
        the cores of its target
    neurons : for each population by name, in order of evaluation: int64 (G, B), the neurons of
        each core, all of which are updated at every timestep
    """

    synops: tuple[Int64, ...]
    reads: tuple[Int64, ...]
    neurons: dict[str, Int64]

    @property
    def samples(self) -> int:
        return len(self.synops[0])

    def by_layer(self, network: IntegerNetwork) -> dict[str, LayerCounts]:
        """Return what the cores of each population do, in order of evaluation."""
        found = {}
        for name, neurons in self.neurons.items():
            incoming = [i for i, c in enumerate(network.connections) if c.target == name]
            found[name] = LayerCounts(
                synops=_flat(sum(self.synops[i] for i in incoming)),
                updates=neurons.reshape(-1),
                reads=_flat(sum(self.reads[i] for i in incoming)),
            )
        return found

    def merge(self, other: CoreLoad) -> CoreLoad:
        """Return the counts of the samples of both, those of ``other`` last."""

        def joined(mine: tuple[Int64, ...], theirs: tuple[Int64, ...]) -> tuple[Int64, ...]:
            return tuple(np.concatenate(pair) for pair in zip(mine, theirs, strict=True))

        return CoreLoad(
            joined(self.synops, other.synops), joined(self.reads, other.reads), self.neurons
        )


def core_load(
    network: IntegerNetwork,
    chip: Chip,
    mapping: CoreMapping,
    payloads: NDArray[np.int8],
    spikes: Mapping[str, NDArray[np.bool_]],
) -> CoreLoad:
    """Count what each core does.

    Parameters
    ----------
    mapping : of ``network`` on ``chip``
    payloads : int8, (N, C, H, W), or (N, T, C, H, W) for a framed input; an image that is shown at
        every timestep is delivered at every timestep
    spikes : bool (N, T, C, H, W) of each population by name
    """
    cores = {mapped.name: mapped for mapped in mapping.populations}
    synops, reads = [], []
    for connection in network.connections:
        fan = core_fan(connection, network.shapes[connection.source], cores[connection.target])
        constant = connection.source == INPUT and not network.input.framed
        if connection.source == INPUT:
            sent = (payloads[:, None] if constant else payloads) != 0
        else:
            sent = spikes[connection.source]
        counts = _per_core(fan, sent, stored_width(connection, chip))
        if constant:
            counts = [np.repeat(count, network.timesteps, axis=1) for count in counts]
        synops.append(counts[0])
        reads.append(counts[1])
    neurons = {p.name: _neurons(p.shape, cores[p.name]) for p in network.populations}
    return CoreLoad(tuple(synops), tuple(reads), neurons)


def _flat(counts: Int64 | int) -> Int64:
    """Return counts of groups and bands, (N, T, G, B), as counts of cores, (N, T, G * B)."""
    found = np.asarray(counts)
    samples, timesteps, groups, bands = found.shape
    return found.reshape(samples, timesteps, groups * bands)


def _neurons(shape: tuple[int, int, int], mapped: PopulationMapping) -> Int64:
    """Count the neurons of each core, int64 (G, B)."""
    channels = np.bincount(part_of(shape[0], mapped.channel_groups))
    rows = np.bincount(part_of(shape[1], mapped.row_bands))
    return np.outer(channels, rows * shape[2])


def _per_core(fan: CoreFan, sent: NDArray[np.bool_], width: int) -> list[Int64]:
    """Count the synaptic operations and the words read, each int64 (N, T, G, B).

    Neurons with as many targets on each core are counted together, which are most: all channels
    of a convolution without groups, and all rows and columns away from a border.

    Parameters
    ----------
    sent : bool (N, T, C, H, W), the events
    width : bits of a stored weight
    """
    change = np.any(fan.channels[1:] != fan.channels[:-1], axis=1)
    starts = np.concatenate([[0], np.flatnonzero(change) + 1])
    alike = np.add.reduceat(sent, starts, axis=2, dtype=np.int64)
    channels = fan.channels[starts]
    shape = (*sent.shape[:2], channels.shape[1], fan.rows.shape[1])
    synops, reads = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    for columns in np.unique(fan.columns[fan.columns > 0]):
        events = alike[..., fan.columns == columns].sum(axis=-1)
        for rows in np.unique(fan.rows[fan.rows > 0]):
            here = events @ (fan.rows == rows).astype(np.int64)
            targets = channels * (rows * columns)
            words = -(-targets * width // WORD_BITS)
            synops += np.einsum("ntcb,cg->ntgb", here, targets)
            reads += np.einsum("ntcb,cg->ntgb", here, words)
    return [synops, reads]

"""How far spikes travel between cores, for one placement.

The placement is a model, as simple as can be: the cores of all populations in order of
evaluation, those of a population by channel group, then by row band, fill the tiles one by one,
and the tiles fill the rows of a mesh one by one. Cores beyond one chip go on in further rows. The
input enters at the first tile. A spike sends a message to each core that holds a target of its
neuron; each message takes the shortest way, and makes no hop within a tile. A compiler that
places cores by their traffic needs fewer hops.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dsr_deploy.hardware.core_fan import CoreFan, core_fan
from dsr_deploy.hardware.event.simulation import Simulation
from dsr_deploy.hardware.mapping import Mapping, PopulationMapping, part_of
from dsr_deploy.hardware.network import INPUT, IntegerNetwork

Int64 = NDArray[np.int64]


@dataclass(frozen=True)
class HopCounts:
    """What the events of a connection send, over all samples and timesteps.

    Attributes
    ----------
    messages : one per event and core that holds a target of it
    east_west, north_south : tiles that they cross in each direction

    They are whole numbers, but for the input: how many events each pixel sent is not counted, so
    all are taken to have sent as many.
    """

    messages: float
    east_west: float
    north_south: float


def count_hops(
    simulation: Simulation,
    network: IntegerNetwork,
    mapping: Mapping,
    mesh_width: int,
    cores_per_tile: int,
) -> tuple[HopCounts, ...]:
    """Count messages and hops of each connection, in the order of the network's.

    Parameters
    ----------
    mapping : of ``network``
    mesh_width : tiles in a row
    """
    cores = {mapped.name: mapped for mapped in mapping.populations}
    before = np.cumsum([0, *(mapped.cores for mapped in mapping.populations)]).tolist()
    first = {INPUT: 0} | dict(zip(cores, before, strict=False))
    found = []
    for connection, counts in zip(network.connections, simulation.connections, strict=True):
        source, target = connection.source, cores[connection.target]
        fan = core_fan(connection, network.shapes[source], target)
        if source == INPUT:
            sent, share = np.ones(network.input.shape, np.int64), counts.events / _reaching(fan)
        else:
            sent, share = simulation.populations[source].spikes, 1.0
        messages = _messages(fan, sent, cores.get(source))
        tiles = [
            (np.arange(count) + first[name]) // cores_per_tile
            for name, count in zip((source, connection.target), messages.shape, strict=True)
        ]
        x, y = (
            np.abs(np.subtract.outer(*(axis(tile, mesh_width) for tile in tiles)))
            for axis in (np.remainder, np.floor_divide)
        )
        totals = (messages.sum(), (messages * x).sum(), (messages * y).sum())
        found.append(HopCounts(*(share * int(total) for total in totals)))
    return tuple(found)


def _reaching(fan: CoreFan) -> int:
    """Count the source neurons that have a target; 1 if none has, and nothing is sent."""
    places = (fan.channels.any(axis=1), fan.rows.any(axis=1), fan.columns > 0)
    return max(1, math.prod(int(axis.sum()) for axis in places))


def _messages(fan: CoreFan, sent: Int64, source: PopulationMapping | None) -> Int64:
    """Count the messages from each core to each, int64 (cores of the source, of the target).

    Parameters
    ----------
    sent : int64 (C, H, W), spikes of each source neuron
    source : None for the input, which is sent from one place
    """
    groups, bands = (source.channel_groups, source.row_bands) if source else (1, 1)
    channels, rows = (
        part_of(length, parts)[:, None] == np.arange(parts)
        for length, parts in zip(sent.shape[:2], (groups, bands), strict=True)
    )
    events = sent[..., fan.columns > 0].sum(axis=2)
    by_band = np.einsum("ch,hs,ht->cst", events, rows, fan.rows > 0, optimize=True)
    by_core = np.einsum("cst,cg,ck->gskt", by_band, channels, fan.channels > 0, optimize=True)
    size = groups * bands
    found: Int64 = by_core.reshape(size, by_core.size // size)
    return found

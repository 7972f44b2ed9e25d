"""Which part of a chip a network takes.

A model, not a compiler: Intel's is not public. It assumes

- one population per core; a population is cut into groups of channels and bands of rows, all of
  one size but the last, which takes the rest, and the cut with the fewest cores is taken;
- a core stores the weights of its own neurons (zeros included), at the width of the network: a
  linear layer each synapse, the other kinds each weight once per core where the chip shares
  kernels, and what else a chip keeps for an axon or for a border position is not counted;
- one input axon per source neuron that a core listens to, one output axon per pair of a neuron
  and a core that listens to it; the network's input is sent by the host.

The memory is therefore a lower bound, the axons are an upper bound.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dsr_deploy.hardware.chip import CORE_LIMITS, Chip, Limit, threshold_settings
from dsr_deploy.hardware.geometry import Shape
from dsr_deploy.hardware.network import (
    Connection,
    IntegerNetwork,
    Population,
)

_ASSUMPTIONS: Final = ("cores", "shared_kernels", "kernel_index_bits")


@dataclass(frozen=True)
class Usage:
    """What the fullest core of a population uses of one limit.

    Attributes
    ----------
    limit : name of the field of :class:`dsr_deploy.hardware.chip.Chip`
    used, available : in the unit of that field
    certain : whether the chip's number could be checked
    """

    limit: str
    used: int
    available: int
    certain: bool

    @property
    def percent(self) -> float:
        return 100 * self.used / self.available


@dataclass(frozen=True)
class PopulationMapping:
    """How one population lies on cores.

    Attributes
    ----------
    neurons, synapses : of the whole population; a synapse outside the image is none
    channel_groups, row_bands : how the population is cut; their product is the number of cores
    usage : each limit of a core that the chip has
    """

    name: str
    neurons: int
    synapses: int
    channel_groups: int
    row_bands: int
    usage: tuple[Usage, ...]

    @property
    def cores(self) -> int:
        return self.channel_groups * self.row_bands

    @property
    def binding(self) -> Usage:
        """The limit of which the population uses most."""
        return max(self.usage, key=lambda usage: usage.percent)

    @property
    def fits(self) -> bool:
        return all(usage.used <= usage.available for usage in self.usage)


@dataclass(frozen=True)
class Mapping:
    """How a network lies on a chip, in the order of its populations.

    Attributes
    ----------
    cores_available : of one chip
    uncertain : fields of the chip that the result depends on and that nobody could check
    """

    chip: str
    populations: tuple[PopulationMapping, ...]
    cores_available: int | None
    uncertain: tuple[str, ...]

    @property
    def cores(self) -> int:
        return sum(population.cores for population in self.populations)

    @property
    def fits(self) -> bool:
        """Whether each population fits its cores, and all cores one chip."""
        enough = self.cores_available is None or self.cores <= self.cores_available
        return enough and all(population.fits for population in self.populations)


@dataclass(frozen=True)
class _Cut:
    """How a population is cut: channels and rows of its fullest core, and how many cores."""

    channels: int
    rows: int
    groups: int
    bands: int

    @property
    def cores(self) -> int:
        return self.groups * self.bands


def map_network(network: IntegerNetwork, chip: Chip) -> Mapping:
    """Lay ``network`` on the cores of ``chip``, as the module describes.

    A population for which no cut fits is laid out with the cut that exceeds its limits least,
    and :attr:`Mapping.fits` is false.
    """
    cuts: dict[str, _Cut] = {}
    mapped: list[PopulationMapping] = []
    for population in reversed(network.populations):  # out-axons depend on the targets' cores
        fan_out = _fan_out(network, population, cuts)
        settings = threshold_settings(population)
        possible = [
            (cut, _usage(network, population, cut, fan_out, settings, chip))
            for cut in _possible_cuts(population.shape)
        ]
        cut, usage = min(possible, key=_badness)
        cuts[population.name] = cut
        incoming = list(network.incoming(population))
        mapped.append(
            PopulationMapping(
                name=population.name,
                neurons=population.size,
                synapses=sum(c.geometry.synapses(network.shapes[c.source]) for c in incoming),
                channel_groups=cut.groups,
                row_bands=cut.bands,
                usage=usage,
            )
        )
    uncertain = tuple(
        name for name in (*CORE_LIMITS, *_ASSUMPTIONS) if not _limit(chip, name).certain
    )
    return Mapping(chip.name, tuple(reversed(mapped)), chip.cores.value, uncertain)


def part_of(length: int, parts: int) -> NDArray[np.int64]:
    """Return which part each of ``length`` channels, or rows, lies in; int64 (length,).

    The parts are those of a population that is cut into so many groups or bands.
    """
    return np.arange(length, dtype=np.int64) // _ceil_div(length, parts)


def stored_width(connection: Connection, chip: Chip) -> int:
    """Return the bits that a core stores for one weight of ``connection``, its index included."""
    if connection.kind == "linear":
        return connection.weight_bits
    return connection.weight_bits + (chip.kernel_index_bits.value or 0)


def _limit(chip: Chip, name: str) -> Limit:
    limit: Limit = getattr(chip, name)
    return limit


def _possible_cuts(shape: Shape) -> list[_Cut]:
    """List the ways to cut the channels and rows of ``shape`` into parts of one size."""
    sizes = [sorted({_ceil_div(n, parts) for parts in range(1, n + 1)}) for n in shape[:2]]
    return [
        _Cut(channels, rows, _ceil_div(shape[0], channels), _ceil_div(shape[1], rows))
        for channels in sizes[0]
        for rows in sizes[1]
    ]


def _badness(candidate: tuple[_Cut, tuple[Usage, ...]]) -> tuple[float, int, float]:
    """Order cuts: by what exceeds a limit, then the fewest cores, then the least used in all."""
    cut, usage = candidate
    percents = [u.percent for u in usage]
    return (max(100.0, *percents), cut.cores, sum(percents))


def _usage(
    network: IntegerNetwork,
    population: Population,
    cut: _Cut,
    fan_out: int,
    settings: int,
    chip: Chip,
) -> tuple[Usage, ...]:
    """Return what the fullest core uses of each limit that ``chip`` has."""
    neurons = cut.channels * cut.rows * population.shape[2]
    incoming = list(network.incoming(population))
    used = (
        neurons,
        sum(_stored_bits(c, cut.channels, neurons, chip) for c in incoming),
        sum(_listened(c, network.shapes[c.source], cut) for c in incoming),
        neurons * fan_out,
        min(settings, cut.channels),
    )
    limits = ((name, _limit(chip, name)) for name in CORE_LIMITS)
    return tuple(
        Usage(name, n, limit.value, limit.certain)
        for n, (name, limit) in zip(used, limits, strict=True)
        if limit.value is not None
    )


def _stored_bits(connection: Connection, channels: int, neurons: int, chip: Chip) -> int:
    """Return the synaptic memory of one core for ``connection``."""
    shared = chip.shared_kernels.value and connection.kind != "linear"
    copies = channels if shared else neurons
    return copies * connection.geometry.fan_in * stored_width(connection, chip)


def _listened(connection: Connection, source: Shape, cut: _Cut) -> int:
    """Count the source neurons that one core listens to; a stride may leave some between."""
    channels, height, width = source
    if connection.kind == "linear":
        return channels * height * width
    targets = (cut.rows, connection.output_shape(source)[2])
    rows, columns = (
        min((count - 1) * min(stride, window) + window, size)
        for count, stride, window, size in zip(
            targets, connection.stride, connection.window, (height, width), strict=True
        )
    )
    heard = cut.channels
    if connection.kind == "conv":
        per_group = connection.weight.shape[0] // connection.groups
        groups = min(_touched(cut.channels, per_group), connection.groups)
        heard = groups * connection.weight.shape[1]
    return heard * rows * columns


def _fan_out(network: IntegerNetwork, population: Population, cuts: dict[str, _Cut]) -> int:
    """Return the largest number of cores that one neuron of ``population`` sends to."""
    cores = 0
    for connection in network.connections:
        if connection.source != population.name:
            continue
        target = cuts[connection.target]
        if connection.kind == "linear":
            cores += target.cores
            continue
        rows = _ceil_div(connection.window[0], connection.stride[0])
        channels = 1
        if connection.kind == "conv":
            channels = connection.weight.shape[0] // connection.groups
        cores += min(_touched(rows, target.rows), target.bands) * min(
            _touched(channels, target.channels), target.groups
        )
    return cores


def _touched(length: int, size: int) -> int:
    """Return how many blocks of ``size`` a run of ``length`` can touch, wherever it begins."""
    return 1 + _ceil_div(length - 1, size)


def _ceil_div(a: int, b: int) -> int:
    return -(-a // b)

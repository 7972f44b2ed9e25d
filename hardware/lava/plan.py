"""Which Lava processes a network becomes, as data: the content of ``lava.json``.

The export makes a plan of the scheduled network and writes it beside ``network.safetensors``; the
Lava runner reads both and builds exactly these processes. docs/lava.md specifies the file.
No Lava is needed here.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from dsr_deploy.hardware.bounds import payload_range
from dsr_deploy.hardware.format.network_content import weight_names
from dsr_deploy.hardware.geometry import Kind, Pair, Shape
from dsr_deploy.hardware.lava import layout
from dsr_deploy.hardware.network import (
    INPUT,
    Connection,
    IntegerNetwork,
    Population,
)

SynapticType = Literal["Conv", "Dense", "Sparse"]
SYNAPTIC_TYPES: tuple[SynapticType, ...] = get_args(SynapticType)

PAYLOAD_BITS = 8
"""Of a payload of the input. With 0 bits, "a spike or none", Lava's Sparse takes five times as
long for the same sums, so spikes have 1."""


@dataclass(frozen=True)
class Source:
    """Sends the input's payloads, each frame for ``repeat`` steps."""

    name: str
    shape: Shape
    repeat: int


@dataclass(frozen=True)
class Spiking:
    """A population, which works from step ``start`` on and begins anew every ``timesteps`` steps.

    ``bias``, ``v_fire`` and ``v_threshold`` name tensors.
    """

    name: str
    shape: Shape
    bias: str
    v_fire: str
    v_threshold: str
    decay: int
    start: int
    timesteps: int


@dataclass(frozen=True)
class Delay:
    """Holds everything back for ``steps`` steps."""

    name: str
    shape: Shape
    steps: int


@dataclass(frozen=True)
class Synapses:
    """Weights in one of Lava's own processes.

    Attributes
    ----------
    process : Lava's class
    kind, exponent, kernel, stride, padding, groups : as of
        :class:`dsr_deploy.hardware.network.Connection`
    weight : name of the tensor
    shape : (C, H, W) of what comes in
    message_bits : Lava's ``num_message_bits``
    """

    name: str
    process: SynapticType
    kind: Kind
    weight: str
    exponent: int
    shape: Shape
    kernel: Pair
    stride: Pair
    padding: Pair
    groups: int
    message_bits: int


Process: TypeAlias = Source | Spiking | Delay | Synapses


@dataclass(frozen=True)
class Wire:
    """Leads from one process to another, by their names; each has one way in and one way out."""

    source: str
    target: str


@dataclass(frozen=True)
class Plan:
    """All processes and wires of a network.

    Attributes
    ----------
    network : SHA-256 of the bytes of the ``network.safetensors`` that holds the tensors
    """

    network: str
    processes: tuple[Process, ...]
    wires: tuple[Wire, ...]

    @property
    def populations(self) -> tuple[Spiking, ...]:
        return tuple(p for p in self.processes if isinstance(p, Spiking))

    def steps(self, samples: int) -> int:
        """Return after how many steps the last population has done its last sample."""
        return max(p.start + samples * p.timesteps for p in self.populations)


def make_plan(network: IntegerNetwork, digest: str) -> Plan:
    """Choose the processes for ``network`` as it is scheduled.

    Parameters
    ----------
    digest : SHA-256 of the network's file, in hexadecimal digits

    Raises
    ------
    RegisterError
        If no process of Lava's can hold a connection's sum.
    """
    repeat = 1 if network.input.framed else network.timesteps
    processes: list[Process] = [Source(INPUT, network.input.shape, repeat)]
    processes += (_spiking(p, network.timesteps) for p in network.populations)
    wires: list[Wire] = []
    for connection, weight in zip(network.connections, weight_names(network), strict=True):
        chain: list[Process] = [_synapses(network, connection, weight)]
        if connection.delay:
            chain.insert(0, Delay(f"{weight}/delay", chain[0].shape, connection.delay))
        processes += chain
        way = (connection.source, *(process.name for process in chain), connection.target)
        wires += itertools.starmap(Wire, itertools.pairwise(way))
    return Plan(digest, tuple(processes), tuple(wires))


def _spiking(population: Population, timesteps: int) -> Spiking:
    name = population.name
    return Spiking(
        name=name,
        shape=population.shape,
        bias=f"{name}.bias",
        v_fire=f"{name}.v_fire",
        v_threshold=f"{name}.v_threshold",
        decay=population.decay,
        start=population.start,
        timesteps=timesteps,
    )


def _synapses(network: IntegerNetwork, connection: Connection, weight: str) -> Synapses:
    source = network.shapes[connection.source]
    payloads = payload_range(connection, network.input)
    return Synapses(
        name=weight,
        process=_process(connection, source, payloads),
        kind=connection.kind,
        weight=weight,
        exponent=connection.exponent,
        shape=source,
        kernel=connection.kernel,
        stride=connection.stride,
        padding=connection.padding,
        groups=connection.groups,
        message_bits=PAYLOAD_BITS if connection.source == INPUT else 1,
    )


def _process(connection: Connection, source: Shape, payloads: tuple[int, int]) -> SynapticType:
    if layout.takes_conv(connection, source, payloads):
        return "Conv"
    layout.check_sum(connection, payloads)
    return "Dense" if connection.kind == "linear" else "Sparse"

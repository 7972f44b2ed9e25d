"""A foreign network as its file describes it: nodes of real numbers, and edges."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]
Pair = tuple[int, int]
Shape = tuple[int, ...]
"""Of one sample at one timestep: (C, H, W) or (C,)."""

NeuronType = Literal["IF", "LIF", "CubaLIF", "LI", "I", "CubaLI"]


@dataclass(frozen=True)
class Inlet:
    """Where the network's input enters."""

    shape: Shape


@dataclass(frozen=True)
class Outlet:
    """Where the network's output leaves."""

    shape: Shape


@dataclass(frozen=True, eq=False)
class Affine:
    """``weight @ x + bias``.

    Attributes
    ----------
    weight : float64 (out, in)
    bias : float64 (out,)
    """

    weight: Float64
    bias: Float64


@dataclass(frozen=True, eq=False)
class Convolution:
    """A cross-correlation as in torch, over zeros outside the source.

    Attributes
    ----------
    weight : float64 (C_out, C_in / groups, KH, KW)
    bias : float64 (C_out,)
    stride, padding, dilation : (height, width)
    """

    weight: Float64
    bias: Float64
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1

    @property
    def window(self) -> Pair:
        """Height and width of what an output sees."""
        (dy, dx), (height, width) = self.dilation, self.weight.shape[2:]
        return dy * (height - 1) + 1, dx * (width - 1) + 1


@dataclass(frozen=True)
class Pool:
    """The sum of each window, or its mean over all of the window, padding included."""

    kernel: Pair
    stride: Pair
    padding: Pair = (0, 0)
    mean: bool = False


@dataclass(frozen=True)
class Flatten:
    """Joins the dimensions ``first`` to ``last``, both included, counted without batch and time."""

    first: int = 0
    last: int = -1


@dataclass(frozen=True, eq=False)
class Scale:
    """``factor * x``; float64 (), (C,) or the shape of x."""

    factor: Float64


@dataclass(frozen=True, eq=False)
class Neurons:
    """Neurons in continuous time, as NIR defines them.

    Every parameter is float64 of the shape of the node, or () where one value serves all.

    Attributes
    ----------
    type : NIR's; LI, I and CubaLI integrate and never spike
    r : gain of the input current
    v_threshold, v_reset : of those that spike
    tau, v_leak : of those that leak, tau in seconds
    tau_syn, w_in : of those with a synaptic current
    """

    type: NeuronType
    r: Float64
    v_threshold: Float64 | None = None
    v_reset: Float64 | None = None
    tau: Float64 | None = None
    v_leak: Float64 | None = None
    tau_syn: Float64 | None = None
    w_in: Float64 | None = None


@dataclass(frozen=True)
class Unknown:
    """A node that is not understood, and why."""

    type: str
    reason: str
    way_out: str


Node = Inlet | Outlet | Affine | Convolution | Pool | Flatten | Scale | Neurons | Unknown


@dataclass(frozen=True)
class Obstacle:
    """Something that stands between a network and a chip.

    Attributes
    ----------
    place : of the network, such as "node 'fc1'"
    reason : what is there and why it stops
    way_out : what would do
    """

    place: str
    reason: str
    way_out: str

    def __str__(self) -> str:
        return f"{self.place}: {self.reason}; {self.way_out}"

    @classmethod
    def of_line(cls, line: str) -> Obstacle:
        """Return the obstacle of a line ``place: reason; way out``, as the chip side has them."""
        place, _, rest = line.partition(": ")
        reason, _, way_out = rest.partition("; ")
        return cls(place, reason, way_out)


@dataclass(frozen=True, eq=False)
class ForeignNetwork:
    """What a file holds.

    Attributes
    ----------
    nodes : by name, each after its sources as far as the graph has no loop
    edges : (source, target), several into one node add up
    shapes : of each node's output, as far as it is known
    obstacles : what is wrong or not understood in the graph itself
    """

    nodes: dict[str, Node]
    edges: tuple[tuple[str, str], ...]
    shapes: dict[str, Shape]
    obstacles: tuple[Obstacle, ...] = ()

    def sources(self, name: str) -> list[str]:
        """Return the nodes that lead to node ``name``."""
        return self._sources.get(name, [])

    def targets(self, name: str) -> list[str]:
        """Return the nodes to which node ``name`` leads."""
        return [b for a, b in self.edges if a == name]

    @cached_property
    def _sources(self) -> dict[str, list[str]]:
        sources: dict[str, list[str]] = {}
        for a, b in self.edges:
            sources.setdefault(b, []).append(a)
        return sources

    def neurons(self) -> dict[str, Neurons]:
        """Return the nodes of neurons by name, in their order."""
        return {name: node for name, node in self.nodes.items() if isinstance(node, Neurons)}

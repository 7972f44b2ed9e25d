"""What is connected to what: the shape of a spiking network, before it has weights.

A network is a list of populations of spiking neurons in the order in which they
are evaluated. A population sums the currents of its connections, normalises the
sum if it has a BatchNorm, and spikes. Every connection carries spikes, except those
from the input, which carry pixels as a constant current.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

INPUT: Final = "input"

Shape = tuple[int, int, int]
Kind = Literal["conv", "linear", "pool", "identity"]


class TopologyError(ValueError):
    """Layers that do not fit together, or the data."""


@dataclass(frozen=True)
class ConnectionSpec:
    """How a population receives from ``source``.

    Attributes
    ----------
    source : name of a population, or ``"input"``
    kind : ``"conv"`` and ``"linear"`` have weights and no bias; ``"pool"`` averages, padding
        included in the count; ``"identity"`` is one-to-one
    channels : of the target; 0 where it follows from the source (pool, identity)
    kernel, stride, padding : height and width alike
    """

    source: str
    kind: Kind
    channels: int = 0
    kernel: int = 1
    stride: int = 1
    padding: int = 0

    def output_shape(self, source: Shape) -> Shape:
        """Return the (C, H, W) made of a source of shape ``source``."""
        channels, height, width = source
        if self.kind == "linear":
            return (self.channels, 1, 1)
        if min(height, width) + 2 * self.padding < self.kernel:
            raise TopologyError(
                f"{self.kind} from '{self.source}': a {self.kernel}x{self.kernel} window does not "
                f"fit {height}x{width} padded by {self.padding}; use larger images or a smaller "
                "network"
            )
        out_height, out_width = (
            (size + 2 * self.padding - self.kernel) // self.stride + 1 for size in (height, width)
        )
        return (self.channels or channels, out_height, out_width)


@dataclass(frozen=True)
class PopulationSpec:
    """A layer of spiking neurons.

    Attributes
    ----------
    name : unique in the network
    connections : their currents are added
    norm : BatchNorm over time and batch before the neurons (C.2)
    dropout : probability of dropping a neuron's spikes, for all timesteps alike, in training
    """

    name: str
    connections: tuple[ConnectionSpec, ...]
    norm: bool = True
    dropout: float = 0.0


@dataclass(frozen=True)
class Topology:
    """A network's populations and the shape of its input.

    The last population is the output, its shape is (classes, 1, 1).
    """

    name: str
    input_shape: Shape
    populations: tuple[PopulationSpec, ...]

    def shapes(self) -> dict[str, Shape]:
        """Return (C, H, W) by name of every source, the input included.

        Raises
        ------
        TopologyError
            If connections do not meet.
        """
        shapes = {INPUT: self.input_shape}
        for population in self.populations:
            made = {c.output_shape(shapes[c.source]) for c in population.connections}
            if len(made) != 1:
                raise TopologyError(
                    f"population '{population.name}': its connections give the shapes "
                    f"{sorted(made)}; they must be one"
                )
            shapes[population.name] = made.pop()
        return shapes


def conv(source: str, channels: int, kernel: int = 3, stride: int = 1) -> ConnectionSpec:
    """Describe a convolution, padded so that stride 1 keeps the size."""
    return ConnectionSpec(source, "conv", channels, kernel, stride, kernel // 2)

"""What is connected to what: the shape of a spiking network, before it has weights.

A network is a list of populations of spiking neurons in the order in which they
are evaluated. A population sums the currents of its connections, normalises the
sum if it has a BatchNorm, and spikes. Every connection carries spikes, except those
from the input, which carry pixels as a constant current.

For example, two convolutions with a shortcut and a classifier::

    Topology("small", (1, 8, 12), (
        population("first", conv("input", 8)),
        population("second", conv("first", 8, kernel=(3, 5)), identity("first")),
        population("output", linear("second", 10)),
    ))
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, get_args

INPUT: Final = "input"

Shape = tuple[int, int, int]
Pair = tuple[int, int]
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
    kernel, stride, padding : (height, width); a number is taken for both. Padding is zeros
    groups : of a conv: each group of target channels receives from its own group of source channels

    Raises
    ------
    TopologyError
        If a value is out of its range, or the kind has no such value.
    """

    source: str
    kind: Kind
    channels: int = 0
    kernel: Pair = (1, 1)
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    groups: int = 1

    def __post_init__(self) -> None:
        where = self._where()
        if self.kind not in get_args(Kind):
            raise TopologyError(
                f"connection from {self.source!r}: choose a kind out of "
                f"{', '.join(get_args(Kind))}, not {self.kind!r}"
            )
        for name, least in (("kernel", 1), ("stride", 1), ("padding", 0)):
            object.__setattr__(self, name, _pair(where, name, getattr(self, name), least))
        weighted = self.kind in ("conv", "linear")
        _check_whole(where, "channels", self.channels, 1 if weighted else 0)
        _check_whole(where, "groups", self.groups, 1)
        if not weighted and self.channels:
            raise TopologyError(f"{where}: its channels are those of its source; leave them out")
        if self.kind in ("linear", "identity") and (self.kernel, self.stride, self.padding) != (
            (1, 1), (1, 1), (0, 0),
        ):  # fmt: skip
            raise TopologyError(f"{where}: it has no kernel, stride or padding; leave them out")
        if self.kind != "conv" and self.groups != 1:
            raise TopologyError(f"{where}: only a conv has groups; leave them out")
        if self.channels % self.groups:
            raise TopologyError(
                f"{where}: channels must be a multiple of its {self.groups} groups, not "
                f"{self.channels}"
            )
        if self.kind == "pool" and any(
            2 * p > k for p, k in zip(self.padding, self.kernel, strict=True)
        ):
            raise TopologyError(
                f"{where}: padding must be at most half of the window {_by(self.kernel)}, not "
                f"{_by(self.padding)}"
            )

    def output_shape(self, source: Shape) -> Shape:
        """Return the (C, H, W) made of a source of shape ``source``.

        Raises
        ------
        TopologyError
            If the window or the groups do not fit.
        """
        channels, *size = source
        if self.kind == "linear":
            return (self.channels, 1, 1)
        if channels % self.groups:
            raise TopologyError(
                f"{self._where()}: its {self.groups} groups do not divide the {channels} channels "
                "of its source"
            )
        if any(s + 2 * p < k for s, p, k in zip(size, self.padding, self.kernel, strict=True)):
            raise TopologyError(
                f"{self._where()}: a {_by(self.kernel)} window does not fit {_by(tuple(size))} "
                f"padded by {_few(self.padding)}; use larger images or a smaller network"
            )
        height, width = (
            (s + 2 * padding - kernel) // stride + 1
            for s, kernel, stride, padding in zip(
                size, self.kernel, self.stride, self.padding, strict=True
            )
        )
        return (self.channels or channels, height, width)

    def weight_shape(self, source: Shape) -> tuple[int, ...] | None:
        """Return the shape of its weights for a source of shape ``source``; None if it has none.

        ``(C_out, C_in / groups, KH, KW)`` of a conv, ``(out, in)`` of a linear connection.
        """
        channels, height, width = source
        if self.kind == "conv":
            return (self.channels, channels // self.groups, *self.kernel)
        if self.kind == "linear":
            return (self.channels, channels * height * width)
        return None

    def _where(self) -> str:
        return f"{self.kind} from '{self.source}'"


@dataclass(frozen=True)
class PopulationSpec:
    """A layer of spiking neurons.

    Attributes
    ----------
    name : unique in the network
    connections : their currents are added
    norm : BatchNorm over time and batch before the neurons (C.2)
    dropout : probability of dropping a neuron's spikes, for all timesteps alike, in training

    Raises
    ------
    TopologyError
        If it has no name or no connection, or the probability is none.
    """

    name: str
    connections: tuple[ConnectionSpec, ...]
    norm: bool = True
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or self.name in ("", INPUT):
            raise TopologyError(f"a population needs a name, and not '{INPUT}': {self.name!r}")
        object.__setattr__(self, "connections", tuple(self.connections))
        if not self.connections:
            raise TopologyError(f"population '{self.name}': no connection leads to it")
        for connection in self.connections:
            if not isinstance(connection, ConnectionSpec):
                raise TopologyError(
                    f"population '{self.name}': its connections must be made by conv, linear, "
                    f"pool or identity, not be {connection!r}"
                )
        if not 0 <= self.dropout < 1:
            raise TopologyError(
                f"population '{self.name}': dropout must be at least 0 and below 1, not "
                f"{self.dropout}"
            )


@dataclass(frozen=True)
class Topology:
    """A network's populations and the shape of its input.

    The last population is the output, its shape is (classes, 1, 1).

    Attributes
    ----------
    name : for people
    input_shape : (C, H, W)
    populations : in order of evaluation; sources come before their targets
    """

    name: str
    input_shape: Shape
    populations: tuple[PopulationSpec, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "input_shape", tuple(self.input_shape))
        object.__setattr__(self, "populations", tuple(self.populations))
        for population in self.populations:
            if not isinstance(population, PopulationSpec):
                raise TopologyError(
                    f"network '{self.name}': its populations must be made by population, not be "
                    f"{population!r}"
                )

    def __repr__(self) -> str:
        size = "x".join(map(str, self.input_shape))
        return f"Topology({self.name!r}, {size}, {len(self.populations)} populations)"

    def shapes(self) -> dict[str, Shape]:
        """Return (C, H, W) by name of every source, the input included.

        Raises
        ------
        TopologyError
            If connections do not meet, or two populations have one name.
        """
        shapes = {INPUT: self.input_shape}
        for population in self.populations:
            where = f"population '{population.name}'"
            if population.name in shapes:
                raise TopologyError(f"{where}: two populations have this name")
            reached = set()
            for connection in population.connections:
                if connection.source not in shapes:
                    raise TopologyError(
                        f"{where}: its source '{connection.source}' is none of the input and the "
                        "populations before it"
                    )
                reached.add(connection.output_shape(shapes[connection.source]))
            if len(reached) != 1:
                raise TopologyError(
                    f"{where}: its connections give the shapes {sorted(reached)}; they must be one"
                )
            shapes[population.name] = reached.pop()
        return shapes

    def check_fits(self, input_shape: Shape, classes: int) -> None:
        """Make sure that this network takes such an input and tells so many classes apart.

        Raises
        ------
        TopologyError
            If it does not, or its connections do not meet.
        """
        where = f"network '{self.name}'"
        if self.input_shape != tuple(input_shape):
            raise TopologyError(
                f"{where}: it takes an input of {_by(self.input_shape)}, the data set's is "
                f"{_by(input_shape)}"
            )
        if not self.populations:
            raise TopologyError(f"{where}: it has no population")
        name = self.populations[-1].name
        if (found := self.shapes()[name]) != (classes, 1, 1):
            raise TopologyError(
                f"{where}: its last population '{name}' has the shape {_by(found)}, {classes} "
                f"classes need {_by((classes, 1, 1))}"
            )


def population(
    name: str, *connections: ConnectionSpec, norm: bool = True, dropout: float = 0.0
) -> PopulationSpec:
    """Describe a layer of spiking neurons that receives from ``connections``."""
    return PopulationSpec(name, connections, norm, dropout)


def conv(
    source: str,
    channels: int,
    kernel: int | Pair = 3,
    stride: int | Pair = 1,
    padding: int | Pair | None = None,
    groups: int = 1,
) -> ConnectionSpec:
    """Describe a convolution; ``padding`` None keeps the size of an image at stride 1."""
    window = _pair(f"conv from '{source}'", "kernel", kernel, 1)
    if padding is None:
        padding = (window[0] // 2, window[1] // 2)
    return ConnectionSpec(source, "conv", channels, window, stride, padding, groups)  # type: ignore[arg-type]


def linear(source: str, channels: int) -> ConnectionSpec:
    """Describe a full connection to ``channels`` neurons."""
    return ConnectionSpec(source, "linear", channels)


def pool(
    source: str, kernel: int | Pair, stride: int | Pair | None = None, padding: int | Pair = 0
) -> ConnectionSpec:
    """Describe an average over windows, which lie side by side unless ``stride`` says otherwise."""
    step = kernel if stride is None else stride
    return ConnectionSpec(source, "pool", 0, kernel, step, padding)  # type: ignore[arg-type]


def identity(source: str) -> ConnectionSpec:
    """Describe a shortcut from every neuron to the one in its place."""
    return ConnectionSpec(source, "identity")


def _pair(where: str, name: str, value: object, least: int) -> Pair:
    """Return (height, width) of a pair or of one number for both."""
    pair = tuple(value) if isinstance(value, tuple | list) else (value, value)
    if len(pair) != 2:
        raise TopologyError(f"{where}: {name} must be a number or (height, width), not {value!r}")
    return (_check_whole(where, name, pair[0], least), _check_whole(where, name, pair[1], least))


def _check_whole(where: str, name: str, value: object, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise TopologyError(
            f"{where}: {name} must be a whole number of at least {least}, not {value!r}"
        )
    return value


def _by(size: tuple[int, ...]) -> str:
    return "x".join(map(str, size))


def _few(pair: Pair) -> str:
    return str(pair[0]) if pair[0] == pair[1] else _by(pair)

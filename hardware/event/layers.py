"""The integer network laid out for the event-driven kernels.

Every connection becomes a grouped convolution with its weights transposed, every population gets
the narrowest accumulator and the narrowest potential that provably hold their values.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dsr_deploy.hardware.bounds import (
    connection_range,
    current_range,
    partial_sum_bound,
    population_bounds,
)
from dsr_deploy.hardware.event.arrays import FILL, Wiring
from dsr_deploy.hardware.geometry import Geometry, Shape
from dsr_deploy.hardware.network import (
    INPUT,
    Connection,
    IntegerNetwork,
    Population,
)

Int32 = NDArray[np.int32]
Int64 = NDArray[np.int64]

LONG_CHUNK: Final = 128
"""Neurons that are advanced in one loop at least, where a row of pixels has as many."""

MOST_ROWS: Final = 64
"""Rows of weights added up before their sum meets the accumulator, at most."""

FEW_ROWS: Final = 4
"""Below as many, sums in 16 bits are faster than sums in 8 that end so soon."""

_PAYLOADS: Final = (-128, 127)
_SPIKES: Final = (0, 1)


@dataclass(frozen=True, eq=False)
class Link:
    """A connection for the kernel; ``index`` is its place in the network."""

    index: int
    source: str
    wiring: Wiring


@dataclass(frozen=True, eq=False)
class Layer:
    """A population and what leads to it.

    Attributes
    ----------
    held : from an image that is the same at every timestep
    links : from everything else
    held_exponent, exponent : the smallest exponent among ``held`` and ``links``; their weights
        are in its units, and it is applied to their sum
    total_dtype : type of the sums: int16, int32 or, with potentials of 64 bits, int64
    v_dtype : type of the potentials: int32 or int64
    """

    population: Population
    held: tuple[Link, ...]
    links: tuple[Link, ...]
    held_exponent: int
    exponent: int
    total_dtype: type[np.signedinteger[Any]]
    v_dtype: type[np.signedinteger[Any]]

    @property
    def width(self) -> int:
        """Channels of a pixel, filled up."""
        return filled(self.population.shape[0])

    @property
    def pixels_of_chunk(self) -> int:
        """Pixels that are advanced together: a row of narrow ones, or a single wide one."""
        return self.population.shape[2] if self.width < LONG_CHUNK else 1


def prepare(network: IntegerNetwork, population: Population) -> Layer:
    """Choose the accumulator of ``population`` and lay out the weights that lead to it."""
    held: list[tuple[int, Connection]] = []
    sent: list[tuple[int, Connection]] = []
    for index, connection in enumerate(network.connections):
        if connection.target == population.name:
            constant = connection.source == INPUT and not network.input.framed
            (held if constant else sent).append((index, connection))
    held_exponent, exponent = (min((c.exponent for _, c in x), default=0) for x in (held, sent))
    largest = max(_largest_sum(held) >> held_exponent, _largest_sum(sent) >> exponent)
    # Kernels are compiled for every pair of types: sums of potentials in 64 bits have 64 as well.
    reached = _largest_potential(network, population)
    wide = max(largest, reached) > np.iinfo(np.int32).max
    narrow = largest <= np.iinfo(np.int16).max
    shapes = network.shapes
    return Layer(
        population,
        held=tuple(Link(i, c.source, wire(c, shapes[c.source], held_exponent)) for i, c in held),
        links=tuple(Link(i, c.source, wire(c, shapes[c.source], exponent)) for i, c in sent),
        held_exponent=held_exponent,
        exponent=exponent,
        total_dtype=np.int64 if wide else np.int16 if narrow else np.int32,
        v_dtype=np.int64 if wide else np.int32,
    )


def filled(channels: int) -> int:
    """Return the channels of a pixel with those that fill it up."""
    return -(-channels // FILL) * FILL


def _largest_sum(connections: list[tuple[int, Connection]]) -> int:
    """Bound the magnitude of every partial sum, exponents included."""
    bound = np.zeros(1, np.int64)
    for _, connection in connections:
        if connection.source == INPUT:
            # Payloads are checked to be int8, not to keep to the input's own range.
            bound = bound + (partial_sum_bound(connection, _PAYLOADS) << connection.exponent)
        else:
            low, high = connection_range(connection, _SPIKES)
            bound = bound + np.maximum(-low, high)
    return int(bound.max())


def _largest_potential(network: IntegerNetwork, population: Population) -> int:
    """Bound the magnitude of the potential at any moment, and of what arrives at one timestep."""
    low, high = _PAYLOADS
    whole = replace(network, input=replace(network.input, low=low, high=high))
    reached, arriving = population_bounds(whole, population), current_range(whole, population)
    largest = max(np.abs(bound).max() for bound in (reached.low, reached.high, *arriving))
    # Twice, so that the sum of a decayed potential and any part of what arrives fits as well.
    return 2 * int(largest)


def wire(connection: Connection, source: Shape, unit: int) -> Wiring:
    """Lay out the weights from a source of that shape, in units of ``2**unit``."""
    geometry = connection.geometry.as_convolution(source)
    shifted = connection.as_convolution(source).astype(np.int64) << (connection.exponent - unit)
    largest = int(np.abs(shifted).max(initial=0))
    laid = _rows_of_weights(shifted, geometry)
    narrow = largest * FEW_ROWS <= np.iinfo(np.int8).max
    limit = np.iinfo(np.int8 if narrow else np.int16).max
    fits = largest <= np.iinfo(np.int8).max
    channels, height, width = geometry.output_shape(source)
    rows, columns = (
        _targets(*axis)
        for axis in zip(source[1:], (height, width), geometry.window, geometry.stride,
                        geometry.padding, strict=True)
    )  # fmt: skip
    per_group = channels // geometry.groups
    fan = np.outer(rows[:, 1], columns[:, 1]).reshape(-1) * per_group
    columns[:, 2] = _places(geometry)[columns[:, 2]]
    none = np.zeros(0, np.int8), np.zeros(0, np.int32)
    laid_per_group, kh, kw = laid.shape[3], *geometry.window
    return Wiring(
        weight=laid.astype(np.int8).reshape(-1) if fits else none[0],
        wide=none[1] if fits else laid.astype(np.int32).reshape(-1),
        rows=rows,
        columns=columns,
        fan=fan.astype(np.int32),
        channel=kh * kw * laid_per_group,
        line=kw * laid_per_group,
        stride=geometry.stride[0],
        target_line=width * filled(channels),
        target_pixel=filled(channels),
        fan_in=geometry.weight_shape[1],
        per_group=laid_per_group,
        groups=geometry.groups,
        chunk=min(MOST_ROWS, limit // max(1, largest)),
        narrow=narrow,
    )


def _rows_of_weights(weight: Int64, geometry: Geometry) -> Int64:
    """Lay (C_out, C_in / groups, KH, KW) out as (C_in, KH, KW, C_out / groups).

    The columns of the window stand in the order of :func:`_column_order`; without groups, the
    target channels are filled up.
    """
    groups, (out, fan, kh, kw) = geometry.groups, weight.shape
    by_group = weight.reshape(groups, out // groups, fan, kh, kw).transpose(0, 2, 3, 4, 1)
    laid: Int64 = by_group.reshape(groups * fan, kh, kw, out // groups)
    laid = laid[:, :, _column_order(geometry)]
    if groups == 1:
        laid = np.pad(laid, ((0, 0), (0, 0), (0, 0), (0, filled(out) - out)))
    return laid


def _column_order(geometry: Geometry) -> list[int]:
    """Return the columns of a window in the order in which one source column meets them.

    That is from right to left, for targets from left to right, in steps of the stride.
    """
    columns, stride = geometry.window[1], geometry.stride[1]
    return [x for phase in range(stride) for x in reversed(range(phase, columns, stride))]


def _places(geometry: Geometry) -> Int64:
    """Return where each column of the window stands among the weights."""
    return np.argsort(_column_order(geometry))


def _targets(size: int, targets: int, window: int, stride: int, padding: int) -> Int32:
    """Return for every place of the source along an axis, int32 (size, 3).

    The first target whose window holds it, how many there are, and its place in the first one's
    window; 0, 0, 0 where there is none.
    """
    place = np.arange(size) + padding
    first = np.maximum(0, (place - window) // stride + 1)
    number = np.minimum(targets, place // stride + 1) - first
    found = np.stack([first, number, place - first * stride], axis=1).astype(np.int32)
    found[number <= 0] = 0
    return found

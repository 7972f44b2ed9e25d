"""The integer network laid out for the event-driven kernels.

Every connection becomes a grouped convolution with its weights transposed, every population gets
the narrowest accumulator that provably holds its sums.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dsr_deploy.hardware.bounds import connection_range, partial_sum_bound
from dsr_deploy.hardware.kernels import Geometry
from dsr_deploy.hardware.network import (
    INPUT,
    Connection,
    IntegerNetwork,
    Pair,
    Population,
    Shape,
)

Int8 = NDArray[np.int8]
Int64 = NDArray[np.int64]

_PAYLOADS: Final = (-128, 127)
_SPIKES: Final = (0, 1)


@dataclass(frozen=True, eq=False)
class Link:
    """A connection for the kernel.

    Attributes
    ----------
    index : in the network
    reached : bool (source pixels,), those with a target; None if all have one
    """

    index: int
    source: str
    weight: NDArray[Any]
    geometry: Geometry
    reached: NDArray[np.bool_] | None


@dataclass(frozen=True, eq=False)
class Layer:
    """A population and what leads to it.

    Attributes
    ----------
    held : from an image that is the same at every timestep; weights in units of 1
    links : from everything else; weights in units of ``2**exponent``
    exponent : the smallest exponent among ``links``, applied to their sum
    total_dtype : type of that sum: int16, int32 or int64
    """

    population: Population
    held: tuple[Link, ...]
    links: tuple[Link, ...]
    exponent: int
    total_dtype: type[np.signedinteger[Any]]


def prepare(network: IntegerNetwork, population: Population) -> Layer:
    """Choose the accumulator of ``population`` and lay out the weights that lead to it."""
    held: list[tuple[int, Connection]] = []
    sent: list[tuple[int, Connection]] = []
    for index, connection in enumerate(network.connections):
        if connection.target == population.name:
            constant = connection.source == INPUT and not network.input.framed
            (held if constant else sent).append((index, connection))
    exponent = min((connection.exponent for _, connection in sent), default=0)
    bound = sum((_largest_sum(connection) for _, connection in sent), np.zeros(1, np.int64))
    total_dtype = next(
        dtype
        for dtype in (np.int16, np.int32, np.int64)
        if int(bound.max()) >> exponent <= np.iinfo(dtype).max
    )
    shapes = network.shapes
    narrow = total_dtype is not np.int64
    return Layer(
        population,
        held=tuple(_link(i, c, shapes[c.source], unit=0, narrow=False) for i, c in held),
        links=tuple(_link(i, c, shapes[c.source], unit=exponent, narrow=narrow) for i, c in sent),
        exponent=exponent,
        total_dtype=total_dtype,
    )


def _largest_sum(connection: Connection) -> Int64:
    """Bound the magnitude of every partial sum per target channel, exponent included."""
    if connection.source == INPUT:
        # Payloads are checked to be int8, not to keep to the input's own range.
        return partial_sum_bound(connection, _PAYLOADS) << connection.exponent
    low, high = connection_range(connection, _SPIKES)
    return np.maximum(-low, high)


def _link(index: int, connection: Connection, source: Shape, *, unit: int, narrow: bool) -> Link:
    """Lay out weights in units of ``2**unit``, in 8 bits if ``narrow`` and they fit."""
    weight, groups = _as_convolution(connection, source)
    shifted = weight.astype(np.int32) << (connection.exponent - unit)
    fits = narrow and np.abs(shifted).max(initial=0) <= np.iinfo(np.int8).max
    laid = shifted.transpose(1, 2, 3, 0)[:, :, ::-1].astype(np.int8 if fits else np.int32)
    channels, height, width = connection.output_shape(source)
    geometry = Geometry(
        source_width=source[2],
        target_height=height,
        target_width=width,
        target_channels=channels,
        window_height=weight.shape[2],
        window_width=weight.shape[3],
        stride_y=connection.stride[0],
        stride_x=connection.stride[1],
        padding_y=connection.padding[0],
        padding_x=connection.padding[1],
        groups=groups,
        contiguous=groups == 1 and connection.stride[1] == 1,
    )
    reached = _reached(geometry, source[1:])
    return Link(index, connection.source, laid.reshape(-1), geometry, reached)


def _reached(geometry: Geometry, source: Pair) -> NDArray[np.bool_] | None:
    """Return which pixels of the source lie in some target's window; None if all do."""
    g = geometry
    rows = _covered(source[0], g.target_height, g.window_height, g.stride_y, g.padding_y)
    columns = _covered(source[1], g.target_width, g.window_width, g.stride_x, g.padding_x)
    pixels: NDArray[np.bool_] = np.logical_and.outer(rows, columns).reshape(-1)
    return None if pixels.all() else pixels


def _covered(size: int, targets: int, window: int, stride: int, padding: int) -> NDArray[np.bool_]:
    """Return which of ``size`` places along an axis lie in some target's window."""
    covered = np.zeros(size + 2 * padding, np.bool_)
    for target in range(targets):
        covered[target * stride : target * stride + window] = True
    return covered[padding : padding + size]


def _as_convolution(connection: Connection, source: Shape) -> tuple[Int8, int]:
    """Return the weights as those of a convolution, (C_out, C_in / groups, KH, KW), and groups.

    A linear connection's window is its whole source; a pool and an identity have a group per
    channel.
    """
    if connection.kind == "conv":
        return connection.weight, connection.groups
    if connection.kind == "linear":
        return connection.weight.reshape(-1, *source), 1
    channels = len(connection.weight)
    weight = connection.weight[:, None, None, None]
    return np.broadcast_to(weight, (channels, 1, *connection.window)), channels

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
from dsr_deploy.hardware.event.kernels import Window
from dsr_deploy.hardware.geometry import Geometry, Shape
from dsr_deploy.hardware.network import (
    INPUT,
    Connection,
    IntegerNetwork,
    Population,
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
    window: Window
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
    geometry = connection.geometry.as_convolution(source)
    shifted = connection.as_convolution(source).astype(np.int32) << (connection.exponent - unit)
    fits = narrow and np.abs(shifted).max(initial=0) <= np.iinfo(np.int8).max
    laid = shifted.transpose(1, 2, 3, 0)[:, :, ::-1].astype(np.int8 if fits else np.int32)
    channels, height, width = geometry.output_shape(source)
    window = Window(
        source_width=source[2],
        target_height=height,
        target_width=width,
        target_channels=channels,
        window_height=geometry.window[0],
        window_width=geometry.window[1],
        stride_y=geometry.stride[0],
        stride_x=geometry.stride[1],
        padding_y=geometry.padding[0],
        padding_x=geometry.padding[1],
        groups=geometry.groups,
        contiguous=geometry.groups == 1 and geometry.stride[1] == 1,
    )
    reached = _reached(geometry, source)
    return Link(index, connection.source, laid.reshape(-1), window, reached)


def _reached(geometry: Geometry, source: Shape) -> NDArray[np.bool_] | None:
    """Return which pixels of the source lie in some target's window; None if all do."""
    axes = zip(
        source[1:],
        geometry.output_shape(source)[1:],
        geometry.window,
        geometry.stride,
        geometry.padding,
        strict=True,
    )
    rows, columns = (_covered(*axis) for axis in axes)
    pixels: NDArray[np.bool_] = np.logical_and.outer(rows, columns).reshape(-1)
    return None if pixels.all() else pixels


def _covered(size: int, targets: int, window: int, stride: int, padding: int) -> NDArray[np.bool_]:
    """Return which of ``size`` places along an axis lie in some target's window."""
    covered = np.zeros(size + 2 * padding, np.bool_)
    for target in range(targets):
        covered[target * stride : target * stride + window] = True
    return covered[padding : padding + size]

"""The integer network's weights in Lava's layouts; numpy alone.

Lava's Conv computes on (W, H, C) and truly convolves, so every array is turned around here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dsr_deploy.hardware.bounds import partial_sum_bound
from dsr_deploy.hardware.errors import RegisterError
from dsr_deploy.hardware.geometry import Shape
from dsr_deploy.hardware.network import (
    V_MAX,
    Connection,
)

Int32 = NDArray[np.int32]

INT8_MAX = 127
"""Lava's Conv holds its kernel size, stride, padding and groups in int8, 128 groups are none."""

INT32_MAX = (1 << 31) - 1

CONV_PAIRS = 256
"""Channel pairs up to which Lava's Conv is used for its own sake: it computes them one by one,
35 to 140 us each, and a Sparse of the same synapses needs 2 ns per synapse."""

SPARSE_SYNAPSES = 4_000_000
"""Synapses up to which a Sparse stands in for a slow Conv; each takes 8 bytes."""


@dataclass(frozen=True, eq=False)
class Synapses:
    """A connection as single synapses, of weight ``weight`` each; int32, (S,).

    ``target`` and ``source`` count neurons in (W, H, C) order.
    """

    target: Int32
    source: Int32
    weight: Int32


def turned(shape: Shape) -> Shape:
    """Return (W, H, C) for (C, H, W)."""
    return (shape[2], shape[1], shape[0])


def conv_kernel(connection: Connection, source: Shape) -> Int32:
    """Return the kernel of a conv or pool for Lava's Conv, exponent included.

    Conv ignores its ``weight_exp`` and clips no weight, so the weights carry the exponent.

    Returns
    -------
    int32, (C_out, KW, KH, C_in / groups)
    """
    weight = connection.as_convolution(source).astype(np.int32) << connection.exponent
    return np.ascontiguousarray(weight[:, :, ::-1, ::-1].transpose(0, 3, 2, 1))


def dense_weight(connection: Connection, source: Shape) -> Int32:
    """Return a linear connection's weights for a source in (W, H, C) order; int32, (out, in)."""
    out = len(connection.weight)
    columns = connection.weight.reshape(out, *source).swapaxes(1, 3).reshape(out, -1)
    return columns.astype(np.int32)


def synapses(connection: Connection, source: Shape) -> Synapses:
    """Return every nonzero synapse of a conv, pool or identity connection, without exponent.

    Parameters
    ----------
    source : (C, H, W) of the source
    """
    channels, height, width = source
    geometry = connection.geometry.as_convolution(source)
    out_channels, out_height, out_width = geometry.output_shape(source)
    weight = connection.as_convolution(source).astype(np.int32)
    per_group, (kernel_height, kernel_width) = weight.shape[1], geometry.window
    # One axis each: target channel, channel within its group, target y, target x, kernel y, x.
    o, c, ty, tx, ky, kx = np.ogrid[
        :out_channels,
        :per_group,
        :out_height,
        :out_width,
        :kernel_height,
        :kernel_width,
    ]
    y = ty * geometry.stride[0] + ky - geometry.padding[0]
    x = tx * geometry.stride[1] + kx - geometry.padding[1]
    channel = o // (out_channels // geometry.groups) * per_group + c
    value = weight[o, c, ky, kx]
    exists = (value != 0) & (y >= 0) & (y < height) & (x >= 0) & (x < width)
    columns = (
        (tx * out_height + ty) * out_channels + o,
        (x * height + y) * channels + channel,
        value,
    )
    target, source_index, value = (
        np.broadcast_to(column, exists.shape)[exists].astype(np.int32) for column in columns
    )
    return Synapses(target, source_index, value)


def largest_sum(connection: Connection, payloads: tuple[int, int]) -> int:
    """Return the largest magnitude that the connection's sum can take, exponent included.

    Parameters
    ----------
    payloads : the smallest and largest that the source sends
    """
    bound = partial_sum_bound(connection, payloads).max(initial=0)
    return int(bound) << connection.exponent


def takes_conv(connection: Connection, source: Shape, payloads: tuple[int, int]) -> bool:
    """Return whether ``connection`` becomes one of Lava's Conv, not a Sparse or Dense.

    It must be exact there, where sums wrap at 24 bits, and not much slower.

    Parameters
    ----------
    connection : of any kind
    source : (C, H, W) of its source
    payloads : the smallest and largest that the source sends
    """
    if connection.kind not in ("conv", "pool"):
        return False
    geometry = connection.geometry.as_convolution(source)
    int8 = max(geometry.groups, *geometry.window, *geometry.stride, *geometry.padding)
    if int8 > INT8_MAX or largest_sum(connection, payloads) > V_MAX:
        return False
    pairs = math.prod(geometry.weight_shape[:2])
    count = pairs * math.prod(geometry.window) * math.prod(geometry.output_shape(source)[1:])
    return pairs <= CONV_PAIRS or count > SPARSE_SYNAPSES


def check_sum(connection: Connection, payloads: tuple[int, int]) -> None:
    """Raise RegisterError where Lava's Dense and Sparse, which sum in 32 bits, could overflow.

    They hold doubled weights, see :func:`dsr_deploy.hardware.lava.assemble.matrix_options`.
    """
    largest = 2 * largest_sum(connection, payloads)
    if largest > INT32_MAX:
        raise RegisterError(
            f"connection '{connection.name}': sums up to {largest // 2}, Lava holds up to "
            f"{INT32_MAX // 2}; give it a smaller exponent"
        )

"""The arrays on which the kernels work.

Neurons stand channels last: pixel ``y * width + x``, then the channel, whose number is filled up
to a multiple of 8 with channels that never fire. What a population sends at one timestep is a list
of events grouped by pixel: pixel ``p`` sends on the channels ``channels[starts[p]:starts[p + 1]]``,
with as many payloads if it is an input (a spike's payload is 1).
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

Int32 = NDArray[np.int32]

FILL: Final = 8
"""A pixel's channels are filled up to a multiple of it."""

WORD: Final = 8
"""Bytes of spikes' bits are read as many at a time, so as many must be there after the last one."""


class Wiring(NamedTuple):
    """A connection, as a grouped convolution.

    A row of weights is what one source channel sends to the targets of one row, from left to
    right. With a stride, the columns of a window that meet the same source column stand together.

    Attributes
    ----------
    weight : int8, flat (source channel, window row, window column, target channel of the group);
        empty if ``wide`` holds the weights
    wide : int32, the same for weights that 8 bits do not hold
    rows : int32 (source height, 3): first target row, how many there are, window row of the first
    columns : int32 (source width, 3): first target column, how many, place of the first one's
        window column among the columns of ``weight``
    fan : int32 (source pixels,), target neurons of one event
    channel, line : elements of ``weight`` per source channel and per window row
    stride : window rows from a target row to the next
    target_line, target_pixel : elements of the sums per target row and pixel
    fan_in, per_group : source and target channels of a group
    groups : how many there are
    chunk : rows of ``weight`` that may be added up in 8 bits if ``narrow``, else in 16
    """

    weight: NDArray[np.int8]
    wide: Int32
    rows: Int32
    columns: Int32
    fan: Int32
    channel: int
    line: int
    stride: int
    target_line: int
    target_pixel: int
    fan_in: int
    per_group: int
    groups: int
    chunk: int
    narrow: bool


class Events(NamedTuple):
    """What a source sends in a block of timesteps.

    Attributes
    ----------
    starts : int32 (timesteps, pixels + 1)
    channels : uint16 or int32 (timesteps, neurons), as many as there are events are valid
    payloads : int8 (timesteps, neurons) of the input; of a population (timesteps, 0)
    """

    starts: Int32
    channels: NDArray[Any]
    payloads: NDArray[np.int8]


class Neurons(NamedTuple):
    """The neurons of a population in one thread, in chunks of as many as there are parameters.

    Attributes
    ----------
    v : int32 or int64 (chunks, chunk); not checked after the reset, so 24 bits may not hold it
    total : int16, int32 or int64 (chunks, chunk), the sums, 0 between timesteps
    constant : as ``v``, what arrives at every timestep: the bias and the current of an image that
        does not change; (1, chunk) of the bias alone unless the population ``holds`` an image
    bias, v_fire, v_threshold : as ``v`` (chunk,)
    counts : uint16, flat (pixels, channels), spikes of each neuron
    bits : uint8 (chunk / 8 + 8,), scratch: which neurons of a chunk fire
    held_exponent, exponent : the image's sums, and all others, are in units of 2 to the power of it
    keep : 4096 - decay
    width : channels of a pixel
    """

    v: NDArray[Any]
    total: NDArray[Any]
    constant: NDArray[Any]
    bias: NDArray[Any]
    v_fire: NDArray[Any]
    v_threshold: NDArray[Any]
    counts: NDArray[np.uint16]
    bits: NDArray[np.uint8]
    held_exponent: int
    exponent: int
    keep: int
    width: int
    holds: bool

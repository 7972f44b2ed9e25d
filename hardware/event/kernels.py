"""The inner loops of the event-driven simulator, compiled by numba, without the interpreter's lock.

Neurons stand channels last: pixel ``y * width + x``, then the channel. What a population sends at
one timestep is a list of events grouped by pixel: pixel ``p`` sends on the channels
``channels[starts[p]:starts[p + 1]]``, with as many payloads (1 for a spike).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from dsr_deploy.compiled import compiled

Int32 = NDArray[np.int32]
Int64 = NDArray[np.int64]


class Window(NamedTuple):
    """A grouped convolution, the form in which the simulator sees every connection.

    These are the numbers of a :class:`dsr_deploy.hardware.geometry.Geometry` as numba takes them.

    Attributes
    ----------
    contiguous : True if the targets of one event in one row are neighbours in memory
        (stride 1, one group), so that they are served by a single run over the weights
    """

    source_width: int
    target_height: int
    target_width: int
    target_channels: int
    window_height: int
    window_width: int
    stride_y: int
    stride_x: int
    padding_y: int
    padding_x: int
    groups: int
    contiguous: bool


@njit(nogil=True, inline="always")  # type: ignore[misc, unused-ignore]
def _add(total: Any, at: int, weight: Any, start: int, count: int, payload: int) -> None:
    """Add ``count`` weights from ``start`` on, times the payload, to the sums from ``at`` on."""
    # Slices, not offsets: only then does the compiler use vector instructions.
    sums = total[at : at + count]
    row = weight[start : start + count]
    if payload == 1:
        for i in range(count):
            sums[i] += row[i]
    else:
        for i in range(count):
            sums[i] += row[i] * payload


@compiled(nogil=True)
def scatter(
    starts: Int32,
    channels: Int32,
    payloads: NDArray[np.int8],
    weight: NDArray[Any],
    total: NDArray[Any],
    window: Window,
) -> int:
    """Add the weights of every event to the sums of its targets.

    Parameters
    ----------
    starts, channels, payloads : events of the source, see the module
    weight : int8 or int32, flat (C_in / groups, KH, KW reversed, C_out); reversed because a row's
        targets from left to right meet the kernel from right to left
    total : int16, int32 or int64, flat (H, W, C_out); the caller proves that no sum leaves it

    Returns
    -------
    Number of synaptic operations: (event, target neuron) pairs that exist.
    """
    width, kh, kw = window.source_width, window.window_height, window.window_width
    out_channels = window.target_channels
    per_group = out_channels // window.groups
    fan = weight.size // (kh * kw * out_channels)
    delivered = 0
    for pixel in range(len(starts) - 1):
        first, last = starts[pixel], starts[pixel + 1]
        if first == last:
            continue
        y = pixel // width + window.padding_y
        x = pixel % width + window.padding_x
        top = max(0, (y - kh) // window.stride_y + 1)
        bottom = min(window.target_height, y // window.stride_y + 1)
        left = max(0, (x - kw) // window.stride_x + 1)
        right = min(window.target_width, x // window.stride_x + 1)
        if top >= bottom or left >= right:
            continue
        for target_y in range(top, bottom):
            ky = y - target_y * window.stride_y
            at = (target_y * window.target_width + left) * out_channels
            column = kw - 1 - x + left * window.stride_x
            for event in range(first, last):
                if window.contiguous:
                    row = (channels[event] * kh + ky) * kw + column
                    count = (right - left) * out_channels
                    _add(total, at, weight, row * out_channels, count, payloads[event])
                    continue
                group = channels[event] // fan
                row = ((channels[event] - group * fan) * kh + ky) * kw + column
                shift = group * per_group
                for step in range(right - left):
                    to = at + step * out_channels + shift
                    start = (row + step * window.stride_x) * out_channels + shift
                    _add(total, to, weight, start, per_group, payloads[event])
        delivered += (last - first) * (bottom - top) * (right - left) * per_group
    return delivered


@compiled(nogil=True)
def advance(
    v: Int64,
    total: NDArray[Any],
    exponent: int,
    constant: Int64,
    v_fire: Int64,
    v_threshold: Int64,
    keep: int,
    fired: NDArray[np.bool_],
) -> tuple[np.int64, np.int64]:
    """Advance the neurons of a population by one timestep and clear their sums.

    ::

        u = trunc(v * keep / 4096) + constant + total * 2**exponent
        fired = u >= v_fire
        v = u - v_threshold * fired

    Parameters
    ----------
    v : int64, (pixels, C); it is not checked after the reset, so 32 bits may not hold it
    total : int16, int32 or int64, (pixels, C), set to zero
    constant : int64, (pixels, C) or (1, C), what arrives at every timestep: the bias, and the
        current of an image that does not change
    v_fire, v_threshold : int64, (C,)
    keep : 4096 - decay
    fired : bool, (pixels, C), written

    Returns
    -------
    Smallest and largest u.
    """
    pixels, count = v.shape
    low, high = np.int64(2**62), np.int64(-(2**62))
    for pixel in range(pixels):
        arriving = constant[pixel if len(constant) > 1 else 0]
        for c in range(count):
            u = v[pixel, c]
            if keep != 4096:
                scaled = u * keep
                # An arithmetic shift rounds down; adding 4095 to a negative one rounds to zero.
                u = (scaled + ((scaled >> 63) & 4095)) >> 12
            u += arriving[c] + (np.int64(total[pixel, c]) << exponent)
            total[pixel, c] = 0
            low = min(low, u)
            high = max(high, u)
            spike = u >= v_fire[c]
            fired[pixel, c] = spike
            v[pixel, c] = u - v_threshold[c] if spike else u
    return low, high


@compiled(nogil=True)
def collect(fired: NDArray[np.bool_], starts: Int32, channels: Int32, counts: Int64) -> int:
    """List the spikes of one timestep as events, and count them per neuron.

    Parameters
    ----------
    fired : bool, (pixels, C)
    starts : int32, (pixels + 1,), written
    channels : int32, (pixels * C,), as many as there are spikes are written
    counts : int64, (pixels, C), increased by one per spike

    Returns
    -------
    Number of spikes.
    """
    pixels, count = fired.shape
    spikes = 0
    for pixel in range(pixels):
        starts[pixel] = spikes
        for c in range(count):
            if fired[pixel, c]:
                channels[spikes] = c
                counts[pixel, c] += 1
                spikes += 1
    starts[pixels] = spikes
    return spikes

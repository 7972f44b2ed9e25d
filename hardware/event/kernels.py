"""The inner loops of the event-driven simulator, compiled by numba, without the interpreter's lock.

Their arrays are described in :mod:`dsr_deploy.hardware.event.arrays`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from dsr_deploy.compiled import compiled
from dsr_deploy.hardware.event.arrays import Events, Neurons, Wiring
from dsr_deploy.hardware.event.vectors import (
    add_product,
    add_rows,
    integrate,
    leak_and_integrate,
    lowest_bit,
    word,
)

Int32 = NDArray[np.int32]
Int64 = NDArray[np.int64]


@compiled(nogil=True)
def run(
    samples: int,
    steps: int,
    begin: bool,
    held: tuple[Wiring, ...],
    image: Events,
    wirings: tuple[Wiring, ...],
    sources: tuple[Events, ...],
    neurons: Neurons,
    sent: Events,
    counted: Int64,
) -> tuple[int, int]:
    """Run a population through a block: some samples, one after the other, for some timesteps.

    Row ``sample * steps + timestep`` of all events is of one moment, row ``sample`` of the image's
    of all moments of a sample.

    Parameters
    ----------
    begin : whether the samples begin, at rest; else the one sample goes on
    held, image : connections from an image that is the same at every timestep
    wirings, sources : the other connections, and what the source of each sends
    sent : written
    counted : int64 (held and wirings, 2), increased by what :func:`scatter` returns

    Returns
    -------
    Smallest and largest potential before the reset.
    """
    low: Any = np.int64(0)
    high: Any = np.int64(0)
    total = neurons.total.reshape(-1)
    for sample in range(samples):
        if begin:
            neurons.v[:] = 0
            for i in range(len(held)):
                starts, channels = image.starts[sample], image.channels[sample]
                events, synops = scatter(held[i], starts, channels, image.payloads[sample], total)
                counted[i, 0] += events
                counted[i, 1] += synops
            _hold(neurons)
        for row in range(sample * steps, (sample + 1) * steps):
            for i in range(len(wirings)):
                starts, channels = sources[i].starts[row], sources[i].channels[row]
                payloads = sources[i].payloads[row]
                events, synops = scatter(wirings[i], starts, channels, payloads, total)
                counted[len(held) + i, 0] += events
                counted[len(held) + i, 1] += synops
            least, most = advance(neurons, sent.starts[row], sent.channels[row])
            low, high = min(low, least), max(high, most)
    return low, high


@njit(nogil=True)  # type: ignore[misc, unused-ignore]
def _hold(neurons: Any) -> None:
    """Add the sums, of an image, to the bias; clear them."""
    if not neurons.holds:
        return
    kind = neurons.v.dtype.type
    for chunk in range(len(neurons.total)):
        for i in range(len(neurons.bias)):
            current = kind(neurons.total[chunk, i]) << neurons.held_exponent
            neurons.constant[chunk, i] = neurons.bias[i] + current
            neurons.total[chunk, i] = 0


@compiled(nogil=True)
def pack(payload: NDArray[np.int8], starts: Int32, channels: Any, payloads: Any) -> None:
    """List the nonzero payloads of one frame, int8 (C, pixels), as events; see Events."""
    events = 0
    for pixel in range(payload.shape[1]):
        starts[pixel] = events
        for channel in range(len(payload)):
            if payload[channel, pixel] != 0:
                channels[events] = channel
                payloads[events] = payload[channel, pixel]
                events += 1
    starts[payload.shape[1]] = events


@njit(nogil=True, inline="always")  # type: ignore[misc, unused-ignore]
def scatter(
    wiring: Wiring,
    starts: Int32,
    channels: NDArray[Any],
    payloads: NDArray[np.int8],
    total: NDArray[Any],
) -> tuple[int, int]:
    """Add the weights of every event to the sums of its targets.

    Parameters
    ----------
    starts, channels, payloads : of one timestep, see :class:`Events`
    total : int16, int32 or int64, flat; the caller proves that no sum leaves it

    Returns
    -------
    Number of events whose neuron has a target, and of synaptic operations: (event, target neuron)
    pairs that exist.
    """
    if len(payloads) or len(wiring.wide):
        _scatter_products(wiring, starts, channels, payloads, total)
    elif wiring.groups == 1:
        _scatter_spikes(wiring, starts, channels, total)
    elif wiring.per_group == 1:
        _scatter_single(wiring, starts, channels, total)
    else:
        _scatter_groups(wiring, starts, channels, total)
    carried = delivered = 0
    for pixel in range(len(wiring.fan)):
        events = starts[pixel + 1] - starts[pixel]
        carried += events * (wiring.fan[pixel] > 0)
        delivered += events * wiring.fan[pixel]
    return carried, delivered


@njit(nogil=True)  # type: ignore[misc, unused-ignore]
def _scatter_spikes(wiring: Any, starts: Any, channels: Any, total: Any) -> None:
    """Add the rows of spikes, several of a pixel at a time; without groups."""
    weight, narrow, chunk = wiring.weight, wiring.narrow, wiring.chunk
    offsets = np.empty(chunk, np.intp)
    pixel = 0
    for y in range(len(wiring.rows)):
        rows = wiring.rows[y, 1]
        first_at = wiring.rows[y, 0] * wiring.target_line
        first_shift = wiring.rows[y, 2] * wiring.line
        for x in range(len(wiring.columns)):
            first, last = starts[pixel], starts[pixel + 1]
            pixel += 1
            if first == last:
                continue
            count = wiring.columns[x, 1] * wiring.per_group
            at = first_at + wiring.columns[x, 0] * wiring.target_pixel
            shift = first_shift + wiring.columns[x, 2] * wiring.per_group
            for start in range(first, last, chunk):
                number = min(last - start, chunk)
                for i in range(number):
                    offsets[i] = channels[start + i] * wiring.channel
                to, by = at, shift
                for _ in range(rows):
                    add_rows(total, to, weight, offsets, number, by, count, narrow)
                    to += wiring.target_line
                    by -= wiring.stride * wiring.line


@njit(nogil=True)  # type: ignore[misc, unused-ignore]
def _scatter_groups(wiring: Any, starts: Any, channels: Any, total: Any) -> None:
    """Add the rows of spikes where a source channel leads to some of the target channels."""
    offsets = np.zeros(1, np.intp)
    pixel = 0
    for y in range(len(wiring.rows)):
        for x in range(len(wiring.columns)):
            for event in range(starts[pixel], starts[pixel + 1]):
                group = channels[event] // wiring.fan_in
                offsets[0] = channels[event] * wiring.channel
                at = wiring.rows[y, 0] * wiring.target_line + group * wiring.per_group
                at += wiring.columns[x, 0] * wiring.target_pixel
                shift = wiring.rows[y, 2] * wiring.line + wiring.columns[x, 2] * wiring.per_group
                for _ in range(wiring.rows[y, 1]):
                    for column in range(wiring.columns[x, 1]):
                        add_rows(
                            total, at + column * wiring.target_pixel, wiring.weight, offsets, 1,
                            shift + column * wiring.per_group, wiring.per_group, False,
                        )  # fmt: skip
                    at += wiring.target_line
                    shift -= wiring.stride * wiring.line
            pixel += 1


@njit(nogil=True)  # type: ignore[misc, unused-ignore]
def _scatter_single(wiring: Any, starts: Any, channels: Any, total: Any) -> None:
    """Add the weights of spikes where every group has one target channel."""
    pixel = 0
    for y in range(len(wiring.rows)):
        for x in range(len(wiring.columns)):
            first_at = wiring.rows[y, 0] * wiring.target_line
            first_at += wiring.columns[x, 0] * wiring.target_pixel
            first_shift = wiring.rows[y, 2] * wiring.line + wiring.columns[x, 2]
            for event in range(starts[pixel], starts[pixel + 1]):
                channel = channels[event]
                # A division takes longer than all the rest of an event of a pool or an identity.
                at = first_at + (channel if wiring.fan_in == 1 else channel // wiring.fan_in)
                shift = first_shift + channel * wiring.channel
                for _ in range(wiring.rows[y, 1]):
                    for column in range(wiring.columns[x, 1]):
                        total[at + column * wiring.target_pixel] += wiring.weight[shift + column]
                    at += wiring.target_line
                    shift -= wiring.stride * wiring.line
            pixel += 1


@njit(nogil=True)  # type: ignore[misc, unused-ignore]
def _scatter_products(wiring: Any, starts: Any, channels: Any, payloads: Any, total: Any) -> None:
    """Add the weights of events, times their payloads, whatever the width and the groups."""
    pixel = 0
    for y in range(len(wiring.rows)):
        for x in range(len(wiring.columns)):
            columns, run = wiring.columns[x, 1], wiring.per_group
            if wiring.groups == 1:
                columns, run = 1, columns * run  # the targets in a row are neighbours in memory
            for event in range(starts[pixel], starts[pixel + 1]):
                payload = payloads[event] if len(payloads) else 1
                group = channels[event] // wiring.fan_in
                at = wiring.rows[y, 0] * wiring.target_line + group * wiring.per_group
                at += wiring.columns[x, 0] * wiring.target_pixel
                shift = channels[event] * wiring.channel + wiring.rows[y, 2] * wiring.line
                shift += wiring.columns[x, 2] * wiring.per_group
                for _ in range(wiring.rows[y, 1]):
                    for column in range(columns):
                        to, by = at + column * wiring.target_pixel, shift + column * run
                        if len(wiring.wide):
                            # Slices, not offsets: only then does numba use vector instructions.
                            sums, row = total[to : to + run], wiring.wide[by : by + run]
                            for i in range(run):
                                sums[i] += np.int64(row[i]) * payload
                        else:
                            add_product(total, to, wiring.weight, by, payload, run)
                    at += wiring.target_line
                    shift -= wiring.stride * wiring.line
            pixel += 1


@njit(nogil=True)  # type: ignore[misc, unused-ignore]
def advance(neurons: Neurons, starts: Int32, channels: NDArray[Any]) -> tuple[int, int]:
    """Advance the neurons of a population by one timestep, clear their sums and list the spikes.

    ::

        u = trunc(v * keep / 4096) + constant + total * 2**exponent
        fired = u >= v_fire
        v = u - v_threshold * fired

    Parameters
    ----------
    starts, channels : of one timestep, written, see :class:`Events`

    Returns
    -------
    Smallest and largest u, of which 0, where every potential begins, is always one.
    """
    low: Any = np.int64(0)
    high: Any = np.int64(0)
    spikes = pixel = 0
    width, bits = neurons.width, neurons.bits
    fire, threshold, exponent = neurons.v_fire, neurons.v_threshold, neurons.exponent
    for chunk in range(len(neurons.v)):
        v, total = neurons.v[chunk], neurons.total[chunk]
        arriving = neurons.constant[chunk if neurons.holds else 0]
        if neurons.keep == 4096:
            least, most = integrate(v, total, arriving, fire, threshold, bits, exponent)
        else:
            least, most = leak_and_integrate(
                v, total, arriving, fire, threshold, bits, exponent, neurons.keep
            )
        low, high = min(low, least), max(high, most)
        for first in range(0, len(fire), width):
            starts[pixel] = spikes
            for c in range(0, width, 64):
                fired = word(bits, (first + c) // 8)
                if width - c < 64:
                    fired &= (np.uint64(1) << np.uint64(width - c)) - np.uint64(1)
                while fired:
                    channel = c + lowest_bit(fired)
                    fired &= fired - np.uint64(1)
                    channels[spikes] = channel
                    neurons.counts[pixel * width + channel] += 1
                    spikes += 1
            pixel += 1
    starts[pixel] = spikes
    return low, high


@compiled(nogil=True)
def unpack(starts: Int32, channels: NDArray[Any], fired: NDArray[np.bool_]) -> None:
    """Set the flags, bool (C, pixels), of one moment's events."""
    for pixel in range(len(starts) - 1):
        for event in range(starts[pixel], starts[pixel + 1]):
            fired[channels[event], pixel] = True

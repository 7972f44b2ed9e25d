"""The passes over time on a CPU: each reads the currents once, in blocks that stay in the L1 cache.

Arrays are (T, M, C): M = N * H * W positions, channels last. Every inner loop runs from 0 over a
flat block, so that the compiler uses the processor's vector width; an index that it cannot know to
be positive keeps it from that. Nothing is reordered or fused (no fastmath), so that the spikes are
those of the same operations in torch. The result does not depend on the number of threads.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import prange
from numpy.typing import NDArray

from dsr_deploy.compiled import compiled

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
U8 = NDArray[np.uint8]

BLOCK = 1024


@compiled()
def _rows_per_block(channels: int) -> int:
    return max(1, BLOCK // channels)


@compiled(parallel=True)
def moments(current: F32, weights: F32, mean: F32) -> F64:
    """Sum over time, and each block's sums over positions.

    Parameters
    ----------
    current : (T or 1, M, C); one step stands for all T
    weights : (T,), of the mean over time
    mean : (M, C), receives the weighted mean

    Returns
    -------
    (2, blocks, C): sums and sums of squares over the steps given
    """
    steps, positions, channels = current.shape
    rows = _rows_per_block(channels)
    blocks = (positions + rows - 1) // rows
    sums = np.zeros((2, blocks, channels), np.float64)
    for block in prange(blocks):
        low, high = block * rows, min(positions, (block + 1) * rows)
        width = (high - low) * channels
        total = np.zeros(width, np.float64)
        square = np.zeros(width, np.float64)
        out = mean[low:high].reshape(width)
        out[:] = 0
        for t in range(steps):
            x = current[t, low:high].reshape(width)
            weight = weights[t] if steps > 1 else np.float32(1)
            for j in range(width):
                out[j] += weight * x[j]
                wide = np.float64(x[j])
                total[j] += wide
                square[j] += wide * wide
        for j in range(width):
            sums[0, block, j % channels] += total[j]
            sums[1, block, j % channels] += square[j]
    return sums


@compiled(parallel=True)
def fire(
    current: F32,
    scale: F32,
    shift: F32,
    weights: F32,
    leak: np.float32,
    gain: np.float32,
    v_fire: np.float32,
    v_threshold: np.float32,
    packed: U8,
    rate: F32,
) -> None:
    """Run the neurons over ``scale * current + shift``.

    Parameters
    ----------
    current : (T or 1, M, C)
    scale, shift : (C,)
    weights : (T,), of the rate
    packed : (ceil(T / 8), M, C), receives the spikes: bit t % 8 of plane t // 8
    rate : (M, C), receives the weighted mean of the spikes
    """
    steps, positions, channels = current.shape
    timesteps = len(weights)
    rows = _rows_per_block(channels)
    blocks = (positions + rows - 1) // rows
    one, zero = np.float32(1), np.float32(0)
    for block in prange(blocks):
        low, high = block * rows, min(positions, (block + 1) * rows)
        width = (high - low) * channels
        scales, shifts = np.empty(width, np.float32), np.empty(width, np.float32)
        for j in range(width):
            scales[j] = scale[j % channels]
            shifts[j] = shift[j % channels]
        v = np.zeros(width, np.float32)
        byte = np.zeros(width, np.float32)
        out = rate[low:high].reshape(width)
        out[:] = 0
        for t in range(timesteps):
            x = current[t if steps > 1 else 0, low:high].reshape(width)
            bit, weight = np.float32(1 << (t % 8)), weights[t]
            for j in range(width):
                u = leak * v[j] + gain * (x[j] * scales[j] + shifts[j])
                s = one if u >= v_fire else zero
                v[j] = u - v_threshold * s
                byte[j] += bit * s
                out[j] += weight * s
            if t % 8 == 7 or t == timesteps - 1:
                target = packed[t // 8, low:high].reshape(width)
                for j in range(width):
                    target[j] = np.uint8(byte[j])
                    byte[j] = zero


@compiled(parallel=True)
def expand(packed: U8, first: int, one: Any, out: NDArray[Any]) -> None:
    """Write ``one`` for each spike of the timesteps from ``first`` on to ``out``, 0 elsewhere.

    Parameters
    ----------
    packed : (ceil(T / 8), M)
    one : scalar of out's type
    out : (K, M), K timesteps
    """
    steps, positions = out.shape
    blocks = (positions + BLOCK - 1) // BLOCK
    zero = one - one
    for block in prange(blocks):
        low, high = block * BLOCK, min(positions, (block + 1) * BLOCK)
        for k in range(steps):
            plane, bit = packed[(first + k) // 8, low:high], np.uint8(1 << ((first + k) % 8))
            row = out[k, low:high]
            for j in range(high - low):
                row[j] = one if plane[j] & bit else zero


@compiled(parallel=True)
def add_spikes(packed: U8, height: np.float32, total: F32) -> None:
    """Add ``height`` for each spike.

    Parameters
    ----------
    packed : (ceil(T / 8), M)
    total : (T, M)
    """
    steps, positions = total.shape
    blocks = (positions + BLOCK - 1) // BLOCK
    for block in prange(blocks):
        low, high = block * BLOCK, min(positions, (block + 1) * BLOCK)
        for t in range(steps):
            plane, bit = packed[t // 8, low:high], np.uint8(1 << (t % 8))
            row = total[t, low:high]
            for j in range(high - low):
                row[j] += height if plane[j] & bit else np.float32(0)


@compiled(parallel=True)
def fire_integer(
    current: NDArray[np.floating],
    bias: F64,
    v_fire: F64,
    v_threshold: F64,
    keep: np.float64,
    weights: F32,
    packed: U8,
    rate: F32,
) -> F64:
    """Run integer neurons, whose values are carried exactly in floats.

    Parameters
    ----------
    current : float32 or float64 (T or 1, M, C), whole numbers
    bias, v_fire, v_threshold : (C,), whole numbers
    keep : (4096 - decay) / 4096, exact; a product with a 24-bit v is exact in float64
    weights, packed, rate : as for :func:`fire`

    Returns
    -------
    (2, blocks): smallest and largest potential before the spike test
    """
    steps, positions, channels = current.shape
    timesteps = len(weights)
    rows = _rows_per_block(channels)
    blocks = (positions + rows - 1) // rows
    extremes = np.zeros((2, blocks), np.float64)
    for block in prange(blocks):
        low, high = block * rows, min(positions, (block + 1) * rows)
        width = (high - low) * channels
        biases, fires = np.empty(width, np.float64), np.empty(width, np.float64)
        thresholds = np.empty(width, np.float64)
        for j in range(width):
            biases[j] = bias[j % channels]
            fires[j] = v_fire[j % channels]
            thresholds[j] = v_threshold[j % channels]
        v = np.zeros(width, np.float64)
        byte = np.zeros(width, np.float32)
        out = rate[low:high].reshape(width)
        out[:] = 0
        least, most = np.full(width, np.inf, np.float64), np.full(width, -np.inf, np.float64)
        for t in range(timesteps):
            x = current[t if steps > 1 else 0, low:high].reshape(width)
            bit, weight = np.float32(1 << (t % 8)), weights[t]
            for j in range(width):
                u = np.trunc(v[j] * keep) + (x[j] + biases[j])
                least[j] = u if u < least[j] else least[j]
                most[j] = u if u > most[j] else most[j]
                s = 1.0 if u >= fires[j] else 0.0
                v[j] = u - thresholds[j] * s
                byte[j] += bit * np.float32(s)
                out[j] += weight * np.float32(s)
            if t % 8 == 7 or t == timesteps - 1:
                target = packed[t // 8, low:high].reshape(width)
                for j in range(width):
                    target[j] = np.uint8(byte[j])
                    byte[j] = np.float32(0)
        extremes[0, block], extremes[1, block] = least.min(), most.max()
    return extremes

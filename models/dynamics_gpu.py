"""The passes over time on a GPU, as Triton kernels: each reads the currents once.

Tensors are contiguous and channels last, (T, N, H, W, C). A program owns a block of flat positions
of one timestep and walks along T with its neurons in registers, so a current is read once
and nothing but bytes, rates and means is written. Sums go through one partial result per
program, never through atomics: every run gives the same bits.

Spikes are those of the CPU kernels bit for bit, given the same currents, for which every product
and every sum must be rounded by itself; see :data:`MINUS_ZERO`.

What bounds a training step on a GPU (estimated, NOT measured; PreAct-ResNet-18, T = 20, batch 128,
a card of the H100 class that reaches 2.5 TB/s of copies, 400 TFLOP/s in bf16 and 40 in float32).
A forward pass has 1.43e9 neuron-timesteps. In bf16 each moves about 28 bytes: spikes expanded and
read 2 + 2, the convolution's result 2, set to zero and added in float32 4 + 2 + 4 + 4,
:func:`moments` and :func:`fire` 4 + 4; that is 40 GB, 16 ms. The convolutions are 2.8 TFLOP forward
and a tenth of that backward, whatever T is: 8 ms in bf16. So memory bounds the step there, and
the first gain is to let the convolution's bf16 result be the current (10 to 12 bytes); in float32
the convolutions take 80 ms and bound it.
"""

from __future__ import annotations

from functools import lru_cache

import torch
import triton
import triton.language as tl
from torch import Tensor

from dsr_deploy.models.neuron import Neuron

BLOCK = 1024
"""Values of a timestep per program: 8 per thread, loads of 16 bytes."""

MAX_COLUMNS = 128
"""Most channels per program of :func:`moments`; its rows fill up the block."""

MINUS_ZERO = -0.0
"""Addend of a product that must be rounded before anything is added to it.

A compiler may turn a * b + c into one instruction that rounds once; a potential that the CPU rounds
twice would then differ in its last bit, and now and then a spike. Triton's launch option against it
(enable_fp_fusion=False) does not hold on Blackwell, where ptxas 12.9 joins pairs of products and
sums all the same. fma(a, b, -0.0) is the rounded product, whatever its sign, and nothing is left to
join as long as the compiler does not know the zero: it is an argument.
"""


def moments(current: Tensor, neuron: Neuron) -> tuple[Tensor, Tensor, Tensor]:
    """Return a current's mean over time, and per channel its sum and sum of squares.

    Parameters
    ----------
    current : float32 (T, N, H, W, C), or (1, N, H, W, C) if it is constant

    Returns
    -------
    mean : float32 (N, H, W, C), weighted as the neuron's representation is
    sum, square : float64 (C,), over the steps given, positions and samples
    """
    current = current.contiguous()
    steps, channels = len(current), current.shape[-1]
    positions = current[0].numel() // channels
    columns = min(triton.next_power_of_2(channels), MAX_COLUMNS)
    rows = BLOCK // columns
    grid = (triton.cdiv(positions, rows), triton.cdiv(channels, columns))
    mean = current.new_empty(current.shape[1:], dtype=torch.float32)
    partial = current.new_empty((2, grid[0], channels), dtype=torch.float64)
    weights = neuron.weights if steps > 1 else (1.0,)
    with torch.cuda.device_of(current):
        _moments[grid](
            current,
            _on_device(weights, current.device),
            mean,
            partial,
            positions,
            channels,
            MINUS_ZERO,
            STEPS=steps,
            ROWS=rows,
            COLUMNS=columns,
            enable_fp_fusion=False,
        )
    total, square = partial.sum(1)
    return mean, total, square


def fire(
    current: Tensor, scale: Tensor, shift: Tensor, v_threshold: Tensor, neuron: Neuron
) -> tuple[Tensor, Tensor]:
    """Run neurons on ``scale * current + shift`` for T timesteps.

    Parameters
    ----------
    current : float32 (T, N, H, W, C) or (1, N, H, W, C)
    scale, shift : float32 (C,)
    v_threshold : float32 scalar; it is not read on the host, so nothing waits for it

    Returns
    -------
    packed : uint8 (ceil(T / 8), N, H, W, C), the spike train
    rate : float32 (N, H, W, C), the weighted mean of the spikes, 0 to 1
    """
    current = current.contiguous()
    packed, rate = _results(current, neuron.timesteps)
    with torch.cuda.device_of(current):
        _fire[(triton.cdiv(rate.numel(), BLOCK),)](
            current,
            scale.contiguous(),
            shift.contiguous(),
            _on_device(neuron.weights, current.device),
            neuron.alpha * v_threshold,
            v_threshold,
            packed,
            rate,
            rate.numel(),
            rate.numel() if len(current) > 1 else 0,
            current.shape[-1],
            neuron.leak,
            neuron.gain,
            MINUS_ZERO,
            T=neuron.timesteps,
            BLOCK=BLOCK,
            enable_fp_fusion=False,
        )
    return packed, rate


def fire_integer(
    current: Tensor,
    bias: Tensor,
    v_fire: Tensor,
    v_threshold: Tensor,
    keep: float,
    weights: Tensor,
) -> tuple[Tensor, Tensor, tuple[int, int]]:
    """Run integer neurons, carried exactly in float64, for T timesteps.

    Parameters
    ----------
    current : float32 or float64 (T, N, H, W, C) or (1, N, H, W, C), whole numbers
    bias, v_fire, v_threshold : float64 (C,), whole numbers
    keep : (4096 - decay) / 4096
    weights : float32 (T,), of the rate

    Returns
    -------
    packed : uint8 (ceil(T / 8), N, H, W, C), the spike train
    rate : float32 (N, H, W, C), the weighted sum of the spikes
    range : smallest and largest potential before the spike test
    """
    current = current.contiguous()
    packed, rate = _results(current, len(weights))
    programs = triton.cdiv(rate.numel(), BLOCK)
    extremes = current.new_empty((2, programs), dtype=torch.float64)
    with torch.cuda.device_of(current):
        _fire_integer[(programs,)](
            current,
            bias,
            v_fire,
            v_threshold,
            weights,
            packed,
            rate,
            extremes,
            rate.numel(),
            rate.numel() if len(current) > 1 else 0,
            current.shape[-1],
            keep,
            T=len(weights),
            BLOCK=BLOCK,
            enable_fp_fusion=False,
        )
    least, most = torch.stack((extremes[0].min(), extremes[1].max())).tolist()
    return packed, rate, (int(least), int(most))


def expand(packed: Tensor, first: int, count: int, dtype: torch.dtype) -> Tensor:
    """Return the spikes from timestep ``first`` on, 0 or 1, ``dtype`` (count, N, H, W, C).

    Parameters
    ----------
    packed : uint8 (ceil(T / 8), N, H, W, C)
    dtype : uint8, bfloat16, float32 or float64
    """
    packed = packed.contiguous()
    out = packed.new_empty((count, *packed.shape[1:]), dtype=dtype)
    size = packed[0].numel()
    with torch.cuda.device_of(packed):
        _expand[(triton.cdiv(size, BLOCK),)](
            packed, out, size, first, COUNT=count, BLOCK=BLOCK, enable_fp_fusion=False
        )
    return out


def add_spikes(total: Tensor, packed: Tensor, height: Tensor) -> None:
    """Add ``height * spike`` to ``total``, float32 (T, N, H, W, C), in place."""
    assert total.is_contiguous()
    size = total[0].numel()
    with torch.cuda.device_of(total):
        _add_spikes[(triton.cdiv(size, BLOCK),)](
            total,
            packed.contiguous(),
            height,
            size,
            T=len(total),
            BLOCK=BLOCK,
            enable_fp_fusion=False,
        )


@lru_cache(maxsize=16)
def _on_device(values: tuple[float, ...], device: torch.device) -> Tensor:
    """Return a neuron's weights as float32; kept, because a copy from the host waits."""
    return torch.tensor(values, dtype=torch.float32, device=device)


def _results(current: Tensor, timesteps: int) -> tuple[Tensor, Tensor]:
    """Return the memory that a spike train and its rate are written to."""
    shape = current.shape[1:]
    packed = current.new_empty(((timesteps + 7) // 8, *shape), dtype=torch.uint8)
    return packed, current.new_empty(shape, dtype=torch.float32)


@triton.jit
def _moments(
    current: tl.tensor,
    weights: tl.tensor,
    mean: tl.tensor,
    partial: tl.tensor,
    positions: tl.tensor,
    channels: tl.tensor,
    minus_zero: tl.tensor,
    STEPS: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
) -> None:
    block = tl.program_id(0)
    row = block.to(tl.int64) * ROWS + tl.arange(0, ROWS)
    channel = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    inside = (row < positions)[:, None] & (channel < channels)[None, :]
    at = row[:, None] * channels + channel[None, :]
    stride = tl.cast(positions, tl.int64) * channels
    average = tl.zeros((ROWS, COLUMNS), tl.float32)
    total = tl.zeros((ROWS, COLUMNS), tl.float64)
    square = tl.zeros((ROWS, COLUMNS), tl.float64)
    for t in range(STEPS):
        x = tl.load(current + t * stride + at, mask=inside, other=0)
        average += tl.fma(tl.load(weights + t), x, minus_zero)
        wide = x.to(tl.float64)
        total += wide
        square += wide * wide
    tl.store(mean + at, average, mask=inside)
    to = partial + block.to(tl.int64) * channels + channel
    plane = tl.cast(tl.num_programs(0), tl.int64) * channels
    tl.store(to, tl.sum(total, 0), mask=channel < channels)
    tl.store(to + plane, tl.sum(square, 0), mask=channel < channels)


@triton.jit
def _channel(channels: tl.tensor, BLOCK: tl.constexpr) -> tl.tensor:
    # One division of 64 bits for the program; the vector's are of 32.
    first = (tl.program_id(0).to(tl.int64) * BLOCK % channels).to(tl.int32)
    return (first + tl.arange(0, BLOCK)) % channels


@triton.jit
def _fire(
    current: tl.tensor,
    scale: tl.tensor,
    shift: tl.tensor,
    weights: tl.tensor,
    v_fire_at: tl.tensor,
    v_threshold_at: tl.tensor,
    packed: tl.tensor,
    rate: tl.tensor,
    size: tl.tensor,
    stride: tl.tensor,
    channels: tl.tensor,
    leak: tl.tensor,
    gain: tl.tensor,
    minus_zero: tl.tensor,
    T: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < size
    channel = _channel(channels, BLOCK)
    scales, shifts = tl.load(scale + channel), tl.load(shift + channel)
    v_fire, v_threshold = tl.load(v_fire_at), tl.load(v_threshold_at)
    step, plane_step = tl.cast(stride, tl.int64), tl.cast(size, tl.int64)
    v = tl.zeros((BLOCK,), tl.float32)
    mean = tl.zeros((BLOCK,), tl.float32)
    for plane in range((T + 7) // 8):
        byte = tl.zeros((BLOCK,), tl.int32)
        for bit in tl.static_range(8):
            t = plane * 8 + bit
            live = tl.where(t < T, inside, False)
            x = tl.load(current + t * step + at, mask=live, other=0)
            normalised = tl.fma(x, scales, minus_zero) + shifts
            u = tl.fma(leak, v, minus_zero) + tl.fma(gain, normalised, minus_zero)
            spike = live & (u >= v_fire)
            v = tl.where(spike, u - v_threshold, u)
            mean += tl.where(spike, tl.load(weights + t, mask=t < T, other=0), 0.0)
            byte |= spike.to(tl.int32) << bit
        tl.store(packed + plane * plane_step + at, byte.to(tl.uint8), mask=inside)
    tl.store(rate + at, mean, mask=inside)


@triton.jit
def _fire_integer(
    current: tl.tensor,
    bias: tl.tensor,
    v_fire: tl.tensor,
    v_threshold: tl.tensor,
    weights: tl.tensor,
    packed: tl.tensor,
    rate: tl.tensor,
    extremes: tl.tensor,
    size: tl.tensor,
    stride: tl.tensor,
    channels: tl.tensor,
    keep: tl.tensor,
    T: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    block = tl.program_id(0)
    at = block.to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < size
    channel = _channel(channels, BLOCK)
    biases, fires = tl.load(bias + channel), tl.load(v_fire + channel)
    thresholds = tl.load(v_threshold + channel)
    step, plane_step = tl.cast(stride, tl.int64), tl.cast(size, tl.int64)
    v = tl.zeros((BLOCK,), tl.float64)
    rates = tl.zeros((BLOCK,), tl.float32)
    least = tl.full((BLOCK,), float("inf"), tl.float64)
    most = tl.full((BLOCK,), float("-inf"), tl.float64)
    for plane in range((T + 7) // 8):
        byte = tl.zeros((BLOCK,), tl.int32)
        for bit in tl.static_range(8):
            t = plane * 8 + bit
            live = tl.where(t < T, inside, False)
            x = tl.load(current + t * step + at, mask=live, other=0).to(tl.float64)
            kept = v * keep
            u = tl.where(kept < 0, tl.ceil(kept), tl.floor(kept)) + (x + biases)
            least = tl.where(live, tl.minimum(least, u), least)
            most = tl.where(live, tl.maximum(most, u), most)
            spike = live & (u >= fires)
            v = tl.where(spike, u - thresholds, u)
            rates += tl.where(spike, tl.load(weights + t, mask=t < T, other=0), 0.0)
            byte |= spike.to(tl.int32) << bit
        tl.store(packed + plane * plane_step + at, byte.to(tl.uint8), mask=inside)
    tl.store(rate + at, rates, mask=inside)
    tl.store(extremes + block, tl.min(least, 0))
    tl.store(extremes + tl.num_programs(0) + block, tl.max(most, 0))


# It would otherwise be compiled again for first = 1 and for the multiples of 16.
@triton.jit(do_not_specialize=["first"])
def _expand(
    packed: tl.tensor,
    out: tl.tensor,
    size: tl.tensor,
    first: tl.tensor,
    COUNT: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < size
    step = tl.cast(size, tl.int64)
    for k in range(COUNT):
        t = first + k
        byte = tl.load(packed + t // 8 * step + at, mask=inside, other=0).to(tl.int32)
        # By way of float32: Triton's interpreter knows no conversion from integers to bfloat16.
        spike = ((byte >> (t % 8)) & 1).to(tl.float32)
        tl.store(out + k * step + at, spike.to(out.dtype.element_ty), mask=inside)


@triton.jit
def _add_spikes(
    total: tl.tensor,
    packed: tl.tensor,
    height_at: tl.tensor,
    size: tl.tensor,
    T: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < size
    step = tl.cast(size, tl.int64)
    height = tl.load(height_at)
    for t in range(T):
        byte = tl.load(packed + t // 8 * step + at, mask=inside, other=0).to(tl.int32)
        sent = tl.where((byte >> (t % 8)) & 1 != 0, height, 0.0)
        to = total + t * step + at
        tl.store(to, tl.load(to, mask=inside, other=0) + sent, mask=inside)

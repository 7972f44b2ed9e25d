"""What a population receives at every timestep: the forward convolutions, without gradient."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from dsr_deploy.models import dynamics
from dsr_deploy.models.float_convolution import FloatConvolution
from dsr_deploy.models.int8_convolution import Int8Convolution
from dsr_deploy.models.signals import Pixels, Signal, Spikes
from dsr_deploy.models.topology import ConnectionSpec

Precision = Literal["fp32", "bf16", "fixed16"]
"""Arithmetic of the forward convolutions of spikes.

``fixed16``: weights rounded to 16 bits, with one scale per channel, and summed exactly; only where
the processor's torch convolves bytes. A weight is off by at most 1 / 65024 of its channel's
largest: more than in float32, much less than in bfloat16, and the same in any order of summation.

``bf16``: weights rounded to bfloat16, sums in float32. Where bfloat16's products are fast, see
:func:`product_dtype`, sums are then rounded too, and convolutions go backward in bfloat16.
"""

CHUNK_BYTES: Final = {"cpu": 8 << 20, "cuda": 1 << 30}
"""Spikes and currents in flight at once. On a CPU larger blocks would come fresh from the
system each time, which costs as much as the convolution."""

HIGH: Final = 256
LARGEST: Final = 127 * HIGH


def add_currents(
    total: Tensor,
    spec: ConnectionSpec,
    signal: Signal,
    weight: Tensor | None,
    precision: Precision,
    *,
    fresh: bool = False,
) -> None:
    """Add what a connection delivers at every timestep to ``total``, in place.

    Parameters
    ----------
    total : float32 (T, N, H, W, C), or (1, N, H, W, C) if all sources are constant
    weight : (C, C_in / groups, KH, KW) or (C, C_in); None for a pool or an identity
    fresh : ``total`` holds nothing yet, whatever stands in it
    """
    if isinstance(signal, Spikes) and weight is not None:
        _add_weighted(total, spec, signal, weight, precision, fresh)
        return
    if fresh:
        total.zero_()
    if isinstance(signal, Pixels):
        _add_pixels(total, spec, signal, weight)
    else:
        _add_unweighted(total, spec, signal)


def product_dtype(precision: Precision, device: torch.device) -> torch.dtype:
    """Return in which numbers convolutions multiply.

    Weights in bfloat16 are multiplied in float32 on a CPU without AMX: a spike is 0 or 1, so the
    products are the same, and there bfloat16's instructions reach half of float32's rate (measured
    with AVX-512: 88 against 165 G operations per second, 128 channels at 16x16, two cores).
    """
    native = device.type == "cuda" or torch.cpu.get_capabilities().get("amx_bf16", False)
    return torch.bfloat16 if precision == "bf16" and native else torch.float32


def transmit(spec: ConnectionSpec, sent: Tensor, weight: Tensor | None) -> Tensor:
    """Return the current that a connection makes of ``sent``, (N, C, H, W)."""
    if spec.kind == "conv":
        kernel = cast(Tensor, weight)
        return F.conv2d(sent, kernel, None, spec.stride, spec.padding, 1, spec.groups)
    if spec.kind == "linear":
        return F.linear(sent.flatten(1), cast(Tensor, weight))[:, :, None, None]
    if spec.kind == "pool":
        return F.avg_pool2d(sent, spec.kernel, spec.stride, spec.padding)
    return sent


def fixed16_planes(weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Round each channel's weights to 16 bits, and split them into two bytes.

    Parameters
    ----------
    weight : float32 (C, ...)

    Returns
    -------
    high, low : int8 (C, ...), the rounded weight is ``unit * (256 * high + low)``
    unit : float32 (C,)
    """
    largest = weight.flatten(1).abs().amax(1)
    unit = torch.where(largest > 0, largest / LARGEST, torch.ones_like(largest))
    whole = (weight / unit.reshape(-1, *[1] * (weight.ndim - 1))).round_().to(torch.int16)
    high = (whole + HIGH // 2) >> 8
    return high.to(torch.int8), (whole - HIGH * high).to(torch.int8), unit


def _add_pixels(total: Tensor, spec: ConnectionSpec, pixels: Pixels, weight: Tensor | None) -> None:
    """Add the currents of the input, always in float32: an image is worth one timestep."""
    if pixels.constant:
        current = transmit(spec, pixels.steps(0, 1, torch.float32), weight)
        total.add_(current.permute(0, 2, 3, 1))
        return
    for part, sent in _chunks(total, pixels, torch.float32):
        part.add_(transmit(spec, sent, weight))


def _add_unweighted(total: Tensor, spec: ConnectionSpec, spikes: Spikes) -> None:
    if spec.kind == "identity":
        dynamics.add_spikes(total, spikes.packed, spikes.height)
        return
    for part, sent in _chunks(total, spikes, torch.float32):
        part.add_(transmit(spec, sent, None) * spikes.height)


def _add_weighted(
    total: Tensor,
    spec: ConnectionSpec,
    spikes: Spikes,
    weight: Tensor,
    precision: Precision,
    fresh: bool,
) -> None:
    if spec.kind == "linear":
        weight = weight[:, :, None, None]
    geometry = (spec.stride, spec.padding, spec.groups)
    parts: Sequence[Int8Convolution | FloatConvolution]
    if precision == "fixed16":
        dtype = torch.uint8
        high, low, unit = fixed16_planes(weight)
        scale = unit * spikes.height
        parts = [
            Int8Convolution(high, scale * HIGH, *geometry),
            Int8Convolution(low, scale, *geometry),
        ]
    else:
        dtype = product_dtype(precision, total.device)
        scaled = weight * spikes.height
        if precision == "bf16":
            scaled = scaled.bfloat16()
        parts = [FloatConvolution(scaled.to(dtype), *geometry)]
    for block, sent in _chunks(total, spikes, dtype):
        if spec.kind == "linear":
            sent = sent.flatten(1)[:, :, None, None]
        for index, part in enumerate(parts):
            part.add_to(block, sent, fresh=fresh and index == 0)


def chunks(
    total: Tensor, per_step: int, sent: Callable[[int, int], Tensor]
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield some timesteps of the total and what is sent then, both (count * N, C, H, W).

    Parameters
    ----------
    total : (T, N, H, W, C)
    per_step : how many numbers are sent at a timestep
    sent : returns what is sent from a first timestep on, for a count of timesteps
    """
    largest = max(total[0].numel(), per_step) * 4
    chunk = max(1, CHUNK_BYTES[total.device.type] // largest)
    for first in range(0, len(total), chunk):
        count = min(chunk, len(total) - first)
        part = total[first : first + count].flatten(0, 1).permute(0, 3, 1, 2)
        yield part, sent(first, count)


def _chunks(total: Tensor, signal: Signal, dtype: torch.dtype) -> Iterator[tuple[Tensor, Tensor]]:
    size = signal.representation.numel()
    return chunks(total, size, lambda first, count: signal.steps(first, count, dtype))

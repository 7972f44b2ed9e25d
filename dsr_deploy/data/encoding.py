"""Pixels to payloads: the quantization of the input.

A pixel is a byte, so a table of 256 payloads per channel says everything. Training,
quantization and simulation all see the payloads of this one table.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor

from dsr_deploy.data.samples import DataError
from dsr_deploy.hardware.encoding import PIXELS, payload_table
from dsr_deploy.hardware.geometry import Shape
from dsr_deploy.hardware.network import (
    Input,
)

FARTHEST: Final = 64
"""Standard deviations from the mean that the payloads of images reach.

One standard deviation then spans about two payloads at least, and at most one pixel in 4,096 lies
beyond (Chebyshev).
"""

COARSENING: Final = 4
"""How many times as coarse one channel may make another's payloads: 2 of 8 bits."""


def encode(input: Input, pixels: Tensor) -> Tensor:
    """Return the payloads of ``pixels``.

    Parameters
    ----------
    input : how a pixel becomes a payload
    pixels : uint8 (N, C, H, W), or (N, T, C, H, W) if ``input.framed``; on any device

    Returns
    -------
    int8 of the same shape, on the same device

    Raises
    ------
    DataError
        If ``pixels`` is not of this type and shape.
    """
    ndim = 5 if input.framed else 4
    if pixels.dtype != torch.uint8 or pixels.ndim != ndim or pixels.shape[-3:] != input.shape:
        form = "(N, T, C, H, W)" if input.framed else "(N, C, H, W)"
        raise DataError(
            f"samples: {pixels.dtype} of shape {tuple(pixels.shape)}; the input takes "
            f"torch.uint8 of shape {form} with (C, H, W) = {input.shape}"
        )
    table = torch.from_numpy(payload_table(input)).to(pixels.device)
    row = PIXELS * torch.arange(len(table), dtype=torch.int32, device=pixels.device)
    return table.flatten()[pixels.to(torch.int32) + row[:, None, None]]


def image_input(shape: Shape, mean: Sequence[float], std: Sequence[float]) -> Input:
    """Return the input for images of bytes, normalised to zero mean and unit variance.

    The step is as fine as int8 allows: the largest normalised magnitude that any pixel can have
    becomes the payload 127. Pixels more than 64 standard deviations from the mean saturate.

    All channels share the step. A channel that varies so little that it would make another's
    payloads more than 4 times as coarse is divided by more than its standard deviation: it keeps
    the payloads that it would have alone, as smaller values.

    Parameters
    ----------
    shape : (C, H, W)
    mean, std : per channel, of pixels divided by 255; ``std`` above 0
    """
    reach = [min(max(m, 1 - m) / s, FARTHEST) for m, s in zip(mean, std, strict=True)]
    farthest = min(max(reach), COARSENING * min(reach))
    return Input(
        shape=shape,
        mean=tuple(mean),
        std=tuple(s * max(r / farthest, 1) for s, r in zip(std, reach, strict=True)),
        pixel_scale=1 / 255,
        step=farthest / 127,
    )


def event_input(shape: Shape) -> Input:
    """Return the input for frames of event counts: the payload is the count.

    Counts above 127 saturate, here and not later, so that training sees what the chip sees.
    """
    channels = shape[0]
    return Input(
        shape=shape,
        mean=(0.0,) * channels,
        std=(1.0,) * channels,
        pixel_scale=1.0,
        step=1.0,
        low=0,
        high=127,
        framed=True,
    )

"""Pixels to payloads: how a byte becomes what the input neurons send."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dsr_deploy.hardware.errors import PayloadError
from dsr_deploy.hardware.network import Input, IntegerNetwork

PIXELS = 256
"""A pixel is a byte, so a table of this many payloads per channel says everything."""


def largest_pixel(input: Input) -> int:
    """Return the largest pixel of the data that ``input`` was made for; 0 is the smallest.

    It is the one that ``pixel_scale`` takes to 1: 255 for images, 16 for scikit-learn's digits.
    Event counts are not scaled, and end with the byte.
    """
    return PIXELS - 1 if input.pixel_scale >= 1 else min(PIXELS - 1, round(1 / input.pixel_scale))


def payload_table(input: Input) -> NDArray[np.int8]:
    """Return the payload of every pixel value, int8 (C, 256).

    ::

        table[c, p] = clip(rint((p * pixel_scale - mean[c]) / (std[c] * step)), low, high)

    in float64, so that it is the same on every machine; ``rint`` rounds half to even.
    """
    pixels = np.arange(PIXELS, dtype=np.float64)
    mean = np.array(input.mean, dtype=np.float64)[:, None]
    unit = np.array(input.std, dtype=np.float64)[:, None] * input.step
    payload = np.rint((pixels * input.pixel_scale - mean) / unit)
    table: NDArray[np.int8] = np.clip(payload, input.low, input.high).astype(np.int8)
    return table


def check_payloads(network: IntegerNetwork, payloads: NDArray[np.int8]) -> None:
    """Raise PayloadError unless ``payloads`` is what the network's input takes."""
    frames = (network.timesteps,) if network.input.framed else ()
    wanted = (*frames, *network.input.shape)
    if payloads.dtype != np.int8 or payloads.shape[1:] != wanted:
        raise PayloadError(
            f"input: payloads are {payloads.dtype} of shape {payloads.shape}, "
            f"not int8 of shape (N, {', '.join(map(str, wanted))})"
        )

"""Weights of up to four bits, two to a byte."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray


def pack(weight: NDArray[np.int8]) -> NDArray[np.uint8]:
    """Pack weights of -8 to 7, in C order, two to a byte.

    The first of two stands in the low half, in two's complement; an odd last one is followed by 0.

    Returns
    -------
    uint8, (ceil(weight.size / 2),)
    """
    halves = weight.reshape(-1).view(np.uint8) & 15
    halves = np.append(halves, np.zeros(halves.size % 2, np.uint8))
    return np.asarray(halves[0::2] | halves[1::2] << 4, np.uint8)


def unpack(packed: NDArray[np.uint8], shape: tuple[int, ...]) -> NDArray[np.int8]:
    """Return the weights, int8 of shape ``shape``, that :func:`pack` made ``packed`` of.

    Raises
    ------
    ValueError
        If ``packed`` is not as long as ``shape`` needs, or its unused half byte is not 0.
    """
    size = math.prod(shape)
    if packed.shape != ((size + 1) // 2,):
        raise ValueError(f"{packed.size} bytes for {size} weights")
    halves = np.stack([packed & 15, packed >> 4], axis=1).reshape(-1)
    if halves[size:].any():
        raise ValueError("the unused half of the last byte is not 0")
    return ((halves[:size] ^ 8).view(np.int8) - np.int8(8)).reshape(shape)

"""Mean and standard deviation of a data set's pixels."""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
from torch import Tensor

from dsr_deploy.data.decoding import Request, stream
from dsr_deploy.data.samples import Split, TensorSplit

STATISTICS_SAMPLES: Final = 5000


def statistics(split: Split) -> tuple[list[float], list[float]]:
    """Return mean and standard deviation per channel, of pixels divided by 255.

    Of at most 5,000 samples, evenly spread.
    """
    sample = np.linspace(0, len(split) - 1, min(len(split), STATISTICS_SAMPLES)).astype(np.int64)
    if isinstance(split, TensorSplit):
        histogram = _histogram(split.pixels[torch.from_numpy(sample)])
    else:
        requests: list[list[Request]] = [
            [(int(file), None) for file in sample[start : start + 64]]
            for start in range(0, len(sample), 64)
        ]
        histogram = torch.stack([_histogram(batch) for batch in stream(split, requests)]).sum(dim=0)
    # Whole numbers up to here: the result does not depend on any order of summation.
    value = torch.arange(256, dtype=torch.float64) / 255
    weight = histogram / histogram.sum(dim=1, keepdim=True)
    mean = weight @ value
    variance = (weight * (value - mean[:, None]) ** 2).sum(dim=1)
    # A channel of one colour has nothing to scale. No channel can deviate by more than 1/2: with
    # that it leaves the payloads to the others.
    std = torch.where(variance > 0, variance.sqrt(), 0.5)
    return mean.tolist(), std.tolist()


def _histogram(pixels: Tensor) -> Tensor:
    """Return how often each value occurs per channel, float64 (C, 256) of (..., C, H, W)."""
    pixels = pixels.flatten(0, -4)
    channels = pixels.shape[1]
    counts = [torch.bincount(pixels[:, c].flatten(), minlength=256) for c in range(channels)]
    return torch.stack(counts).to(torch.float64)

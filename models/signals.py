"""What flows along a connection: a spike train or an image, and its mean over time.

The spike train goes forward without gradient, timestep by timestep. Its representation, the mean
over time that DSR differentiates, carries the gradient.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dsr_deploy.models import dynamics


@dataclass(frozen=True, eq=False)
class Spikes:
    """What a population sends: ``height * spike``.

    Attributes
    ----------
    packed : uint8 (ceil(T / 8), N, H, W, C), see :mod:`dsr_deploy.models.dynamics`
    height : float32 scalar, what one spike carries
    representation : float32 (N, C, H, W), with gradient; for LIF late timesteps weigh more
    plain_mean : float32 (N, C, H, W), all timesteps weighing the same; for IF the representation
    """

    packed: Tensor
    height: Tensor
    representation: Tensor
    plain_mean: Tensor

    def steps(self, first: int, count: int, dtype: torch.dtype) -> Tensor:
        """Return the spikes, 0 or 1, (count * N, C, H, W), channels last in memory."""
        out = dynamics.expand(self.packed, first, count, dtype)
        return out.flatten(0, 1).permute(0, 3, 1, 2)


@dataclass(frozen=True, eq=False)
class Pixels:
    """What the input sends, as currents.

    Attributes
    ----------
    frames : float32 (T, N, C, H, W), or (1, N, C, H, W) for an image shown at every timestep
    representation, plain_mean : float32 (N, C, H, W), see :class:`Spikes`
    """

    frames: Tensor
    representation: Tensor
    plain_mean: Tensor

    @property
    def constant(self) -> bool:
        """Whether every timestep is the same."""
        return len(self.frames) == 1

    def steps(self, first: int, count: int, dtype: torch.dtype) -> Tensor:
        """Return (count * N, C, H, W), channels last in memory."""
        flat = self.frames[first : first + count].flatten(0, 1).to(dtype)
        return flat.contiguous(memory_format=torch.channels_last)


Signal = Spikes | Pixels


def drop(spikes: Spikes, probability: float) -> Spikes:
    """Drop neurons at random, each for all timesteps, and raise the others to the same mean."""
    kept = torch.rand(spikes.packed.shape[1:], device=spikes.packed.device) >= probability
    scale = 1.0 / (1.0 - probability)
    factor = kept.permute(0, 3, 1, 2) * scale
    representation = spikes.representation * factor
    same = spikes.plain_mean is spikes.representation
    plain_mean = representation if same else spikes.plain_mean * factor
    return Spikes(spikes.packed * kept, spikes.height * scale, representation, plain_mean)

"""BatchNorm over time, batch and positions together, and its gradient at representation level."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class BatchStatistics:
    """Mean and 1 / sqrt(variance + eps) per channel, float32 (C,)."""

    mean: Tensor
    inverse_std: Tensor

    def normalise(self, mean_input: Tensor) -> Tensor:
        """Normalise currents averaged over time, (N, C, H, W)."""
        return (mean_input - column(self.mean)) * column(self.inverse_std)


class TimeBatchNorm(torch.nn.Module):
    """BatchNorm whose statistics run over time, batch and positions together (C.2).

    The statistics are summed in float64, so that they do not depend on the order of the sums; they
    are those of the batch of all processes where training is distributed.
    """

    def __init__(self, channels: int, eps: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__()
        self.eps, self.momentum = eps, momentum
        self.gamma = torch.nn.Parameter(torch.ones(channels))
        self.beta = torch.nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_variance", torch.ones(channels))
        self.running_mean: Tensor
        self.running_variance: Tensor

    def batch_statistics(self, total: Tensor, square: Tensor, count: int) -> BatchStatistics:
        """Return the statistics of a batch, and let the running ones follow.

        Parameters
        ----------
        total, square : float64 (C,), sum and sum of squares of ``count`` currents per channel
        """
        total, square, seen = sum_over_processes(
            torch.stack((total, square, torch.full_like(total, count)))
        )
        mean = total / seen
        variance = (square / seen - mean.square()).clamp(min=0)
        unbiased = variance * (seen / (seen - 1).clamp(min=1))
        self.running_mean.lerp_(mean.float(), self.momentum)
        self.running_variance.lerp_(unbiased.float(), self.momentum)
        return BatchStatistics(mean.float(), (variance + self.eps).rsqrt().float())

    def running_statistics(self) -> BatchStatistics:
        """Return the statistics gathered in training."""
        inverse_std = (self.running_variance.double() + self.eps).rsqrt().float()
        return BatchStatistics(self.running_mean, inverse_std)

    def affine(self, stats: BatchStatistics) -> tuple[Tensor, Tensor]:
        """Return scale and shift, (C,), that normalise a current."""
        scale = self.gamma.detach() * stats.inverse_std
        return scale, self.beta.detach() - stats.mean * scale


@dataclass(frozen=True, eq=False)
class NormGradients:
    """Gradients of BatchNorm, see :func:`norm_gradients`.

    Attributes
    ----------
    through : (N, C, H, W), to each current itself, weighted over time as the representation is
    gamma, beta : (C,)
    shared : (N, C, H, W), through the batch's mean and deviation, the same at every timestep
    variance : (C,), to the variance over time of this process's currents

    ``shared`` and ``variance`` are None where the statistics are not the batch's.
    """

    through: Tensor
    gamma: Tensor
    beta: Tensor
    shared: Tensor | None = None
    variance: Tensor | None = None


def norm_gradients(
    grad: Tensor,
    normalised: Tensor,
    plain: Tensor,
    gamma: Tensor,
    inverse_std: Tensor,
    *,
    of_batch: bool,
) -> NormGradients:
    """Differentiate BatchNorm over time and batch on representations.

    With x[t] the normalised currents, w[t] the weights of the representation (1/T for IF), G the
    gradient to their weighted sum, M the number of samples and positions::

        dL/dI[t] = gamma / sigma * (w[t] * G - (sum G / M + x[t] * sum(G * sum_t w x) / M) / T)

    A weight sees the first term through the weighted mean of the spikes it carries, the others
    through their plain mean, and in addition through the fluctuation of x[t] over time::

        dL/d(variance over time) = -gamma / (2 sigma**2) * sum(G * sum_t w x)

    Parameters
    ----------
    grad : float32 (N, C, H, W), G
    normalised, plain : float32 (N, C, H, W), x averaged over time, weighted and not
    gamma, inverse_std : float32 (C,)
    of_batch : whether the statistics are this batch's, or constants (the running ones)
    """
    to_beta = grad.sum((0, 2, 3))
    to_gamma = (grad * normalised).sum((0, 2, 3))
    factor = gamma * inverse_std
    through = grad * column(factor)
    if not of_batch:
        return NormGradients(through, to_gamma, to_beta)
    own = grad.numel() // grad.shape[1]
    count = torch.full_like(to_beta, own)
    total, product, count = sum_over_processes(torch.stack((to_beta, to_gamma, count)))
    shared = torch.addcmul(
        column(-factor * total / count), plain, column(-factor * product / count)
    )
    # A process holds the fluctuation of its own samples, ``own / count`` of all in weight.
    variance = -0.5 * factor * inverse_std * product * (own / count)
    return NormGradients(through, to_gamma, to_beta, shared, variance)


def column(per_channel: Tensor) -> Tensor:
    """View (C,) as it broadcasts over (N, C, H, W)."""
    return per_channel[:, None, None]


def sum_over_processes(values: Tensor) -> Tensor:
    """Add ``values`` of all processes that train together, in place."""
    if torch.distributed.is_initialized():
        torch.distributed.all_reduce(values)
    return values

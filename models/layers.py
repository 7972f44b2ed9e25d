"""Layers that carry a spike train and its representation together.

The spike train goes forward without gradient, timestep by timestep; the representation,
its mean over time, carries the gradient. Because DSR differentiates representations only, and
convolution, pooling and addition are linear, the backward pass of each layer costs as much
as one timestep, and saves one timestep's worth of tensors, whatever T is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import FunctionCtx

from dsr_deploy.models import dynamics
from dsr_deploy.models.topology import ConnectionSpec


@dataclass(frozen=True, eq=False)
class Spikes:
    """What a population sends: ``height * spike``.

    Attributes
    ----------
    packed : uint8 (ceil(T / 8), N, H, W, C), see :mod:`dsr_deploy.models.dynamics`
    height : what one spike carries
    representation : float32 (N, C, H, W), with gradient
    """

    packed: Tensor
    height: float
    representation: Tensor

    def steps(self, first: int, count: int) -> Tensor:
        """Return float32 (count * N, C, H, W), channels last in memory."""
        out = dynamics.expand(self.packed, first, count, self.height)
        return out.flatten(0, 1).permute(0, 3, 1, 2)


@dataclass(frozen=True, eq=False)
class Pixels:
    """What the input sends, as currents.

    Attributes
    ----------
    frames : float32 (T, N, C, H, W), or (1, N, C, H, W) for an image shown at every timestep
    representation : float32 (N, C, H, W), the mean over time
    """

    frames: Tensor
    representation: Tensor

    def steps(self, first: int, count: int) -> Tensor:
        """Return float32 (count * N, C, H, W), channels last in memory."""
        flat = self.frames[first : first + count].flatten(0, 1)
        return flat.contiguous(memory_format=torch.channels_last)


Signal = Spikes | Pixels


def drop(spikes: Spikes, probability: float) -> Spikes:
    """Drop neurons at random, each for all timesteps, and raise the others to the same mean."""
    kept = torch.rand(spikes.packed.shape[1:], device=spikes.packed.device) >= probability
    scale = 1.0 / (1.0 - probability)
    return Spikes(
        spikes.packed * kept,
        spikes.height * scale,
        spikes.representation * (kept.permute(0, 3, 1, 2) * scale),
    )


def transmit(spec: ConnectionSpec, sent: Tensor, weight: Tensor | None) -> Tensor:
    """Return the current that a connection makes of ``sent``, (N, C, H, W)."""
    if spec.kind == "conv":
        return F.conv2d(sent, cast(Tensor, weight), stride=spec.stride, padding=spec.padding)
    if spec.kind == "linear":
        return F.linear(sent.flatten(1), cast(Tensor, weight))[:, :, None, None]
    if spec.kind == "pool":
        return F.avg_pool2d(sent, spec.kernel, spec.stride, spec.padding)
    return sent


class _Transmitted(torch.autograd.Function):
    """A weighted connection on representations, whose result is known from the spike trains."""

    @staticmethod
    def forward(
        ctx: FunctionCtx, value: Tensor, spec: ConnectionSpec, sent: Tensor, weight: Tensor
    ) -> Tensor:
        ctx.save_for_backward(sent, weight)
        ctx.spec = spec  # type: ignore[attr-defined]
        return value.view_as(value)

    @staticmethod
    def backward(
        ctx: FunctionCtx, grad: Tensor
    ) -> tuple[Tensor, None, Tensor | None, Tensor | None]:
        sent, weight = ctx.saved_tensors  # type: ignore[attr-defined]
        spec: ConnectionSpec = ctx.spec  # type: ignore[attr-defined]
        wanted = ctx.needs_input_grad[2], ctx.needs_input_grad[3]  # type: ignore[attr-defined]
        if spec.kind == "linear":
            flat = grad.flatten(1)
            to_sent = (flat @ weight).view_as(sent) if wanted[0] else None
            return grad, None, to_sent, flat.T @ sent.flatten(1) if wanted[1] else None
        pad, stride = [spec.padding] * 2, [spec.stride] * 2
        to_sent, to_weight, _ = torch.ops.aten.convolution_backward(
            grad, sent, weight, None, stride, pad, [1, 1], False, [0, 0], 1, (*wanted, False)
        )
        return grad, None, to_sent, to_weight


def mean_current(
    value: Tensor, connections: list[tuple[ConnectionSpec, Signal, Tensor | None]]
) -> Tensor:
    """Return the mean input of a population, ``value``, as a function of its sources and weights.

    Parameters
    ----------
    value : float32 (N, C, H, W), the sum of all connections averaged over time
    connections : each with what it carries and its weight
    """
    total = value
    for spec, signal, weight in connections:
        sent = signal.representation
        if weight is not None:
            total = _Transmitted.apply(total, spec, sent, weight)  # type: ignore[no-untyped-call]
        elif sent.requires_grad:
            part = transmit(spec, sent, None)
            total = total + (part - part.detach())
    return total


def temporal_covariance(
    spec: ConnectionSpec, current: Tensor, signal: Signal, chunk: int
) -> Tensor:
    """Return the covariance over time of a population's currents and a source's spikes.

    Averaged over samples and positions, (C_out, C_in); for connections without a window (linear,
    1x1 convolution), where it costs little.

    Parameters
    ----------
    current : float32 (T, N, H, W, C_out)
    chunk : timesteps unpacked at once
    """
    steps, channels = len(current), current.shape[-1]
    current_sum = current.sum(0).reshape(-1, channels)
    product, sent_sum = current.new_zeros(()), current.new_zeros(())
    for first in range(0, steps, chunk):
        count = min(chunk, steps - first)
        sent = signal.steps(first, count)
        if spec.kind == "conv":
            sent = sent[..., :: spec.stride, :: spec.stride].permute(0, 2, 3, 1)
        rows = sent.reshape(count * len(current_sum), -1)
        product = product + current[first : first + count].reshape(-1, channels).T @ rows
        sent_sum = sent_sum + rows.unflatten(0, (count, -1)).sum(0)
    positions = len(current_sum)
    means = current_sum.T @ sent_sum / steps
    return (product - means) / (steps * positions)


class _TemporalVariance(torch.autograd.Function):
    """The mean variance over time of a population's currents, as a function of a weight.

    ``d variance[c] / d weight[c, j] = 2 * covariance of current c and source j``; the value is
    not needed, since the BatchNorm that reads it knows the whole variance.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, weight: Tensor, covariance: Tensor) -> Tensor:
        ctx.save_for_backward(covariance)
        ctx.shape = weight.shape  # type: ignore[attr-defined]
        return weight.new_zeros(len(weight))

    @staticmethod
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor, None]:
        (covariance,) = ctx.saved_tensors  # type: ignore[attr-defined]
        return (2 * grad[:, None] * covariance).view(ctx.shape), None  # type: ignore[attr-defined]


def temporal_variance(weight: Tensor, covariance: Tensor) -> Tensor:
    """Return zeros (C,) whose gradient to ``weight`` is that of the variance over time."""
    return cast(Tensor, _TemporalVariance.apply(weight, covariance))  # type: ignore[no-untyped-call]


class _Normalised(torch.autograd.Function):
    """BatchNorm over time and batch on a representation.

    For a perturbation that is the same at every timestep, as DSR assumes,

    ::

        dL/dI = gamma / sigma * (G - mean(G) - x * mean(G * x)),   x the normalised representation
        dL/d(variance over time) = -gamma / (2 sigma**2) * sum(G * x)
    """

    @staticmethod
    def forward(
        ctx: FunctionCtx,
        mean_input: Tensor,
        gamma: Tensor,
        beta: Tensor,
        over_time: Tensor | None,
        stats: BatchStatistics,
    ) -> Tensor:
        normalised = (mean_input - _column(stats.mean)) * _column(stats.inverse_std)
        ctx.save_for_backward(normalised, gamma)
        ctx.inverse_std = stats.inverse_std  # type: ignore[attr-defined]
        return normalised * _column(gamma) + _column(beta)

    @staticmethod
    def backward(
        ctx: FunctionCtx, grad: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor | None, None]:
        normalised, gamma = ctx.saved_tensors  # type: ignore[attr-defined]
        inverse_std: Tensor = ctx.inverse_std  # type: ignore[attr-defined]
        to_beta = grad.sum((0, 2, 3))
        to_gamma = (grad * normalised).sum((0, 2, 3))
        count = torch.full_like(to_beta, grad.numel() // grad.shape[1])
        total, product, count = _sum_over_ranks(torch.stack((to_beta, to_gamma, count)))
        mean_grad, mean_product = total / count, product / count
        to_input = (grad - _column(mean_grad) - normalised * _column(mean_product)) * _column(
            gamma * inverse_std
        )
        to_variance = None
        if ctx.needs_input_grad[3]:  # type: ignore[attr-defined]
            # A process holds the covariance of its own samples, 1 / world of all in weight.
            share = (grad.numel() // grad.shape[1]) / count
            to_variance = -0.5 * gamma * inverse_std.square() * product * share
        return to_input, to_gamma, to_beta, to_variance, None


@dataclass(frozen=True, eq=False)
class BatchStatistics:
    """Mean and 1 / sqrt(variance + eps) per channel, float32 (C,)."""

    mean: Tensor
    inverse_std: Tensor


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
        total, square, seen = _sum_over_ranks(
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

    def forward(
        self, mean_input: Tensor, stats: BatchStatistics, over_time: Tensor | None = None
    ) -> Tensor:
        """Normalise a representation, (N, C, H, W), with the statistics of its spike train.

        ``over_time`` is the part of the variance that is over time, (C,), if it has a gradient.
        """
        normalised = _Normalised.apply(mean_input, self.gamma, self.beta, over_time, stats)  # type: ignore[no-untyped-call]
        return cast(Tensor, normalised)


def _column(per_channel: Tensor) -> Tensor:
    return per_channel[:, None, None]


def _sum_over_ranks(values: Tensor) -> Tensor:
    """Add ``values`` of all processes that train together, in place."""
    if torch.distributed.is_initialized():
        torch.distributed.all_reduce(values)
    return values

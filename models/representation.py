"""The backward pass of a population: of its representation alone, whatever T is.

DSR takes the representation of a population's spikes for a clamp of its mean input, and
convolution, pooling and addition are linear: the gradient of a whole population costs as much as
one timestep, and saves one timestep's worth of tensors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from dsr_deploy.models.batchnorm import TimeBatchNorm, column, norm_gradients
from dsr_deploy.models.currents import Precision, product_dtype
from dsr_deploy.models.neuron import Neuron
from dsr_deploy.models.signals import Signal, Spikes
from dsr_deploy.models.topology import ConnectionSpec


@dataclass(frozen=True, eq=False)
class Incoming:
    """A connection as the backward pass sees it.

    Attributes
    ----------
    weight : with gradient; None for a pool or an identity
    covariance : float32, shape of the weight; see :func:`temporal_covariance`
    """

    spec: ConnectionSpec
    signal: Signal
    weight: Tensor | None
    covariance: Tensor | None = None


@dataclass(frozen=True, eq=False)
class MeanInput:
    """A population's input averaged over time, normalised if it has a BatchNorm.

    Attributes
    ----------
    weighted : float32 (N, C, H, W), averaged as the representation is
    plain : float32 (N, C, H, W), all timesteps weighing the same; for IF the same tensor
    inverse_std : float32 (C,); None without BatchNorm
    of_batch : whether BatchNorm's statistics are those of this batch, as in training
    """

    weighted: Tensor
    plain: Tensor
    inverse_std: Tensor | None
    of_batch: bool = False


def represent(
    value: Tensor,
    height: Tensor,
    mean: MeanInput,
    norm: TimeBatchNorm | None,
    incoming: Sequence[Incoming],
    neuron: Neuron,
    precision: Precision,
) -> Tensor:
    """Return ``value`` as a function of the sources' representations, weights, norm and height.

    Parameters
    ----------
    value : float32 (N, C, H, W), the representation of the spikes that were really sent
    height : float32 scalar, what a spike carries
    """
    parameters = (norm.gamma, norm.beta) if norm is not None else (None, None)
    tensors: list[Tensor | None] = []
    for c in incoming:
        signal = c.signal
        tensors += [signal.representation, signal.plain_mean.detach(), c.weight, c.covariance]
    specs = tuple(c.spec for c in incoming)
    apply: Any = _Population.apply  # annotated from PyTorch 2.15 on
    result = apply(
        value, neuron, precision, specs, mean.of_batch,
        mean.inverse_std, mean.weighted, mean.plain, height, *parameters, *tensors,
    )  # fmt: skip
    return cast(Tensor, result)


def clamp_gradients(
    grad: Tensor, mean: Tensor, height: Tensor, neuron: Neuron
) -> tuple[Tensor, Tensor]:
    """Differentiate ``clamp(mean / divisor, 0, height)`` (Eqs. 14 and 15).

    Parameters
    ----------
    grad, mean : float32 (N, C, H, W)

    Returns
    -------
    Gradients to ``mean`` and to ``height``.
    """
    above = mean > neuron.divisor * height
    inside = (mean >= 0) & ~above
    to_mean = grad * inside
    if neuron.divisor != 1:
        to_mean /= neuron.divisor
    return to_mean, (grad * above).sum()


class _Population(torch.autograd.Function):
    """See :func:`represent`."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, neuron: Neuron, precision: Precision,
                specs: tuple[ConnectionSpec, ...], of_batch: bool,
                *tensors: Tensor | None) -> Tensor:  # fmt: skip
        ctx.save_for_backward(*tensors)
        ctx.neuron, ctx.precision, ctx.specs, ctx.of_batch = neuron, precision, specs, of_batch
        return value.view_as(value)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        inverse_std, weighted, plain, height, gamma, beta, *rest = ctx.saved_tensors
        needed = ctx.needs_input_grad[11:]
        mean = weighted if gamma is None else torch.addcmul(column(beta), weighted, column(gamma))
        through, to_height = clamp_gradients(grad, mean, height, ctx.neuron)
        to_gamma = to_beta = to_variance = shared = None
        if gamma is not None:
            norm = norm_gradients(
                through, weighted, plain, gamma, inverse_std, of_batch=ctx.of_batch
            )
            through, shared = norm.through, norm.shared
            to_gamma, to_beta, to_variance = norm.gamma, norm.beta, norm.variance
        whole = through if shared is None else through + shared
        parts = [(whole, 0)]  # each with the mean of the spikes it multiplies: weighted or plain
        if shared is not None and ctx.neuron.kind == "lif":
            parts = [(through, 0), (shared, 1)]
        gradients: list[Tensor | None] = []
        for index, spec in enumerate(ctx.specs):
            *means, weight, covariance = rest[4 * index : 4 * index + 4]
            to_sent = to_weight = None
            if needed[4 * index]:
                to_sent = _to_sent(whole, spec, means[0], weight, ctx.precision)
            if needed[4 * index + 2]:
                products = [_to_weight(p, spec, means[m], weight, ctx.precision) for p, m in parts]
                to_weight = products[0] if len(products) == 1 else products[0] + products[1]
                if covariance is not None and to_variance is not None:
                    to_weight.addcmul_(
                        (2 * to_variance).reshape(-1, *[1] * (weight.ndim - 1)), covariance
                    )
            gradients += [to_sent, None, to_weight, None]
        return *[None] * 8, to_height, to_gamma, to_beta, *gradients


def _to_sent(
    grad: Tensor, spec: ConnectionSpec, sent: Tensor, weight: Tensor | None, precision: Precision
) -> Tensor:
    """Return the gradient to what was sent, (N, C_in, H, W)."""
    if weight is None:
        return grad if spec.kind == "identity" else _pool_backward(grad, spec, sent)
    if spec.kind == "linear":
        return (grad.flatten(1) @ weight).view_as(sent)
    return _convolution_backward(grad, spec, sent, weight, precision, 0)


def _to_weight(
    grad: Tensor, spec: ConnectionSpec, sent: Tensor, weight: Tensor, precision: Precision
) -> Tensor:
    """Return the gradient to the weight, in its shape."""
    if spec.kind == "linear":
        return grad.flatten(1).T @ sent.flatten(1)
    return _convolution_backward(grad, spec, sent, weight, precision, 1)


def _convolution_backward(
    grad: Tensor,
    spec: ConnectionSpec,
    sent: Tensor,
    weight: Tensor,
    precision: Precision,
    which: int,
) -> Tensor:
    """Return a convolution's gradient to what was sent (which = 0) or to its weight (1)."""
    dtype = product_dtype(precision, grad.device)
    gradients = torch.ops.aten.convolution_backward(
        grad.to(dtype), sent.to(dtype), weight.to(dtype), None, list(spec.stride),
        list(spec.padding), [1, 1], False, [0, 0], spec.groups, (which == 0, which == 1, False),
    )  # fmt: skip
    return cast(Tensor, gradients[which]).float()


def _pool_backward(grad: Tensor, spec: ConnectionSpec, sent: Tensor) -> Tensor:
    geometry = (list(spec.kernel), list(spec.stride), list(spec.padding))
    return cast(
        Tensor, torch.ops.aten.avg_pool2d_backward(grad, sent, *geometry, False, True, None)
    )


def temporal_covariance(
    spec: ConnectionSpec, current: Tensor, signal: Signal, weight: Tensor
) -> Tensor | None:
    """Return the covariance over time of a population's currents and what each weight receives.

    Averaged over samples and positions. A weight also acts on the deviation that BatchNorm divides
    by, through the fluctuation of the currents over time. With few inputs per neuron the gradient
    needs that path (cosine 0.72 without it in a trained classifier), and with frames as input the
    first layer does (0.957). From spikes through a larger window it is left out: it would cost as
    much as the forward pass, and the cosine is 0.99 without.

    Parameters
    ----------
    current : float32 (T, N, H, W, C_out)

    Returns
    -------
    float32, shape of ``weight``; None where it is left out
    """
    if spec.kernel == (1, 1):
        rows = _covariance_of_rows(spec, current, signal)
        return _own_groups(rows, spec.groups).view_as(weight)
    if isinstance(signal, Spikes) or signal.constant:
        return None
    mean, total = current.mean(0), torch.zeros_like(weight)
    for t, step in enumerate(current):
        fluctuation, frame = (step - mean).permute(0, 3, 1, 2), signal.steps(t, 1, torch.float32)
        total += _convolution_backward(fluctuation, spec, frame, weight, "fp32", 1)
    return total / (current.numel() // current.shape[-1])


def _covariance_of_rows(spec: ConnectionSpec, current: Tensor, signal: Signal) -> Tensor:
    """Return the covariance for a connection without a window, (C_out, C_in)."""
    steps, channels = len(current), current.shape[-1]
    product, sent_sum = current.new_zeros(()), current.new_zeros(())
    for t in range(steps):
        sent = signal.steps(t, 1, torch.float32)
        if spec.kind == "conv":
            high, wide = spec.padding
            sent = F.pad(sent, (wide, wide, high, high))
            sent = sent[..., :: spec.stride[0], :: spec.stride[1]].permute(0, 2, 3, 1)
        rows = sent.reshape(current[0].numel() // channels, -1)
        product = product + current[t].reshape(-1, channels).T @ rows
        sent_sum = sent_sum + rows
    current_sum = current.sum(0).reshape(-1, channels)
    means = current_sum.T @ sent_sum / steps
    covariance = (product - means) / (steps * len(current_sum))
    return covariance * signal.height if isinstance(signal, Spikes) else covariance


def _own_groups(rows: Tensor, groups: int) -> Tensor:
    """Return what (C_out, C_in) holds of each target and its own group, (C_out, C_in / groups)."""
    blocks = rows.unflatten(1, (groups, -1)).unflatten(0, (groups, -1))
    own = torch.arange(groups, device=rows.device)
    return cast(Tensor, blocks[own, :, own]).flatten(0, 1)

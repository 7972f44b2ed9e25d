"""DSR unrolled in time, with autograd: the oracle of the training engine.

Every timestep keeps its own tensors and its own gradient; nothing is shared with the engine but the
parameters. For IF each step's gradient is that of the authors' code and spikingjelly. For LIF it is
the derivative of the weighted mean, a share of each timestep's weight, where theirs gives every
timestep the same share, and none at a mean input of exactly 0 (docs/training.md). A network of
float64 runs in float64.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from dsr_deploy.models.batchnorm import TimeBatchNorm
from dsr_deploy.models.network import PopulationModule, SpikingNetwork
from dsr_deploy.models.neuron import Neuron
from dsr_deploy.models.topology import INPUT, ConnectionSpec

Fire = Callable[[Tensor, Tensor, Neuron], Tensor]


def timestep_weights(neuron: Neuron, like: Tensor) -> Tensor:
    """Return the weight of each timestep in a representation, (T,), of the dtype of ``like``."""
    return torch.tensor(neuron.weights, dtype=like.dtype)


class UnrolledSpikes(torch.autograd.Function):
    """Neurons that spike step by step; the gradient is that of the clamped mean, Algorithm 1."""

    @staticmethod
    def forward(ctx: Any, current: Tensor, height: Tensor, neuron: Neuron) -> Tensor:
        v_threshold = height / neuron.height_per_threshold
        v = torch.zeros_like(current[0])
        sent = []
        for step in current:
            v = neuron.leak * v + neuron.gain * step
            spike = v >= neuron.alpha * v_threshold
            v = v - v_threshold * spike
            sent.append(spike * height)
        weights = timestep_weights(neuron, current).reshape(-1, *[1] * (current.ndim - 1))
        mean = (current * weights).sum(0)
        ctx.save_for_backward(mean, height, weights)
        ctx.divisor = neuron.divisor
        return torch.stack(sent)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        mean, height, weights = ctx.saved_tensors
        to_representation = grad.sum(0)
        above = mean > ctx.divisor * height
        inside = (mean >= 0) & ~above
        to_mean = to_representation * inside / ctx.divisor
        return weights * to_mean, (to_representation * above).sum(), None


def normalise(norm: TimeBatchNorm, current: Tensor) -> Tensor:
    """BatchNorm over time, batch and positions; current is (T, N, C, H, W)."""
    if norm.training:
        wide = current.double()
        mean = wide.mean((0, 1, 3, 4))
        variance = wide.var((0, 1, 3, 4), unbiased=False)
    else:
        mean, variance = norm.running_mean.double(), norm.running_variance.double()
    scale = norm.gamma * (variance + norm.eps).rsqrt().to(current.dtype)
    shift = norm.beta - mean.to(current.dtype) * scale
    return current * scale[:, None, None] + shift[:, None, None]


def transmit(spec: ConnectionSpec, sent: Tensor, weight: Tensor | None) -> Tensor:
    """Apply a connection to every timestep of (T, N, C, H, W)."""
    # Channels last as in the engine: another layout rounds otherwise,
    # and flips a spike now and then.
    flat = sent.flatten(0, 1).contiguous(memory_format=torch.channels_last)
    if spec.kind == "conv":
        assert weight is not None
        flat = F.conv2d(flat, weight, None, spec.stride, spec.padding, 1, spec.groups)
    elif spec.kind == "linear":
        assert weight is not None
        flat = F.linear(flat.flatten(1), weight)[:, :, None, None]
    elif spec.kind == "pool":
        flat = F.avg_pool2d(flat, spec.kernel, spec.stride, spec.padding)
    return flat.unflatten(0, sent.shape[:2])


def advance(
    population: PopulationModule, sent: dict[str, Tensor], neuron: Neuron, fire: Fire
) -> Tensor:
    """Return what ``population`` sends, (T, N, C, H, W)."""
    parts = [
        transmit(spec, sent[spec.source], population.weight(i))
        for i, spec in enumerate(population.spec.connections)
    ]
    current = parts[0]
    for part in parts[1:]:
        current = current + part
    if population.norm is not None:
        current = normalise(population.norm, current)
    return fire(current, population.height, neuron)


def forward(
    network: SpikingNetwork, pixels: Tensor, fire: Fire = UnrolledSpikes.apply
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the output's representation, (N, classes), and each population's spikes.

    Spikes are ``height * spike``, (T, N, C, H, W), before dropout.

    Parameters
    ----------
    pixels : (N, C, H, W) or (N, T, C, H, W), of the parameters' dtype
    fire : makes of currents (T, N, C, H, W), a height and a neuron what is sent
    """
    neuron = network.neuron
    frames = (
        pixels.transpose(0, 1)
        if pixels.ndim == 5
        else pixels.expand(neuron.timesteps, *pixels.shape)
    )
    trains: dict[str, Tensor] = {}
    sent = {INPUT: frames.contiguous()}
    for population in network.members():
        spec = population.spec
        trains[spec.name] = sent[spec.name] = advance(population, sent, neuron, fire)
        if spec.dropout and network.training:
            sent[spec.name] = drop(sent[spec.name], spec.dropout)
    weights = timestep_weights(neuron, pixels)
    return torch.einsum("tnchw,t->nc", sent[spec.name], weights), trains


def spikes(
    network: SpikingNetwork,
    payloads: NDArray[np.int8],
    step: float,
    fire: Fire = UnrolledSpikes.apply,
) -> dict[str, NDArray[np.bool_]]:
    """Return the spikes of a trained network in double precision, (N, T, C, H, W).

    Parameters
    ----------
    payloads : (N, C, H, W) or (N, T, C, H, W)
    step : value of one unit of them
    """
    double = copy.deepcopy(network).double().eval()
    with torch.no_grad():
        _, trains = forward(double, torch.from_numpy(payloads).double() * step, fire)
    return {name: (train > 0).transpose(0, 1).numpy() for name, train in trains.items()}


def drop(train: Tensor, probability: float) -> Tensor:
    """Drop neurons of (T, N, C, H, W); draws as the engine does, channels last."""
    shape = train[0].permute(0, 2, 3, 1).shape
    kept = (torch.rand(shape) >= probability).permute(0, 3, 1, 2)
    return train * kept / (1 - probability)

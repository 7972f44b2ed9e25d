"""Fold everything linear between two spiking layers into one real weight per connection.

A population of the trained network receives
``gain * (gamma * (sum of height_source * weight * spike - mean) / sigma + beta)`` and compares it
with alpha * Vth. Folded, it receives ``sum of weight' * spike + bias'``, in the same unit as Vth.
Pooling's divisor, the BatchNorm, the height of the source's spikes and LIF's gain are in weight'.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from dsr_deploy.models.network import PopulationModule, SpikingNetwork
from dsr_deploy.models.topology import INPUT, ConnectionSpec


@dataclass(frozen=True, eq=False)
class FoldedConnection:
    """A connection with real weights, float64.

    Attributes
    ----------
    weight : conv (C_out, C_in / groups, KH, KW), linear (out, in), pool and identity (C,); a pool
        sums
    """

    spec: ConnectionSpec
    weight: Tensor


@dataclass(frozen=True, eq=False)
class FoldedPopulation:
    """A population with real parameters, float64, in the unit of its Vth.

    Attributes
    ----------
    bias : (C,)
    v_threshold : Vth, the same for all channels
    height : value of its spikes in the trained network; the weights of its targets contain it
    """

    name: str
    connections: tuple[FoldedConnection, ...]
    bias: Tensor
    v_threshold: float
    height: float


@torch.no_grad()
def fold(network: SpikingNetwork, input_step: float) -> tuple[FoldedPopulation, ...]:
    """Fold a trained network, with the running statistics of its BatchNorms.

    Parameters
    ----------
    input_step : value of one unit of the input's payload
    """
    heights = {INPUT: input_step}
    folded = []
    for population in network.members():
        per_threshold = network.neuron.height_per_threshold
        height = float(population.height)
        heights[population.spec.name] = height
        scale, shift = _affine(population, network)
        folded.append(
            FoldedPopulation(
                population.spec.name,
                tuple(
                    FoldedConnection(spec, _fold_weight(spec, population.weight(i), scale, heights))
                    for i, spec in enumerate(population.spec.connections)
                ),
                shift * network.neuron.gain,
                height / per_threshold,
                height,
            )
        )
        for connection in folded[-1].connections:
            connection.weight.mul_(network.neuron.gain)
    return tuple(folded)


def _affine(population: PopulationModule, network: SpikingNetwork) -> tuple[Tensor, Tensor]:
    """Return scale and shift of the population's BatchNorm, float64 (C,)."""
    norm = population.norm
    if norm is None:
        channels = network.shapes[population.spec.name][0]
        return torch.ones(channels, dtype=torch.float64), torch.zeros(channels, dtype=torch.float64)
    sigma = (norm.running_variance.double() + norm.eps).sqrt()
    scale = norm.gamma.double() / sigma
    return scale.cpu(), (norm.beta.double() - norm.running_mean.double() * scale).cpu()


def _fold_weight(
    spec: ConnectionSpec, weight: Tensor | None, scale: Tensor, heights: dict[str, float]
) -> Tensor:
    """Return the weight in the target's unit; ``scale`` is (C,) of the target."""
    height = heights[spec.source]
    if weight is None:
        return scale * (height / math.prod(spec.kernel))
    per_row = scale.reshape(-1, *[1] * (weight.ndim - 1))
    return weight.detach().double().cpu() * per_row * height

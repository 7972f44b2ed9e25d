"""Trained networks whose every value is a small multiple of a power of two.

Sums of such values are exact in any precision, and integers of 8 bits hold them without rounding:
what is quantized is the trained network itself, with all its ties at the threshold.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from dsr_deploy.hardware.network import Input
from dsr_deploy.lowering import quantized_network
from dsr_deploy.lowering.fold import FoldedPopulation, fold
from dsr_deploy.lowering.quantized_network import QuantizedNetwork
from dsr_deploy.lowering.scale import Scale
from dsr_deploy.models.network import SpikingNetwork
from dsr_deploy.models.neuron import Neuron
from dsr_deploy.models.topology import INPUT, ConnectionSpec, PopulationSpec, Topology, conv

NEURONS = {
    "if": Neuron("if", 4, 0.5, 0.01),
    "lif": Neuron("lif", 4, 0.5, 0.01, tau=1 / math.log(2), dt=1.0),  # its leak is 1/2
}
SHOWN = Input((2, 6, 6), (0.0, 0.0), (1.0, 1.0), 1.0, 1 / 8, -8, 8)
TOPOLOGY = Topology(
    "dyadic",
    SHOWN.shape,
    (
        PopulationSpec("first", (conv(INPUT, 6),)),
        PopulationSpec("second", (conv("first", 8, stride=2), conv("first", 8, 1, stride=2))),
        PopulationSpec("third", (conv("second", 8), ConnectionSpec("second", "identity"))),
        PopulationSpec("pool", (ConnectionSpec("third", "pool", 0, 2, 1),), norm=False),
        PopulationSpec("output", (ConnectionSpec("pool", "linear", 5),)),
    ),
)


@torch.no_grad()
def network(neuron: Neuron, *, ties: bool = True) -> SpikingNetwork:
    """Return a network with random dyadic values, and BatchNorms of either sign.

    Parameters
    ----------
    ties : False moves every current a little, so that none is on a threshold, nor zero in the mean
    """
    rng = np.random.default_rng(0)

    def pick(count: int, *values: float) -> torch.Tensor:
        return torch.from_numpy(rng.choice(values, count)).float()

    made = SpikingNetwork(TOPOLOGY, neuron).eval()
    for population in made.members():
        for weight in population.weights.values():
            weight.copy_(torch.from_numpy(rng.integers(-7, 8, weight.shape) / 16))
        population.height.fill_(float(rng.choice([0.5, 1.0])))
        norm = population.norm
        if norm is None:
            continue
        norm.eps, count = 0.0, len(norm.gamma)
        norm.gamma.copy_(pick(count, -0.5, 0.5, 1.0, 2.0))
        norm.running_variance.copy_(pick(count, 1.0, 4.0))
        norm.running_mean.copy_(pick(count, -0.25, 0.0, 0.5))
        norm.beta.copy_(pick(count, -0.25, 0.0, 0.25, 0.5) + (0.0 if ties else 2.0**-10))
    return made


def payloads(samples: int) -> NDArray[np.int8]:
    rng = np.random.default_rng(1)
    return rng.integers(-8, 9, (samples, *SHOWN.shape)).astype(np.int8)


def quantized(made: SpikingNetwork, monkeypatch: pytest.MonkeyPatch) -> QuantizedNetwork:
    """Quantize to 8 bits on a grid that holds every value."""

    def grid(population: FoldedPopulation, *_: Any) -> Scale:
        unit = 2.0**-14
        exponents = []
        for connection in population.connections:
            values = connection.weight / unit
            exponent = 0
            while values.abs().max() > 127:
                values, exponent = values / 2, exponent + 1
            assert torch.equal(values, values.round())
            exponents.append(exponent)
        return Scale(torch.full_like(population.bias, unit), tuple(exponents))

    monkeypatch.setattr(quantized_network, "choose_scale", grid)
    return QuantizedNetwork(fold(made, SHOWN.step), made.neuron, SHOWN, bits=8)

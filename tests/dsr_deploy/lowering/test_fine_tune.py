"""How fast the parameters of a quantized network move."""

from __future__ import annotations

import pytest
import torch

from dsr_deploy.hardware.network import Input
from dsr_deploy.lowering.fine_tune import make_optimizer
from dsr_deploy.lowering.fold import fold
from dsr_deploy.lowering.quantized_network import QuantizedNetwork
from dsr_deploy.models.network import SpikingNetwork
from dsr_deploy.models.neuron import Neuron
from dsr_deploy.models.topology import INPUT, ConnectionSpec, PopulationSpec, Topology


@pytest.fixture
def model() -> QuantizedNetwork:
    """Return a convolution beside a shortcut, then a linear layer, of 3 bits."""
    beside = (ConnectionSpec(INPUT, "conv", 2, 3, 1, 1), ConnectionSpec(INPUT, "identity"))
    layers = (
        PopulationSpec("conv", beside),
        PopulationSpec("output", (ConnectionSpec("conv", "linear", 3),)),
    )
    network = SpikingNetwork(Topology("two", (2, 4, 4), layers), Neuron("if", 2, 0.5, 0.01)).eval()
    shown = Input((2, 4, 4), (0.0, 0.0), (1.0, 1.0), 1.0, 1.0)
    return QuantizedNetwork(fold(network, 1.0), network.neuron, shown, 3)


def test_a_rate_of_a_last_bit_moves_each_weight_by_one_step(model: QuantizedNetwork) -> None:
    optimizer = make_optimizer(model, 1.0)
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"]
    before = [
        [w * largest for w, largest in zip(p.weights, (3, 127), strict=False)]
        for p in model.members()
    ]
    before = [[w.detach().clone() for w in weights] for weights in before]
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, -0.7)  # Adam's first step is the rate itself
    optimizer.step()
    for population, weights in zip(model.members(), before, strict=True):
        for weight, old, largest in zip(population.weights, weights, (3, 127), strict=False):
            assert torch.allclose(weight * largest - old, torch.ones_like(old), atol=1e-4)


def test_biases_and_thresholds_move_with_the_narrowest_weights(model: QuantizedNetwork) -> None:
    groups = make_optimizer(model, 0.03).param_groups
    rates = {id(p): group["initial_lr"] for group in groups for p in group["params"]}
    assert rates.keys() == {id(p) for p in model.parameters()}
    for population in model.members():
        for parameter in (population.bias, population.threshold):
            assert rates[id(parameter)] == pytest.approx(0.01)

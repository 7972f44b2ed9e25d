"""Units that every population finds, and values that have none."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import pytest
import torch

from dsr_deploy.fold import fold
from dsr_deploy.hardware import bounds
from dsr_deploy.hardware.network import Input, NetworkError
from dsr_deploy.models.network import SpikingNetwork
from dsr_deploy.models.neuron import Neuron
from dsr_deploy.models.topology import INPUT, ConnectionSpec, PopulationSpec, Topology
from dsr_deploy.quantized_network import QuantizedNetwork
from dsr_deploy.scale import Granularity

PIXELS = 40


def network(timesteps: int = 4, weighted: int = 1) -> SpikingNetwork:
    """Return an output of 3 neurons, fed ``weighted`` times by an input of 40 pixels."""
    linear = ConnectionSpec(INPUT, "linear", 3)
    output = PopulationSpec("output", (linear,) * weighted)
    neuron = Neuron("if", timesteps, alpha=0.5, v_threshold_min=1e-3)
    made = SpikingNetwork(Topology("test", (PIXELS, 1, 1), (output,)), neuron).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in made.members()[0].weights.values():
            weight.copy_(torch.randn(weight.shape, generator=generator))
    return made


def quantize(made: SpikingNetwork, granularity: Granularity = "channel") -> QuantizedNetwork:
    ones = (1.0,) * PIXELS
    shown = Input((PIXELS, 1, 1), ones, ones, 1 / 255, 1 / 32)
    return QuantizedNetwork(
        fold(made, shown.step), made.neuron, shown, bits=8, granularity=granularity
    )


@pytest.mark.parametrize("granularity", ["channel", "layer"])
def test_weights_give_up_bits_where_whole_steps_overflow(granularity: Granularity) -> None:
    # 40 weights of up to 127, payloads of up to 127: a step fits for 4 timesteps, not for 128.
    short = quantize(network(4), granularity).freeze("short", {"output": (3, 1, 1)}, ())
    long = quantize(network(128), granularity).freeze("long", {"output": (3, 1, 1)}, ())
    largest = [int(np.abs(n.connections[0].weight.astype(int)).max()) for n in (short, long)]
    assert largest[0] > 100
    assert 0 < largest[1] < 64
    assert long.connections[0].exponent == 0
    for frozen in (short, long):
        bounds.check(frozen)


@pytest.mark.parametrize("weighted", [1, 2, 3])
def test_any_number_of_weighted_connections_share_a_unit(weighted: int) -> None:
    made = network(weighted=weighted)
    with torch.no_grad():
        for power, weight in zip((0, 2, -1), made.members()[0].weights.values(), strict=False):
            weight.copy_(network().members()[0].weights["0"] * 2.0**power)
    frozen = quantize(made).freeze("shared", {"output": (3, 1, 1)}, ())
    exponents = [connection.exponent for connection in frozen.connections]
    # Weights that differ by a power of two alone become the same integers at other exponents.
    assert [e - exponents[0] for e in exponents] == [0, 2, -1][:weighted]
    for connection in frozen.connections[1:]:
        np.testing.assert_array_equal(connection.weight, frozen.connections[0].weight)


def spoil_weight(made: SpikingNetwork) -> None:
    made.members()[0].weights["0"][1, 2] = torch.nan


def spoil_norm(made: SpikingNetwork) -> None:
    norm = made.members()[0].norm
    assert norm is not None
    norm.running_mean[0] = torch.inf


def spoil_height(made: SpikingNetwork) -> None:
    made.members()[0].height.fill_(torch.nan)


@pytest.mark.parametrize("spoil", [spoil_weight, spoil_norm, spoil_height])
@torch.no_grad()
def test_a_network_whose_training_diverged_is_refused(
    spoil: Callable[[SpikingNetwork], None],
) -> None:
    made = network()
    spoil(made)
    message = (
        "population 'output': its weights, BatchNorm or threshold are not finite; the training "
        "diverged, train again with a lower learning rate"
    )
    with pytest.raises(NetworkError, match=f"^{re.escape(message)}$"):
        quantize(made)


@pytest.mark.parametrize("label", ["weight", "bias", "v_fire"])
@torch.no_grad()
def test_integers_whose_fine_tuning_diverged_are_refused(label: str) -> None:
    model = quantize(network())
    (member,) = model.members()
    parameter = {"weight": member.weights[0], "bias": member.bias, "v_fire": member.threshold}
    parameter[label].fill_(torch.nan)
    where = ", from 'input'" if label == "weight" else ""
    dtype = "int8" if label == "weight" else "int32"
    message = (
        f"population 'output'{where}: {label} nan is no {dtype}; the training diverged or its "
        "values lie too far apart, use a lower learning rate"
    )
    with pytest.raises(NetworkError, match=f"^{re.escape(message)}$"):
        model.freeze("test", {"output": (3, 1, 1)}, ())

"""Units that every population finds, and values that have none."""

from __future__ import annotations

import re
from collections.abc import Callable

import naive_scale
import numpy as np
import pytest
import torch

from dsr_deploy.hardware import bounds
from dsr_deploy.hardware.errors import NetworkError
from dsr_deploy.hardware.network import Input
from dsr_deploy.lowering.fold import FoldedConnection, FoldedPopulation, fold
from dsr_deploy.lowering.quantized_network import QuantizedNetwork
from dsr_deploy.lowering.scale import Granularity, choose_scale, largest_weight, per_row
from dsr_deploy.models.network import SpikingNetwork
from dsr_deploy.models.neuron import Neuron
from dsr_deploy.models.topology import INPUT, ConnectionSpec, Kind, PopulationSpec, Topology

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


def folded(
    seed: int,
    kinds: tuple[Kind, ...],
    *,
    channels: int = 3,
    bias: float = 0.3,
    v_threshold: float = 1.0,
    sources: str = "x",
    spread: float = 1.0,
) -> FoldedPopulation:
    """Return a population with random values; the first connection comes from ``sources``."""
    generator = torch.Generator().manual_seed(seed)
    shapes = {"conv": (channels, 2, 2, 2), "linear": (channels, 6)}
    connections = []
    for i, kind in enumerate(kinds):
        weight = torch.randn(shapes.get(kind, (channels,)), generator=generator).double()
        kernel = 2 if kind in ("conv", "pool") else 1
        own = channels if kind in ("conv", "linear") else 0
        spec = ConnectionSpec(sources if i == 0 else "x", kind, own, kernel)
        connections.append(FoldedConnection(spec, weight * spread * 3.0**i))
    shift = torch.randn(channels, generator=generator).double() * bias
    return FoldedPopulation("made", tuple(connections), shift, v_threshold, 1.0)


SHOWN = Input((2, 3, 1), (0.0,) * 2, (1.0,) * 2, 1 / 255, 1 / 32, low=-100, high=90)
IF4 = Neuron("if", 4, alpha=0.5, v_threshold_min=1e-3)
LIF6 = Neuron("lif", 6, alpha=0.4, v_threshold_min=1e-3, tau=1.0, dt=0.3)
POPULATIONS: dict[str, tuple[FoldedPopulation, Neuron]] = {
    "a convolution": (folded(1, ("conv",)), IF4),
    "of the input": (folded(2, ("conv",), sources=INPUT), IF4),
    "leaking": (folded(3, ("conv",), bias=2.0), LIF6),
    "two convolutions": (folded(4, ("conv", "linear")), LIF6),
    "a shortcut beside it": (folded(5, ("conv", "identity"), sources=INPUT), IF4),
    "a pool alone": (folded(6, ("pool",)), IF4),
    "a pool and an identity": (folded(7, ("pool", "identity"), sources=INPUT), LIF6),
    "a shortcut first": (folded(8, ("identity", "linear")), IF4),
    "a large threshold": (folded(9, ("linear",), v_threshold=1e5), IF4),
    "a large bias": (folded(10, ("linear",), bias=3e4), LIF6),
    "no threshold": (folded(11, ("linear",), v_threshold=0.0, bias=0.0), IF4),
    "many timesteps": (
        folded(12, ("linear",), channels=2, sources=INPUT, bias=0.0, v_threshold=1e-3),
        Neuron("if", 60, alpha=0.5, v_threshold_min=1e-3),
    ),
    "a huge shortcut": (folded(13, ("linear", "identity"), spread=1e-3, v_threshold=1e-3), IF4),
    "one channel": (folded(14, ("conv",), channels=1), IF4),
}


@pytest.mark.parametrize("granularity", ["channel", "layer"])
@pytest.mark.parametrize("width", [8, 3])
@pytest.mark.parametrize("name", POPULATIONS)
def test_units_and_exponents_are_those_of_a_search_in_loops(
    name: str, width: int, granularity: Granularity
) -> None:
    population, neuron = POPULATIONS[name]
    widths = tuple(
        width if c.spec.kind in ("conv", "linear") else 8 for c in population.connections
    )
    found = choose_scale(population, neuron, SHOWN, widths, granularity)
    units, exponents = naive_scale.choose_scale(population, neuron, SHOWN, widths, granularity)
    assert found.exponents == exponents
    np.testing.assert_allclose(found.unit.numpy(), units, rtol=1e-12)


def test_a_channel_without_weights_takes_its_unit_from_its_threshold() -> None:
    population = folded(1, ("conv",), bias=0.0)
    population.connections[0].weight[1] = 0.0
    found = choose_scale(population, IF4, SHOWN, (8,), "channel")
    units, exponents = naive_scale.choose_scale(population, IF4, SHOWN, (8,), "channel")
    assert found.exponents == exponents
    np.testing.assert_allclose(found.unit.numpy(), units, rtol=1e-12)


def test_two_connections_may_differ_by_four_powers_of_two_and_no_more() -> None:
    population = folded(1, ("linear", "linear"))
    first = population.connections[0].weight
    for power in range(-6, 7):
        population.connections[1].weight.copy_(first * 2.0**power)
        found = choose_scale(population, IF4, SHOWN, (8, 8), "channel").exponents
        assert found[1] - found[0] == max(-4, min(4, power))


def test_the_largest_weight_of_some_bits_leaves_out_the_most_negative() -> None:
    assert [largest_weight(bits) for bits in (2, 3, 4, 8)] == [1, 3, 7, 127]


def test_values_per_channel_stand_before_all_other_axes() -> None:
    values = torch.tensor([2.0, 3.0])
    for shape in ((2,), (2, 5), (2, 1, 3, 3)):
        spread = per_row(values, torch.zeros(shape))
        assert spread.shape == (2, *[1] * (len(shape) - 1))
        assert spread.flatten().tolist() == [2.0, 3.0]

"""The folded values give the spikes of the network that was trained.

The trained network is unrolled in double precision from its own parameters: currents, BatchNorm
with its running statistics, LIF's gain, neurons. The folded values run in a naive model that knows
nothing of them. No spike may differ, other than in samples where a neuron comes so near to its
threshold that double precision cannot tell.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import real_networks
import torch
import unrolled
from float_networks import Quantization, fill, quantizations
from hypothesis import HealthCheck, assume, given, settings
from numpy.typing import NDArray
from real_networks import RealConnection, RealPopulation, RealRun
from spikingjelly.activation_based.neuron import DSRIFNode, DSRLIFNode
from torch import Tensor

from dsr_deploy.lowering.fold import fold
from dsr_deploy.models.architectures import topology
from dsr_deploy.models.network import Activity, SpikingNetwork
from dsr_deploy.models.neuron import Neuron
from dsr_deploy.models.topology import INPUT, ConnectionSpec, PopulationSpec, Topology, conv

Array = NDArray[Any]

IF = Neuron("if", 6, 0.5, 0.01)
LIF = Neuron("lif", 6, 0.4, 0.001, tau=1.0, dt=0.125)
NEURONS = pytest.mark.parametrize("neuron", [IF, LIF], ids=["if", "lif"])
STEP = 1 / 32
DOUBLE, FLOAT = 1e-12, 1e-6
"""Relative error of a sum in double and in single precision, with much to spare."""


def folded_run(
    network: SpikingNetwork, payloads: Array, step: float, relative: float = DOUBLE
) -> RealRun:
    """Run the folded values of ``network`` in the naive model, with doubts of rounded sums."""
    neuron, populations = network.neuron, []
    for folded, trained in zip(fold(network, step), network.members(), strict=True):
        bias, terms = folded.bias.numpy(), np.zeros(len(folded.bias))
        if trained.norm is not None:
            gamma, beta, mean, variance = (
                value.detach().double().numpy()
                for value in (
                    trained.norm.gamma,
                    trained.norm.beta,
                    trained.norm.running_mean,
                    trained.norm.running_variance,
                )
            )
            terms = neuron.gain * (
                abs(beta) + abs(gamma * mean) / (variance + trained.norm.eps) ** 0.5
            )
        full = np.full(len(bias), folded.v_threshold)
        connections = tuple(
            RealConnection(c.spec, c.weight.numpy(), abs(c.weight.numpy()) * relative)
            for c in folded.connections
        )
        doubt = relative * (terms + full)
        populations.append(
            RealPopulation(folded.name, connections, bias, neuron.alpha * full, full, doubt)
        )
    frames = payloads.astype(np.float64)
    if payloads.ndim == 4:
        frames = np.broadcast_to(
            frames[:, None], (len(payloads), neuron.timesteps, *frames.shape[1:])
        )
    leak = neuron.leak
    return real_networks.run(
        populations, np.moveaxis(frames, 1, 0), lambda v: v * leak, lambda v: abs(v) * DOUBLE
    )


def assert_same_spikes(found: RealRun, expected: dict[str, Array]) -> None:
    assert found.spikes.keys() == expected.keys()
    for name, spikes in expected.items():
        np.testing.assert_array_equal(
            found.spikes[name][found.clear], spikes[found.clear], err_msg=name
        )


def assert_all_lively(spikes: dict[str, Array]) -> None:
    """Each population fires, and none always: the comparison shows something."""
    rates = {name: float(train.mean()) for name, train in spikes.items()}
    assert all(0.005 < rate < 0.995 for rate in rates.values()), rates


def filled(net: Topology, neuron: Neuron, seed: int) -> SpikingNetwork:
    """Return a network with random weights and statistics, and gains of either sign and zero."""
    rng = np.random.default_rng(seed)
    network = SpikingNetwork(net, neuron).eval()
    for population in network.members():
        fill(population, rng)
        if population.norm is not None:
            with torch.no_grad():
                population.norm.gamma[:3] = torch.tensor([-1.5, 0.0, 2.0])
    return network


def payloads_for(network: SpikingNetwork, samples: int, *, framed: bool) -> Array:
    frames = (network.neuron.timesteps,) if framed else ()
    shape = (samples, *frames, *network.topology.input_shape)
    return np.random.default_rng(1).integers(-127, 128, shape).astype(np.int8)


HIDDEN = {
    "conv": (conv("first", 6),),
    "conv of stride 2": (conv("first", 6, stride=2),),
    "conv without padding": (ConnectionSpec("first", "conv", 6, kernel=3),),
    "conv, even window, wide padding": (ConnectionSpec("first", "conv", 6, 2, 2, 2),),
    "conv 1x1 of stride 2": (conv("first", 6, kernel=1, stride=2),),
    "oblong conv in groups": (conv("first", 6, (2, 3), (2, 1), (0, 2), 2),),
    "depthwise conv and a shortcut in groups": (
        conv("first", 8, kernel=(1, 3), groups=4),
        conv("first", 8, 1, groups=2),
    ),
    "oblong pool": (ConnectionSpec("first", "pool", 0, (2, 3), (1, 2), (1, 0)),),
    "pool": (ConnectionSpec("first", "pool", kernel=2, stride=2),),
    "pool that overlaps, padded": (ConnectionSpec("first", "pool", 0, 3, 2, 1),),
    "identity": (ConnectionSpec("first", "identity"),),
    "linear": (ConnectionSpec("first", "linear", 7),),
    "conv and identity": (conv("first", 4), ConnectionSpec("first", "identity")),
    "two convs of stride 2": (conv("first", 6, stride=2), conv("first", 6, 1, stride=2)),
    "conv, pool and the input": (
        conv("first", 4),
        ConnectionSpec("first", "pool", 0, 3, 1, 1),
        conv(INPUT, 4),
    ),
}


@NEURONS
@pytest.mark.parametrize("framed", [False, True], ids=["image", "frames"])
@pytest.mark.parametrize("norm", [False, True], ids=["plain", "norm"])
@pytest.mark.parametrize("name", HIDDEN)
def test_folded_values_give_the_spikes_of_the_trained_network(
    name: str, norm: bool, framed: bool, neuron: Neuron
) -> None:
    net = Topology(
        "single",
        (2, 6, 6),
        (
            PopulationSpec("first", (conv(INPUT, 4),), norm=norm),
            PopulationSpec("hidden", HIDDEN[name], norm=norm),
            PopulationSpec("output", (ConnectionSpec("hidden", "linear", 5),), norm=norm),
        ),
    )
    network = filled(net, neuron, 3)
    payloads = payloads_for(network, 12, framed=framed)
    expected = unrolled.spikes(network, payloads, STEP)
    found = folded_run(network, payloads, STEP)
    assert found.clear.all()
    assert_same_spikes(found, expected)
    assert_all_lively(expected)


@NEURONS
@pytest.mark.parametrize(("arch", "size"), [("resnet-tiny", 8), ("resnet20", 8), ("vgg11", 16)])
def test_folded_values_give_the_spikes_of_the_papers_networks(
    arch: str, size: int, neuron: Neuron
) -> None:
    network = filled(topology(arch, (3, size, size), 10), neuron, 0)
    payloads = payloads_for(network, 2, framed=False)
    expected = unrolled.spikes(network, payloads, STEP)
    found = folded_run(network, payloads, STEP)
    assert found.clear.all()
    assert_same_spikes(found, expected)
    assert_all_lively(expected)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(case=quantizations())
def test_folded_values_give_the_spikes_of_any_network(case: Quantization) -> None:
    expected = unrolled.spikes(case.network, case.payloads, case.input.step)
    with np.errstate(all="ignore"):
        found = folded_run(case.network, case.payloads, case.input.step)
    assume(found.clear.any())  # hypothesis complains where few are
    assert_same_spikes(found, expected)


def spikingjellys(current: Tensor, height: Tensor, neuron: Neuron) -> Tensor:
    """Fire as spikingjelly's DSR neurons do; its spikes carry Vth or Vth / dt in float32."""
    v_threshold = float(height) / neuron.height_per_threshold
    if neuron.kind == "if":
        node = DSRIFNode(neuron.timesteps, v_threshold, neuron.alpha, neuron.v_threshold_min)
    else:
        node = DSRLIFNode(
            neuron.timesteps,
            v_threshold,
            tau=neuron.tau,
            delta_t=neuron.dt,
            alpha=neuron.alpha,
            v_threshold_lower_bound=neuron.v_threshold_min,
        )
    return (node(current) > 0) * height


@NEURONS
def test_folded_values_give_the_spikes_of_spikingjellys_neurons(neuron: Neuron) -> None:
    # Its thresholds are of float32, so they are chosen such that float32 holds them.
    neuron = dataclasses.replace(neuron, alpha=0.5)
    network = filled(topology("resnet-tiny", (3, 8, 8), 10), neuron, 0)
    with torch.no_grad():
        for population in network.members():
            population.height.copy_((population.height * 64).ceil() / 64)
    payloads = payloads_for(network, 16, framed=True)
    expected = unrolled.spikes(network, payloads, STEP, spikingjellys)
    found = folded_run(network, payloads, STEP)
    assert found.clear.all()
    assert_same_spikes(found, expected)
    assert_all_lively(expected)


@NEURONS
def test_the_network_that_trains_gives_the_spikes_of_its_folded_values(neuron: Neuron) -> None:
    network = filled(topology("resnet-tiny", (3, 8, 8), 10), neuron, 0)
    payloads = payloads_for(network, 16, framed=False)
    found, activity = folded_run(network, payloads, STEP, relative=FLOAT), Activity()
    with torch.no_grad():
        network(torch.from_numpy(payloads).float() * STEP, activity, record=True)
    assert found.clear.mean() > 0.5
    assert_same_spikes(found, {name: train.numpy() for name, train in activity.spikes.items()})

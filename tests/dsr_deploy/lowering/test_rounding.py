"""Between the folded values and the integers there is rounding, and nothing else.

On a grid so fine that rounding decides no spike, the integers give the spikes of the trained
network. Where every value lies on the grid, so do 8 bits, ties at the threshold included. And the
integers of any width stand half a unit from the folded values at most.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import real_networks
import torch
import unrolled
from float_networks import Quantization, quantizations
from hypothesis import HealthCheck, assume, given, settings
from numpy.typing import NDArray
from real_networks import RealConnection, RealPopulation

from dsr_deploy.hardware.errors import NetworkError
from dsr_deploy.lowering import quantized_network, scale
from dsr_deploy.lowering.fold import FoldedPopulation, fold
from dsr_deploy.lowering.quantized_network import QuantizedNetwork, QuantizedPopulation, readout
from dsr_deploy.models.neuron import Neuron

Array = NDArray[Any]

FINE_BITS = 26
FINE_DECAY = 1 << 28
FUZZ = settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


@pytest.fixture
def fine_grid(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let weights, shortcuts, biases, thresholds, leak and register have 26 bits and more."""
    monkeypatch.setattr(quantized_network, "CHANNELWISE_BITS", FINE_BITS)
    monkeypatch.setattr(quantized_network, "DECAY_ONE", FINE_DECAY)
    monkeypatch.setattr(scale, "COARSEST_THRESHOLD", 30)
    monkeypatch.setattr(scale, "FAR_BEYOND", 1 << 40)
    monkeypatch.setattr(scale, "V_MAX", 1 << 46)
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)  # the latent parameters


def integers(member: QuantizedPopulation) -> RealPopulation:
    """Return what a population rounds to, int64, without a limit to its width."""
    fire, full = member.integer_thresholds()
    connections = []
    for index, spec in enumerate(member.specs):
        weight = member.integer_weight(index).detach().long().numpy()
        weight = weight << member.scale.exponents[index]
        connections.append(RealConnection(spec, weight, np.zeros_like(weight)))
    bias, fire, full = (x.detach().long().numpy() for x in (member.integer_bias(), fire, full))
    return RealPopulation(member.name, tuple(connections), bias, fire, full, np.zeros_like(bias))


def real(folded: FoldedPopulation, member: QuantizedPopulation, neuron: Neuron) -> RealPopulation:
    """Return folded values, and half a unit of doubt in each; a leak rounds by one unit more."""
    unit = member.scale.unit.numpy()
    connections = []
    for c, exponent in zip(folded.connections, member.scale.exponents, strict=True):
        weight = c.weight.numpy()
        step = unit.reshape(-1, *[1] * (weight.ndim - 1)) * 2.0**exponent
        connections.append(RealConnection(c.spec, weight, np.broadcast_to(step / 2, weight.shape)))
    full = np.full(len(unit), folded.v_threshold)
    doubt = unit * (1.5 if neuron.kind == "lif" else 0.5)
    return RealPopulation(
        folded.name, tuple(connections), folded.bias.numpy(), full * neuron.alpha, full, doubt
    )


def forget(decay: int, one: int) -> Callable[[Array], Array]:
    """Return the leak of integers: v * (one - decay) / one, rounded toward zero."""

    def leak(v: Array) -> Array:
        high, low = np.divmod(abs(v), one)  # so that int64 holds the products
        return np.sign(v) * (high * (one - decay) + low * (one - decay) // one)

    return leak


@pytest.mark.slow
@pytest.mark.usefixtures("fine_grid")
@FUZZ
@given(case=quantizations(odd=(0.0,)))
def test_integers_of_a_fine_grid_give_the_spikes_of_the_trained_network(
    case: Quantization,
) -> None:
    neuron, shown = case.network.neuron, case.input
    folded = fold(case.network, shown.step)
    model = QuantizedNetwork(folded, neuron, shown, FINE_BITS, case.granularity)
    expected = unrolled.spikes(case.network, case.payloads, shown.step)
    frames = real_networks.frames(case.payloads, neuron.timesteps)
    members = model.members()
    decay = members[0].decay
    found = real_networks.run(
        [integers(m) for m in members], frames.astype(np.int64), forget(decay, FINE_DECAY)
    )
    doubted = real_networks.run(
        [real(f, m, neuron) for f, m in zip(folded, members, strict=True)],
        frames.astype(np.float64),
        lambda v: v * neuron.leak,
        lambda v: abs(v) / FINE_DECAY,
    )
    assume(doubted.clear.any())  # hypothesis complains where few are
    for name, spikes in expected.items():
        np.testing.assert_array_equal(
            found.spikes[name][doubted.clear], spikes[doubted.clear], err_msg=name
        )


@FUZZ
@given(case=quantizations())
def test_integers_stand_half_a_unit_from_the_folded_values_at_most(case: Quantization) -> None:
    try:
        model = case.model()
        frozen = case.freeze(model)
    except NetworkError:  # its values lie too far apart
        assume(False)
    neuron = case.network.neuron
    for folded, member, population in zip(
        fold(case.network, case.input.step), model.members(), frozen.populations, strict=True
    ):
        unit = member.scale.unit.numpy()
        for c, made in zip(folded.connections, frozen.incoming(population), strict=True):
            weight, limit = c.weight.numpy(), 2 ** (made.weight_bits - 1) - 1
            step = unit.reshape(-1, *[1] * (weight.ndim - 1)) * 2.0**made.exponent
            assert_rounded(made.weight, np.clip(weight / step, -limit, limit))
            if weight.ndim > 1 and (len(folded.connections), case.granularity) == (1, "channel"):
                assert_clipping_pays(weight.reshape(len(weight), -1), step.flatten(), limit)
        assert_rounded(population.bias, folded.bias.numpy() / unit)
        full = folded.v_threshold / unit
        assert_rounded(population.v_threshold, np.maximum(full, 1))
        assert_rounded(population.v_fire, np.maximum(full * neuron.alpha, 1))
        forgets = 1 - math.exp(-neuron.dt / neuron.tau) if neuron.kind == "lif" else 0.0
        assert_rounded(np.array(population.decay), np.array(4096 * forgets))


def assert_rounded(whole: Array, exact: Array) -> None:
    """The latent parameters are of float32, which moves a tie by its own last bit."""
    assert (abs(whole - exact) <= 0.5 + abs(exact) * 2.0**-23).all()


def assert_clipping_pays(rows: Array, step: Array, limit: int) -> None:
    """Where the largest weights of a channel are clipped, the others gain more than these lose."""
    largest = abs(rows).max(1)
    clipped = largest > step * (limit + 0.5)
    found = squared_error(rows, step, limit)[clipped]
    assert (found <= squared_error(rows, largest / limit, limit)[clipped]).all()


def squared_error(rows: Array, step: Array, limit: int) -> Array:
    step = np.where(step > 0, step, 1)[:, None]
    rounded = np.clip(np.rint(rows / step), -limit, limit) * step
    return np.asarray(((rounded - rows) ** 2).sum(1))


@pytest.mark.parametrize("dt", [0.05, 0.1, 1.0])
def test_the_readout_weighs_timesteps_as_the_representation_does(dt: float) -> None:
    lif = Neuron("lif", 9, 0.3, 0.001, tau=1.0, dt=dt)
    last = [4096 * math.exp(-dt * (9 - t)) for t in range(1, 10)]
    assert_rounded(np.array(readout(lif)), np.array(last))
    assert readout(Neuron("if", 4, 0.5, 0.01)) == (1, 1, 1, 1)

"""The quantized network against the trained one, and its gradients against clamps in double."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import dyadic_networks
import numpy as np
import pytest
import torch
import unrolled
from numpy.typing import NDArray
from torch import Tensor

from dsr_deploy.hardware import reference
from dsr_deploy.hardware.network import IntegerNetwork
from dsr_deploy.lowering.fold import fold
from dsr_deploy.lowering.quantized_network import QuantizedNetwork, QuantizedPopulation, _clamp
from dsr_deploy.models.neuron import Neuron
from dsr_deploy.models.topology import INPUT

Array = NDArray[Any]

KINDS = pytest.mark.parametrize("kind", ["if", "lif"])
PAYLOADS = dyadic_networks.payloads(24)


def freeze(model: QuantizedNetwork) -> IntegerNetwork:
    return model.freeze("dyadic", dyadic_networks.TOPOLOGY.shapes(), ())


@KINDS
def test_values_on_the_grid_become_integers_of_the_same_spikes(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = dyadic_networks.network(dyadic_networks.NEURONS[kind])
    frozen = freeze(dyadic_networks.quantized(made, monkeypatch))
    expected = unrolled.spikes(made, PAYLOADS, dyadic_networks.SHOWN.step)
    found = reference.run(frozen, PAYLOADS, record=True).spikes
    assert found is not None
    for name, spikes in expected.items():
        np.testing.assert_array_equal(found[name], spikes, err_msg=name)
        assert 0.02 < spikes.mean() < 0.98, name


@KINDS
def test_the_networks_on_the_grid_have_ties_at_the_threshold(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that firing at the threshold, not above it, is compared."""
    made = dyadic_networks.network(dyadic_networks.NEURONS[kind])
    frozen = freeze(dyadic_networks.quantized(made, monkeypatch))
    ties = 0
    step = reference.step

    def watched(population: Any, v: Array, current: Array) -> tuple[Array, Array]:
        nonlocal ties
        left, spikes = step(population, v, current)
        u = left + population.v_threshold[:, None, None] * spikes
        ties += int((u == population.v_fire[:, None, None]).sum())
        return left, spikes

    monkeypatch.setattr(reference, "step", watched)
    reference.run(frozen, PAYLOADS)
    assert ties > 20


def test_the_gradient_passes_at_the_bounds_of_a_clamp() -> None:
    """Versions of PyTorch differ there; the largest weight of a layer lies on a bound."""
    value = torch.tensor([-2.0, -1.0, 0.5, 1.0, 2.0], requires_grad=True)
    clamped = _clamp(value, -1, 1)
    clamped.sum().backward()
    assert clamped.tolist() == [-1.0, -1.0, 0.5, 1.0, 1.0]
    assert value.grad is not None
    assert value.grad.tolist() == [0.0, 1.0, 1.0, 1.0, 0.0]


def upstream(output: Tensor) -> Tensor:
    """Return a gradient to the output that no symmetry hides."""
    generator = torch.Generator().manual_seed(5)
    return torch.randn(output.shape, generator=generator).to(output.dtype)


@KINDS
def test_gradients_on_the_grid_are_those_of_the_trained_network(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A latent parameter's gradient is the trained parameter's, each in its own unit."""
    made = dyadic_networks.network(dyadic_networks.NEURONS[kind], ties=False)
    model = dyadic_networks.quantized(made, monkeypatch)
    output = model(torch.from_numpy(PAYLOADS))
    output.backward(upstream(output))
    made.double()
    pixels = torch.from_numpy(PAYLOADS).double() * dyadic_networks.SHOWN.step
    expected, _ = unrolled.forward(made, pixels)
    expected.backward(upstream(expected))
    torch.testing.assert_close(output.double(), expected, rtol=1e-6, atol=0)
    heights = {p.spec.name: p.height.item() for p in made.members()}
    heights[INPUT] = dyadic_networks.SHOWN.step
    compared = 0
    for trained, member in zip(made.members(), model.members(), strict=True):
        if trained.norm is None:
            continue
        norm, gain = trained.norm, made.neuron.gain
        scale = norm.gamma.detach() / norm.running_variance.double().sqrt()
        v_threshold = heights[member.name] / made.neuron.height_per_threshold
        to_beta = member.bias.grad.double() * gain / v_threshold
        torch.testing.assert_close(to_beta, norm.beta.grad, rtol=1e-4, atol=1e-6)
        for index, spec in enumerate(member.specs):
            weight = trained.weight(index)
            if weight is None:
                continue
            largest = 127 * 2.0 ** member.scale.exponents[index] * 2.0**-14
            per_row = scale.reshape(-1, *[1] * (weight.ndim - 1))
            to_weight = member.weights[index].grad.double() * per_row
            to_weight *= gain * heights[spec.source] / largest
            torch.testing.assert_close(to_weight, weight.grad, rtol=1e-4, atol=1e-6)
            compared += int(weight.grad.count_nonzero())
    assert compared > 500


def whole(latent: Tensor) -> Tensor:
    """Round, straight through."""
    return latent + (latent.round() - latent).detach()


def bounded(value: Tensor, low: float, high: float) -> Tensor:
    """Clamp with a gradient of 1 at the bounds too."""
    ends = value.new_tensor(low), value.new_tensor(high)
    return torch.where(value < low, ends[0], torch.where(value > high, ends[1], value))


def clamped(
    member: QuantizedPopulation,
    parameters: dict[str, Tensor],
    rates: dict[str, Tensor],
    neuron: Neuron,
) -> Tensor:
    """Return the rate that a population of clamps has in double, (N, C, H, W).

    The paper's Eqs. 14 and 15 in the trained network's units: a current I has the representation
    ``clamp(I / tau, 0, Vth / dt)`` with LIF, ``clamp(I, 0, Vth)`` with IF.
    """
    unit = member.scale.unit[:, None, None]
    full = parameters["threshold"] * member.full
    v_threshold = bounded(whole(full), 1, math.inf)[:, None, None] * unit
    current = whole(parameters["bias"] * member.full)[:, None, None]
    for index, spec in enumerate(member.specs):
        largest = 2 ** (member.bits[index] - 1) - 1
        weight = whole(bounded(parameters[f"weights.{index}"] * largest, -largest, largest))
        weight = weight * 2 ** member.scale.exponents[index]
        sent = rates[spec.source]
        if spec.kind in ("conv", "linear"):
            current = current + unrolled.transmit(spec, sent[None], weight)[0]
        else:  # a pool of integers sums
            summed = unrolled.transmit(spec, sent[None], None)[0] * spec.kernel[0] * spec.kernel[1]
            current = current + summed * weight[:, None, None]
    current = current * unit  # in the unit of Vth
    value, top = current, v_threshold
    if neuron.kind == "lif":
        value = current / (1 - np.exp(-neuron.dt / neuron.tau)) / neuron.tau
        top = v_threshold / neuron.dt
    return torch.where(value > top, top, bounded(value, 0, math.inf)) / top


def clamp_gradients(model: QuantizedNetwork, spikes: dict[str, Array], payloads: Array) -> Any:
    """Return the gradients of all latent parameters, straight through clamps in double, by name."""
    neuron = model.neuron
    weights = unrolled.timestep_weights(neuron, torch.zeros(1, dtype=torch.float64))
    rates = {INPUT: torch.from_numpy(payloads).double()}
    if payloads.ndim == 5:
        rates[INPUT] = torch.einsum("ntchw,t->nchw", rates[INPUT], weights)
    latent = {
        name: value.detach().double().requires_grad_() for name, value in model.named_parameters()
    }
    for index, member in enumerate(model.members()):
        prefix = f"populations.{index}."
        own = {k.removeprefix(prefix): v for k, v in latent.items() if k.startswith(prefix)}
        made = clamped(member, own, rates, neuron)
        spiked = torch.from_numpy(spikes[member.name]).double()
        rate = torch.einsum("ntchw,t->nchw", spiked, weights)
        rates[member.name] = made + (rate - made).detach()
    output = rates[member.name].flatten(1) * model.height
    output.backward(upstream(output))
    return {name: value.grad for name, value in latent.items()}


# A mean input of exactly 0 is no matter of rounding: 4 timesteps make IF's rates exact, and with 8
# bits and LIF's rates it is not met.
CLAMPED = {
    "if": (Neuron("if", 4, 0.5, 0.01), 8),
    "if, 3 bits": (Neuron("if", 4, 0.5, 0.01), 3),
    "lif": (Neuron("lif", 9, 0.3, 0.0005, tau=1.0, dt=0.05), 8),
    "lif, long steps": (Neuron("lif", 4, 0.5, 0.001, tau=1.0, dt=1.5), 8),  # its slope is 1.93
}


@pytest.mark.parametrize("framed", [False, True], ids=["image", "frames"])
@pytest.mark.parametrize("case", CLAMPED)
def test_gradients_go_straight_through_to_clamps(case: str, framed: bool) -> None:
    neuron, bits = CLAMPED[case]
    shown = dataclasses.replace(dyadic_networks.SHOWN, framed=framed)
    made = dyadic_networks.network(neuron)
    model = QuantizedNetwork(fold(made, shown.step), neuron, shown, bits)
    with (
        torch.no_grad()
    ):  # as fine-tuning leaves them: off the grid, some beyond the largest weight
        generator = torch.Generator().manual_seed(2)
        for parameter in model.parameters():
            parameter.mul_(0.8 + 0.4 * torch.rand(parameter.shape, generator=generator))
    payloads = dyadic_networks.payloads(24)
    if framed:
        shape = (24, neuron.timesteps, *shown.shape)
        payloads = np.random.default_rng(3).integers(-8, 9, shape).astype(np.int8)
    output = model(torch.from_numpy(payloads))
    output.backward(upstream(output))
    run = reference.run(freeze(model), payloads, record=True)
    assert run.spikes is not None
    expected = clamp_gradients(model, run.spikes, payloads)
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None
        assert expected[name].any(), name
        error = (parameter.grad.double() - expected[name]).norm()
        assert error <= 1e-4 * expected[name].norm(), name

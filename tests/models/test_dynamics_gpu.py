"""The Triton kernels against numba's and against the loop in torch, bit for bit.

They run on a GPU. Where there is none, test_dynamics_gpu_without_gpu.py runs this file in Triton's
interpreter.
"""

from __future__ import annotations

import copy
import os
from dataclasses import dataclass
from unittest.mock import patch

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from dsr_deploy.models import dynamics
from dsr_deploy.models.architectures import topology
from dsr_deploy.models.network import Activity, SpikingNetwork
from dsr_deploy.models.neuron import Neuron, NeuronKind

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
if not INTERPRETED and not torch.cuda.is_available():
    pytest.skip(
        "no GPU here; test_dynamics_gpu_without_gpu.py runs this file interpreted",
        allow_module_level=True,
    )
from dsr_deploy.models import dynamics_gpu  # noqa: E402  it imports triton

pytestmark = pytest.mark.cuda

DEVICE = torch.device("cpu" if INTERPRETED else "cuda")
in_torch = patch.object(dynamics, "_engine", lambda device: "torch")
few_examples = settings(max_examples=10, deadline=None, derandomize=True)


@dataclass(frozen=True, eq=False)
class Case:
    """Neurons and what they receive, on the CPU.

    Attributes
    ----------
    current : float32 (T, N, H, W, C) or (1, N, H, W, C)
    generator : of more random numbers
    """

    neuron: Neuron
    current: Tensor
    generator: torch.Generator

    def per_channel(self, count: int) -> Tensor:
        """Return random numbers, float32 (count, C)."""
        return torch.randn((count, self.current.shape[-1]), generator=self.generator)

    def packed(self) -> Tensor:
        """Return a random spike train, (ceil(T / 8), N, H, W, C)."""
        shape = ((self.neuron.timesteps + 7) // 8, *self.current.shape[1:])
        return torch.randint(256, shape, dtype=torch.uint8, generator=self.generator)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    timesteps = draw(st.sampled_from([1, 5, 8, 16, 19, 20]))
    kind = draw(st.sampled_from(["if", "lif"]))
    steps = draw(st.sampled_from([1, timesteps]))
    # 130 is more than one program of moments takes, 1500 more than one of the others.
    channels = draw(st.sampled_from([1, 3, 10, 64, 130, 1500]))
    samples, height, width = draw(st.tuples(*[st.integers(1, 2)] * 3))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31 - 1)))
    current = 3 * torch.randn((steps, samples, height, width, channels), generator=generator)
    return Case(Neuron(kind, timesteps, 0.4, 0.001, dt=0.1), current, generator)


def assert_same(found: Tensor, expected: Tensor) -> None:
    """Compare bit for bit, wherever the tensors lie."""
    assert found.dtype == expected.dtype
    assert torch.equal(found.cpu(), expected.cpu())


@few_examples
@given(case=cases())
def test_fire_gives_the_bits_of_numba_and_torch(case: Case) -> None:
    scale, shift = case.per_channel(2)
    v_threshold = torch.tensor(0.7)
    on_cpu = (case.current, scale, shift, v_threshold)
    on_device = [x.to(DEVICE) for x in on_cpu]
    packed, rate = dynamics_gpu.fire(*on_device, case.neuron)
    expected_packed, expected_rate = dynamics.fire(*on_cpu, case.neuron)
    assert_same(packed, expected_packed)
    assert_same(rate, expected_rate)
    with in_torch:
        expected_packed, expected_rate = dynamics.fire(*on_device, case.neuron)
    assert_same(packed, expected_packed)
    assert_same(rate, expected_rate)


@few_examples
@given(case=cases())
def test_moments_are_those_of_numba_and_torch(case: Case) -> None:
    on_device = case.current.to(DEVICE)
    mean, total, square = dynamics_gpu.moments(on_device, case.neuron)
    expected = dynamics.moments(case.current, case.neuron)
    assert_same(mean, expected[0])
    with in_torch:
        in_steps = dynamics.moments(on_device, case.neuron)
    # Torch rounds weight * current + mean once, and each adds in an order of its own.
    assert torch.allclose(mean, in_steps[0], atol=1e-5)
    for other in (expected, in_steps):
        for found, sum_of_other in zip((total, square), other[1:], strict=True):
            assert found.dtype == sum_of_other.dtype == torch.float64
            assert torch.allclose(found.cpu(), sum_of_other.cpu(), rtol=1e-12, atol=1e-11)


def test_moments_are_the_same_bits_every_time() -> None:
    neuron = Neuron("if", 9, 0.5, 0.001)
    current = torch.randn((9, 8, 4, 4, 30), generator=torch.Generator().manual_seed(0)).to(DEVICE)
    first = torch.cat([part.flatten() for part in dynamics_gpu.moments(current, neuron)])
    for _ in range(3):
        again = torch.cat([part.flatten() for part in dynamics_gpu.moments(current, neuron)])
        assert_same(again, first)


@few_examples
@given(
    case=cases(),
    decay=st.sampled_from([0, 1, 300, 4096]),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_fire_integer_gives_the_bits_of_numba_and_torch(
    case: Case, decay: int, dtype: torch.dtype
) -> None:
    current = (case.current * 100).round().to(dtype)
    bias, v_fire, v_threshold = (case.per_channel(3).double() * 50).round()
    on_cpu = (current, bias, v_fire, v_threshold.abs() + 1)
    on_device = [x.to(DEVICE) for x in on_cpu]
    keep = (4096 - decay) / 4096
    weights = torch.tensor(case.neuron.weights)
    found = dynamics_gpu.fire_integer(*on_device, keep, weights.to(DEVICE))
    with in_torch:
        in_steps = dynamics.fire_integer(*on_device, keep, weights.to(DEVICE))
    for expected in (dynamics.fire_integer(*on_cpu, keep, weights), in_steps):
        assert_same(found[0], expected[0])
        assert_same(found[1], expected[1])
        assert found[2] == expected[2]


@few_examples
@given(
    case=cases(),
    dtype=st.sampled_from([torch.uint8, torch.bfloat16, torch.float32, torch.float64]),
    first=st.integers(0, 19),
)
def test_expand_gives_the_spikes_of_numba_and_torch(
    case: Case, dtype: torch.dtype, first: int
) -> None:
    first = min(first, case.neuron.timesteps - 1)
    count = case.neuron.timesteps - first
    packed = case.packed()
    found = dynamics_gpu.expand(packed.to(DEVICE), first, count, dtype)
    assert_same(found, dynamics.expand(packed, first, count, dtype))
    with in_torch:
        assert_same(found, dynamics.expand(packed, first, count, dtype))


@few_examples
@given(case=cases())
def test_add_spikes_gives_the_bits_of_numba_and_torch(case: Case) -> None:
    packed, height = case.packed(), torch.tensor(0.3)
    shape = (case.neuron.timesteps, *packed.shape[1:])
    total = torch.randn(shape, generator=case.generator)
    found, expected, in_steps = (total.to(device).clone() for device in (DEVICE, "cpu", DEVICE))
    dynamics_gpu.add_spikes(found, packed.to(DEVICE), height.to(DEVICE))
    dynamics.add_spikes(expected, packed, height)
    assert_same(found, expected)
    with in_torch:
        dynamics.add_spikes(in_steps, packed.to(DEVICE), height.to(DEVICE))
    assert_same(found, in_steps)


def test_a_neuron_fires_at_its_threshold_exactly() -> None:
    # u = 0.5, 0, 0.5, 0 with a spike at 0.5: timesteps 0 and 2, so 0b0101
    current = torch.full((1, 1, 1, 1, 3), 0.5, device=DEVICE)
    one, zero = torch.ones(3, device=DEVICE), torch.zeros(3, device=DEVICE)
    neuron = Neuron("if", 4, 0.5, 0.001)
    packed, rate = dynamics_gpu.fire(current, one, zero, one[0], neuron)
    assert packed.flatten().tolist() == [0b0101] * 3
    assert rate.flatten().tolist() == [0.5] * 3
    fire, threshold, bias = one.double(), 2 * one.double(), one.double()
    packed, _, span = dynamics_gpu.fire_integer(
        current - 0.5, bias, fire, threshold, 1.0, torch.ones(4, device=DEVICE)
    )
    assert packed.flatten().tolist() == [0b0101] * 3
    assert span == (0, 1)


@pytest.mark.parametrize(("kind", "v_threshold"), [("if", 1.0), ("lif", 0.1)])
def test_a_network_trains_on_a_gpu_as_on_a_cpu(
    monkeypatch: pytest.MonkeyPatch, kind: NeuronKind, v_threshold: float
) -> None:
    # One spike more can turn the gradient of so small a network. Multiples of 1/64 are added
    # without rounding, so that the order in which a convolution adds does not matter.
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    neuron = Neuron(kind, 6, 0.5, 0.001, dt=0.1)
    torch.manual_seed(0)
    pixels = (torch.randn((4, 1, 8, 8)) * 8).round() / 8
    network = SpikingNetwork(topology("resnet-tiny", (1, 8, 8), 10), neuron, v_threshold)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_((parameter * 64).round() / 64)
    there = copy.deepcopy(network).to(DEVICE)
    expected = Activity()
    network(pixels, expected).square().sum().backward()
    found = Activity()
    if INTERPRETED:
        monkeypatch.setattr(dynamics, "_engine", lambda device: "triton")
    there(pixels.to(DEVICE), found).square().sum().backward()
    assert all(0 < rate < 1 for rate in expected.rates.values())
    assert found.rates == pytest.approx(expected.rates, abs=0.01)
    for (name, ours), theirs in zip(network.named_parameters(), there.parameters(), strict=True):
        assert ours.grad is not None
        assert theirs.grad is not None
        if ours.ndim > 1:
            cosine = torch.cosine_similarity(ours.grad.flatten(), theirs.grad.cpu().flatten(), 0)
            assert cosine > 0.98, name
